//! An environment without a boundary: a worktree of the user's repository, and the user's own processes in it. For people
//! and tools on the host.
//!
//! [`crate::lease`] goes through here wherever a lease is one of these ([`Runtime::Worktree`]), so that whoever has a
//! lease need not care: it is made, brought up, adopted, looked at and taken away by the same calls.
//!
//! - `place`: where a worktree goes
//! - `variables`: what its processes have in their environment
//! - `beside`: its services, in a sandbox of their own
//! - `copy`: ignored files of the main checkout, copied without taking their space where the file system can
//!
//! Bringing up is idempotent: what a crash cut off is found and finished, what a person deleted is made again. Nothing of
//! a worktree is deleted that is not moved aside first, and never anything of one that was adopted.

pub mod beside;
pub mod copy;
pub mod place;
pub mod variables;

use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Instant,
};

use offshoot_core::{fault, id::EnvironmentId};
use offshoot_git::{
    inside,
    oid::Oid,
    repository::{DiscoverError, Repository},
    worktree::{self, WorktreeError},
};
use offshoot_sandbox::{Host, Limits as SandboxLimits, Network, SandboxSpec, StartError};
use serde::{Deserialize, Serialize};

use crate::{
    layout::Layout,
    lease::{Lease, LeaseError, Terms},
    machine::Machine,
    remove,
    sandbox::Sandbox,
    written::Written,
};

/// What stands around the processes of a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// A sandbox over layers.
    #[default]
    Sandbox,
    /// Nothing.
    Worktree(Place),
}

/// A worktree, as a lease knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The git directory that all worktrees of the repository share.
    pub common_dir: PathBuf,
    /// Its directory.
    pub path: PathBuf,
    /// A person's, which is let go but never taken away.
    #[serde(default)]
    pub adopted: bool,
}

/// Why a worktree could not be made, looked at or taken away.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The repository is not where it was.
    #[error("the repository of the worktree {} cannot be opened; was it moved?", path.display())]
    Repository {
        /// The worktree.
        path: PathBuf,
        /// Why.
        #[source]
        source: DiscoverError,
    },
    /// Git would not.
    #[error(transparent)]
    Git(#[from] WorktreeError),
    /// The worktree is not there any more, and its branch is.
    #[error("the worktree {} is gone", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("could not {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn io_error<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PlaceError + 'a {
    move |source| PlaceError::Io { operation, path: path.to_owned(), source }
}

impl From<offshoot_git::GitError> for PlaceError {
    fn from(error: offshoot_git::GitError) -> Self {
        Self::Git(error.into())
    }
}

/// File in a lease's directory that names the worktree's own git directory.
const GIT_DIR: &str = "git-dir";
/// File in a lease's directory with the patterns of what is generated and never committed.
pub const EXCLUDE: &str = "exclude";
/// File in a lease's directory that says that the worktree's files are there.
const CHECKED_OUT: &str = "checked-out";

/// Why a worktree is locked, so that everybody who meets the lock knows whose it is.
fn reason(id: EnvironmentId) -> String {
    format!("offshoot: environment {id} (`offshoot ps` lists it)")
}

impl Place {
    fn repository(&self) -> Result<Repository, PlaceError> {
        Repository::discover(&self.common_dir)
            .map_err(|source| PlaceError::Repository { path: self.path.clone(), source })
    }

    /// Sees to it that the worktree is there: made, or made again after somebody deleted its directory.
    fn ensure(&self, terms: &Terms, dir: &Path) -> Result<(), PlaceError> {
        let repo = self.repository()?;
        let reason = reason(terms.environment);
        let known = repo.linked()?.into_iter().find(|tree| tree.path == self.path);
        let git_dir = match known {
            Some(tree) if tree.present => {
                let own =
                    tree.locked.as_deref() == Some(&reason) || read_git_dir(dir).is_some() || self.adopted;
                let git_dir = worktree::git_dir_of(&self.path).or_else(|| read_git_dir(dir));
                git_dir.filter(|_| own).ok_or_else(|| WorktreeError::Replaced { path: self.path.clone() })?
            }
            Some(_) if self.adopted => return Err(PlaceError::Gone { path: self.path.clone() }),
            Some(_) => {
                let git_dir =
                    read_git_dir(dir).ok_or_else(|| PlaceError::Gone { path: self.path.clone() })?;
                worktree::restore(&repo, &self.path, &git_dir)?;
                remove_file(&dir.join(CHECKED_OUT))?;
                git_dir
            }
            None if self.adopted => return Err(PlaceError::Gone { path: self.path.clone() }),
            None => {
                let base =
                    terms.base.parse::<Oid>().map_err(|_| PlaceError::Gone { path: self.path.clone() })?;
                remove_file(&dir.join(CHECKED_OUT))?;
                worktree::add(&repo, &self.path, &terms.branch, &base, &reason)?.git_dir
            }
        };
        fault::point("worktree.made");
        if self.adopted {
            worktree::lock(&repo, &self.path, &reason)?;
        }
        let file = dir.join(GIT_DIR);
        fs::write(&file, git_dir.as_os_str().as_encoded_bytes()).map_err(io_error("write", &file))
    }

    /// What stands against taking the worktree away. Nothing is changed.
    fn obstacle(&self, id: EnvironmentId, dir: &Path) -> Result<(), PlaceError> {
        if self.adopted {
            return Ok(());
        }
        let Some(git_dir) = read_git_dir(dir) else { return Ok(()) };
        Ok(worktree::obstacle(&self.repository()?, &self.path, &git_dir, &reason(id))?)
    }

    /// Takes the worktree away, or lets it go if it was adopted.
    fn take_away(&self, layout: &Layout, id: EnvironmentId) -> Result<(), PlaceError> {
        let dir = layout.environment(id);
        let (repo, reason) = (self.repository()?, reason(id));
        if self.adopted {
            worktree::unlock(&repo, &self.path, &reason)?;
            if let Some(git_dir) = read_git_dir(&dir) {
                worktree::forget_checkpoints(&repo, &git_dir)?;
            }
            return Ok(());
        }
        // Made, but killed before that was noted: then the lock tells whose it is.
        let made = || {
            let all = repo.linked().ok()?;
            all.iter().find(|tree| tree.path == self.path && tree.locked.as_deref() == Some(&reason))?;
            worktree::git_dir_of(&self.path)
        };
        let Some(git_dir) = read_git_dir(&dir).or_else(made) else { return Ok(()) };
        let aside = layout.trash().join(format!("{id}-worktree"));
        if let Some(moved) = worktree::remove(&repo, &self.path, &git_dir, &aside, &reason)? {
            fault::point("worktree.aside");
            remove::tree(&moved).map_err(io_error("delete", &moved))?;
        }
        Ok(())
    }
}

fn remove_file(path: &Path) -> Result<(), PlaceError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

fn read_git_dir(dir: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let bytes = fs::read(dir.join(GIT_DIR)).ok().filter(|bytes| !bytes.is_empty())?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

impl Lease {
    /// The worktree it is, if it is one.
    pub fn worktree(&self) -> Option<&Place> {
        match &self.terms().runtime {
            Runtime::Sandbox => None,
            Runtime::Worktree(place) => Some(place),
        }
    }

    /// Variables by which the scripts of [`offshoot_git::inside`] work on its git data; none in a sandbox, where that is
    /// in the workspace.
    pub fn git_variables(&self) -> BTreeMap<String, String> {
        let Some(git_dir) = self.worktree().and_then(|_| read_git_dir(self.dir())) else {
            return BTreeMap::new();
        };
        BTreeMap::from([(inside::GIT_DIR_VARIABLE.to_owned(), git_dir.to_string_lossy().into_owned())])
    }

    /// Whether the worktree's files are there; always in a sandbox.
    pub fn is_checked_out(&self) -> bool {
        self.worktree().is_none_or(|place| place.adopted) || self.dir().join(CHECKED_OUT).exists()
    }

    /// Whether it is a worktree whose directory somebody took away.
    pub fn is_gone(&self) -> bool {
        self.worktree().is_some_and(|place| fs::symlink_metadata(&place.path).is_err())
    }

    /// Notes that they are.
    pub fn checked_out(&self) -> io::Result<()> {
        fs::write(self.dir().join(CHECKED_OUT), "")
    }

    /// What stands against taking it away, for saying so before anything is recorded.
    pub fn removable(&self) -> Result<(), LeaseError> {
        self.worktree()
            .map_or(Ok(()), |place| place.obstacle(self.terms().environment, self.dir()))
            .map_err(LeaseError::Worktree)
    }

    /// Brings the processes of a worktree up; see [`Lease::up`].
    pub async fn up_in_worktree(&self, machine: &Machine) -> Result<(Sandbox, u64), LeaseError> {
        let began = Instant::now();
        let place = self.worktree().ok_or_else(|| LeaseError::Terms(self.dir().to_owned()))?;
        offshoot_sandbox::end(self.dir()).map_err(LeaseError::Cleanup)?;
        let (lease, wanted) = (self.clone(), place.clone());
        tokio::task::spawn_blocking(move || wanted.ensure(lease.terms(), lease.dir()))
            .await
            .map_err(|e| LeaseError::Start(StartError::Shim(io::Error::other(e))))?
            .map_err(LeaseError::Worktree)?;
        let terms = self.terms();
        let spec = SandboxSpec {
            id: terms.environment.to_string(),
            dir: self.dir().to_owned(),
            identity: machine.identity.clone(),
            hostname: terms.hostname.clone(),
            mounts: Vec::new(),
            workdir: place.path.clone(),
            env: terms.env.clone(),
            network: Network::default(),
            limits: SandboxLimits {
                memory_bytes: terms.limits.memory_bytes,
                processes: terms.limits.processes.into(),
                cpu_percent: terms.limits.cpu_percent,
                ..SandboxLimits::default()
            },
            host: Some(Host { umask: umask() }),
            weaken: std::collections::BTreeSet::new(),
            fault: fault::armed(),
        };
        let connection = offshoot_sandbox::start(&spec, &machine.exe).await.map_err(LeaseError::Start)?;
        let sandbox = Sandbox::new(connection)
            .await
            .map_err(|e| LeaseError::Start(StartError::Shim(io::Error::other(e))))?;
        fault::point("lease.up");
        Ok((sandbox, u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)))
    }

    pub(crate) fn held(&self, place: &Place) -> worktree::Held {
        let Some(git_dir) = read_git_dir(self.dir()) else { return worktree::Held::default() };
        worktree::held(&place.path, &git_dir, &self.dir().join(EXCLUDE)).unwrap_or_else(|error| {
            tracing::debug!(environment = %self.terms().environment, %error, "cannot look at a worktree");
            worktree::Held { more: true, ..worktree::Held::default() }
        })
    }

    pub(crate) fn written_in_worktree(&self, place: &Place) -> Written {
        let held = self.held(place);
        let mut written = Written { entries: held.changed.len() as u64, ..Written::default() };
        let mut hasher = DefaultHasher::new();
        (held.head.map(|oid| oid.to_string()), held.branch).hash(&mut hasher);
        for path in &held.changed {
            path.hash(&mut hasher);
            if let Ok(meta) = fs::symlink_metadata(place.path.join(path)) {
                written.bytes += meta.blocks() * 512;
                (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino()).hash(&mut hasher);
            }
        }
        // 0 says that it cannot be told.
        written.signature = if held.more { 0 } else { hasher.finish().max(1) };
        written
    }

    pub(crate) fn is_untouched_worktree(&self, place: &Place) -> bool {
        let held = self.held(place);
        !held.more
            && held.changed.is_empty()
            && held.head.is_some_and(|head| head.to_string() == self.terms().base)
    }
}

/// Takes a worktree away that a lease describes, if it describes one. Doing it twice is doing it once.
pub(crate) fn discard(layout: &Layout, lease: &Lease) -> io::Result<()> {
    let Some(place) = lease.worktree() else { return Ok(()) };
    match place.take_away(layout, lease.terms().environment) {
        // There is nothing left that it could be a worktree of.
        Err(PlaceError::Repository { path, .. }) if !path.exists() => Ok(()),
        result => result.map_err(io::Error::other),
    }
}

/// The mask of this process; asking the kernel for it would change it for a moment.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask =
        status.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok());
    mask.unwrap_or(0o022)
}
