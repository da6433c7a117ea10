//! From the user's repository into a workspace and back, and what is shown of it.

use std::fs;

use offshoot_git::{
    inside,
    oid::ObjectFormat,
    path::unescape,
    publish::{self, PublishError, publish},
    repository::{DiscoverError, Repository, ResolveError},
    view::{DiffOptions, FileKind, Status},
};

use crate::fixture::{BRANCH, Fixture, git, snapshot, try_git};

#[test]
fn there_and_back() {
    for format in [ObjectFormat::Sha1, ObjectFormat::Sha256] {
        let it = Fixture::with(format);
        it.git(&["branch", "other"]);
        it.write("stashed", "secret");
        it.git(&["add", "-A"]);
        it.git(&["stash", "-q"]);
        it.write("untracked.env", "SECRET");
        let before = snapshot(&it.repo, &[]);
        let ws = it.workspace("ws");
        assert_eq!(
            snapshot(&it.repo, &[]),
            before,
            "giving a commit to runs changes nothing in the repository"
        );
        assert!(!ws.dir.join("untracked.env").exists());
        assert!(try_git(&ws.dir, &["cat-file", "-e", &it.git(&["rev-parse", "stash"])]).is_err());
        assert_eq!(ws.git(&["status", "--porcelain", "-b"]), "## offshoot/fix");
        assert_eq!(
            ws.git(&["for-each-ref", "--format=%(refname)"]),
            "refs/heads/main\nrefs/heads/offshoot/fix"
        );
        assert_eq!(ws.git(&["config", "user.name"]), "Ada \"L\" \\ X");

        ws.write("a.txt", "one\n2\nthree\n");
        let first = ws.checkpoint(1);
        assert!(first.created && first.changed == 1);
        assert_eq!(ws.git(&["status", "--porcelain"]), " M a.txt", "the agent's index is not touched");
        let again = ws.checkpoint(2);
        assert!(!again.created && again.commit == first.commit);
        ws.git(&["commit", "-qam", "change a\n\nlong"]);
        ws.write("new/b.bin", "\0\0");
        let done = ws.finish();
        assert!(done.leftovers && done.changed == 2 && done.elsewhere.is_none());
        assert_eq!(done.on.as_deref(), Some(BRANCH));
        let got = ws.import("run-1");
        assert_eq!((&got.head, &got.checkpoints[..]), (&done.head, &[(1, first.commit.clone())][..]));
        assert!(!got.unrelated && got.ignored == 0);
        assert_eq!(ws.import("run-1"), got, "twice is once");
        assert_eq!(ws.store.runs().unwrap(), ["run-1"]);

        let commits = ws.store.commits(&ws.base, &got.head).unwrap();
        assert_eq!(
            commits.iter().map(|c| c.subject.as_str()).collect::<Vec<_>>(),
            ["what was left", "change a"]
        );
        assert_eq!(ws.store.message(&commits[1].oid).unwrap(), "change a\n\nlong");
        let files = ws.store.files(&ws.base, &got.head).unwrap();
        assert_eq!(files.len(), 2);
        assert!(files[0].path == "a.txt" && files[0].added == 1 && files[0].deleted == 1 && !files[0].binary);
        assert!(files[1].status == Status::Added && files[1].binary);
        assert_eq!(ws.store.changed_count(&ws.base, &got.head).unwrap(), 2);
        let diff = ws.store.diff(&ws.base, &got.head, &DiffOptions::default()).unwrap();
        assert!(!diff.truncated && String::from_utf8_lossy(&diff.patch).contains("\n-two\n+2\n"));
        let some = DiffOptions { paths: vec![b"new".to_vec()], max_bytes: 30, ..DiffOptions::default() };
        let some = ws.store.diff(&ws.base, &got.head, &some).unwrap();
        assert!(some.truncated && some.patch.starts_with(b"diff --git a/new/b.bin"));
        let blob = ws.store.blob(&got.head, b"link", 100).unwrap().unwrap();
        assert!(blob.kind == FileKind::Symlink && blob.bytes == b"a.txt");
        assert_eq!(ws.store.blob(&got.head, b"src/", 100).unwrap().unwrap().kind, FileKind::Directory);
        assert_eq!(ws.store.blob(&got.head, b"nothing", 100).unwrap(), None);

        let repo = it.repository();
        let published = publish(&ws.store, &repo, BRANCH, &got.head, None).unwrap();
        assert!(published.moved);
        assert!(!publish(&ws.store, &repo, BRANCH, &got.head, None).unwrap().moved);
        assert_eq!(it.git(&["rev-parse", BRANCH]), got.head.as_str());
        it.git(&["fsck", "--strict", "--no-dangling"]);
        let after = snapshot(
            &it.repo,
            &[".git/objects", ".git/refs/heads/offshoot", ".git/logs/refs/heads/offshoot"],
        );
        let before: std::collections::BTreeMap<_, _> =
            before.into_iter().filter(|(path, _)| !path.starts_with(".git/objects")).collect();
        assert_eq!(after, before, "publishing adds objects and one branch");

        // A follow-up starts from what only the store has.
        assert!(ws.store.offer(&got.head).unwrap());
        let next = crate::fixture::Workspace::new(&it.tmp.path().join("next"), &ws.store, &got.head);
        next.write("more", "x");
        next.finish();
        let more = next.import("run-2");
        publish(&ws.store, &repo, BRANCH, &more.head, Some(&got.head)).unwrap();

        let dropped = ws.store.drop_run("run-1").unwrap();
        assert_eq!(dropped.len(), 2);
        ws.store.gc().unwrap();
        assert!(ws.store.has_commit(&more.head).unwrap() && !ws.store.has_commit(&first.commit).unwrap());
        git(&ws.dir, &["fsck", "--no-dangling"]);
        publish::delete_branch(&repo, BRANCH, &more.head).unwrap();
        assert_eq!(repo.branch_commit(BRANCH).unwrap(), None);
    }
}

#[test]
fn no_run_sees_what_another_brought_back() {
    let it = Fixture::new();
    let ws = it.workspace("one");
    ws.write("idea", "mine");
    let head = ws.finish().head;
    ws.import("one");
    let other = it.workspace("two");
    assert!(try_git(&other.dir, &["cat-file", "-e", head.as_str()]).is_err());
}

#[test]
fn a_run_that_changed_nothing_brings_its_base() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    assert!(!ws.checkpoint(1).created);
    let done = ws.finish();
    assert!(!done.leftovers && done.changed == 0 && done.head == ws.base);
    let got = ws.import("run");
    assert!(got.head == ws.base && got.objects == 0 && got.checkpoints.is_empty());
}

#[test]
fn deltas_turn_one_base_into_another() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    it.write("a.txt", "changed");
    it.git(&["mv", "src", "lib"]);
    let second = it.commit("second");
    it.git(&["rm", "-q", "link"]);
    let third = it.commit("third");
    let (repo, store) = (it.repository(), it.store());
    assert!(store.export(&repo, &second).unwrap() && store.export(&repo, &third).unwrap());
    for commit in [&third, &second, &ws.base, &second] {
        ws.script(&inside::delta_checkout(&ws.base_of(commit)));
        ws.start(commit);
        assert_eq!(ws.git(&["status", "--porcelain"]), "");
        assert_eq!(ws.git(&["rev-parse", "HEAD", "main"]), format!("{commit}\n{commit}"));
        assert_eq!(ws.git(&["diff", "--stat", commit.as_str()]), "");
    }
    assert!(
        ws.dir.join("lib/lib.rs").exists()
            && !ws.dir.join("src").exists()
            && ws.dir.join("link").is_symlink()
    );
}

#[test]
fn publishing_refuses_and_loses_nothing() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    ws.write("x", "x");
    ws.finish();
    let head = ws.import("run").head;
    let repo = it.repository();

    it.git(&["branch", "offshoot"]);
    let before = snapshot(&it.repo, &[]);
    let clash = publish(&ws.store, &repo, BRANCH, &head, None);
    assert!(matches!(clash, Err(PublishError::NameClash { with, .. }) if with == "offshoot"));
    assert!(matches!(publish(&ws.store, &repo, "a b", &head, None), Err(PublishError::BadName(_))));
    assert_eq!(snapshot(&it.repo, &[]), before);
    it.git(&["branch", "-D", "offshoot"]);

    it.git(&["checkout", "-q", "-b", BRANCH]);
    it.write("mine", "mine");
    let mine = it.commit("mine");
    let moved = publish(&ws.store, &repo, BRANCH, &head, None);
    assert!(matches!(moved, Err(PublishError::Moved { found: Some(found), .. }) if found == mine));
    let out = publish(&ws.store, &repo, BRANCH, &head, Some(&mine));
    assert!(matches!(out, Err(PublishError::CheckedOut { worktree, .. }) if worktree == it.repo));
    assert!(matches!(publish::delete_branch(&repo, BRANCH, &mine), Err(PublishError::CheckedOut { .. })));
    it.git(&["checkout", "-q", "main"]);
    let linked = it.tmp.path().join("linked");
    it.git(&["worktree", "add", "-q", linked.to_str().unwrap(), BRANCH]);
    let out = publish(&ws.store, &repo, BRANCH, &head, Some(&mine));
    assert!(matches!(out, Err(PublishError::CheckedOut { worktree, .. }) if worktree == linked));
    it.git(&["worktree", "remove", linked.to_str().unwrap()]);
    assert!(matches!(publish::delete_branch(&repo, BRANCH, &head), Err(PublishError::Moved { .. })));
    assert_eq!(it.git(&["rev-parse", BRANCH]), mine.as_str());
    it.git(&["branch", "-D", BRANCH]);
    assert!(
        publish(&ws.store, &repo, BRANCH, &head, Some(&mine)).unwrap().moved,
        "one that is gone is made anew"
    );
    assert_eq!(it.git(&["rev-parse", BRANCH]), head.as_str());
    assert!(ws.store.has_commit(&head).unwrap());
}

#[test]
fn repositories_are_found_and_described() {
    let it = Fixture::new();
    let repo = Repository::discover(&it.repo.join("src")).unwrap();
    assert_eq!(repo.root(), it.repo);
    assert!(
        !repo.is_bare() && !repo.is_linked_worktree() && !repo.is_shallow() && !repo.is_partial().unwrap()
    );
    assert_eq!(Repository::discover(&it.repo.join(".git")).unwrap().root(), it.repo);
    let head = repo.head().unwrap();
    assert_eq!(head.branch.as_deref(), Some("main"));
    assert_eq!(repo.resolve("HEAD").unwrap(), head.commit.clone().unwrap());
    let unknown = repo.resolve("mai").unwrap_err();
    assert!(
        matches!(&unknown, ResolveError::UnknownRevision { near, .. } if near == &["main"]),
        "{unknown:?}"
    );
    assert!(matches!(repo.resolve("--help"), Err(ResolveError::UnknownRevision { .. })));
    assert_eq!(repo.identity().unwrap().unwrap().name, "User");
    assert!(repo.dirty().unwrap().is_clean());
    it.write("a.txt", "x");
    it.write("src/lib.rs", "y");
    it.git(&["add", "src"]);
    it.write("new/1", "");
    it.write("new/2", "");
    let dirty = repo.dirty().unwrap();
    assert_eq!((dirty.staged, dirty.modified, dirty.untracked, dirty.unmerged), (1, 1, 1, 0));
    assert!(matches!(
        Repository::discover(it.tmp.path()),
        Err(DiscoverError::NotARepository { path }) if path == it.tmp.path()
    ));
    assert!(matches!(Repository::discover(&it.repo.join("no")), Err(DiscoverError::NotARepository { .. })));
}

#[test]
fn names_of_any_bytes_come_through() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let it = Fixture::new();
    let names: [&[u8]; 8] = [
        b"new\nline",
        b"\xff\xfe",
        b"-rf",
        b" lead",
        b"tab\tq\"uote\\",
        b"*",
        b":(top)x",
        "bidi\u{202e}".as_bytes(),
    ];
    let ws = it.workspace("ws");
    for name in names {
        fs::write(ws.dir.join(OsStr::from_bytes(name)), "x\n").unwrap();
    }
    ws.checkpoint(1);
    ws.finish();
    let head = ws.import("run").head;
    let files = ws.store.files(&ws.base, &head).unwrap();
    let mut got: Vec<_> = files.iter().map(|file| unescape(&file.path).unwrap()).collect();
    let mut want: Vec<_> = names.iter().map(|name| name.to_vec()).collect();
    got.sort();
    want.sort();
    assert_eq!(got, want);
    for name in names {
        assert_eq!(ws.store.blob(&head, name, 100).unwrap().unwrap().bytes, b"x\n");
        let only = DiffOptions { paths: vec![name.to_vec()], ..DiffOptions::default() };
        assert!(ws.store.diff(&ws.base, &head, &only).unwrap().patch.ends_with(b"+x\n"));
    }
    assert!(files.iter().all(|file| !file.path.contains(['\n', '\u{202e}'])));
}
