//! The layer store of one project: immutable directory trees, shared by all environments that stand on them.
//!
//! Every layer is made the same way: a builder sandbox runs commands over a stack of layers, and what they wrote is
//! sealed. A base is git checking a commit out over nothing, a delta is git going from one commit to another (the
//! kernel writes the whiteouts), a setup layer is the project's own commands over a commit's files. So a hostile
//! tree is unpacked where hostile things belong, and the host runs nothing.
//!
//! Invariants: a layer exists once its `layer.json` does, and never changes afterwards; building one twice at a
//! time is prevented by a lock; a build that was killed leaves a directory below `building/` and nothing else. A
//! layer that was not known to be on disk when the machine went down is not trusted afterwards.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use offshoot_core::{config::DEFAULT_LIMITS, egress::EgressRule, event::Limits, fault, id::ProjectId};
use offshoot_git::{inside, oid::Oid, repository::Person, store::Store};
use offshoot_sandbox::{Connection, Exit, Listener};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::{
    disk,
    layout::Layout,
    machine::{self, Command, CommandError, Machine, Room},
    remove,
    sandbox::Sandbox,
    tools::Tools,
};

/// Layers of one commit before it is checked out whole again in the background. Each costs a lookup per path
/// component on a cold cache; eight are not measurable on a tree of 80,000 files.
const FLATTEN_AT: usize = 8;
/// Layers of one commit at the most; the kernel allows 500, the lookups grow with each.
const MAX_STACK: usize = 24;
/// A commit that differs in more files than this from all others is checked out whole.
const MAX_DELTA: usize = 20_000;
/// A commit that differs in no more files than this is taken as it is: comparing with another costs git 25 ms on a tree of
/// 80,000 files, as much as writing a few hundred.
const NEAR: usize = 500;
/// How long git may take to write a large tree on a slow disk.
const CHECKOUT_SECONDS: u64 = 1800;
/// How long a setup may take.
const SETUP_SECONDS: u64 = 3600;
/// How much of the end of a failed command's output is told.
const LOG_END: u64 = 4000;

/// The layers of a project.
#[derive(Clone)]
pub struct Layers {
    project: ProjectId,
    layout: Layout,
    machine: Machine,
    building: Arc<Mutex<()>>,
}

/// What the project's setup is: commands, and the files that decide when they must run again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Given to `sh -c`, one after another.
    pub commands: Vec<String>,
    /// Paths in the repository.
    pub key: Vec<String>,
    /// What the commands may reach.
    pub egress: Vec<EgressRule>,
}

/// Lower directories, top first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Of the workspace.
    pub workspace: Vec<PathBuf>,
    /// Of the home directory.
    pub home: Vec<PathBuf>,
    /// Names of the layers, top first.
    pub layers: Vec<String>,
    /// Key of the setup layer, if there is one.
    pub setup: Option<String>,
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
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    what: String,
    /// The boot during which it was written.
    boot: String,
    /// Whether it was seen to be on disk since.
    durable: bool,
}

/// Somebody who wants to know what takes so long.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

impl Layers {
    /// The layer store of a project. Sweeps what killed builds left.
    pub fn open(layout: Layout, project: ProjectId, machine: Machine) -> Result<Self, LayerError> {
        for dir in [layout.layers(project), layout.stacks(project), layout.building(project)] {
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
        Ok(Self { project, layout, machine, building: Arc::default() })
    }

    /// The layers that make up the files of `commit`, made if missing.
    pub async fn commit(
        &self,
        store: &Store,
        from: &CheckoutPlan,
        progress: Progress<'_>,
    ) -> Result<Stack, LayerError> {
        if let Some(layers) = self.known(&from.commit) {
            return Ok(self.stack(layers));
        }
        let _lock = self.building.lock().await;
        if let Some(layers) = self.known(&from.commit) {
            return Ok(self.stack(layers));
        }
        let layers = match self.nearest(store, &from.commit).await {
            Some((other, below)) => self.build_delta(store, from, &other, below, progress).await?,
            None => self.build_base(store, from, progress).await?,
        };
        if layers.len() > FLATTEN_AT {
            let (this, store, from) = (self.clone(), store.clone(), from.clone());
            tokio::spawn(async move {
                let _lock = this.building.lock().await;
                if let Err(error) = this.build_base(&store, &from, &|_| {}).await {
                    tracing::warn!(commit = %from.commit, error = %offshoot_core::problem::chain(&error), "could not flatten");
                }
            });
        }
        Ok(self.stack(layers))
    }

    /// The same with the project's setup on top, made if missing.
    pub async fn with_setup(
        &self,
        store: &Store,
        plan: &CheckoutPlan,
        setup: &Setup,
        room: &SetupRoom<'_>,
        progress: Progress<'_>,
    ) -> Result<Stack, LayerError> {
        let mut stack = self.commit(store, plan, progress).await?;
        if setup.commands.is_empty() {
            return Ok(stack);
        }
        let key = self.setup_key(store, plan, setup).await;
        let id = format!("setup-{key}");
        if !self.exists(&id) {
            let _lock = self.building.lock().await;
            if !self.exists(&id) {
                self.build_setup(store, plan, setup, room, &stack, &id, progress).await?;
            }
        }
        let dir = self.layout.layers(self.project).join(&id);
        stack.workspace.insert(0, dir.join("workspace"));
        stack.home.insert(0, dir.join("home"));
        stack.layers.insert(0, id);
        stack.setup = Some(key);
        Ok(stack)
    }

    /// The lower directories of layers known by name: what an environment that was made before stands on.
    pub fn by_name(&self, layers: &[String]) -> Option<Stack> {
        let all = layers.iter().all(|id| self.exists(id));
        all.then(|| {
            let (setup, plain): (Vec<_>, Vec<_>) =
                layers.iter().cloned().partition(|id| id.starts_with("setup-"));
            let mut stack = self.stack(plain);
            for id in setup {
                let dir = self.layout.layers(self.project).join(&id);
                stack.workspace.insert(0, dir.join("workspace"));
                stack.home.insert(0, dir.join("home"));
                stack.setup = id.strip_prefix("setup-").map(str::to_owned);
                stack.layers.insert(0, id);
            }
            stack
        })
    }

    /// Takes away every layer that `keep` does not name. Returns what went.
    pub async fn prune(&self, keep: &(dyn Fn(&str) -> bool + Sync)) -> Result<Vec<String>, LayerError> {
        let _lock = self.building.lock().await;
        let mut gone = Vec::new();
        let stacks = self.layout.stacks(self.project);
        // What the newest commit is made of stays: the next task most likely starts there.
        let newest = self.by_age().pop().and_then(|commit| self.known(&commit)).unwrap_or_default();
        let keep = |id: &str| newest.iter().any(|kept| kept == id) || keep(id);
        for entry in fs::read_dir(&stacks).map_err(io_error("list", &stacks))?.flatten() {
            let layers = read_stack(&entry.path());
            if layers.is_none_or(|layers| !layers.iter().all(|id| keep(id))) {
                fs::remove_file(entry.path()).map_err(io_error("delete", &entry.path()))?;
            }
        }
        let dir = self.layout.layers(self.project);
        for entry in fs::read_dir(&dir).map_err(io_error("list", &dir))?.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if !keep(&id) {
                let _ = fs::remove_file(entry.path().join("layer.json"));
                remove::to_trash(&self.layout, &entry.path(), &format!("{}-{id}", self.project))
                    .map_err(io_error("delete", &entry.path()))?;
                gone.push(id);
            }
        }
        Ok(gone)
    }

    fn stack(&self, layers: Vec<String>) -> Stack {
        let dir = self.layout.layers(self.project);
        let workspace = layers.iter().map(|id| dir.join(id).join("workspace")).collect();
        Stack { workspace, home: Vec::new(), layers, setup: None }
    }

    /// Held by whoever makes layers.
    pub(crate) async fn builds(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.building.lock().await
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

    /// Whether a commit's files are laid out.
    pub fn has(&self, commit: &Oid) -> bool {
        self.known(commit).is_some()
    }

    /// All layers, with the disk that each takes, in bytes.
    pub fn sizes(&self) -> Result<Vec<(String, u64)>, LayerError> {
        let dir = self.layout.layers(self.project);
        let ids = fs::read_dir(&dir).map_err(io_error("list", &dir))?.flatten();
        let ids = ids.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let sized = |id: String| (disk::immutable(&dir.join(&id)), id);
        Ok(ids.filter(|id| self.exists(id)).map(sized).map(|(bytes, id)| (id, bytes)).collect())
    }

    fn known(&self, commit: &Oid) -> Option<Vec<String>> {
        read_stack(&self.layout.stacks(self.project).join(commit.to_string()))
            .filter(|layers| layers.iter().all(|id| self.exists(id)))
    }

    pub(crate) fn exists(&self, id: &str) -> bool {
        let file = self.layout.layers(self.project).join(id).join("layer.json");
        let Some(sealed) = fs::read(file).ok().and_then(|b| serde_json::from_slice::<Sealed>(&b).ok()) else {
            return false;
        };
        sealed.durable || sealed.boot == boot_id()
    }

    /// The commits that have layers, the newest last.
    fn by_age(&self) -> Vec<Oid> {
        let Ok(entries) = fs::read_dir(self.layout.stacks(self.project)) else { return Vec::new() };
        let mut known: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let commit = entry.file_name().to_str()?.parse::<Oid>().ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, commit))
            })
            .collect();
        known.sort_by_key(|(at, _)| *at);
        known.into_iter().map(|(_, commit)| commit).collect()
    }

    /// The commit with layers that differs least, if one is near enough.
    async fn nearest(&self, store: &Store, commit: &Oid) -> Option<(Oid, Vec<String>)> {
        let mut best = None;
        // The newest few: a project's bases follow each other.
        for other in self.by_age().into_iter().rev().take(4) {
            let Some(layers) = self.known(&other).filter(|l| l.len() < MAX_STACK) else { continue };
            let (store, from, to) = (store.clone(), other.clone(), commit.clone());
            let Ok(Ok(changed)) = tokio::task::spawn_blocking(move || store.changed_count(&from, &to)).await
            else {
                continue;
            };
            if changed <= NEAR {
                return Some((other, layers));
            }
            if changed <= MAX_DELTA && best.as_ref().is_none_or(|(least, _, _)| changed < *least) {
                best = Some((changed, other, layers));
            }
        }
        best.map(|(_, other, layers)| (other, layers))
    }

    async fn build_base(
        &self,
        store: &Store,
        plan: &CheckoutPlan,
        progress: Progress<'_>,
    ) -> Result<Vec<String>, LayerError> {
        progress(&format!("checking out {}", plan.commit.short()));
        let id = format!("base-{}", plan.commit);
        if !self.exists(&id) {
            let script = inside::base_checkout(&plan.base(store));
            self.build(store, plan, &id, &Stack::default(), vec![script], &[], &Work::git()).await?;
        }
        let layers = vec![id];
        self.remember(&plan.commit, &layers)?;
        Ok(layers)
    }

    async fn build_delta(
        &self,
        store: &Store,
        plan: &CheckoutPlan,
        other: &Oid,
        below: Vec<String>,
        progress: Progress<'_>,
    ) -> Result<Vec<String>, LayerError> {
        progress(&format!("going from {} to {}", other.short(), plan.commit.short()));
        let id = format!("delta-{}-{}", other, plan.commit);
        let stack = self.stack(below);
        if !self.exists(&id) {
            let script = inside::delta_checkout(&plan.base(store));
            self.build(store, plan, &id, &stack, vec![script], &[], &Work::git()).await?;
        }
        let mut layers = stack.layers;
        layers.insert(0, id);
        self.remember(&plan.commit, &layers)?;
        Ok(layers)
    }

    #[expect(clippy::too_many_arguments, reason = "one call, every argument a different thing")]
    async fn build_setup(
        &self,
        store: &Store,
        plan: &CheckoutPlan,
        setup: &Setup,
        room: &SetupRoom<'_>,
        stack: &Stack,
        id: &str,
        progress: Progress<'_>,
    ) -> Result<(), LayerError> {
        let commands: Vec<_> =
            setup.commands.iter().map(|c| vec!["sh".to_owned(), "-c".to_owned(), c.clone()]).collect();
        for command in &setup.commands {
            progress(&format!("setting up: {command}"));
        }
        let (git, commit) = (store.clone(), plan.commit.clone());
        // Only what git does not track belongs to the setup: a tracked file in it would hide a later version.
        let tracked = tokio::task::spawn_blocking(move || git.paths(&commit))
            .await
            .map_err(|_| LayerError::Interrupted)?
            .map_err(LayerError::Git)?;
        let work = Work {
            egress: setup.egress.clone(),
            network: Some(room.network),
            limits: room.limits,
            tools: room.tools,
            env: room.env,
            seconds: SETUP_SECONDS,
        };
        self.build(store, plan, id, stack, commands, &tracked, &work).await
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where layers are made")]
    async fn build(
        &self,
        store: &Store,
        plan: &CheckoutPlan,
        id: &str,
        stack: &Stack,
        commands: Vec<Vec<String>>,
        drop_paths: &[Vec<u8>],
        work: &Work<'_>,
    ) -> Result<(), LayerError> {
        let began = Instant::now();
        let dir = self.layout.building(self.project).join(id);
        remove::tree(&dir).map_err(io_error("delete", &dir))?;
        let made = ["", "workspace", "work", "home", "home-work"].map(|name| dir.join(name));
        for path in &made {
            self.machine.make_dir(path).map_err(io_error("make", path))?;
        }
        let [_, upper, scratch, home_upper, home_work] = made;
        fault::point("layer.start");
        let connection = self
            .machine
            .start(Room {
                id: format!("layer-{}", &id[..id.len().min(48)]),
                dir: dir.clone(),
                hostname: "offshoot".to_owned(),
                lowers: stack.workspace.clone(),
                upper: upper.clone(),
                work: scratch,
                home_lowers: stack.home.clone(),
                home_upper,
                home_work,
                workspace: &plan.workspace,
                objects: &store.objects_dir(),
                tools: work.tools,
                binds: Vec::new(),
                monitor: None,
                mounts: Vec::new(),
                hosts: Vec::new(),
                env: work.env.clone(),
                egress: work.egress.clone(),
                // Nobody waits for a builder who could say why it needs a host.
                others_asked: false,
                served: Vec::new(),
                limits: work.limits,
            })
            .await;
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                if let Err(error) = offshoot_sandbox::end(&dir) {
                    tracing::warn!(layer = id, %error, "could not clean up after the builder");
                }
                return Err(LayerError::Start(error));
            }
        };
        let mut result = Ok(());
        let mut served = None;
        if let Some(network) = work.network {
            match serve(&connection, network, &work.egress).await {
                Ok(network) => served = Some(network),
                Err(error) => result = Err(error),
            }
        }
        for (n, argv) in commands.into_iter().enumerate() {
            if result.is_err() {
                break;
            }
            result = self.step(&connection, &dir, id, n, argv, work).await;
        }
        drop(served);
        if let Err(error) = connection.down().await {
            tracing::warn!(layer = id, %error, "the builder did not end by itself");
        }
        // Also what a builder left that was killed on its way out.
        if let Err(error) = offshoot_sandbox::end(&dir) {
            tracing::warn!(layer = id, %error, "could not clean up after the builder");
        }
        if let Err(error) = result {
            remove::tree(&dir).map_err(io_error("delete", &dir))?;
            return Err(error);
        }
        fault::point("layer.built");
        let dir_for_seal = dir.clone();
        let (drop_paths, is_setup) = (drop_paths.to_vec(), id.starts_with("setup-"));
        let upper_for_seal = upper;
        tokio::task::spawn_blocking(move || {
            if is_setup {
                remove::tree(&upper_for_seal.join(".git"))?;
                drop_tracked(&upper_for_seal, &drop_paths)?;
            }
            for name in ["work", "home-work", "journal", "lock", "shim.sock", "shim.log", "cgroup"] {
                let path = dir_for_seal.join(name);
                if fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
                    remove::tree(&path)?;
                } else {
                    let _ = fs::remove_file(&path);
                }
            }
            Ok(())
        })
        .await
        .unwrap_or_else(|_| Err(io::Error::other("interrupted")))
        .map_err(io_error("seal", &dir))?;
        self.seal(id, &dir)?;
        tracing::info!(layer = id, ms = began.elapsed().as_millis(), "layer built");
        Ok(())
    }

    async fn step(
        &self,
        connection: &Sandbox,
        dir: &Path,
        id: &str,
        n: usize,
        argv: Vec<String>,
        work: &Work<'_>,
    ) -> Result<(), LayerError> {
        let path = dir.join("build.log");
        let log = File::options().create(true).append(true).open(&path).map_err(io_error("write", &path))?;
        let both = log.try_clone().map_err(io_error("write", &path))?;
        let text = argv.last().cloned().unwrap_or_default();
        let command = Command { id: format!("step-{n}"), argv, env: BTreeMap::new(), seconds: work.seconds };
        let failed = |source| LayerError::Command {
            what: if id.starts_with("setup-") {
                format!("setup ({text})")
            } else {
                "files of the commit".to_owned()
            },
            log: end_of(&path),
            source,
        };
        match machine::run_inside(connection, command, log, both).await {
            Ok(Exit::Code(0)) => Ok(()),
            Ok(exit) => Err(failed(CommandError::Exit { command: text.clone(), exit })),
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes a built directory a layer: in place first, then whole by its `layer.json`.
    pub(crate) fn seal(&self, id: &str, dir: &Path) -> Result<(), LayerError> {
        let target = self.layout.layers(self.project).join(id);
        remove::tree(&target).map_err(io_error("delete", &target))?;
        fs::rename(dir, &target).map_err(io_error("place", &target))?;
        fault::point("layer.placed");
        let write = |durable| {
            let sealed = Sealed { what: id.to_owned(), boot: boot_id(), durable };
            write_whole(&target.join("layer.json"), &serde_json::to_vec(&sealed)?)
        };
        write(false).map_err(io_error("seal", &target))?;
        // Waiting for the disk is not on anybody's path; until it is known to be there, only this boot trusts it.
        let at = target.clone();
        drop(tokio::task::spawn_blocking(move || {
            let synced = File::open(&at).and_then(|f| rustix::fs::syncfs(&f).map_err(Into::into));
            if let Err(error) = synced.and_then(|()| {
                let sealed = Sealed { what: String::new(), boot: boot_id(), durable: true };
                if at.join("layer.json").exists() {
                    write_whole(&at.join("layer.json"), &serde_json::to_vec(&sealed)?)?;
                }
                Ok(())
            }) {
                tracing::warn!(layer = %at.display(), %error, "not known to be on disk");
            }
        }));
        Ok(())
    }

    fn remember(&self, commit: &Oid, layers: &[String]) -> Result<(), LayerError> {
        let path = self.layout.stacks(self.project).join(commit.to_string());
        serde_json::to_vec(layers)
            .map_err(io::Error::from)
            .and_then(|bytes| write_whole(&path, &bytes))
            .map_err(io_error("write", &path))
    }

    async fn setup_key(&self, store: &Store, plan: &CheckoutPlan, setup: &Setup) -> String {
        let (store, commit, key) = (store.clone(), plan.commit.clone(), setup.key.clone());
        let blobs = tokio::task::spawn_blocking(move || {
            key.iter().map(|path| store.object_at(&commit, path).ok().flatten()).collect::<Vec<_>>()
        })
        .await
        .unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(plan.workspace.as_os_str().as_encoded_bytes());
        for command in &setup.commands {
            hash.update([0]);
            hash.update(command);
        }
        for (path, blob) in setup.key.iter().zip(blobs) {
            hash.update([1]);
            hash.update(path);
            hash.update([2]);
            hash.update(blob.map(|b| b.to_string()).unwrap_or_default());
        }
        if setup.key.is_empty() {
            hash.update(plan.commit.to_string());
        }
        hash.finalize().iter().take(12).map(|b| format!("{b:02x}")).collect()
    }
}

/// What a commit's files are made from.
#[derive(Clone, Debug)]
pub struct CheckoutPlan {
    /// The commit.
    pub commit: Oid,
    /// Where the workspace appears inside.
    pub workspace: PathBuf,
    /// The branch the commit was taken from, to be found inside by the same name.
    pub branch: Option<String>,
    /// Author of what is committed inside.
    pub author: Author,
}

/// Who commits inside: asked only when something is built, since git has to be asked.
#[derive(Clone)]
pub struct Author(Arc<dyn Fn() -> Person + Send + Sync>);

impl Author {
    /// To be asked so.
    pub fn new(ask: impl Fn() -> Person + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

impl std::fmt::Debug for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Author")
    }
}

impl CheckoutPlan {
    fn base(&self, store: &Store) -> inside::Base {
        inside::Base {
            commit: self.commit.clone(),
            branch: self.branch.clone(),
            objects: inside::OBJECTS.to_owned(),
            person: (self.author.0)(),
            shallow: store.shallow(),
        }
    }
}

/// What setup commands have around them.
#[derive(Clone, Copy)]
pub struct SetupRoom<'a> {
    /// Tools to show.
    pub tools: &'a Tools,
    /// Variables besides the usual ones.
    pub env: &'a BTreeMap<String, String>,
    /// What may be used.
    pub limits: Limits,
    /// Who serves its network.
    pub network: Network<'a>,
}

/// Whoever serves a builder's network: is given its listening sockets and what may be reached, and serves for as long as
/// what comes back is held.
pub type Network<'a> = &'a (dyn Fn(Vec<Listener>, &[EgressRule]) -> io::Result<Served> + Send + Sync);

/// A network while it is served.
pub type Served = Box<dyn Send + Sync>;

/// Has a builder's network served; also if nothing may be reached, since nobody hears a refusal that nobody says.
pub(crate) async fn serve(
    connection: &Connection,
    network: Network<'_>,
    egress: &[EgressRule],
) -> Result<Served, LayerError> {
    let listeners = connection.listeners().await.map_err(|e| LayerError::Network(io::Error::other(e)))?;
    network(listeners, egress).map_err(LayerError::Network)
}

struct Work<'a> {
    egress: Vec<EgressRule>,
    /// `None` for what asks nobody.
    network: Option<Network<'a>>,
    limits: Limits,
    tools: &'a Tools,
    env: &'a BTreeMap<String, String>,
    seconds: u64,
}

static NO_ENV: BTreeMap<String, String> = BTreeMap::new();
static NO_TOOLS: std::sync::LazyLock<Tools> =
    std::sync::LazyLock::new(|| Tools::find("", Path::new("/nonexistent"), &[]));

impl Work<'static> {
    fn git() -> Self {
        Self {
            egress: Vec::new(),
            network: None,
            limits: DEFAULT_LIMITS,
            tools: &NO_TOOLS,
            env: &NO_ENV,
            seconds: CHECKOUT_SECONDS,
        }
    }
}

fn read_stack(path: &Path) -> Option<Vec<String>> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Removes tracked files from a setup's upper directory, whiteouts of them too.
fn drop_tracked(upper: &Path, tracked: &[Vec<u8>]) -> io::Result<()> {
    for path in tracked {
        let path = Path::new(OsStr::from_bytes(path));
        let at = upper.join(path);
        // A link on the way would lead elsewhere: what is below it is not the tracked file.
        let real = path
            .ancestors()
            .skip(1)
            .filter(|a| !a.as_os_str().is_empty())
            .all(|a| fs::symlink_metadata(upper.join(a)).is_ok_and(|m| m.is_dir()));
        if real && fs::symlink_metadata(&at).is_ok_and(|m| !m.is_dir()) {
            fs::remove_file(&at)?;
        }
    }
    Ok(())
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
