//! Landing: bringing a task's commits into a branch of the user's repository.
//!
//! Merged in the store, delivered as objects, then made visible: if nobody has the target checked out, by one
//! compare-and-swap; if somebody has, their work tree is brought along first (`checkout`). Landed means that the ref has
//! moved. What is under way is written down in the store before anything visible happens, so a landing that was cut
//! short at any point is completed by [`recover`], which also runs at the start of every landing on the same target.
//! Refusals leave the repository as it was. Hooks, filters and merge drivers never run; reviews and checks are the
//! caller's.

use std::{fs, path::PathBuf};

use offshoot_core::fault;

use crate::{
    checkout::{self, Advance, CheckoutError},
    command::GitError,
    merge::{Conflict, Merge},
    oid::Oid,
    publish::{deliver, swap},
    repository::{Person, Repository, Worktree},
    store::{ExportError, Store, write_atomically},
};

/// What landing would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The target has it all.
    UpToDate,
    /// The target has nothing that the task has not.
    FastForward,
    /// They merge.
    Merge {
        /// The merged tree, in the store.
        tree: Oid,
    },
    /// They do not.
    Conflicts {
        /// Where and how.
        files: Vec<Conflict>,
    },
}

/// How to land.
#[derive(Clone, Debug)]
pub struct LandOptions {
    /// One commit on the target instead of the task's own commits.
    pub squash: bool,
    /// Of the merge or squash commit.
    pub message: String,
    /// Of the merge or squash commit.
    pub author: Person,
}

/// How it landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// There was nothing to do.
    UpToDate,
    /// The target moved on to the task's own commit.
    FastForward,
    /// By a merge commit.
    Merge,
    /// By one new commit.
    Squash,
}

/// A landing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Where the target is now.
    pub commit: Oid,
    /// Where it was.
    pub old: Oid,
    /// By which way.
    pub how: How,
    /// The work tree that was brought along.
    pub worktree: Option<PathBuf>,
}

/// Why nothing landed.
#[derive(Debug, thiserror::Error)]
pub enum LandError {
    /// The repository has no such branch.
    #[error("there is no branch {0} to land on")]
    NoTarget(String),
    /// The store does not have the task's commit.
    #[error("the commit to land, {0}, is not in the store")]
    NoSuchCommit(Oid),
    /// Both have changed the same lines.
    #[error("it conflicts with {target} in {} files", files.len())]
    Conflicts {
        /// The target.
        target: String,
        /// Where and how.
        files: Vec<Conflict>,
    },
    /// There is no common history to merge by.
    #[error("it has no history in common with {0}")]
    Unrelated(String),
    /// The target's work tree has changes in files that landing would write.
    #[error("{} has local changes in files that landing would write", worktree.display())]
    LocalChanges {
        /// The work tree.
        worktree: PathBuf,
        /// Up to 100 paths, escaped.
        paths: Vec<String>,
    },
    /// The target's work tree is in the middle of something.
    #[error("{} is in the middle of {what}", worktree.display())]
    Busy {
        /// The work tree.
        worktree: PathBuf,
        /// Of what.
        what: &'static str,
    },
    /// Somebody moved the target meanwhile; try again.
    #[error("{target} moved while landing")]
    TargetMoved {
        /// The target.
        target: String,
        /// Where it is.
        found: Option<Oid>,
    },
    /// The target cannot be brought into the store.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// What [`land`] would do now, without doing it.
pub fn plan(store: &Store, repo: &Repository, task_head: &Oid, target: &str) -> Result<Plan, LandError> {
    let old = repo.branch_commit(target)?.ok_or_else(|| LandError::NoTarget(target.to_owned()))?;
    plan_onto(store, repo, task_head, target, &old)
}

/// What stands for a landing, and what against it.
#[derive(Debug)]
pub struct Forecast {
    /// Where the target is.
    pub target: Oid,
    /// Commits that the task has and the target has not.
    pub ahead: u64,
    /// Commits that the target has and the task has not.
    pub behind: u64,
    /// By which way it would land now, or why it would not.
    pub outcome: Result<How, LandError>,
}

/// Says what [`land`] would do now. The user's repository is read only; what is merged for it stays in the store.
pub fn forecast(
    store: &Store,
    repo: &Repository,
    head: &Oid,
    target: &str,
    squash: bool,
) -> Result<Forecast, LandError> {
    let old = repo.branch_commit(target)?.ok_or_else(|| LandError::NoTarget(target.to_owned()))?;
    let plan = plan_onto(store, repo, head, target, &old);
    let (ahead, behind) = store.ahead_behind(head, &old)?;
    let outcome = plan.and_then(|plan| foretold(store, repo, head, target, &old, squash, plan));
    Ok(Forecast { target: old, ahead, behind, outcome })
}

fn foretold(
    store: &Store,
    repo: &Repository,
    head: &Oid,
    target: &str,
    old: &Oid,
    squash: bool,
    plan: Plan,
) -> Result<How, LandError> {
    let (new, how) = match plan {
        Plan::UpToDate => return Ok(How::UpToDate),
        Plan::Conflicts { files } => return Err(LandError::Conflicts { target: target.to_owned(), files }),
        Plan::FastForward => (head.clone(), if squash { How::Squash } else { How::FastForward }),
        Plan::Merge { tree } if squash && tree == store.tree_of(old)? => return Ok(How::UpToDate),
        Plan::Merge { tree } => (tree, if squash { How::Squash } else { How::Merge }),
    };
    if let Some(place) = place(repo, target)? {
        let step = Advance { branch: target, old, new: &new, resumed: false };
        checkout::foretell(&place.path, &step, &store.own_objects_dir())
            .map_err(|error| error.about(place.path))?;
    }
    Ok(how)
}

fn plan_onto(
    store: &Store,
    repo: &Repository,
    head: &Oid,
    target: &str,
    old: &Oid,
) -> Result<Plan, LandError> {
    if !store.has_commit(head)? {
        return Err(LandError::NoSuchCommit(head.clone()));
    }
    store.export(repo, old)?;
    if store.is_ancestor(head, old)? {
        return Ok(Plan::UpToDate);
    }
    if store.is_ancestor(old, head)? {
        return Ok(Plan::FastForward);
    }
    Ok(match store.merge(old, head)? {
        Merge::Clean { tree } => Plan::Merge { tree },
        Merge::Conflicts { files } => Plan::Conflicts { files },
        Merge::Unrelated => return Err(LandError::Unrelated(target.to_owned())),
    })
}

/// Lands `task_head`, a commit in the store, on branch `target`. Doing it twice is doing it once.
pub fn land(
    store: &Store,
    repo: &Repository,
    task_head: &Oid,
    target: &str,
    options: &LandOptions,
) -> Result<Landed, LandError> {
    let _one_at_a_time = store.lock("land", true)?;
    if let Some(landed) = recover_one(store, repo, target)?
        && landed.1 == *task_head
    {
        return Ok(landed.0);
    }
    let old = repo.branch_commit(target)?.ok_or_else(|| LandError::NoTarget(target.to_owned()))?;
    let (new, how) = match make(store, repo, task_head, target, &old, options)? {
        (new, How::UpToDate) => return Ok(Landed { commit: new, old, how: How::UpToDate, worktree: None }),
        made => made,
    };
    let record = Record { target: target.to_owned(), old, new, task: task_head.clone(), how };
    // The worktree is looked at before objects are delivered: most refusals then leave not even an object behind.
    let place = place(repo, target)?;
    deliver(store, repo, &record.new)?;
    fault::point("land.objects");
    record.write(store, repo)?;
    fault::point("land.record");
    complete(store, repo, &record, place, false)
}

/// Makes what the target is to become, in the store.
pub(crate) fn make(
    store: &Store,
    repo: &Repository,
    head: &Oid,
    target: &str,
    old: &Oid,
    options: &LandOptions,
) -> Result<(Oid, How), LandError> {
    let committer = repo.identity()?.unwrap_or_else(|| options.author.clone());
    let make = |tree: &Oid, parents: &[Oid]| {
        store.commit_tree(tree, parents, &options.message, &options.author, &committer)
    };
    Ok(match plan_onto(store, repo, head, target, old)? {
        Plan::UpToDate => (old.clone(), How::UpToDate),
        Plan::Conflicts { files } => return Err(LandError::Conflicts { target: target.to_owned(), files }),
        Plan::FastForward if !options.squash => (head.clone(), How::FastForward),
        Plan::FastForward => (make(&store.tree_of(head)?, std::slice::from_ref(old))?, How::Squash),
        Plan::Merge { tree } if options.squash && tree == store.tree_of(old)? => (old.clone(), How::UpToDate),
        Plan::Merge { tree } if options.squash => (make(&tree, std::slice::from_ref(old))?, How::Squash),
        Plan::Merge { tree } => (make(&tree, &[old.clone(), head.clone()])?, How::Merge),
    })
}

/// Completes the landings in this repository that a killed process left half done, or forgets them where the target
/// has moved on since. For the start of the daemon.
pub fn recover(store: &Store, repo: &Repository) -> Result<Vec<Landed>, LandError> {
    let _one_at_a_time = store.lock("land", true)?;
    let mut landed = Vec::new();
    for record in Record::all(store, repo)? {
        landed.extend(recover_one(store, repo, &record.target)?.map(|(landed, _)| landed));
    }
    Ok(landed)
}

pub(crate) fn recover_one(
    store: &Store,
    repo: &Repository,
    target: &str,
) -> Result<Option<(Landed, Oid)>, LandError> {
    let Some(record) = Record::all(store, repo)?.into_iter().find(|record| record.target == target) else {
        return Ok(None);
    };
    let now = repo.branch_commit(target)?;
    if now.as_ref() == Some(&record.old) {
        deliver(store, repo, &record.new)?;
        let landed = complete(store, repo, &record, place(repo, target)?, true)?;
        return Ok(Some((landed, record.task)));
    }
    // The ref is the last step: if it is at the new commit only our lock is left over; if it is elsewhere, somebody
    // has gone on from what they found.
    for tree in repo.worktrees()?.into_iter().filter(|tree| tree.present) {
        checkout::clear_leftovers(&tree.path)?;
    }
    record.remove(store, repo)?;
    let done = now.as_ref() == Some(&record.new);
    let landed = Landed { commit: record.new, old: record.old, how: record.how, worktree: None };
    Ok(done.then_some((landed, record.task)))
}

/// The work tree that has the target checked out.
pub(crate) fn place(repo: &Repository, target: &str) -> Result<Option<Worktree>, LandError> {
    let mut places =
        repo.worktrees()?.into_iter().filter(|tree| tree.branch.as_deref() == Some(target) && tree.present);
    let place = places.next();
    if let Some(other) = places.next() {
        return Err(LandError::Busy {
            worktree: other.path,
            what: "work on a branch that is checked out twice",
        });
    }
    Ok(place)
}

pub(crate) fn complete(
    store: &Store,
    repo: &Repository,
    record: &Record,
    place: Option<Worktree>,
    resumed: bool,
) -> Result<Landed, LandError> {
    let worktree = place.map(|place| place.path);
    let swapped = match &worktree {
        None => {
            let swapped = swap(repo, &record.target, Some(&record.new), Some(&record.old), "offshoot: land")?;
            fault::point("land.ref");
            swapped
        }
        Some(path) => {
            let advance = Advance { branch: &record.target, old: &record.old, new: &record.new, resumed };
            match checkout::advance(path, &advance) {
                Ok(swapped) => swapped,
                Err(CheckoutError::Git(error)) => return Err(error.into()),
                Err(error) => {
                    // Half done work stays written down; what has not begun does not.
                    if !resumed {
                        record.remove(store, repo)?;
                    }
                    return Err(error.about(path.clone()));
                }
            }
        }
    };
    record.remove(store, repo)?;
    if !swapped {
        let found = repo.branch_commit(&record.target)?;
        return Err(LandError::TargetMoved { target: record.target.clone(), found });
    }
    Ok(Landed { commit: record.new.clone(), old: record.old.clone(), how: record.how, worktree })
}

/// A landing under way, in a file of the store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub target: String,
    pub old: Oid,
    pub new: Oid,
    pub task: Oid,
    pub how: How,
}

impl Record {
    fn all(store: &Store, repo: &Repository) -> Result<Vec<Self>, GitError> {
        let dir = store.dir().join("landing");
        let place = repo.common_dir().to_string_lossy();
        let mut records = Vec::new();
        for entry in fs::read_dir(&dir).map_err(GitError::io("list", &dir))?.flatten() {
            let text = fs::read_to_string(entry.path()).map_err(GitError::io("read", &entry.path()))?;
            let lines: Vec<&str> = text.lines().collect();
            let [target, old, new, task, how, at] = lines[..] else { continue };
            let (Ok(old), Ok(new), Ok(task)) = (old.parse(), new.parse(), task.parse()) else { continue };
            let how = match how {
                "merge" => How::Merge,
                "squash" => How::Squash,
                _ => How::FastForward,
            };
            if at == place.escape_default().to_string() {
                records.push(Self { target: target.to_owned(), old, new, task, how });
            }
        }
        Ok(records)
    }

    fn file(&self, store: &Store, repo: &Repository) -> PathBuf {
        // FNV-1a: one name for each repository and branch, short enough for a file's name.
        let bytes =
            repo.common_dir().as_os_str().as_encoded_bytes().iter().chain([&0]).chain(self.target.as_bytes());
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        store.dir().join("landing").join(format!("{hash:016x}"))
    }

    pub(crate) fn write(&self, store: &Store, repo: &Repository) -> Result<(), GitError> {
        let how = match self.how {
            How::Merge => "merge",
            How::Squash => "squash",
            How::FastForward | How::UpToDate => "fast-forward",
        };
        let place = repo.common_dir().to_string_lossy();
        let Self { target, old, new, task, .. } = self;
        let text = format!("{target}\n{old}\n{new}\n{task}\n{how}\n{}\n", place.escape_default());
        write_atomically(&self.file(store, repo), text.as_bytes())
    }

    fn remove(&self, store: &Store, repo: &Repository) -> Result<(), GitError> {
        let file = self.file(store, repo);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(GitError::io("remove", &file)(error))
            }
            _ => Ok(()),
        }
    }
}
