//! A task's branch in the user's repository: the only thing besides landing that is written there.
//!
//! Objects come by a local fetch from the store (fsck, connectivity check, no hooks, no tags, no `FETCH_HEAD`), then the
//! ref moves by compare-and-swap. Whatever refuses leaves the commits in the store and the repository as it was;
//! somebody else's commits on the branch are never overwritten.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    branch::{self, BadBranchName},
    command::{Git, GitError},
    oid::Oid,
    repository::{Person, Repository, Worktree},
    store::Store,
};

/// What publishing did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Where the branch was.
    pub old: Option<Oid>,
    /// Whether it moved; if not it was there already.
    pub moved: bool,
}

/// Why a branch was not written. The commits are in the store.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The name cannot be a branch's.
    #[error(transparent)]
    BadName(#[from] BadBranchName),
    /// Somebody works on the branch.
    #[error("branch {branch} is checked out in {}", worktree.display())]
    CheckedOut {
        /// The branch.
        branch: String,
        /// Where.
        worktree: PathBuf,
    },
    /// The branch is not where it was left: somebody else has moved, made or deleted it.
    #[error("branch {branch} has been changed by somebody else (it is at {})", show(found))]
    Moved {
        /// The branch.
        branch: String,
        /// Where it is; `None` if it is gone.
        found: Option<Oid>,
    },
    /// Git cannot have two branches of which one is a folder of the other.
    #[error("branch {branch} cannot be made while there is a branch {with}")]
    NameClash {
        /// The branch.
        branch: String,
        /// The one in its way.
        with: String,
    },
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

fn show(oid: &Option<Oid>) -> &str {
    oid.as_ref().map_or("no commit", Oid::short)
}

/// Moving an afternoon's objects takes seconds; a large repository's check of what it has, minutes.
const DELIVER: Duration = Duration::from_secs(1800);

/// Puts `new`, a commit in the store, on `branch` of the user's repository. `expected_old` is where Offshoot left the
/// branch, `None` if it has not made it yet. One that is gone, as after a landing, is made anew. Doing it twice is doing
/// it once.
pub fn publish(
    store: &Store,
    repo: &Repository,
    branch: &str,
    new: &Oid,
    expected_old: Option<&Oid>,
) -> Result<Published, PublishError> {
    branch::check(branch)?;
    let _one_at_a_time = repo.exclusive()?;
    let found = repo.branch_commit(branch)?;
    if found.as_ref() == Some(new) {
        return Ok(Published { old: found, moved: false });
    }
    if found.is_some() && found.as_ref() != expected_old {
        return Err(PublishError::Moved { branch: branch.to_owned(), found });
    }
    refuse_clash(repo, branch, found.is_some())?;
    refuse_checked_out(repo, branch, None)?;
    deliver(store, repo, new)?;
    offshoot_core::fault::point("publish.objects");
    if !swap(repo, branch, Some(new), found.as_ref(), "offshoot: publish")? {
        return Err(PublishError::Moved { branch: branch.to_owned(), found: repo.branch_commit(branch)? });
    }
    Ok(Published { old: found, moved: true })
}

/// Deletes a task's branch, if it is still where Offshoot left it and nobody has it checked out.
pub fn delete_branch(repo: &Repository, branch: &str, expected: &Oid) -> Result<(), PublishError> {
    delete_branch_in(repo, branch, expected, None)
}

/// The same for a branch that may be checked out in one place: the task's own worktree, which goes next.
pub fn delete_branch_in(
    repo: &Repository,
    branch: &str,
    expected: &Oid,
    own: Option<&Path>,
) -> Result<(), PublishError> {
    branch::check(branch)?;
    let _one_at_a_time = repo.exclusive()?;
    match repo.branch_commit(branch)? {
        None => return Ok(()),
        Some(found) if found != *expected => {
            return Err(PublishError::Moved { branch: branch.to_owned(), found: Some(found) });
        }
        Some(_) => refuse_checked_out(repo, branch, own)?,
    }
    if !swap(repo, branch, None, Some(expected), "offshoot: delete")? {
        return Err(PublishError::Moved { branch: branch.to_owned(), found: repo.branch_commit(branch)? });
    }
    Ok(())
}

fn refuse_clash(repo: &Repository, branch: &str, exists: bool) -> Result<(), PublishError> {
    if exists {
        return Ok(());
    }
    match repo.branches()?.into_iter().find(|(other, _)| !branch::can_coexist(other, branch)) {
        Some((with, _)) => Err(PublishError::NameClash { branch: branch.to_owned(), with }),
        None => Ok(()),
    }
}

fn refuse_checked_out(repo: &Repository, branch: &str, own: Option<&Path>) -> Result<(), PublishError> {
    // A worktree whose directory is gone still counts: it may be on a disk that is not mounted now.
    let elsewhere = |tree: &Worktree| tree.branch.as_deref() == Some(branch) && Some(&*tree.path) != own;
    match repo.worktrees()?.into_iter().find(elsewhere) {
        Some(tree) => Err(PublishError::CheckedOut { branch: branch.to_owned(), worktree: tree.path }),
        None => Ok(()),
    }
}

/// Brings `commit` and what it reaches into the user's repository. No ref is written.
pub(crate) fn deliver(store: &Store, repo: &Repository, commit: &Oid) -> Result<(), GitError> {
    let have = repo.git().args(["rev-list", "--objects", "--stdin", "--not", "--all", "--quiet"]);
    if have.input(format!("{commit}\n")).limit(DELIVER).run()?.code == Some(0) {
        return Ok(());
    }
    repo.git()
        .limit(DELIVER)
        .config("fetch.unpackLimit=100")
        .config("fetch.prune=false")
        .config("fetch.negotiationAlgorithm=consecutive")
        .args([
            "fetch",
            "-q",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
        ])
        .args(["--refmap=", "--update-shallow", "--no-show-forced-updates", "--"])
        .arg(store.dir())
        .arg(commit.as_str())
        .ok()?;
    Ok(())
}

/// Moves, makes or deletes a branch if it is at `old`; false if it is not (any more).
pub(crate) fn swap(
    repo: &Repository,
    branch: &str,
    new: Option<&Oid>,
    old: Option<&Oid>,
    why: &str,
) -> Result<bool, GitError> {
    let zero = "0".repeat(repo.object_format().digits());
    let value = |oid: Option<&Oid>| oid.map_or(zero.clone(), |oid| oid.to_string());
    let command = match new {
        Some(new) => format!("update refs/heads/{branch}\0{new}\0{}\0", value(old)),
        None => format!("delete refs/heads/{branch}\0{}\0", value(old)),
    };
    let person =
        repo.identity()?.unwrap_or(Person { name: "Offshoot".into(), email: "offshoot@localhost".into() });
    let out = as_committer(repo.git(), &person)
        .args(["update-ref", "-m", why, "-z", "--stdin"])
        .input(command)
        .run()?;
    match out.code {
        Some(0) => Ok(true),
        _ if repo.branch_commit(branch)?.as_ref() != old => Ok(false),
        code => Err(GitError::Failed { operation: "update-ref".into(), code, stderr: out.stderr }),
    }
}

/// Who stands in the reflog.
fn as_committer(git: Git<'static>, person: &Person) -> Git<'static> {
    git.env("GIT_COMMITTER_NAME", &person.name).env("GIT_COMMITTER_EMAIL", &person.email)
}
