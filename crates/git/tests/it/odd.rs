//! Repositories that are not a plain clone.

use std::fs;

use offshoot_git::{
    land::land,
    oid::ObjectFormat,
    publish::publish,
    repository::{Repository, ResolveError},
    store::{ExportError, Store},
};

use crate::{
    fixture::{BRANCH, Fixture, Workspace, git, snapshot},
    landing::options,
};

/// A task on the HEAD of `repo`, published; then landed on `main`.
fn whole_way(it: &Fixture, repo: &Repository, name: &str) {
    let store = Store::open(&it.tmp.path().join(format!("{name}.git")), repo.object_format()).unwrap();
    let base = repo.head().unwrap().commit.unwrap();
    store.export(repo, &base).unwrap();
    let ws = Workspace::new(&it.tmp.path().join(name), &store, &base);
    ws.git(&["fsck", "--no-dangling"]);
    assert_eq!(ws.git(&["log", "--format=%H"]), git(repo.root(), &["log", "--format=%H"]));
    ws.write("result", name);
    ws.finish();
    let head = ws.import("run").head;
    publish(&store, repo, BRANCH, &head, None).unwrap();
    land(&store, repo, &head, "main", &options(true)).unwrap();
    assert_eq!(git(repo.root(), &["show", "main:result"]), name);
    git(repo.root(), &["fsck", "--no-dangling"]);
}

#[test]
fn bare_linked_shallow_and_borrowing_repositories_work() {
    let it = Fixture::new();
    for n in 0..5 {
        it.write("a.txt", &format!("{n}\n"));
        it.commit("more");
    }
    let url = format!("file://{}", it.repo.display());
    let path = |name: &str| it.tmp.path().join(name);
    git(it.tmp.path(), &["clone", "-q", "--bare", &url, "bare"]);
    let bare = Repository::discover(&path("bare")).unwrap();
    assert!(bare.is_bare() && bare.root() == path("bare"));
    whole_way(&it, &bare, "bare-ws");
    git(it.tmp.path(), &["clone", "-q", "--depth=2", &url, "shallow"]);
    let shallow = Repository::discover(&path("shallow")).unwrap();
    assert!(shallow.is_shallow());
    whole_way(&it, &shallow, "shallow-ws");
    git(it.tmp.path(), &["clone", "-q", "--shared", it.repo.to_str().unwrap(), "bor:row\"ing"]);
    whole_way(&it, &Repository::discover(&path("bor:row\"ing")).unwrap(), "borrowing-ws");
    it.git(&["checkout", "-q", "-b", "elsewhere"]);
    it.git(&["worktree", "add", "-q", path("linked").to_str().unwrap(), "main"]);
    let linked = Repository::discover(&path("linked")).unwrap();
    assert!(linked.is_linked_worktree() && linked.common_dir() == it.repo.join(".git"));
    whole_way(&it, &linked, "linked-ws");
    let trees = it.repository().worktrees().unwrap();
    assert_eq!(trees.len(), 2);
    fs::remove_dir_all(path("linked")).unwrap();
    assert!(!it.repository().worktrees().unwrap()[1].present);
}

#[test]
fn a_store_follows_a_repository_that_gets_its_history() {
    let it = Fixture::new();
    it.write("a.txt", "2\n");
    it.commit("second");
    let url = format!("file://{}", it.repo.display());
    git(it.tmp.path(), &["clone", "-q", "--depth=1", &url, "shallow"]);
    let dir = it.tmp.path().join("shallow");
    let repo = Repository::discover(&dir).unwrap();
    let store = it.store();
    store.export(&repo, &repo.resolve("HEAD").unwrap()).unwrap();
    assert_eq!(store.shallow().len(), 1);
    git(&dir, &["fetch", "-q", "--unshallow"]);
    it.write("a.txt", "3\n");
    let third = it.commit("third");
    git(&dir, &["pull", "-q"]);
    store.export(&repo, &third).unwrap();
    let ws = Workspace::new(&it.tmp.path().join("ws"), &store, &third);
    ws.git(&["fsck", "--no-dangling"]);
    assert_eq!(ws.git(&["rev-list", "--count", "HEAD"]), "2");
}

#[test]
fn what_cannot_be_done_is_said() {
    let it = Fixture::new();
    let empty = it.tmp.path().join("empty");
    fs::create_dir(&empty).unwrap();
    git(&empty, &["init", "-q", "-b", "main"]);
    let repo = Repository::discover(&empty).unwrap();
    assert_eq!(repo.head().unwrap().commit, None);
    assert!(matches!(repo.resolve("HEAD"), Err(ResolveError::NoCommit)));
    assert!(matches!(repo.resolve("main"), Err(ResolveError::NoCommit)));
    assert!(repo.dirty().unwrap().is_clean() && repo.worktrees().unwrap().len() == 1);

    it.git(&["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", it.repo.display());
    git(it.tmp.path(), &["clone", "-q", "--filter=blob:none", &url, "partial"]);
    let partial = Repository::discover(&it.tmp.path().join("partial")).unwrap();
    let head = partial.resolve("HEAD").unwrap();
    assert!(matches!(it.store().export(&partial, &head), Err(ExportError::PartialClone)));

    let other = Fixture::with(ObjectFormat::Sha256);
    let oid = other.repository().resolve("HEAD").unwrap();
    assert!(matches!(it.store().export(&other.repository(), &oid), Err(ExportError::Format { .. })));
    assert!(Store::open(it.store().dir(), ObjectFormat::Sha256).is_err());
    let missing = "1".repeat(40).parse().unwrap();
    assert!(matches!(it.store().export(&it.repository(), &missing), Err(ExportError::NoSuchCommit(_))));
}

#[test]
fn submodules_and_lfs_are_named_and_left_alone() {
    let it = Fixture::new();
    let lib = Fixture::new();
    it.git(&["submodule", "--quiet", "add", lib.repo.to_str().unwrap(), "libs/one"]);
    it.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n";
    it.write("big.bin", pointer);
    let commit = it.commit("submodule and pointer");
    let repo = it.repository();
    let extras = repo.extras(&commit).unwrap();
    assert_eq!(extras.submodules, ["libs/one"]);
    assert!(extras.lfs);
    let before = snapshot(&it.repo, &[]);
    let ws = it.workspace("ws");
    assert!(ws.dir.join("libs/one").is_dir());
    assert_eq!(fs::read_to_string(ws.dir.join("big.bin")).unwrap(), pointer);
    ws.write("x", "x");
    let done = ws.finish();
    assert_eq!((done.changed, done.submodules, done.embedded.len()), (1, 0, 0));
    let head = ws.import("run").head;
    assert_eq!(snapshot(&it.repo, &[]), before);
    land(&ws.store, &repo, &head, "main", &options(false)).unwrap();
    assert!(it.repo.join("libs/one/a.txt").exists());
    assert_eq!(it.git(&["status", "--porcelain"]), "");
}

#[test]
fn replaced_and_grafted_history_goes_by_what_is_really_there() {
    let it = Fixture::new();
    let first = it.git(&["rev-parse", "HEAD"]);
    it.write("a.txt", "2\n");
    let second = it.commit("second");
    it.git(&["replace", "--graft", second.as_str()]);
    fs::write(it.repo.join(".git/info/grafts"), format!("{second}\n")).unwrap();
    let ws = it.workspace("ws");
    ws.git(&["fsck", "--no-dangling"]);
    assert_eq!(ws.git(&["rev-parse", "HEAD~1"]), first);
}

#[test]
fn a_strict_umask_does_not_hide_objects_from_the_sandbox() {
    let it = Fixture::new();
    let ws = it.workspace("ws");
    for entry in fs::read_dir(ws.store.objects_dir().join("pack")).unwrap() {
        let mode = std::os::unix::fs::MetadataExt::mode(&entry.unwrap().metadata().unwrap());
        assert_eq!(mode & 0o044, 0o044);
    }
}
