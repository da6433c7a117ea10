//! The same tests as an ordinary user, when root runs them: the daemon of somebody ordinary answers nobody else, so the
//! whole suite runs once more as him.

use std::process::Command;

use offshoot_testkit::user;

use crate::stage::{binaries, place};

/// What behaves differently for an ordinary user: who owns files, what the kernel lets him limit, freeze and mount.
const TESTS: [&str; 11] = [
    "doors::",
    "databases::environments_have",
    "databases::at::re",
    "faults::at::l",
    "faults::at::harvest",
    "faults::at::run_l",
    "faults::at_each_step_of_a_landing",
    "outlive::",
    "keep::",
    "hostile::",
    "limits::",
];

#[test]
fn as_an_ordinary_user() {
    if !user::is_root() {
        return;
    }
    let bins = binaries();
    let home = tempfile::Builder::new().prefix("oh").tempdir_in("/tmp").unwrap();
    user::give(home.path()).unwrap();
    let suite = home.path().join("suite");
    place(&std::env::current_exe().unwrap(), &suite);
    let mut command = Command::new(&suite);
    command
        .args(TESTS)
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("OFFSHOOT_BIN", bins.path().join("offshoot"));
    let output = user::drop_root(&mut command).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("running 0 tests"), "{text}");
}
