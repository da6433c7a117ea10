//! What Offshoot cannot work with and says so, having changed nothing: a machine that forbids namespaces, a damaged
//! store.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    process::Command,
};

use offshoot_testkit::user;

use crate::stage::{Ran, Stage, ran};

/// Runs `offshoot` in a user namespace of its own, in which at most `most` further ones may be made. The host's own
/// limit is not touched: the file belongs to the namespace of whoever writes it.
fn forbidden(stage: &Stage, ordinary: bool, most: u32, arguments: &[&str]) -> Ran {
    let program = stage.command(arguments);
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-current-user", "--keep-caps", "sh", "-c"])
        .arg(r#"echo "$0" >/proc/sys/user/max_user_namespaces && exec "$@""#)
        .arg(most.to_string())
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(program.get_current_dir().unwrap())
        .env_clear()
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(std::process::Stdio::null());
    if ordinary {
        user::drop_root(&mut command);
    }
    ran(command.output().unwrap())
}

/// A stage that the ordinary user owns, with copies of the programs where that user can reach them.
fn own_stage() -> Stage {
    let mut stage = Stage::new();
    stage.copy_programs();
    fs::set_permissions(stage.path(), PermissionsExt::from_mode(0o755)).unwrap();
    user::give(stage.path()).unwrap();
    stage
}

fn refuses(stage: &Stage, ordinary: bool, most: u32, why: &str, hint: &str) {
    let offshoot = |arguments: &[&str]| forbidden(stage, ordinary, most, arguments);
    let doctor = offshoot(&["doctor"]);
    assert_eq!(doctor.0, 5, "{}{}", doctor.1, doctor.2);
    assert!(doctor.1.starts_with("isolation  none: environments cannot be made here\n"), "{}", doctor.1);
    assert!(doctor.1.contains(&format!("✗ namespaces: {why}\n    {hint}")), "{}", doctor.1);
    assert!(doctor.2.contains("error: this machine lacks what Offshoot needs"), "{}", doctor.2);
    let report = offshoot(&["--json", "doctor"]);
    assert_eq!(report.0, 5);
    let report: serde_json::Value = serde_json::from_str(&report.1).unwrap();
    assert_eq!(report["sandbox"]["tier"], "none");
    for arguments in [&["run", "go\n@say hi", "--agent", "scripted"][..], &["env", "up", "--name", "e"]] {
        let said = offshoot(arguments);
        assert_eq!(said.0, 5, "{}{}", said.1, said.2);
        let sentence =
            format!("error: no environment can be made on this machine: namespaces: {why}\nhint: {hint}");
        assert!(said.2.contains(&sentence), "{arguments:?}: {}", said.2);
        let json: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let _ = offshoot(&json).problem(5, "isolation_unavailable");
    }
    let list = offshoot(&["--json", "ps", "--all"]).json();
    assert_eq!(list["tasks"], serde_json::json!([]), "nothing was begun");
    assert!(!stage.repo.path().join(".git/refs/heads/offshoot").exists());
    let _ = offshoot(&["daemon", "stop"]);
}

#[test]
fn a_kernel_that_forbids_user_namespaces() {
    let limit = "cannot be made: the limit on their number is reached";
    refuses(&own_stage(), true, 0, limit, "none are allowed; as root: sysctl -w user.max_user_namespaces=");
}

/// A container whose root is the only user there is: nobody else could run what is inside.
#[test]
fn a_root_without_anybody_else() {
    if user::is_root() {
        let why = "this is a user namespace that has no user but root, and environments need another one";
        refuses(&Stage::new(), false, 100, why, "run Offshoot as an ordinary user");
    }
}

/// Everything below a directory, with its content.
fn everything(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        // The kernel's scratch directory of an overlay has no permissions at all.
        let entries = fs::read_dir(&dir);
        if entries.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) {
            continue;
        }
        for entry in entries.unwrap().flatten() {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let content = match () {
                () if kind.is_file() => fs::read(&path).unwrap(),
                () => Vec::new(),
            };
            found.insert(path.display().to_string(), content);
            if kind.is_dir() {
                pending.push(path);
            }
        }
    }
    found.retain(|path, _| !["daemon.log", ".lock", "daemon.sock"].iter().any(|end| path.ends_with(end)));
    found
}

/// A stage with a finished task, whose daemon has ended and whose store has been copied since.
fn remembered() -> Stage {
    let stage = Stage::new();
    let run =
        ["run", "go\n@write b.txt b\n@commit Add b", "--agent", "scripted", "--name", "kept", "--follow"];
    stage.offshoot(&run).ok();
    stage.offshoot(&["daemon", "stop"]).ok();
    // The copy is made when a daemon starts.
    stage.offshoot(&["ps"]).ok();
    stage.offshoot(&["daemon", "stop"]).ok();
    assert!(stage.state_dir().join("store.db.backup").exists());
    stage
}

/// Damages the store, sees that it is refused and that nothing was touched, then does what the hint says.
fn damaged(damage: impl Fn(&Path)) {
    let stage = remembered();
    let (store, backup) = (stage.state_dir().join("store.db"), stage.state_dir().join("store.db.backup"));
    damage(&store);
    let before = everything(&stage.state_dir());
    for _ in 0..2 {
        let refused = stage.offshoot(&["ps"]);
        assert_eq!(refused.0, 6, "{}{}", refused.1, refused.2);
        assert!(refused.2.starts_with(&format!("error: {} is damaged: ", store.display())), "{}", refused.2);
        assert!(refused.2.contains("hint: nothing was changed; the newest copy is"), "{}", refused.2);
        assert!(refused.2.contains(backup.to_str().unwrap()), "{}", refused.2);
        let run = ["--json", "run", "x", "--agent", "scripted"];
        let _ = stage.offshoot(&run).problem(6, "store_damaged");
    }
    assert!(everything(&stage.state_dir()) == before, "nothing was changed");

    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        let _ = fs::remove_file(stage.state_dir().join(file));
    }
    fs::copy(&backup, &store).unwrap();
    let list = stage.offshoot(&["--json", "ps", "--all"]).json();
    assert_eq!(
        (&list["tasks"][0]["task"]["name"], list["tasks"].as_array().unwrap().len()),
        (&"kept".into(), 1)
    );
    assert!(stage.offshoot(&["diff", "kept"]).ok().contains("b.txt"));
    stage.offshoot(&["land", "kept"]).ok();
}

#[test]
fn a_store_that_is_no_database() {
    damaged(|store| fs::write(store, "not a database".repeat(1000)).unwrap());
}

#[test]
fn a_store_that_is_missing() {
    damaged(|store| fs::remove_file(store).unwrap());
}

#[test]
fn a_store_with_torn_pages() {
    damaged(|store| {
        // As a machine leaves it that lost its power: the end was unclean, and every page but the first is garbage.
        fs::write(store.with_extension("db.lock"), "open\n").unwrap();
        let file = fs::OpenOptions::new().write(true).open(store).unwrap();
        for page in 1..file.metadata().unwrap().len() / 4096 {
            file.write_all_at(&[0xA5; 4096], page * 4096).unwrap();
        }
    });
}
