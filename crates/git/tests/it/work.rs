//! What agents do to a workspace: nothing of it is lost.

use std::{fs, os::unix::fs::PermissionsExt};

use offshoot_git::inside::{self, EmbeddedKind};

use crate::fixture::{BRANCH, Fixture, git, try_git};

#[test]
fn work_on_a_branch_of_its_own_is_followed() {
    let it = Fixture::new();
    for (name, command) in
        [("b", &["checkout", "-qb", "fix/mine"][..]), ("d", &["checkout", "-q", "--detach"])]
    {
        let ws = it.workspace(name);
        ws.git(command);
        ws.write("x", "x");
        ws.git(&["add", "-A"]);
        ws.git(&["commit", "-qm", "mine"]);
        ws.write("y", "y");
        let done = ws.finish();
        assert!(done.leftovers && done.changed == 2 && done.elsewhere.is_none());
        assert_eq!(ws.import(name).head, done.head);
        assert_eq!(ws.git(&["status", "--porcelain"]), "");
    }
}

#[test]
fn work_that_does_not_follow_is_kept_beside() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    ws.write("x", "x");
    ws.git(&["add", "-A"]);
    ws.git(&["commit", "-qm", "on the task's branch"]);
    ws.git(&["checkout", "-q", "--orphan", "fresh"]);
    ws.git(&["rm", "-rqf", "."]);
    ws.write("only", "this");
    ws.git(&["branch", "side", BRANCH]);
    let done = ws.finish();
    let got = ws.import("run");
    assert_eq!(got.head, done.head);
    assert!(got.elsewhere.is_some() && got.elsewhere == done.elsewhere);
    let names: Vec<_> = got.branches.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["fresh", "side"]);
    assert_eq!(ws.store.blob(&got.elsewhere.unwrap(), b"only", 9).unwrap().unwrap().bytes, b"this");
    // Only in the stash.
    let ws = it.workspace("stash");
    ws.write("a.txt", "stashed");
    ws.git(&["stash", "-q"]);
    ws.finish();
    assert!(ws.import("stash").stash.is_some());
}

#[test]
fn half_done_merges_and_rebases_keep_their_work() {
    let it = Fixture::new();
    for (name, clash, how) in [("m", true, "merge"), ("c", false, "merge"), ("r", true, "rebase")] {
        let ws = it.workspace(name);
        ws.git(&["checkout", "-qb", "other"]);
        ws.write(if clash { "a.txt" } else { "z" }, "theirs\n");
        ws.git(&["add", "-A"]);
        ws.git(&["commit", "-qm", "theirs"]);
        ws.git(&["checkout", "-q", BRANCH]);
        ws.write("a.txt", "ours\n");
        ws.git(&["commit", "-qam", "ours"]);
        let args: &[&str] = if how == "merge" {
            &["merge", "--no-commit", "-q", "other"]
        } else {
            &["rebase", "-q", "other"]
        };
        assert_eq!(try_git(&ws.dir, args).is_err(), clash);
        let done = ws.finish();
        let got = ws.import(name);
        let subject = |oid: &offshoot_git::oid::Oid| ws.store.commits(&ws.base, oid).unwrap();
        match name {
            "m" => {
                assert!(done.unmerged > 0);
                assert_eq!(
                    subject(&got.head)[0].parents.len(),
                    1,
                    "an unresolved merge is not recorded as done"
                );
                let text = ws.store.blob(&got.head, b"a.txt", 999).unwrap().unwrap().bytes;
                assert!(String::from_utf8_lossy(&text).contains("ours\n=======\ntheirs"));
                assert_eq!(ws.git(&["status", "--porcelain"]), "");
            }
            "c" => assert_eq!(subject(&got.head)[0].parents.len(), 2),
            _ => assert!(got.elsewhere.is_some() && subject(&got.head)[0].subject == "ours"),
        }
    }
}

#[test]
fn repositories_within_are_work_unless_they_are_clones() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    for dir in ["with commit", "without", "added"] {
        let dir = ws.dir.join("sub").join(dir);
        fs::create_dir_all(&dir).unwrap();
        git(&dir, &["init", "-q"]);
        fs::write(dir.join("work"), "w").unwrap();
        if !dir.ends_with("without") {
            git(&dir, &["add", "-A"]);
            git(&dir, &["commit", "-qm", "w"]);
        }
    }
    ws.git(&["-c", "advice.addEmbeddedRepo=false", "add", "sub/added"]);
    git(&ws.dir, &["clone", "-q", it.repo.to_str().unwrap(), "reference"]);
    let point = ws.checkpoint(1);
    let mut found: Vec<_> = point.embedded.iter().map(|e| (e.path.as_str(), e.kind)).collect();
    found.sort_by_key(|(path, _)| *path);
    assert_eq!(
        found,
        [
            ("reference", EmbeddedKind::Clone),
            ("sub/added", EmbeddedKind::Files),
            ("sub/with commit", EmbeddedKind::Files),
            ("sub/without", EmbeddedKind::Files),
        ]
    );
    let done = ws.finish();
    assert_eq!(done.embedded.len(), 4);
    let got = ws.import("run");
    for tip in [&got.head, &got.checkpoints[0].1] {
        let files: Vec<_> = ws.store.files(&ws.base, tip).unwrap().into_iter().map(|f| f.path).collect();
        assert_eq!(files, ["sub/added/work", "sub/with commit/work", "sub/without/work"]);
    }
}

#[test]
fn traps_in_the_workspace_do_not_stop_it() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    ws.git(&["update-index", "--assume-unchanged", "a.txt"]);
    ws.write("a.txt", "hidden from git\n");
    rustix::fs::mknodat(rustix::fs::CWD, ws.dir.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    ws.write("secret", "s");
    fs::set_permissions(ws.dir.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    ws.write(".git/index.lock", "");
    ws.write(".git/refs/heads/offshoot/fix.lock", "");
    ws.write(".git/hooks/pre-commit", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(ws.dir.join(".git/hooks/pre-commit"), fs::Permissions::from_mode(0o755)).unwrap();
    ws.git(&["config", "core.fsmonitor", "false; exit 1"]);
    ws.git(&["config", "core.bare", "true"]);
    ws.git(&["config", "commit.gpgSign", "true"]);
    ws.checkpoint(1);
    let done = ws.finish();
    let root = rustix::process::geteuid().is_root();
    assert_eq!(done.unreadable, u64::from(!root));
    let got = ws.import("run");
    assert_eq!(ws.store.blob(&got.head, b"a.txt", 99).unwrap().unwrap().bytes, b"hidden from git\n");
    // A broken index.
    ws.write(".git/index", "garbage");
    ws.write("later", "l");
    assert!(ws.checkpoint(2).created);
    assert!(ws.finish().leftovers);
    ws.import("run");
}

#[test]
fn a_destroyed_repository_is_made_again() {
    let it = Fixture::new();
    for (name, wreck) in
        [("gone", "rm -rf .git"), ("head", "echo x > .git/HEAD"), ("file", "rm -rf .git; echo > .git")]
    {
        let ws = it.workspace(name);
        ws.write("new", "n");
        fs::remove_file(ws.dir.join("link")).unwrap();
        ws.script(&["sh".into(), "-c".into(), wreck.into()]);
        assert!(
            ws.try_script(&inside::finish(BRANCH, &ws.base, &crate::fixture::person(), "m", true)).is_err()
        );
        ws.script(&inside::rescue(&ws.base_of(&ws.base), BRANCH));
        let done = ws.finish();
        assert!(done.leftovers && done.changed == 2);
        assert_eq!(ws.import(name).head, done.head);
    }
}
