//! Landing: ways, refusals, and a checked-out target.

use std::fs;

use offshoot_git::{
    land::{How, LandError, LandOptions, Plan, land, plan, recover},
    merge::Merge,
    oid::Oid,
};

use crate::fixture::{Fixture, Workspace, git, person, snapshot};

pub fn options(squash: bool) -> LandOptions {
    LandOptions { squash, message: "Land it\n".into(), author: person() }
}

/// A task that changes a.txt, removes src and adds files; its commit is in the store.
pub fn task(it: &Fixture) -> (Workspace, Oid) {
    let ws = it.workspace("ws");
    ws.write("a.txt", "one\ntwo\nTHREE\n");
    ws.git(&["rm", "-rq", "src"]);
    ws.write("new/deep/file", "n\n");
    ws.write("b.txt", "b\n");
    ws.finish();
    let head = ws.import("run").head;
    (ws, head)
}

#[test]
fn a_checked_out_target_is_brought_along() {
    for squash in [false, true] {
        let it = Fixture::new();
        let (ws, head) = task(&it);
        it.write("notes", "untracked");
        it.write("link2", "also mine");
        it.git(&["add", "link2"]);
        let repo = it.repository();
        assert_eq!(plan(&ws.store, &repo, &head, "main").unwrap(), Plan::FastForward);
        let landed = land(&ws.store, &repo, &head, "main", &options(squash)).unwrap();
        assert_eq!(landed.how, if squash { How::Squash } else { How::FastForward });
        assert_eq!(landed.worktree.as_ref(), Some(&it.repo));
        assert_eq!(it.git(&["rev-parse", "HEAD"]), landed.commit.as_str());
        assert_eq!(it.git(&["status", "--porcelain"]), "A  link2\n?? notes");
        assert!(!it.repo.join("src").exists() && it.repo.join("new/deep/file").exists());
        assert!(it.git(&["reflog", "-1", "HEAD"]).contains("offshoot: land"));
        let names: Vec<_> =
            fs::read_dir(it.repo.join(".git")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(
            names.iter().all(|name| !name.to_string_lossy().contains("offshoot") && name != "index.lock"),
            "{names:?}"
        );
        assert_eq!(land(&ws.store, &repo, &head, "main", &options(squash)).unwrap().how, How::UpToDate);
        assert_eq!(fs::read_dir(ws.store.dir().join("landing")).unwrap().count(), 0);
    }
}

#[test]
fn a_target_nobody_has_out_moves_by_its_ref_alone() {
    let it = Fixture::new();
    it.git(&["branch", "release"]);
    let (ws, head) = task(&it);
    it.write("c.txt", "c");
    it.commit("on main");
    let linked = it.tmp.path().join("linked");
    it.git(&["worktree", "add", "-q", "-b", "next", linked.to_str().unwrap(), "main"]);
    let repo = it.repository();
    let before =
        snapshot(&it.repo, &[".git/objects", ".git/refs/heads/release", ".git/logs/refs/heads/release"]);
    let landed = land(&ws.store, &repo, &head, "release", &options(false)).unwrap();
    assert_eq!((landed.how, landed.worktree), (How::FastForward, None));
    let after =
        snapshot(&it.repo, &[".git/objects", ".git/refs/heads/release", ".git/logs/refs/heads/release"]);
    assert_eq!(after, before);
    // In a linked worktree.
    let landed = land(&ws.store, &repo, &head, "next", &options(false)).unwrap();
    assert_eq!((landed.how, landed.worktree.as_ref()), (How::Merge, Some(&linked)));
    assert_eq!(git(&linked, &["status", "--porcelain"]), "");
    assert_eq!(git(&linked, &["log", "-1", "--format=%an|%s|%cn"]), "Ada \"L\" \\ X|Land it|User");
    assert!(linked.join("c.txt").exists() && linked.join("b.txt").exists());
    let missing = land(&ws.store, &repo, &head, "nope", &options(false));
    assert!(matches!(missing, Err(LandError::NoTarget(_))));
    it.git(&["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn local_changes_in_the_way_refuse_and_stay() {
    let it = Fixture::new();
    let (ws, head) = task(&it);
    let repo = it.repository();
    fs::write(it.repo.join(".git/info/exclude"), "b.txt\n").unwrap();
    for (path, text) in
        [("a.txt", "local"), ("b.txt", "ignored"), ("new", "file in the way"), ("src/lib.rs", "edited")]
    {
        let kept = fs::read(it.repo.join(path)).ok();
        it.write(path, text);
        let before = snapshot(&it.repo, &[".git/objects"]);
        match land(&ws.store, &repo, &head, "main", &options(false)) {
            Err(LandError::LocalChanges { worktree, paths }) => {
                assert!(worktree == it.repo && paths == [path], "{paths:?}")
            }
            other => panic!("{path}: {other:?}"),
        }
        assert_eq!(snapshot(&it.repo, &[".git/objects"]), before, "{path}");
        match kept {
            Some(bytes) => fs::write(it.repo.join(path), bytes).unwrap(),
            None => fs::remove_file(it.repo.join(path)).unwrap(),
        }
    }
    // Staged counts too; being in the middle of something as well.
    it.write("a.txt", "staged");
    it.git(&["add", "a.txt"]);
    assert!(matches!(
        land(&ws.store, &repo, &head, "main", &options(true)),
        Err(LandError::LocalChanges { .. })
    ));
    it.git(&["reset", "-q", "--hard"]);
    fs::write(it.repo.join(".git/MERGE_HEAD"), format!("{}\n", ws.base)).unwrap();
    let busy = land(&ws.store, &repo, &head, "main", &options(false));
    assert!(matches!(busy, Err(LandError::Busy { what: "a merge", .. })));
    fs::remove_file(it.repo.join(".git/MERGE_HEAD")).unwrap();
    fs::write(it.repo.join(".git/index.lock"), "").unwrap();
    assert!(matches!(land(&ws.store, &repo, &head, "main", &options(false)), Err(LandError::Busy { .. })));
    assert!(it.repo.join(".git/index.lock").exists(), "somebody else's lock stays");
    fs::remove_file(it.repo.join(".git/index.lock")).unwrap();
    assert!(recover(&ws.store, &repo).unwrap().is_empty());
    land(&ws.store, &repo, &head, "main", &options(false)).unwrap();
    assert_eq!(it.git(&["status", "--porcelain"]), "");
}

#[test]
fn conflicts_are_shown_and_nothing_lands() {
    let it = Fixture::new();
    let (ws, head) = task(&it);
    it.write("a.txt", "one\ntwo\ndrei\n");
    it.write("src/lib.rs", "pub fn g() {}\n");
    it.commit("clash");
    let repo = it.repository();
    let before = snapshot(&it.repo, &[]);
    let Plan::Conflicts { files } = plan(&ws.store, &repo, &head, "main").unwrap() else {
        panic!("no conflict")
    };
    assert_eq!(files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a.txt", "src/lib.rs"]);
    assert_eq!((files[0].kind.as_str(), files[1].kind.as_str()), ("contents", "modify/delete"));
    assert!(files[0].hunks.contains("drei\n=======\nTHREE\n"), "{}", files[0].hunks);
    assert!(matches!(
        land(&ws.store, &repo, &head, "main", &options(false)),
        Err(LandError::Conflicts { .. })
    ));
    assert_eq!(snapshot(&it.repo, &[]), before);
    // Forecast between two tasks.
    let other = it.store();
    let two = Workspace::new(&it.tmp.path().join("two"), &other, &ws.base);
    two.write("c.txt", "c");
    two.finish();
    let two = two.import("two").head;
    assert!(matches!(other.merge(&head, &two).unwrap(), Merge::Clean { .. }));
}

#[test]
fn filters_and_hooks_of_the_repository_do_not_run() {
    let it = Fixture::new();
    let canary = it.tmp.path().join("canary");
    let touch = format!("touch '{}'; cat", canary.display());
    it.git(&["config", "filter.evil.smudge", &touch]);
    it.git(&["config", "filter.evil.clean", &touch]);
    it.git(&["config", "filter.evil.required", "true"]);
    it.git(&["config", "filter.proc.process", &touch]);
    it.git(&["config", "merge.evil.driver", &touch]);
    it.git(&["config", "diff.evil.command", &touch]);
    it.git(&["config", "diff.evil.textconv", &touch]);
    it.git(&["config", "core.fsmonitor", &touch]);
    it.git(&["config", "core.alternateRefsCommand", &touch]);
    it.git(&["config", "uploadpack.packObjectsHook", &touch]);
    it.git(&["config", "core.hooksPath", it.repo.join(".git/hooks").to_str().unwrap()]);
    fs::create_dir_all(it.repo.join(".git/hooks")).unwrap();
    for hook in [
        "post-checkout",
        "post-merge",
        "reference-transaction",
        "post-index-change",
        "pre-auto-gc",
        "post-update",
    ] {
        let path = it.repo.join(".git/hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\n{touch}\n")).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let ws = it.workspace("ws");
    ws.write(".gitattributes", "*.txt filter=evil diff=evil merge=evil\n*.p filter=proc\n");
    ws.write("x.txt", "x\n");
    ws.write("a.txt", "one\ntwo\nTHREE\n");
    ws.write("x.p", "p\n");
    ws.finish();
    let head = ws.import("run").head;
    it.write("c.txt", "c\n");
    let out = crate::fixture::git_command(&it.repo)
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"])
        .args(["add", "c.txt"])
        .status()
        .unwrap();
    assert!(out.success());
    let out = crate::fixture::git_command(&it.repo)
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"])
        .args(["commit", "-qm", "c"])
        .status()
        .unwrap();
    assert!(out.success());
    assert!(!canary.exists());
    let repo = it.repository();
    repo.dirty().unwrap();
    offshoot_git::publish::publish(&ws.store, &repo, "offshoot/x", &head, None).unwrap();
    land(&ws.store, &repo, &head, "main", &options(false)).unwrap();
    repo.dirty().unwrap();
    ws.store.diff(&ws.base, &head, &Default::default()).unwrap();
    assert_eq!(fs::read(it.repo.join("x.txt")).unwrap(), b"x\n");
    assert!(!canary.exists());
}
