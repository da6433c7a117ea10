//! Real worktrees of the user's repository, for environments without a boundary: made, found, locked, taken away.
//!
//! What all worktrees share is changed under one lock for each repository, so that of Offshoot's own operations only one
//! is under way at a time, whatever daemon it belongs to. No hook of the repository runs; files are not checked out here
//! (that is done within the environment, as the user). Each worktree is locked by git's own means while it is
//! Offshoot's, so no `git worktree prune` or `gc` of anybody forgets it. Nothing here deletes a file of a worktree: it
//! is moved aside, and its deletion is the caller's.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;

use crate::{
    branch::{self, BadBranchName},
    command::{Git, GitError},
    oid::Oid,
    path::clean,
    repository::{Repository, branch_being_rebased, split_records},
};

/// A full collection of a large repository; nobody waits for it.
const COLLECT: Duration = Duration::from_secs(1800);
/// What git takes for `gc.auto` if nobody sets it.
const GC_AUTO: &str = "6700";

/// A worktree as git tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Linked {
    /// Its directory.
    pub path: PathBuf,
    /// The main one: the checkout itself, or the bare repository.
    pub main: bool,
    /// The commit it stands on.
    pub head: Option<Oid>,
    /// The branch checked out in it, or being rebased there.
    pub branch: Option<String>,
    /// Why it is locked, if it is; perhaps with no reason.
    pub locked: Option<String>,
    /// The directory is there.
    pub present: bool,
    /// There is no work tree, only a repository.
    pub bare: bool,
}

/// A worktree that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Where it is, links on the way resolved.
    pub path: PathBuf,
    /// Its own git directory, below the repository's.
    pub git_dir: PathBuf,
    /// The commit it stands on.
    pub head: Oid,
    /// The branch was made with it.
    pub new_branch: bool,
}

/// Why a worktree was not made, or not taken away. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeError {
    /// The name cannot be a branch's.
    #[error(transparent)]
    BadName(#[from] BadBranchName),
    /// Git lets a branch be checked out in one place.
    #[error("branch {branch} is checked out in {}{}", worktree.display(), if *present { "" } else { ", a directory that is gone" })]
    CheckedOut {
        /// The branch.
        branch: String,
        /// Where.
        worktree: PathBuf,
        /// That directory is there.
        present: bool,
    },
    /// A branch is in the way of another that would be its folder.
    #[error("branch {branch} cannot be made while there is a branch {with}")]
    NameClash {
        /// The branch.
        branch: String,
        /// The one in its way.
        with: String,
    },
    /// There is something already.
    #[error("{} exists already", path.display())]
    Occupied {
        /// Where.
        path: PathBuf,
    },
    /// Git knows a worktree there whose directory is gone.
    #[error("{} is the place of a worktree whose directory is gone", path.display())]
    Registered {
        /// Where.
        path: PathBuf,
    },
    /// It would lie in a checkout, where every search and every tool would find its files twice.
    #[error("{} lies inside the checkout {}", path.display(), of.display())]
    Inside {
        /// The place.
        path: PathBuf,
        /// The checkout.
        of: PathBuf,
    },
    /// Another worktree lies within the one that is to go.
    #[error("another worktree lies within it: {}", within.display())]
    Nested {
        /// The other.
        within: PathBuf,
    },
    /// Somebody locked it.
    #[error("{} is locked{}", path.display(), if reason.is_empty() { String::new() } else { format!(": {reason}") })]
    Locked {
        /// Where.
        path: PathBuf,
        /// What they said.
        reason: String,
    },
    /// What is there is not the worktree that was meant.
    #[error("{} is not the worktree that was made there", path.display())]
    Replaced {
        /// Where.
        path: PathBuf,
    },
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Held while something that all worktrees share is changed.
pub struct Exclusive {
    _lock: File,
}

impl Repository {
    /// Waits until no other operation of Offshoot's changes what this repository's worktrees share. The kernel lets go of
    /// it with the process. On the directory itself: nothing is written into the user's repository for it.
    pub fn exclusive(&self) -> Result<Exclusive, GitError> {
        let dir = self.common_dir();
        let lock = File::open(dir).map_err(GitError::io("open", dir))?;
        lock.lock().map_err(GitError::io("lock", dir))?;
        Ok(Exclusive { _lock: lock })
    }

    /// All worktrees with all that git tells of them, the main one first.
    pub fn linked(&self) -> Result<Vec<Linked>, GitError> {
        let out = self.git().args(["worktree", "list", "--porcelain", "-z"]).ok()?.stdout;
        let mut all = Vec::new();
        for record in split_records(&out) {
            let field = |name: &[u8]| record.iter().find_map(|line| line.strip_prefix(name));
            let Some(path) = field(b"worktree ") else { continue };
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            let locked = record.contains(&&b"locked"[..]).then(String::new);
            let branch = field(b"branch refs/heads/").map(clean).or_else(|| branch_being_rebased(&path));
            all.push(Linked {
                main: all.is_empty(),
                head: field(b"HEAD ")
                    .and_then(Oid::from_bytes)
                    .filter(|oid| oid.as_str().bytes().any(|b| b != b'0')),
                branch,
                locked: locked.or_else(|| field(b"locked ").map(clean)),
                present: path.is_dir(),
                bare: record.contains(&&b"bare"[..]),
                path,
            });
        }
        Ok(all)
    }

    /// The newest commit that both have, if they have one.
    pub fn merge_base(&self, a: &Oid, b: &Oid) -> Result<Option<Oid>, GitError> {
        let out = self.git().args(["merge-base", a.as_str(), b.as_str()]).run()?;
        Ok(Oid::from_bytes(out.stdout.trim_ascii_end()))
    }

    /// The top of the main work tree, or the git directory of a bare repository.
    pub fn main_root(&self) -> Result<PathBuf, GitError> {
        let first = self.linked()?.into_iter().next();
        Ok(first.map_or_else(|| self.root().to_owned(), |main| main.path))
    }
}

/// Makes a worktree at `path` (absolute), locked with `reason`: on a new branch at `start`, or on `branch` as it is if
/// there is one. No file is checked out.
pub fn add(
    repo: &Repository,
    path: &Path,
    branch: &str,
    start: &Oid,
    reason: &str,
) -> Result<Added, WorktreeError> {
    branch::check(branch)?;
    let _one_at_a_time = repo.exclusive()?;
    let all = repo.linked()?;
    let path = &resolved(path)?;
    for tree in &all {
        // A bare repository has no files that would be found twice, but nothing belongs into it either.
        if path.starts_with(&tree.path) && *path != tree.path {
            return Err(WorktreeError::Inside { path: path.to_owned(), of: tree.path.clone() });
        }
        if tree.path == *path && !tree.present {
            return Err(WorktreeError::Registered { path: path.to_owned() });
        }
        if tree.branch.as_deref() == Some(branch) {
            let (branch, worktree) = (branch.to_owned(), tree.path.clone());
            return Err(WorktreeError::CheckedOut { branch, worktree, present: tree.present });
        }
    }
    if fs::symlink_metadata(path).is_ok() {
        return Err(WorktreeError::Occupied { path: path.to_owned() });
    }
    let found = repo.branch_commit(branch)?;
    if found.is_none()
        && let Some((with, _)) =
            repo.branches()?.into_iter().find(|(other, _)| !branch::can_coexist(other, branch))
    {
        return Err(WorktreeError::NameClash { branch: branch.to_owned(), with });
    }
    let mut git = repo.git().args(["worktree", "add", "-q", "--no-checkout", "--no-guess-remote", "--lock"]);
    git = git.args(["--reason", reason]);
    git = match &found {
        Some(_) => git.arg(path).arg(branch),
        None => git.args(["--no-track", "-b", branch]).arg(path).arg(start.as_str()),
    };
    git.ok()?;
    offshoot_core::fault::point("worktree.added");
    let git_dir = git_dir_of(path).ok_or_else(|| WorktreeError::Replaced { path: path.to_owned() })?;
    note_inode(path, &git_dir)?;
    Ok(Added {
        path: path.clone(),
        git_dir,
        head: found.clone().unwrap_or_else(|| start.clone()),
        new_branch: found.is_none(),
    })
}

/// The path with the links of its folder resolved, as git will write it down. Folders that are missing are made.
fn resolved(path: &Path) -> Result<PathBuf, GitError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path.to_owned()) };
    fs::create_dir_all(parent).map_err(GitError::io("make", parent))?;
    let parent = fs::canonicalize(parent).map_err(GitError::io("look up", parent))?;
    Ok(parent.join(name))
}

/// The git directory that a worktree's `.git` file names.
pub fn git_dir_of(path: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(path.join(".git")).ok()?;
    let named = path.join(text.strip_prefix("gitdir: ")?.trim_end_matches('\n'));
    fs::canonicalize(named).ok()
}

/// Where the worktree of a git directory is, as that says; somebody may have moved it.
pub fn whereabouts(git_dir: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(git_dir.join("gitdir")).ok()?;
    let file = git_dir.join(text.trim_end_matches('\n'));
    Some(file.parent()?.to_owned())
}

/// Makes the directory of a worktree anew that somebody deleted by hand, without files. What git knows of it (its branch,
/// its checkpoints) is still there.
pub fn restore(repo: &Repository, path: &Path, git_dir: &Path) -> Result<(), WorktreeError> {
    let _one_at_a_time = repo.exclusive()?;
    if fs::symlink_metadata(path).is_ok() {
        return Err(WorktreeError::Occupied { path: path.to_owned() });
    }
    fs::create_dir_all(path).map_err(GitError::io("make", path))?;
    let file = path.join(".git");
    fs::write(&file, format!("gitdir: {}\n", git_dir.display())).map_err(GitError::io("write", &file))?;
    note_inode(path, git_dir)?;
    // Its index tells of files that are gone; the next checkout begins with none.
    let index = git_dir.join("index");
    match fs::remove_file(&index) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(GitError::io("remove", &index)(error).into())
        }
        _ => Ok(()),
    }
}

/// Locks a worktree, or changes nothing if it is locked. Whether it was locked here.
pub fn lock(repo: &Repository, path: &Path, reason: &str) -> Result<bool, GitError> {
    let _one_at_a_time = repo.exclusive()?;
    let locked = repo.linked()?.into_iter().any(|tree| tree.path == path && tree.locked.is_some());
    if !locked {
        repo.git().args(["worktree", "lock", "--reason", reason]).arg(path).ok()?;
    }
    Ok(!locked)
}

/// Takes back a lock with this reason; somebody else's stays.
pub fn unlock(repo: &Repository, path: &Path, reason: &str) -> Result<(), GitError> {
    let _one_at_a_time = repo.exclusive()?;
    let ours =
        repo.linked()?.into_iter().any(|tree| tree.path == path && tree.locked.as_deref() == Some(reason));
    if ours {
        repo.git().args(["worktree", "unlock"]).arg(path).ok()?;
    }
    Ok(())
}

/// Takes a worktree away: its directory is moved to `aside` (or beside itself, where that is another file system), and git
/// forgets it. The answer is where the directory is now, for the caller to delete; `None` if it was gone. Doing it twice
/// is doing it once. Never follows a link, and never touches a directory that is not the worktree of `git_dir`.
pub fn remove(
    repo: &Repository,
    path: &Path,
    git_dir: &Path,
    aside: &Path,
    reason: &str,
) -> Result<Option<PathBuf>, WorktreeError> {
    let _one_at_a_time = repo.exclusive()?;
    let known = removable(repo, path, git_dir, reason)?;
    let moved = match fs::symlink_metadata(path) {
        Err(_) => None,
        Ok(_) => Some(move_aside(path, aside)?),
    };
    offshoot_core::fault::point("worktree.moved");
    if known {
        // Its directory is gone, so this takes away only what git remembers of it. Twice, because it is locked.
        repo.git().args(["worktree", "remove", "--force", "--force"]).arg(path).ok()?;
    }
    forget_checkpoints(repo, git_dir)?;
    if let Some(parent) = path.parent() {
        // The folder of this repository's worktrees goes with the last one; anything in it keeps it.
        let _ = fs::remove_dir(parent);
    }
    Ok(moved)
}

/// What stands against [`remove`], without doing anything.
pub fn obstacle(repo: &Repository, path: &Path, git_dir: &Path, reason: &str) -> Result<(), WorktreeError> {
    removable(repo, path, git_dir, reason).map(|_| ())
}

/// Whether git knows of it, if nothing stands against its removal.
fn removable(repo: &Repository, path: &Path, git_dir: &Path, reason: &str) -> Result<bool, WorktreeError> {
    let all = repo.linked()?;
    let within = |tree: &&Linked| tree.present && tree.path != path && tree.path.starts_with(path);
    if let Some(other) = all.iter().find(within) {
        return Err(WorktreeError::Nested { within: other.path.clone() });
    }
    let known = all.iter().find(|tree| tree.path == path);
    if let Some(other) = known.and_then(|tree| tree.locked.as_deref()).filter(|said| *said != reason) {
        return Err(WorktreeError::Locked { path: path.to_owned(), reason: other.to_owned() });
    }
    if let Ok(meta) = fs::symlink_metadata(path) {
        let own = meta.is_dir() && (git_dir_of(path).as_deref() == Some(git_dir) || is_left(path, git_dir));
        if !own {
            return Err(WorktreeError::Replaced { path: path.to_owned() });
        }
    }
    Ok(known.is_some())
}

/// Takes away the refs that the scripts of [`crate::inside`] keep for a worktree.
pub fn forget_checkpoints(repo: &Repository, git_dir: &Path) -> Result<(), GitError> {
    let Some(name) = git_dir.file_name() else { return Ok(()) };
    let folder = format!("refs/offshoot/worktrees/{}/", name.to_string_lossy());
    let found =
        repo.git().args(["for-each-ref", "--format=delete %(refname) %(objectname)", &folder]).ok()?.stdout;
    if !found.is_empty() {
        repo.git().args(["update-ref", "--stdin"]).input(found).ok()?;
    }
    Ok(())
}

/// File in a worktree's git directory that tells its directory from another of the same name: device and inode.
const INODE: &str = "offshoot-inode";

fn note_inode(path: &Path, git_dir: &Path) -> Result<(), GitError> {
    let meta = fs::symlink_metadata(path).map_err(GitError::io("look at", path))?;
    let file = git_dir.join(INODE);
    fs::write(&file, format!("{}:{}\n", meta.dev(), meta.ino())).map_err(GitError::io("write", &file))
}

/// Whether a directory without `.git` is what an agent left of this worktree, and not another one put there since.
fn is_left(path: &Path, git_dir: &Path) -> bool {
    let noted = fs::read_to_string(git_dir.join(INODE)).unwrap_or_default();
    let same = |meta: fs::Metadata| noted.trim_end() == format!("{}:{}", meta.dev(), meta.ino());
    fs::symlink_metadata(path.join(".git")).is_err() && fs::symlink_metadata(path).is_ok_and(same)
}

fn move_aside(path: &Path, aside: &Path) -> Result<PathBuf, GitError> {
    if let Some(parent) = aside.parent() {
        fs::create_dir_all(parent).map_err(GitError::io("make", parent))?;
    }
    match fs::rename(path, aside) {
        Ok(()) => return Ok(aside.to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {}
        Err(error) => return Err(GitError::io("move", path)(error)),
    }
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".offshoot-removed-{name}"));
    fs::rename(path, &beside).map_err(GitError::io("move", path))?;
    Ok(beside)
}

/// Forgets worktrees whose directories are gone and that nobody locked, as git itself would after three months.
pub fn prune(repo: &Repository) -> Result<(), GitError> {
    let _one_at_a_time = repo.exclusive()?;
    repo.git().args(["worktree", "prune"]).ok().map(|_| ())
}

/// Mends what the worktrees at these places and the repository know of each other, after one of them was moved.
pub fn repair(repo: &Repository, paths: &[&Path]) -> Result<(), GitError> {
    let _one_at_a_time = repo.exclusive()?;
    repo.git().args(["worktree", "repair"]).args(paths).ok().map(|_| ())
}

/// The collection that was held back while environments worked on this repository: what `git gc --auto` would do by the
/// user's own settings, at the lowest priority. For when none is left. Worktrees are never forgotten by it.
pub fn collect(repo: &Repository) -> Result<(), GitError> {
    let asked = Git::as_user(repo.common_dir()).args(["config", "gc.auto"]).run()?;
    let auto = clean(asked.stdout.trim_ascii());
    let auto = if asked.code == Some(0) { auto.as_str() } else { GC_AUTO };
    if auto == "0" {
        return Ok(());
    }
    repo.git()
        .background()
        .limit(COLLECT)
        .config(format!("gc.auto={auto}"))
        .config("gc.worktreePruneExpire=never")
        .args(["gc", "--auto", "-q"])
        .ok()
        .map(|_| ())
}

/// The ignored files of a checkout that match the patterns in `list` (as in `.gitignore`), relative to it; and whether
/// there were more than are looked at. Files that git knows, or does not ignore, are never among them.
pub fn included(repo: &Repository, list: &Path) -> Result<(Vec<PathBuf>, bool), GitError> {
    /// Bytes of names; some hundred thousand files.
    const MOST: usize = 32 << 20;
    let root = repo.root();
    let others = |git: Git<'static>| {
        git.work_tree(root).args(["ls-files", "-z", "--others", "--ignored"]).truncate(MOST)
    };
    let mut from = OsString::from("--exclude-from=");
    from.push(list);
    let wanted = others(repo.git()).arg(from).ok()?;
    if wanted.stdout.is_empty() {
        return Ok((Vec::new(), false));
    }
    let mut ask = repo.git();
    if let Some(ignore) = repo.user_ignore_file() {
        let mut setting = OsString::from("core.excludesFile=");
        setting.push(ignore);
        ask = ask.config(setting);
    }
    let ignored = others(ask).arg("--exclude-standard").ok()?;
    let known: BTreeSet<&[u8]> = ignored.stdout.split(|b| *b == 0).collect();
    let both = wanted.stdout.split(|b| *b == 0).filter(|name| !name.is_empty() && known.contains(name));
    let paths = both.map(|name| PathBuf::from(OsString::from_vec(name.to_vec()))).collect();
    Ok((paths, wanted.truncated || ignored.truncated))
}

/// Whether a worktree's index has a file.
pub fn is_tracked(path: &Path, git_dir: &Path, file: &Path) -> Result<bool, GitError> {
    let git = Repository::at(path, git_dir)?.git().work_tree(path).config("core.bare=false");
    Ok(git.args(["ls-files", "--error-unmatch", "--"]).arg(file).run()?.code == Some(0))
}

/// Whether the project itself, or the user, ignores a file that is there and that git does not know.
pub fn is_ignored(root: &Path, file: &Path) -> Result<bool, GitError> {
    let git = Git::as_user(root).args(["ls-files", "--others", "--ignored", "--exclude-standard", "--"]);
    Ok(!git.arg(file).ok()?.stdout.is_empty())
}

/// What a worktree holds, compared with its commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The commit that HEAD stands for.
    pub head: Option<Oid>,
    /// The branch that HEAD is on.
    pub branch: Option<String>,
    /// Files that differ from it or that it does not know, without ignored ones.
    pub changed: Vec<PathBuf>,
    /// There are more than were looked at.
    pub more: bool,
}

/// Looks at a worktree without running or writing anything of it. `ignore` is a file of patterns, besides the project's.
pub fn held(path: &Path, git_dir: &Path, ignore: &Path) -> Result<Held, GitError> {
    /// Bytes of names; a hundred thousand files.
    const MOST: usize = 8 << 20;
    let repo = Repository::at(path, git_dir)?;
    let head = repo.head()?;
    let mut excludes = OsString::from("core.excludesFile=");
    excludes.push(ignore);
    let git = repo.git().work_tree(path).without_filters(&repo.filter_drivers()?);
    let out = git
        .config(excludes)
        .config("core.bare=false")
        .args(["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"])
        .arg("--ignore-submodules=dirty")
        .truncate(MOST)
        .ok()?;
    let entries = out.stdout.split(|b| *b == 0).filter(|entry| entry.len() > 3);
    let changed = entries.map(|entry| PathBuf::from(OsString::from_vec(entry[3..].to_vec()))).collect();
    Ok(Held { head: head.commit, branch: head.branch, changed, more: out.truncated })
}
