//! Making a layer: a builder sandbox runs commands over a stack of layers, and what they wrote is kept.
//!
//! Whatever happens to the one who builds, an unfinished building site is cleared: by itself when it is dropped, by the
//! next daemon when this one was killed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use offshoot_core::{config::DEFAULT_LIMITS, egress::EgressRule, event::Limits, fault};
use offshoot_git::store::Store;
use offshoot_sandbox::{Connection, Exit, Listener};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::{CheckoutPlan, LayerError, Layers, end_of, io_error};
use crate::{
    machine::{self, Command, CommandError, Room},
    remove,
    sandbox::Sandbox,
    tools::Tools,
};

/// How long git may take to write a large tree on a slow disk.
const CHECKOUT_SECONDS: u64 = 1800;
/// How long a setup may take.
pub(super) const SETUP_SECONDS: u64 = 3600;
/// What setup commands have around them.
#[derive(Clone, Copy)]
pub struct SetupRoom<'a> {
    /// Tools to show.
    pub tools: &'a Tools,
    /// Variables besides the usual ones.
    pub env: &'a BTreeMap<String, String>,
    /// What may be used.
    pub limits: Limits,
    /// What may be reached.
    pub egress: &'a [EgressRule],
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

/// What the builder's commands may use and reach.
pub(super) struct Work<'a> {
    pub egress: Vec<EgressRule>,
    /// `None` for what asks nobody.
    pub network: Option<Network<'a>>,
    pub limits: Limits,
    pub tools: &'a Tools,
    pub env: &'a BTreeMap<String, String>,
    pub seconds: u64,
    /// What is being made, for people.
    pub what: &'a str,
}

static NO_ENV: BTreeMap<String, String> = BTreeMap::new();
static NO_TOOLS: std::sync::LazyLock<Tools> =
    std::sync::LazyLock::new(|| Tools::find("", Path::new("/nonexistent"), &[]));

impl Work<'static> {
    pub fn git() -> Self {
        Self {
            egress: Vec::new(),
            network: None,
            limits: DEFAULT_LIMITS,
            tools: &NO_TOOLS,
            env: &NO_ENV,
            seconds: CHECKOUT_SECONDS,
            what: "files of the commit",
        }
    }
}

/// A layer to be made.
pub(super) struct Job<'a> {
    pub store: &'a Store,
    pub plan: &'a CheckoutPlan,
    pub id: &'a str,
    /// What the workspace stands on, top first.
    pub lowers: &'a [PathBuf],
    /// What the home directory stands on, top first.
    pub home_lowers: &'a [PathBuf],
    pub commands: Vec<Vec<String>>,
}

/// Where a layer was built, with what was written in it. Dropped before it is done, it is cleared.
pub(super) struct Site {
    pub dir: PathBuf,
    /// Nobody else builds there until it is cleared.
    only: Option<OwnedMutexGuard<()>>,
}

impl Site {
    /// Takes away what only the builder needed.
    pub async fn tidy(&self) -> Result<(), LayerError> {
        let dir = self.dir.clone();
        blocking(move || {
            for name in ["work", "home-work", "journal", "lock", "shim.sock", "shim.log", "cgroup"] {
                let path = dir.join(name);
                if fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
                    remove::tree(&path)?;
                } else {
                    let _ = fs::remove_file(&path);
                }
            }
            Ok(())
        })
        .await
        .map_err(io_error("tidy", &self.dir))
    }

    /// Whole: its directory is the caller's now.
    pub fn done(mut self) -> PathBuf {
        std::mem::take(&mut self.dir)
    }

    /// Takes all of it away.
    async fn clear(self) -> Result<(), LayerError> {
        let dir = self.dir.clone();
        blocking(move || clear(&dir)).await.map_err(io_error("delete", &self.dir))?;
        self.done();
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.dir.as_os_str().is_empty() {
            return;
        }
        let (dir, only) = (std::mem::take(&mut self.dir), self.only.take());
        let work = move || {
            if let Err(error) = clear(&dir) {
                tracing::warn!(dir = %dir.display(), %error, "could not clear a building site");
            }
            drop(only);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(_) => work(),
        }
    }
}

/// Ends the builder, if it still runs, and deletes what is there.
fn clear(dir: &Path) -> io::Result<()> {
    offshoot_sandbox::end(dir).map_err(io::Error::other)?;
    remove::tree(dir)
}

/// Runs what waits for the disk where that holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|_| Err(io::Error::other("interrupted")))
}

impl Layers {
    /// Runs the commands of a job in a sandbox of its own, and leaves what they wrote. The caller sees to it that nobody
    /// makes the same layer.
    pub(super) async fn build(&self, job: Job<'_>, work: &Work<'_>) -> Result<Site, LayerError> {
        let began = Instant::now();
        let dir = self.building_dir(job.id);
        let site =
            Site { dir: dir.clone(), only: Some(self.works.only(&format!("site of {}", job.id)).await) };
        remove::tree(&dir).map_err(io_error("delete", &dir))?;
        let made = ["", "workspace", "work", "home", "home-work"].map(|name| dir.join(name));
        for path in &made {
            self.machine.make_dir(path).map_err(io_error("make", path))?;
        }
        let [_, upper, scratch, home_upper, home_work] = made;
        fault::point("layer.start");
        let room = Room {
            id: self.unique(job.id),
            dir: dir.clone(),
            hostname: "offshoot".to_owned(),
            lowers: job.lowers.to_vec(),
            upper,
            work: scratch,
            home_lowers: job.home_lowers.to_vec(),
            home_upper,
            home_work,
            workspace: &job.plan.workspace,
            objects: &job.store.objects_dir(),
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
        };
        let built = match self.machine.start(room).await {
            Ok(connection) => self.steps(&connection, &dir, job.commands, work).await,
            Err(error) => Err(LayerError::Start(error)),
        };
        if let Err(error) = built {
            site.clear().await?;
            return Err(error);
        }
        // Also what a builder left that was killed on its way out.
        if let Err(error) = offshoot_sandbox::end(&dir) {
            tracing::warn!(layer = job.id, %error, "could not clean up after the builder");
        }
        fault::point("layer.built");
        tracing::info!(layer = job.id, ms = began.elapsed().as_millis(), "layer built");
        Ok(site)
    }

    /// A name for a builder that no other has, whatever project it builds for.
    fn unique(&self, id: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.project.to_string());
        hash.update(id);
        let hex: String = hash.finalize().iter().take(10).map(|b| format!("{b:02x}")).collect();
        format!("layer-{hex}")
    }

    async fn steps(
        &self,
        connection: &Sandbox,
        dir: &Path,
        commands: Vec<Vec<String>>,
        work: &Work<'_>,
    ) -> Result<(), LayerError> {
        let _served = match work.network {
            Some(network) => Some(serve(connection, network, &work.egress).await?),
            None => None,
        };
        for (n, argv) in commands.into_iter().enumerate() {
            step(connection, dir, n, argv, work).await?;
        }
        if let Err(error) = connection.down().await {
            tracing::warn!(dir = %dir.display(), %error, "the builder did not end by itself");
        }
        Ok(())
    }
}

async fn step(
    connection: &Sandbox,
    dir: &Path,
    n: usize,
    argv: Vec<String>,
    work: &Work<'_>,
) -> Result<(), LayerError> {
    let path = dir.join("build.log");
    let log = File::options().create(true).append(true).open(&path).map_err(io_error("write", &path))?;
    let both = log.try_clone().map_err(io_error("write", &path))?;
    let text = argv.last().cloned().unwrap_or_default();
    let command = Command { id: format!("step-{n}"), argv, env: BTreeMap::new(), seconds: work.seconds };
    let failed = |source| LayerError::Command { what: work.what.to_owned(), log: end_of(&path), source };
    match machine::run_inside(connection, command, log, both).await {
        Ok(Exit::Code(0)) => Ok(()),
        Ok(exit) => Err(failed(CommandError::Exit { command: text.clone(), exit })),
        Err(error) => Err(failed(error)),
    }
}
