//! Worktrees of the user's own repository: made, used, taken away, and everything that can be odd about them.

use std::{
    fs,
    io::{Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use offshoot_git::{
    import::Limits,
    inside::{self, Checkpointed, Finished, GIT_DIR_VARIABLE},
    oid::Oid,
    publish::delete_branch_in,
    repository::Repository,
    worktree::{self, Added, WorktreeError},
};

use crate::fixture::{BRANCH, Fixture, git, person, try_git, write};

const OURS: &str = "offshoot: fix";

struct Tree {
    added: Added,
    base: Oid,
}

fn place(fixture: &Fixture, name: &str) -> PathBuf {
    fixture.tmp.path().join("trees").join(name)
}

fn add(fixture: &Fixture, name: &str, branch: &str) -> Result<Tree, WorktreeError> {
    let repo = fixture.repository();
    let base = repo.head().unwrap().commit.unwrap();
    let added = worktree::add(&repo, &place(fixture, name), branch, &base, OURS)?;
    let tree = Tree { added, base };
    tree.script(&inside::worktree_checkout());
    Ok(tree)
}

impl Tree {
    fn path(&self) -> &Path {
        &self.added.path
    }

    fn try_script(&self, argv: &[String]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent");
        command.env(GIT_DIR_VARIABLE, &self.added.git_dir);
        let out = command.output().unwrap();
        if out.status.success() {
            Ok(out.stdout)
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    fn script(&self, argv: &[String]) -> Vec<u8> {
        self.try_script(argv).unwrap_or_else(|error| panic!("{error}"))
    }

    fn checkpoint(&self, n: u32) -> Checkpointed {
        Checkpointed::read(&self.script(&inside::checkpoint(n, &format!("step {n}")))).unwrap()
    }

    fn finish(&self, branch: &str) -> Finished {
        let script = inside::finish(branch, &self.base, &person(), "what was left", true);
        Finished::read(&self.script(&script)).unwrap()
    }

    fn bundle(&self, branch: &str) -> fs::File {
        let bundle = self.script(&inside::bundle(self.base.format(), &self.base, branch));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bundle).unwrap();
        file.rewind().unwrap();
        file
    }

    fn remove(&self, fixture: &Fixture) -> Result<Option<PathBuf>, WorktreeError> {
        let aside = fixture.tmp.path().join("aside").join("x");
        worktree::remove(&fixture.repository(), self.path(), &self.added.git_dir, &aside, OURS)
    }
}

/// Hooks of every kind that leave a trace.
fn traps(fixture: &Fixture) -> PathBuf {
    let trace = fixture.tmp.path().join("hook-ran");
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-commit", "pre-auto-gc"] {
        let file = fixture.repo.join(".git/hooks").join(hook);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("#!/bin/sh\necho {hook} >> '{}'\n", trace.display())).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }
    trace
}

#[test]
fn from_the_first_file_to_the_last_trace() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let trace = traps(&fixture);
    let before = fs::read(fixture.repo.join(".git/config")).unwrap();
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    assert!(tree.added.new_branch);
    store.export(&fixture.repository(), &tree.base).unwrap();
    assert_eq!(fs::read_to_string(tree.path().join("a.txt")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(git(tree.path(), &["--no-optional-locks", "status", "--porcelain"]), "");
    let listed = fixture.repository().linked().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed[0].main && !listed[1].main);
    assert_eq!((listed[1].branch.as_deref(), listed[1].locked.as_deref()), (Some(BRANCH), Some(OURS)));
    assert_eq!(worktree::whereabouts(&tree.added.git_dir).as_deref(), Some(tree.path()));

    write(tree.path(), "a.txt", "changed\n");
    write(tree.path(), "new/b.txt", "new\n");
    let taken = tree.checkpoint(1);
    assert!(taken.created && taken.changed == 2, "{taken:?}");
    assert_eq!(
        git(tree.path(), &["--no-optional-locks", "status", "--porcelain"]),
        " M a.txt\n?? new/",
        "the agent's own index is as it was"
    );
    let ignore = Path::new("/dev/null");
    let held = worktree::held(tree.path(), &tree.added.git_dir, ignore).unwrap();
    assert_eq!(held.changed, [PathBuf::from("a.txt"), "new/b.txt".into()]);
    assert_eq!((held.branch.as_deref(), held.head), (Some(BRANCH), Some(tree.base.clone())));
    let finished = tree.finish(BRANCH);
    assert!(finished.leftovers && finished.changed == 2, "{finished:?}");
    let imported = store.import(&tree.bundle(BRANCH), "run", &Limits::default()).unwrap();
    assert_eq!(imported.head, finished.head);
    assert_eq!(
        fixture.git(&["rev-parse", BRANCH]),
        finished.head.to_string(),
        "it is in the user's repository"
    );
    assert!(store.run_refs("run").unwrap().iter().any(|r| r.name.ends_with("checkpoints/1")));

    let aside = tree.remove(&fixture).unwrap().unwrap();
    assert!(!tree.path().exists() && aside.join("new/b.txt").exists());
    assert!(!tree.path().parent().unwrap().exists(), "the folder of worktrees went with the last one");
    assert_eq!(fixture.repository().linked().unwrap().len(), 1);
    assert_eq!(tree.remove(&fixture).unwrap(), None, "once more is no mistake");
    delete_branch_in(&fixture.repository(), BRANCH, &finished.head, None).unwrap();
    assert_eq!(fixture.git(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
    assert_eq!(fs::read(fixture.repo.join(".git/config")).unwrap(), before, "the configuration is as it was");
    assert!(!trace.exists(), "a hook ran: {}", fs::read_to_string(&trace).unwrap());
}

#[test]
fn a_branch_that_is_checked_out_elsewhere() {
    let fixture = Fixture::new();
    let elsewhere = fixture.tmp.path().join("elsewhere");
    fixture.git(&["worktree", "add", "-q", "-b", BRANCH, elsewhere.to_str().unwrap()]);
    let Err(WorktreeError::CheckedOut { worktree, present: true, .. }) = add(&fixture, "fix", BRANCH) else {
        panic!()
    };
    assert_eq!(worktree, elsewhere);
    // The same when that directory was deleted by hand: it may be on a disk that is not mounted now.
    fs::remove_dir_all(&elsewhere).unwrap();
    let error = add(&fixture, "fix", BRANCH).err().unwrap();
    assert!(error.to_string().ends_with("a directory that is gone"), "{error}");
    worktree::prune(&fixture.repository()).unwrap();
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    assert!(!tree.added.new_branch);
    // The main checkout counts as well.
    assert!(matches!(add(&fixture, "main", "main"), Err(WorktreeError::CheckedOut { .. })));
    assert!(matches!(add(&fixture, "clash", "main/x"), Err(WorktreeError::NameClash { .. })));
}

#[test]
fn a_directory_that_was_deleted_by_hand_is_made_again() {
    let fixture = Fixture::new();
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    write(tree.path(), "work.txt", "not committed\n");
    let taken = tree.checkpoint(1);
    fs::remove_dir_all(tree.path()).unwrap();
    // Nobody's pruning forgets it: it is locked.
    fixture.git(&["worktree", "prune", "--expire=now"]);
    fixture.git(&["gc", "-q", "--prune=now"]);
    let Err(WorktreeError::Registered { .. }) = add(&fixture, "fix", "offshoot/other") else { panic!() };
    worktree::restore(&fixture.repository(), tree.path(), &tree.added.git_dir).unwrap();
    tree.script(&inside::worktree_checkout());
    assert_eq!(git(tree.path(), &["--no-optional-locks", "status", "--porcelain"]), "");
    let commit = taken.commit.to_string();
    assert_eq!(
        git(tree.path(), &["show", &format!("{commit}:work.txt")]),
        "not committed",
        "the checkpoint has it"
    );
    assert!(matches!(
        worktree::restore(&fixture.repository(), tree.path(), &tree.added.git_dir),
        Err(WorktreeError::Occupied { .. })
    ));
    // Deleted by hand and not wanted any more either.
    fs::remove_dir_all(tree.path()).unwrap();
    assert_eq!(tree.remove(&fixture).unwrap(), None);
    assert_eq!(fixture.repository().linked().unwrap().len(), 1);
}

#[test]
fn somebody_elses_lock_is_kept() {
    let fixture = Fixture::new();
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    let path = tree.path().to_str().unwrap().to_owned();
    fixture.git(&["worktree", "unlock", &path]);
    fixture.git(&["worktree", "lock", "--reason", "I look at it", &path]);
    let repo = fixture.repository();
    assert!(!worktree::lock(&repo, tree.path(), OURS).unwrap());
    worktree::unlock(&repo, tree.path(), OURS).unwrap();
    let error = tree.remove(&fixture).unwrap_err();
    assert!(
        matches!(error, WorktreeError::Locked { .. }) && error.to_string().contains("I look at it"),
        "{error}"
    );
    assert!(tree.path().join("a.txt").exists());
    fixture.git(&["worktree", "unlock", &path]);
    assert!(worktree::lock(&repo, tree.path(), OURS).unwrap());
    tree.remove(&fixture).unwrap().unwrap();
}

#[test]
fn something_else_in_its_place_is_not_touched() {
    let fixture = Fixture::new();
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    // Moved away, and something of the user's own put there.
    let moved = fixture.tmp.path().join("moved");
    fs::rename(tree.path(), &moved).unwrap();
    git(fixture.tmp.path(), &["clone", "-q", fixture.repo.to_str().unwrap(), tree.path().to_str().unwrap()]);
    assert!(matches!(tree.remove(&fixture), Err(WorktreeError::Replaced { .. })));
    assert!(tree.path().join("a.txt").exists());
    // A link is not followed.
    fs::remove_dir_all(tree.path()).unwrap();
    std::os::unix::fs::symlink(&moved, tree.path()).unwrap();
    assert!(matches!(tree.remove(&fixture), Err(WorktreeError::Replaced { .. })));
    assert!(moved.join("a.txt").exists());
    // An agent that deleted `.git` has not made it somebody else's.
    fs::remove_file(tree.path()).unwrap();
    fs::rename(&moved, tree.path()).unwrap();
    fs::remove_file(tree.path().join(".git")).unwrap();
    assert_eq!(tree.finish(BRANCH).head, tree.base, "its work can be brought out");
    tree.remove(&fixture).unwrap().unwrap();
}

#[test]
fn nested_ones() {
    let fixture = Fixture::new();
    let repo = fixture.repository();
    let base = repo.head().unwrap().commit.unwrap();
    let inside = fixture.repo.join("trees/fix");
    let error = worktree::add(&repo, &inside, BRANCH, &base, OURS).unwrap_err();
    assert!(matches!(&error, WorktreeError::Inside { of, .. } if *of == fixture.repo), "{error}");
    assert_eq!(fixture.git(&["branch", "--list", BRANCH]), "", "nothing was made");
    // Other tools put theirs inside. From there, the main checkout is still the main one.
    let theirs = fixture.repo.join(".claude/worktrees/x");
    fixture.git(&["worktree", "add", "-q", "-b", "theirs", theirs.to_str().unwrap()]);
    let linked = Repository::discover(&theirs).unwrap();
    assert!(linked.is_linked_worktree());
    assert_eq!(linked.main_root().unwrap(), fixture.repo);
    let tree = worktree::add(&linked, &place(&fixture, "fix"), BRANCH, &base, OURS).unwrap();
    let tree = Tree { added: tree, base };
    // One within ours holds it up, and nothing is lost.
    let within = tree.path().join("w");
    git(tree.path(), &["worktree", "add", "-q", "-b", "within", within.to_str().unwrap()]);
    assert!(matches!(tree.remove(&fixture), Err(WorktreeError::Nested { within: found }) if found == within));
    fixture.git(&["worktree", "remove", within.to_str().unwrap()]);
    tree.remove(&fixture).unwrap().unwrap();
    assert!(theirs.join("a.txt").exists());
}

#[test]
fn submodules_do_not_hold_it_up() {
    let fixture = Fixture::new();
    let module = fixture.tmp.path().join("module");
    fs::create_dir(&module).unwrap();
    git(&module, &["init", "-q", "-b", "main"]);
    write(&module, "m.txt", "m\n");
    git(&module, &["add", "-A"]);
    git(&module, &["commit", "-q", "-m", "m"]);
    fixture.git(&["submodule", "-q", "add", module.to_str().unwrap(), "mod"]);
    fixture.commit("with a submodule");
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    assert!(
        tree.path().join("mod").is_dir() && !tree.path().join("mod/m.txt").exists(),
        "empty, as git leaves it"
    );
    git(tree.path(), &["submodule", "-q", "update", "--init"]);
    assert!(tree.path().join("mod/m.txt").exists());
    write(tree.path(), "a.txt", "changed\n");
    assert_eq!(tree.finish(BRANCH).changed, 1);
    // `git worktree remove` refuses here.
    assert!(try_git(&fixture.repo, &["worktree", "remove", tree.path().to_str().unwrap()]).is_err());
    tree.remove(&fixture).unwrap().unwrap();
    assert!(fixture.repo.join("mod/m.txt").exists());
    assert_ne!(fixture.git(&["submodule", "status"]), "");
}

#[test]
fn a_repository_that_was_moved_is_mended() {
    let fixture = Fixture::new();
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    write(tree.path(), "work.txt", "x\n");
    let moved = fixture.tmp.path().join("user repo moved");
    fs::rename(&fixture.repo, &moved).unwrap();
    assert!(try_git(tree.path(), &["status"]).is_err());
    let repo = Repository::discover(&moved).unwrap();
    worktree::repair(&repo, &[tree.path()]).unwrap();
    assert_eq!(git(tree.path(), &["--no-optional-locks", "status", "--porcelain"]), "?? work.txt");
    // And a worktree that was moved.
    let elsewhere = fixture.tmp.path().join("elsewhere");
    fs::rename(tree.path(), &elsewhere).unwrap();
    worktree::repair(&repo, &[&elsewhere]).unwrap();
    let git_dir = worktree::git_dir_of(&elsewhere).unwrap();
    assert_eq!(worktree::whereabouts(&git_dir).unwrap(), elsewhere);
}

#[test]
fn many_at_once() {
    let fixture = Fixture::new();
    let (repo, base) = (fixture.repository(), fixture.repository().head().unwrap().commit.unwrap());
    thread::scope(|scope| {
        let adding: Vec<_> = (0..12)
            .map(|n| {
                let (repo, base, path) = (repo.clone(), base.clone(), place(&fixture, &format!("t{n}")));
                scope.spawn(move || {
                    let added = worktree::add(&repo, &path, &format!("offshoot/t{n}"), &base, OURS).unwrap();
                    let tree = Tree { added, base };
                    tree.script(&inside::worktree_checkout());
                    write(tree.path(), "mine.txt", &n.to_string());
                    tree.checkpoint(1);
                    tree.finish(&format!("offshoot/t{n}"));
                    tree
                })
            })
            .collect();
        // What a person does meanwhile.
        for n in 0..12 {
            fixture.git(&["config", "x.y", &n.to_string()]);
            fixture.git(&["branch", &format!("b{n}")]);
        }
        let trees: Vec<_> = adding.into_iter().map(|thread| thread.join().unwrap()).collect();
        for (n, tree) in trees.iter().enumerate() {
            let name = format!("offshoot/t{n}:mine.txt");
            assert_eq!(fixture.git(&["show", &name]), n.to_string());
            let moved = fixture.tmp.path().join("aside").join(n.to_string());
            worktree::remove(&repo, tree.path(), &tree.added.git_dir, &moved, OURS).unwrap().unwrap();
        }
    });
    assert_eq!(repo.linked().unwrap().len(), 1);
}

#[test]
fn a_bare_repository() {
    let fixture = Fixture::new();
    let bare = fixture.tmp.path().join("bare.git");
    git(
        fixture.tmp.path(),
        &["clone", "-q", "--bare", fixture.repo.to_str().unwrap(), bare.to_str().unwrap()],
    );
    let repo = Repository::discover(&bare).unwrap();
    assert_eq!(repo.main_root().unwrap(), bare);
    let base = repo.head().unwrap().commit.unwrap();
    let added = worktree::add(&repo, &place(&fixture, "bare-fix"), BRANCH, &base, OURS).unwrap();
    let tree = Tree { added, base };
    tree.script(&inside::worktree_checkout());
    write(tree.path(), "a.txt", "changed\n");
    let held = worktree::held(tree.path(), &tree.added.git_dir, Path::new("/dev/null")).unwrap();
    assert_eq!(held.changed.len(), 1);
    let finished = tree.finish(BRANCH);
    assert_eq!(repo.branch_commit(BRANCH).unwrap(), Some(finished.head));
    let aside = fixture.tmp.path().join("aside");
    worktree::remove(&repo, tree.path(), &tree.added.git_dir, &aside, OURS).unwrap().unwrap();
}

#[test]
fn collecting_garbage_loses_nothing_of_a_run() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    store.export(&fixture.repository(), &tree.base).unwrap();
    write(tree.path(), "one.txt", "1\n");
    let first = tree.checkpoint(1);
    write(tree.path(), "staged.txt", "s\n");
    git(tree.path(), &["add", "staged.txt"]);
    // The worst that a person can do.
    fixture.git(&["reflog", "expire", "--expire=now", "--all"]);
    fixture.git(&["gc", "-q", "--prune=now", "--aggressive"]);
    assert_eq!(git(tree.path(), &["show", &format!("{}:one.txt", first.commit)]), "1");
    assert_eq!(git(tree.path(), &["show", ":staged.txt"]), "s");
    let finished = tree.finish(BRANCH);
    let imported = store.import(&tree.bundle(BRANCH), "run", &Limits::default()).unwrap();
    assert_eq!(imported.head, finished.head);
    // The collection that was held back runs by the user's settings, without the user's hook.
    fixture.git(&["config", "gc.auto", "1"]);
    fixture.git(&["config", "gc.worktreePruneExpire", "now"]);
    worktree::unlock(&fixture.repository(), tree.path(), OURS).unwrap();
    fs::remove_dir_all(tree.path()).unwrap();
    for n in 0..40 {
        fixture.write("loose.txt", &n.to_string());
        git(&fixture.repo, &["add", "-A"]);
    }
    fixture.git(&["-c", "gc.auto=0", "-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "loose"]);
    let trace = traps(&fixture);
    worktree::collect(&fixture.repository()).unwrap();
    let packs = fs::read_dir(fixture.repo.join(".git/objects/pack")).unwrap().count();
    assert!(packs > 0);
    assert!(!trace.exists(), "a hook ran");
    assert_eq!(fixture.repository().linked().unwrap().len(), 2, "no worktree was forgotten");
}

#[test]
fn other_branches_are_somebody_elses() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fixture.git(&["branch", "theirs"]);
    let theirs = fixture.git(&["rev-parse", "theirs"]);
    fixture.git(&["checkout", "-q", "-b", "secret"]);
    fixture.write("secret.txt", "x\n");
    let secret = fixture.commit("secret");
    fixture.git(&["checkout", "-q", "main"]);
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    store.export(&fixture.repository(), &tree.base).unwrap();
    // The agent goes to a branch of the user's and leaves work there.
    git(tree.path(), &["checkout", "-q", "theirs"]);
    write(tree.path(), "work.txt", "x\n");
    let finished = tree.finish(BRANCH);
    assert_eq!(fixture.git(&["rev-parse", "theirs"]), theirs, "it did not get a commit");
    assert_eq!(fixture.git(&["show", &format!("{BRANCH}:work.txt")]), "x", "the task's branch did");
    assert_eq!(finished.on.as_deref(), Some("theirs"));
    store.import(&tree.bundle(BRANCH), "run", &Limits::default()).unwrap();
    assert!(!store.has_commit(&secret).unwrap(), "what other branches hold is not brought out");
    let refs: Vec<_> = store.run_refs("run").unwrap().into_iter().map(|r| r.name).collect();
    assert_eq!(refs, ["refs/offshoot/runs/run/head"]);
}

#[test]
fn filters_of_the_user_work_as_they_do_for_the_user() {
    let fixture = Fixture::new();
    fixture.git(&["config", "filter.up.smudge", "tr a-z A-Z"]);
    fixture.git(&["config", "filter.up.clean", "tr A-Z a-z"]);
    fixture.write(".gitattributes", "*.up filter=up\n");
    fixture.write("x.up", "text\n");
    fixture.commit("filtered");
    let tree = add(&fixture, "fix", BRANCH).unwrap();
    assert_eq!(fs::read_to_string(tree.path().join("x.up")).unwrap(), "TEXT\n");
    write(tree.path(), "x.up", "MORE\n");
    tree.finish(BRANCH);
    assert_eq!(fixture.git(&["show", &format!("{BRANCH}:x.up")]), "more");
}

#[test]
fn ignored_files_are_found_by_a_list() {
    let fixture = Fixture::new();
    fixture.write(".gitignore", ".env*\n/deps/\n*.log\n");
    fixture.write(".worktreeinclude", "# what a worktree needs\n.env*\ndeps/keep/\nsrc/\nnot-ignored.txt\n");
    fixture.commit("lists");
    for file in [".env", "api/.env.local", "deps/keep/x", "deps/other/y", "a.log", "not-ignored.txt"] {
        fixture.write(file, "x");
    }
    let repo = fixture.repository();
    let (mut found, more) = worktree::included(&repo, &fixture.repo.join(".worktreeinclude")).unwrap();
    found.sort();
    assert_eq!(
        found,
        [".env", "api/.env.local", "deps/keep/x"].map(PathBuf::from),
        "ignored and on the list, both"
    );
    assert!(!more);
}

#[test]
fn one_in_the_making_is_waited_for() {
    let fixture = Fixture::new();
    let tree = add(&fixture, "one", BRANCH).unwrap();
    let repo = fixture.repository();
    // As git leaves it for a moment while it makes one.
    let file = tree.added.git_dir.join("commondir");
    let text = fs::read(&file).unwrap();
    fs::write(&file, "").unwrap();
    assert!(try_git(&fixture.repo, &["worktree", "list"]).is_err());
    let other = thread::spawn(move || {
        (0..1000).for_each(|_| thread::yield_now());
        fs::write(&file, text).unwrap();
    });
    assert_eq!(repo.linked().unwrap().len(), 2);
    other.join().unwrap();
}
