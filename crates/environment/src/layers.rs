//! The layer store of one project: immutable directory trees, shared by all environments that stand on them.
//!
//! Every layer is made the same way: a builder sandbox runs commands over a stack of layers, and what they wrote is
//! sealed. So a hostile tree is unpacked where hostile things belong, and the host runs nothing.
//!
//! - [`works`]: who makes what, and how much at a time
//! - [`build`]: the builder sandbox
//! - [`commit`]: the files of commits: bases and deltas
//! - [`setup`]: what the project's own commands install
//! - [`caches`]: what package managers downloaded, for the next setup
//! - [`prune`]: taking away what nobody needs
//!
//! Invariants: a layer exists once its `layer.json` does, and never changes afterwards; each is built by one at a time,
//! different ones at the same time; a build that was killed leaves a directory below `building/` and nothing else. A
//! layer that was not known to be on disk when the machine went down is not trusted afterwards.

mod build;
mod caches;
mod commit;
mod prune;
mod setup;
mod works;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use offshoot_core::{fault, id::ProjectId};
use serde::{Deserialize, Serialize};

pub(crate) use self::build::serve;
use self::works::{Hold, Works};
pub use self::{
    build::{Network, Served, SetupRoom},
    commit::{Author, CheckoutPlan},
    setup::Setup,
    works::Builders,
};
use crate::{
    disk,
    layout::Layout,
    machine::{CommandError, Machine},
    remove,
};

/// How much of the end of a failed command's output is told.
const LOG_END: u64 = 4000;

/// The layers of a project.
#[derive(Clone)]
pub struct Layers {
    project: ProjectId,
    layout: Layout,
    machine: Machine,
    works: Arc<Works>,
}

/// Lower directories, top first. The layers are not taken away while this is held.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Of the workspace.
    pub workspace: Vec<PathBuf>,
    /// Of the home directory.
    pub home: Vec<PathBuf>,
    /// Names of the layers, top first.
    pub layers: Vec<String>,
    _held: Arc<Hold>,
}

impl Stack {
    /// Keys of its setup layers, if it has any, for people.
    pub fn setup(&self) -> Option<String> {
        let keys: Vec<_> = self.layers.iter().filter_map(|id| id.strip_prefix("setup-")).collect();
        (!keys.is_empty()).then(|| keys.join(" "))
    }
}

/// Why a layer could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The file system refused.
    #[error("could not {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The builder sandbox did not come up.
    #[error("could not start a sandbox to build a layer in")]
    Start(#[source] offshoot_sandbox::StartError),
    /// Its network could not be served.
    #[error("could not serve the network of a sandbox to build a layer in")]
    Network(#[source] io::Error),
    /// A command did not do its work.
    #[error("could not build the {what}")]
    Command {
        /// What was being built.
        what: String,
        /// The end of what the command said.
        log: String,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// The daemon is stopping.
    #[error("the work was interrupted")]
    Interrupted,
    /// One that was there is not there any more.
    #[error("the layer {0} is gone")]
    Gone(String),
    /// git refused.
    #[error("git refused while a layer was prepared")]
    Git(#[source] offshoot_git::GitError),
}

pub(crate) fn io_error<'a>(
    operation: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> LayerError + 'a {
    move |source| LayerError::Io { operation, path: path.to_owned(), source }
}

/// `layer.json`: present once the layer is whole.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sealed {
    what: String,
    /// The boot during which it was written.
    boot: String,
    /// Whether it was seen to be on disk since.
    durable: bool,
    /// Of a setup: the layers of package managers' caches that its home directory stands on, top first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    caches: Vec<String>,
    /// Of a cache: disk that it takes, in bytes.
    #[serde(default)]
    bytes: u64,
}

/// Somebody who wants to know what takes so long.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

impl Layers {
    /// The layer store of a project. Sweeps what killed builds left.
    pub fn open(layout: Layout, project: ProjectId, machine: Machine) -> Result<Self, LayerError> {
        for dir in
            [layout.layers(project), layout.stacks(project), layout.caches(project), layout.building(project)]
        {
            fs::create_dir_all(&dir).map_err(io_error("make", &dir))?;
        }
        let building = layout.building(project);
        for entry in fs::read_dir(&building).map_err(io_error("list", &building))?.flatten() {
            // The builder outlives the daemon that wanted it.
            if let Err(error) = offshoot_sandbox::end(&entry.path()) {
                tracing::warn!(dir = %entry.path().display(), %error, "could not end a builder");
            }
            remove::tree(&entry.path()).map_err(io_error("delete", &entry.path()))?;
        }
        Ok(Self { project, layout, machine, works: Arc::default() })
    }

    /// The lower directories of layers known by name: what an environment that was made before stands on.
    pub fn by_name(&self, layers: &[String]) -> Option<Stack> {
        let stack = self.stack(layers.to_vec());
        stack.layers.iter().all(|id| self.exists(id)).then_some(stack)
    }

    fn stack(&self, layers: Vec<String>) -> Stack {
        let held = Arc::new(self.works.hold(layers.iter().cloned()));
        let workspace = layers.iter().map(|id| self.dir_of(id).join("workspace")).collect();
        let mut home: Vec<PathBuf> = Vec::new();
        let setups = layers.iter().filter(|id| id.starts_with("setup-"));
        let (mut own, mut caches) = (Vec::new(), Vec::new());
        for id in setups {
            own.push(id.clone());
            caches.extend(self.sealed(id).map(|sealed| sealed.caches).unwrap_or_default());
        }
        for id in own.into_iter().chain(caches) {
            let dir = self.dir_of(&id).join("home");
            if !home.contains(&dir) {
                home.push(dir);
            }
        }
        Stack { workspace, home, layers, _held: held }
    }

    /// Held by the one who makes what has this name.
    pub(crate) async fn only(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        self.works.only(name).await
    }

    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Where a layer of this name is made.
    pub(crate) fn building_dir(&self, name: &str) -> PathBuf {
        self.layout.building(self.project).join(name)
    }

    /// Where a layer is.
    pub(crate) fn dir_of(&self, id: &str) -> PathBuf {
        self.layout.layers(self.project).join(id)
    }

    /// All layers, with the disk that each takes, in bytes.
    pub fn sizes(&self) -> Result<Vec<(String, u64)>, LayerError> {
        let dir = self.layout.layers(self.project);
        let ids = fs::read_dir(&dir).map_err(io_error("list", &dir))?.flatten();
        let ids = ids.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let sized = |id: String| (disk::immutable(&dir.join(&id)), id);
        Ok(ids.filter(|id| self.exists(id)).map(sized).map(|(bytes, id)| (id, bytes)).collect())
    }

    pub(crate) fn exists(&self, id: &str) -> bool {
        self.sealed(id).is_some_and(|sealed| sealed.durable || sealed.boot == boot_id())
    }

    fn sealed(&self, id: &str) -> Option<Sealed> {
        serde_json::from_slice(&fs::read(self.dir_of(id).join("layer.json")).ok()?).ok()
    }

    /// Makes a built directory a layer: in place first, then whole by its `layer.json`.
    pub(crate) fn seal(&self, id: &str, dir: &Path) -> Result<(), LayerError> {
        self.seal_as(id, dir, |_| {})
    }

    fn seal_as(&self, id: &str, dir: &Path, with: impl FnOnce(&mut Sealed)) -> Result<(), LayerError> {
        let target = self.dir_of(id);
        remove::tree(&target).map_err(io_error("delete", &target))?;
        fs::rename(dir, &target).map_err(io_error("place", &target))?;
        fault::point("layer.placed");
        let mut sealed = Sealed { what: id.to_owned(), boot: boot_id(), ..Sealed::default() };
        with(&mut sealed);
        let file = target.join("layer.json");
        serde_json::to_vec(&sealed)
            .map_err(io::Error::from)
            .and_then(|text| write_whole(&file, &text))
            .map_err(io_error("seal", &target))?;
        // Waiting for the disk is not on anybody's path; until it is known to be there, only this boot trusts it.
        drop(tokio::task::spawn_blocking(move || {
            let synced = File::open(&target).and_then(|f| rustix::fs::syncfs(&f).map_err(Into::into));
            if let Err(error) = synced.and_then(|()| {
                sealed.durable = true;
                if file.exists() { write_whole(&file, &serde_json::to_vec(&sealed)?) } else { Ok(()) }
            }) {
                tracing::warn!(layer = %target.display(), %error, "not known to be on disk");
            }
        }));
        Ok(())
    }
}

fn read_stack(path: &Path) -> Option<Vec<String>> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub(crate) fn end_of(path: &Path) -> String {
    use std::io::{Seek, SeekFrom};
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
        let mut bytes = Vec::new();
        file.take(LOG_END).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}
