//! One environment as a lease: everything a run is given comes with [`Lease::up`] and goes with [`Lease::remove`].
//!
//! What it is made of is written to `environment.json` when its directories are there and before any process is, in
//! one step, so a daemon that starts anew finds every whole lease again ([`Lease::open`]), adopts its sandbox if that
//! still runs, or brings it up over the same upper directory; one without that file never held anything. Removal moves
//! the whole directory aside in one rename.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    time::Instant,
};

use offshoot_core::{
    egress::EgressRule,
    event::Limits,
    fault,
    id::{EnvironmentId, ProjectId},
};
use offshoot_git::{inside, oid::Oid};
use offshoot_sandbox::{ConnectError, StartError};
use serde::{Deserialize, Serialize};

use crate::{
    database::Part,
    layers::{Layers, Stack},
    layout::Layout,
    machine::{Machine, Room},
    monitor,
    other::{Other, Source, write_files},
    ports::{self, HostPort},
    remove,
    sandbox::Sandbox,
    service::plan::{Plan, Plans},
    shared::Shared,
    tools::Tools,
    worktree::{self, PlaceError, Runtime},
    written::{Written, untouched, written},
};

/// What an environment is made of. Holds names of secrets at the most, never one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// Its id.
    pub environment: EnvironmentId,
    /// Its project.
    pub project: ProjectId,
    /// Host name inside.
    pub hostname: String,
    /// Where the workspace appears inside.
    pub workspace: PathBuf,
    /// The commit it starts from.
    pub base: String,
    /// The branch that is checked out inside.
    pub branch: String,
    /// Names of its layers, top first.
    pub layers: Vec<String>,
    /// Tools to show.
    pub tools: Tools,
    /// Directories to show read-only besides.
    pub binds: Vec<PathBuf>,
    /// Variables of every process inside.
    pub env: BTreeMap<String, String>,
    /// What may be reached.
    pub egress: Vec<EgressRule>,
    /// Whether a person is asked about other hosts.
    #[serde(default)]
    pub others_asked: bool,
    /// What may be used.
    pub limits: Limits,
    /// What stands around its processes.
    #[serde(default)]
    pub runtime: Runtime,
    /// Its services, in starting order.
    #[serde(default)]
    pub services: Vec<Plan>,
    /// Ports of the host that lead inside.
    #[serde(default)]
    pub ports: Vec<HostPort>,
    /// Its other repositories.
    #[serde(default)]
    pub others: Vec<Other>,
    /// Its parts of shared servers.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Names inside for itself: those of its apps.
    #[serde(default)]
    pub names: Vec<String>,
    /// Apps of other repositories that it shares with other environments.
    #[serde(default)]
    pub shared: Vec<Shared>,
}

impl Terms {
    /// Lines for `/etc/hosts`.
    fn hosts(&self) -> Vec<String> {
        let own = self.names.iter().flat_map(|name| ["127.0.0.1", "::1"].map(|at| format!("{at} {name}")));
        Plans::hosts(&self.services)
            .into_iter()
            .chain(self.parts.iter().map(Part::host_line))
            .chain(self.shared.iter().map(Shared::host_line))
            .chain(own)
            .collect()
    }

    /// Addresses inside at which somebody outside answers.
    fn served(&self) -> Vec<SocketAddrV4> {
        let led = self.services.iter().flat_map(Plan::led).map(|(at, _)| at);
        self.parts.iter().map(Part::served).chain(self.shared.iter().map(Shared::served)).chain(led).collect()
    }
}

/// Why an environment could not be brought up, found or taken away.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
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
    /// The sandbox did not come up.
    #[error("the sandbox did not come up")]
    Start(#[source] StartError),
    /// `environment.json` is missing or unreadable.
    #[error("the environment in {0} is not whole")]
    Terms(PathBuf),
    /// A layer it stands on is gone.
    #[error("a layer that environment {0} stands on is gone")]
    Layers(EnvironmentId),
    /// Its worktree could not be made or taken away.
    #[error(transparent)]
    Worktree(PlaceError),
    /// The sandbox did not go away.
    #[error("the sandbox did not end")]
    Cleanup(#[source] offshoot_sandbox::CleanupError),
}

/// An environment that exists on disk, with or without processes.
#[derive(Clone, Debug)]
pub struct Lease {
    terms: Terms,
    dir: PathBuf,
    layout: Layout,
}

fn io_error<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LeaseError + 'a {
    move |source| LeaseError::Io { operation, path: path.to_owned(), source }
}

impl Lease {
    /// Makes the directory of a new environment. No process exists yet.
    pub fn create(layout: &Layout, machine: &Machine, terms: Terms) -> Result<Self, LeaseError> {
        let dir = layout.environment(terms.environment);
        fs::create_dir_all(&dir).map_err(io_error("make", &dir))?;
        let sandbox = terms.runtime == Runtime::Sandbox;
        for name in ["upper", "work", "home", "home-work"].into_iter().filter(|_| sandbox) {
            let path = dir.join(name);
            machine.make_dir(&path).map_err(io_error("make", &path))?;
        }
        for plan in &terms.services {
            plan.make_dirs(machine, &dir).map_err(io_error("make", &dir))?;
        }
        let commit = terms.base.parse::<Oid>().map_err(|_| LeaseError::Terms(dir.clone()))?;
        let files = inside::run_files(&terms.branch, &commit).map_err(|_| LeaseError::Terms(dir.clone()))?;
        if sandbox {
            write_files(machine, &dir.join("upper"), files).map_err(io_error("write", &dir))?;
        }
        for other in &terms.others {
            other.create(machine, &dir).map_err(io_error("make", &dir))?;
        }
        fault::point("lease.made");
        let (file, whole) = (dir.join("environment.json.new"), dir.join("environment.json"));
        serde_json::to_vec(&terms)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&file, text))
            .and_then(|()| fs::rename(&file, &whole))
            .map_err(io_error("write", &whole))?;
        fault::point("lease.described");
        Ok(Self { terms, dir, layout: layout.clone() })
    }

    /// An environment that exists already.
    pub fn open(layout: &Layout, id: EnvironmentId) -> Result<Self, LeaseError> {
        let dir = layout.environment(id);
        let terms = fs::read(dir.join("environment.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| LeaseError::Terms(dir.clone()))?;
        Ok(Self { terms, dir, layout: layout.clone() })
    }

    /// What it is made of.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Its directory on the host.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The journal of a process in it.
    pub fn journal(&self, exec: &str) -> PathBuf {
        self.dir.join("journal").join(exec)
    }

    /// Brings its processes up: sandbox, root file system, listeners. Returns how long that took, too.
    pub async fn up(
        &self,
        machine: &Machine,
        layers: &Layers,
        objects: &Path,
        others: &[Source],
    ) -> Result<(Sandbox, u64), LeaseError> {
        if self.worktree().is_some() {
            return self.up_in_worktree(machine).await;
        }
        let began = Instant::now();
        // The kernel refuses a work directory that a killed sandbox left non-empty only when it is in use; but the
        // shim's leavings (socket, control group) are taken away first, and itself if nobody has its connection.
        offshoot_sandbox::end(&self.dir).map_err(LeaseError::Cleanup)?;
        fault::point("lease.start");
        let terms = &self.terms;
        let gone = || LeaseError::Layers(terms.environment);
        let stack = layers.by_name(&terms.layers).ok_or_else(gone)?;
        let mut mounts = Vec::new();
        for plan in &terms.services {
            let of = terms.others.iter().position(|other| plan.workspace.as_ref() == Some(&other.workspace));
            let layers = of.and_then(|at| others.get(at)).map_or(layers, |source| &source.layers);
            let data = layers.data_of(plan).map_err(|_| gone())?;
            mounts.extend(plan.mounts(&self.dir, data.as_deref(), &terms.workspace));
        }
        let mut home_lowers = stack.home.clone();
        if others.len() != terms.others.len() {
            return Err(gone());
        }
        for (other, source) in terms.others.iter().zip(others) {
            let stack = source.layers.by_name(&other.layers).ok_or_else(gone)?;
            mounts.extend(other.mounts(&self.dir, &stack, &source.objects));
            // What its setup left in the home directory, below what the main one's did.
            home_lowers.extend(stack.home);
        }
        let connection = machine
            .start(Room {
                id: terms.environment.to_string(),
                dir: self.dir.clone(),
                hostname: terms.hostname.clone(),
                lowers: stack.workspace.clone(),
                upper: self.upper(),
                work: self.dir.join("work"),
                home_lowers,
                home_upper: self.dir.join("home"),
                home_work: self.dir.join("home-work"),
                workspace: &terms.workspace,
                objects,
                tools: &terms.tools,
                binds: terms.binds.clone(),
                mounts,
                hosts: terms.hosts(),
                monitor: self.monitor(&stack),
                env: terms.env.clone(),
                egress: terms.egress.clone(),
                others_asked: terms.others_asked,
                served: terms.served(),
                limits: terms.limits,
            })
            .await
            .map_err(LeaseError::Start)?;
        fault::point("lease.up");
        Ok((connection, u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)))
    }

    /// Takes up the connection to its sandbox, if that runs.
    pub async fn adopt(&self) -> Result<Option<Sandbox>, ConnectError> {
        match offshoot_sandbox::connect(&self.dir).await {
            Ok(connection) => {
                Sandbox::new(connection).await.map(Some).map_err(|e| ConnectError::Io(io::Error::other(e)))
            }
            Err(ConnectError::Gone) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What was written in it so far.
    pub fn written(&self) -> Written {
        let main =
            self.worktree().map_or_else(|| written(&self.upper()), |place| self.written_in_worktree(place));
        self.terms.others.iter().fold(main, |all, other| all.and(other.written(&self.dir)))
    }

    /// Whether nothing at all was written in the workspace since the lease was made, not even by git.
    pub fn is_untouched(&self) -> bool {
        if let Some(place) = self.worktree() {
            return self.is_untouched_worktree(place);
        }
        let Ok(commit) = self.terms.base.parse::<Oid>() else { return false };
        let Ok(files) = inside::run_files(&self.terms.branch, &commit) else { return false };
        untouched(&self.upper(), &files)
            && self.terms.others.iter().all(|other| other.branch.is_none() || other.is_untouched(&self.dir))
    }

    /// Takes its processes away; the workspace stays.
    pub async fn down(&self, connection: Option<&Sandbox>) -> Result<(), LeaseError> {
        if let Some(connection) = connection
            && let Err(error) = connection.down().await
        {
            tracing::warn!(environment = %self.terms.environment, %error, "did not go down when asked");
        }
        worktree::beside::end(&self.dir).map_err(LeaseError::Cleanup)?;
        offshoot_sandbox::end(&self.dir).map_err(LeaseError::Cleanup)
    }

    /// Takes everything of it away. The caller has recorded why.
    pub async fn remove(self, connection: Option<&Sandbox>) -> Result<(), LeaseError> {
        self.down(connection).await?;
        fault::point("lease.remove");
        discard_dir(&self.layout, self.terms.environment).map_err(io_error("delete", &self.dir))
    }

    /// The record by which git inside is told what changed; made before anything is written.
    fn monitor(&self, stack: &Stack) -> Option<PathBuf> {
        // Its answers are about one workspace; git in another would believe them.
        if !self.terms.others.is_empty() {
            return None;
        }
        let record = self.dir.join("monitor");
        if !record.exists() {
            if !monitor::wanted(&stack.workspace) || !self.is_untouched() {
                return None;
            }
            let (setups, commit): (Vec<_>, Vec<_>) =
                stack.layers.iter().zip(&stack.workspace).partition(|(id, _)| id.starts_with("setup-"));
            let dirs = |layers: Vec<(_, &PathBuf)>| layers.into_iter().map(|(_, dir)| dir.clone()).collect();
            let (setups, commit): (Vec<PathBuf>, Vec<PathBuf>) = (dirs(setups), dirs(commit));
            let made = monitor::prepare(&record, &self.upper(), &self.terms.workspace, &setups, &commit);
            if let Err(error) = &made {
                tracing::warn!(environment = %self.terms.environment, %error, "git inside looks for itself what changed");
            }
            if !made.unwrap_or(false) {
                return None;
            }
        }
        Some(record)
    }

    fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }
}

/// Deletes the directory of an environment; also one that never became whole.
pub fn discard_dir(layout: &Layout, id: EnvironmentId) -> io::Result<()> {
    worktree::beside::end(&layout.environment(id)).map_err(io::Error::other)?;
    offshoot_sandbox::end(&layout.environment(id)).map_err(io::Error::other)?;
    if let Ok(lease) = Lease::open(layout, id) {
        worktree::discard(layout, &lease)?;
    }
    ports::release(&layout.ports(), id)?;
    let trashed = remove::to_trash(layout, &layout.environment(id), &id.to_string())?;
    trashed.map_or(Ok(()), |dir| remove::tree(&dir))
}
