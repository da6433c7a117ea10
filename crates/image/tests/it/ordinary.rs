//! The same tests as an ordinary user, when root runs them: he may make no device but a whiteout, and gives nothing away.

use std::{fs, process::Command};

use offshoot_testkit::user;

#[test]
fn as_an_ordinary_user() {
    if !user::is_root() {
        return;
    }
    let home = tempfile::Builder::new().prefix("oi").tempdir_in("/tmp").unwrap();
    let suite = home.path().join("suite");
    fs::copy(std::env::current_exe().unwrap(), &suite).unwrap();
    user::give(home.path()).unwrap();
    let mut command = Command::new(&suite);
    command.current_dir(home.path()).env("HOME", home.path()).env("TMPDIR", home.path());
    let output = user::drop_root(&mut command).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("running 0 tests"), "{text}");
}
