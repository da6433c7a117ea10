//! What services hold at first: made once by running them in a builder sandbox (their first start, their seed), ended
//! cleanly, and kept as layers. An environment's service starts over a copy-on-write view of it.
//!
//! A layer's name says what it was made of: program or image, variables, seed. It is the project's, like setup layers,
//! and goes with `prune` when no environment stands on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use offshoot_core::{
    fault,
    service::{Seed, Service, VolumeSource},
};
use offshoot_git::{GitError, store::Store};
use offshoot_sandbox::{ExecRequest, ExecRoot, Exit, Stdio};
use sha2::{Digest, Sha256};

use super::{
    plan::{Plan, Plans, WORKSPACE},
    supervise::{Failure, Supervisor},
};
use crate::{
    layers::{CheckoutPlan, LayerError, Layers, Progress, SetupRoom, Stack, end_of, io_error, serve},
    machine::Room,
    remove,
    sandbox::Sandbox,
};

/// How long a seed may take: a large database is loaded in it.
const SEED: Duration = Duration::from_secs(3600);
/// How long a service may take to end cleanly: a database writes what it holds.
const END: Duration = Duration::from_secs(120);
/// Changes when layers are made differently.
const KIND: &str = "data 1";

/// Why a service's first data could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// As with any layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The service did not come up, its seed failed, or it did not end.
    #[error("the service {service} could not be given its first data: {}", failure.reason)]
    Failed {
        /// The service.
        service: String,
        /// Why, and what was said.
        failure: Failure,
    },
    /// The commit does not have what it is seeded with or shown.
    #[error("the service {service} needs {path}, which the commit does not have")]
    NoSeed {
        /// The service.
        service: String,
        /// The path.
        path: String,
    },
    /// git refused.
    #[error("git refused while a seed was looked up")]
    Git(#[source] GitError),
}

impl Layers {
    /// Sees to it that what each service holds at first is there, and notes in the plans where.
    pub async fn with_data(
        &self,
        store: &Store,
        from: &CheckoutPlan,
        stack: &Stack,
        services: &mut Plans,
        room: &SetupRoom<'_>,
        progress: Progress<'_>,
    ) -> Result<(), DataError> {
        for plan in services.plans.iter_mut().filter(|plan| plan.begins_with_data()) {
            plan.data_layer = Some(self.data_key(store, from, plan).await?);
        }
        if self.missing(services).is_empty() {
            return Ok(());
        }
        let _only = self.only("data").await;
        let _place = self.machine().builders.setup(&room.limits).await;
        let missing = self.missing(services);
        if missing.is_empty() {
            return Ok(());
        }
        progress(&format!("preparing {}", missing.iter().cloned().collect::<Vec<_>>().join(", ")));
        let dir = self.building_dir("data");
        remove::tree(&dir).map_err(io_error("delete", &dir))?;
        let began = Instant::now();
        let built = self.fill(store, from, stack, services, &missing, room, &dir, progress).await;
        if let Err(error) = offshoot_sandbox::end(&dir) {
            tracing::warn!(%error, "could not clean up after the builder of services' data");
        }
        let sealed = match built {
            Ok(()) => self.seal_data(services, &missing, &dir),
            Err(error) => Err(error),
        };
        remove::tree(&dir).map_err(io_error("delete", &dir))?;
        tracing::info!(services = ?missing, ms = began.elapsed().as_millis(), "services' first data made");
        sealed
    }

    /// The layer of a service's first data, if it has one; an error if that is gone.
    pub fn data_of(&self, plan: &Plan) -> Result<Option<PathBuf>, LayerError> {
        let Some(id) = &plan.data_layer else { return Ok(None) };
        if self.exists(id) { Ok(Some(self.dir_of(id))) } else { Err(LayerError::Gone(id.clone())) }
    }

    fn missing(&self, services: &Plans) -> BTreeSet<String> {
        let plans = services.plans.iter();
        let missing = plans.filter(|plan| plan.data_layer.as_deref().is_some_and(|id| !self.exists(id)));
        missing.map(|plan| plan.service.name.to_string()).collect()
    }

    async fn data_key(&self, store: &Store, from: &CheckoutPlan, plan: &Plan) -> Result<String, DataError> {
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text);
            hash.update([0]);
        };
        add(KIND);
        add(&plan.fingerprint);
        for (name, value) in &plan.env {
            add(name);
            add(value);
        }
        for dir in &plan.data {
            add(&dir.to_string_lossy());
        }
        for word in seeded_by(store, from, &plan.service).await? {
            add(&word);
        }
        let hex: String = hash.finalize().iter().take(10).map(|b| format!("{b:02x}")).collect();
        Ok(format!("data-{}-{hex}", plan.service.name))
    }

    /// Runs what is missing, and what that needs, in a sandbox of its own.
    #[expect(clippy::too_many_arguments, reason = "one call, every argument a different thing")]
    async fn fill(
        &self,
        store: &Store,
        from: &CheckoutPlan,
        stack: &Stack,
        services: &Plans,
        missing: &BTreeSet<String>,
        room: &SetupRoom<'_>,
        dir: &Path,
        progress: Progress<'_>,
    ) -> Result<(), DataError> {
        let plans = needed(services, missing);
        let made = ["", "workspace", "work", "home", "home-work"].map(|name| dir.join(name));
        for path in &made {
            self.machine().make_dir(path).map_err(io_error("make", path))?;
        }
        let [_, upper, work, home_upper, home_work] = made;
        let mut mounts = Vec::new();
        for plan in &plans {
            plan.make_dirs(self.machine(), dir).map_err(io_error("make", dir))?;
            let fresh = missing.contains(plan.service.name.as_str());
            let lower = if fresh { None } else { self.data_of(plan)? };
            mounts.extend(plan.mounts(dir, lower.as_deref(), &from.workspace));
        }
        let mut env = room.env.clone();
        env.extend(services.env.clone());
        fault::point("data.start");
        let sandbox = self
            .machine()
            .start(Room {
                id: format!("data-{}", &from.commit.to_string()[..12]),
                dir: dir.to_owned(),
                hostname: "offshoot".to_owned(),
                lowers: stack.workspace.clone(),
                upper,
                work,
                home_lowers: stack.home.clone(),
                home_upper,
                home_work,
                workspace: &from.workspace,
                objects: &store.objects_dir(),
                tools: room.tools,
                binds: Vec::new(),
                monitor: None,
                mounts,
                hosts: Plans::hosts(&services.plans),
                env,
                egress: room.egress.to_vec(),
                // Nobody waits for a builder who could say why it needs a host.
                others_asked: false,
                served: Vec::new(),
                limits: room.limits,
            })
            .await
            .map_err(LayerError::Start)?;
        let _served = serve(&sandbox, room.network, room.egress).await?;
        let supervisor =
            Supervisor::start(&sandbox, &plans, &BTreeSet::new(), &(Arc::new(|_: &str, _| {}) as _));
        supervisor.ready().await.map_err(|(service, failure)| DataError::Failed { service, failure })?;
        for plan in plans.iter().filter(|plan| missing.contains(plan.service.name.as_str())) {
            if let Some(seed) = &plan.service.seed {
                progress(&format!("seeding {}", plan.service.name));
                seed_one(&sandbox, plan, seed, &from.workspace, dir).await?;
            }
        }
        fault::point("data.seeded");
        // Nobody starts them again.
        drop(supervisor);
        for plan in plans.iter().rev() {
            end(&sandbox, plan).await?;
        }
        if let Err(error) = sandbox.down().await {
            tracing::warn!(%error, "the builder of services' data did not end by itself");
        }
        Ok(())
    }

    fn seal_data(&self, services: &Plans, missing: &BTreeSet<String>, dir: &Path) -> Result<(), DataError> {
        for plan in services.plans.iter().filter(|plan| missing.contains(plan.service.name.as_str())) {
            let Some(id) = &plan.data_layer else { continue };
            let layer = self.building_dir(id);
            remove::tree(&layer).map_err(io_error("delete", &layer))?;
            fs::create_dir_all(&layer).map_err(io_error("make", &layer))?;
            for at in 0..plan.data.len() {
                let (from, to) = (plan.data_upper(dir, at), layer.join(format!("data-{at}")));
                fs::rename(&from, &to).map_err(io_error("place", &to))?;
            }
            self.seal(id, &layer)?;
        }
        Ok(())
    }
}

/// What a service's first data are made of, in words that change with it.
pub(crate) async fn seeded_by(
    store: &Store,
    from: &CheckoutPlan,
    service: &Service,
) -> Result<Vec<String>, DataError> {
    let mut words = Vec::new();
    let mut paths = match &service.seed {
        None => Vec::new(),
        Some(Seed::Sql { sql }) => sql.clone(),
        Some(Seed::Directory { directory }) => vec![directory.clone()],
        Some(Seed::Command { command, key }) => {
            words.push(command.clone());
            // What the command reads is not known, or a run's own: anything in the commit.
            if key.is_empty() || from.of_run {
                words.push(from.commit.to_string());
            }
            key.clone()
        }
    };
    // What it is shown of the workspace is read when it starts for the first time.
    for volume in &service.volumes {
        if let VolumeSource::Workspace(path) = &volume.source {
            paths.push(path.clone());
        }
    }
    for path in paths {
        let (store, commit, at) = (store.clone(), from.commit.clone(), path.as_str().to_owned());
        let object = tokio::task::spawn_blocking(move || store.object_at(&commit, &at))
            .await
            .map_err(|_| LayerError::Interrupted)?
            .map_err(DataError::Git)?;
        let Some(object) = object else {
            return Err(DataError::NoSeed { service: service.name.to_string(), path: path.to_string() });
        };
        words.push(object.to_string());
    }
    Ok(words)
}

/// What is missing and all that it depends on; everything, if a command wants to reach it.
fn needed(services: &Plans, missing: &BTreeSet<String>) -> Vec<Plan> {
    let seeded_by_command = |plan: &&Plan| {
        missing.contains(plan.service.name.as_str())
            && matches!(plan.service.seed, Some(Seed::Command { .. }))
    };
    if services.plans.iter().any(|plan| seeded_by_command(&plan)) {
        return services.plans.clone();
    }
    let mut wanted = missing.clone();
    // In starting order, so whatever depends on a service comes after it.
    for plan in services.plans.iter().rev() {
        if wanted.contains(plan.service.name.as_str()) {
            wanted.extend(plan.service.depends_on.keys().map(ToString::to_string));
        }
    }
    services.plans.iter().filter(|plan| wanted.contains(plan.service.name.as_str())).cloned().collect()
}

async fn seed_one(
    sandbox: &Sandbox,
    plan: &Plan,
    seed: &Seed,
    workspace: &Path,
    dir: &Path,
) -> Result<(), DataError> {
    // In a service that has its own root the workspace is elsewhere.
    let workspace = if plan.root.is_some() { Path::new(WORKSPACE) } else { workspace };
    let failed = |reason: String| DataError::Failed {
        service: plan.service.name.to_string(),
        failure: Failure { reason, log: end_of(&dir.join("seed.log")) },
    };
    match seed {
        Seed::Sql { sql: files } => {
            let Some(load) = &plan.load else {
                return Err(failed("it has no known way to read SQL; use a command as its seed".to_owned()));
            };
            for (at, file) in files.iter().enumerate() {
                let path = workspace.join(file.as_str()).to_string_lossy().into_owned();
                let argv = ["/bin/sh", "-c", load, "seed", &path].map(str::to_owned).to_vec();
                let id = format!("seed-{}-{at}", plan.service.name);
                run(sandbox, plan.env.clone(), plan.root.clone(), id, argv, dir)
                    .await
                    .map_err(|reason| failed(format!("{file}: {reason}")))?;
            }
            Ok(())
        }
        Seed::Directory { directory: path } => {
            let (Some(data), None) = (plan.data.first(), &plan.root) else {
                return Err(failed("a directory can seed a program of this machine only".to_owned()));
            };
            let from = workspace.join(path.as_str()).to_string_lossy().into_owned();
            let script = "cp -a \"$1/.\" \"$2/\"";
            let argv = ["/bin/sh", "-c", script, "seed", &from, &data.to_string_lossy()].map(str::to_owned);
            let id = format!("seed-{}", plan.service.name);
            run(sandbox, plan.env.clone(), plan.root.clone(), id, argv.to_vec(), dir).await.map_err(failed)
        }
        Seed::Command { command: line, .. } => {
            let argv = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
            let id = format!("seed-{}", plan.service.name);
            run(sandbox, BTreeMap::new(), None, id, argv, dir).await.map_err(failed)
        }
    }
}

/// Runs a command in a service's own place (its root and variables), or in the workspace.
pub(crate) async fn run(
    sandbox: &Sandbox,
    env: BTreeMap<String, String>,
    root: Option<ExecRoot>,
    id: String,
    argv: Vec<String>,
    dir: &Path,
) -> Result<(), String> {
    let events = sandbox.events();
    let path = dir.join("seed.log");
    let open = || File::options().create(true).append(true).open(&path).map_err(|e| e.to_string());
    let stdio = Stdio::Files { stdin: None, stdout: open()?.into(), stderr: open()?.into() };
    let request = ExecRequest { id: id.clone(), argv, env, stdio, root, ..ExecRequest::default() };
    sandbox.exec(request).await.map_err(|error| offshoot_core::problem::chain(&error))?;
    match tokio::time::timeout(SEED, sandbox.exit(&id, events)).await {
        Ok(Some(Exit::Code(0))) => Ok(()),
        Ok(Some(Exit::Code(code))) => Err(format!("its seed ended with code {code}")),
        Ok(Some(Exit::Signal(signal))) => Err(format!("its seed was ended by signal {signal}")),
        Ok(None) => Err("its sandbox ended".to_owned()),
        Err(_) => Err(format!("its seed took longer than {} s", SEED.as_secs())),
    }
}

/// Ends a service cleanly.
async fn end(sandbox: &Sandbox, plan: &Plan) -> Result<(), DataError> {
    let prefix = format!("svc-{}-", plan.service.name);
    let events = sandbox.events();
    let running = sandbox.execs().await.unwrap_or_default();
    let Some(exec) = running.into_iter().find(|e| e.exit.is_none() && e.id.starts_with(&prefix)) else {
        return Ok(());
    };
    let _ = sandbox.signal(&exec.id, plan.stop).await;
    match tokio::time::timeout(END, sandbox.exit(&exec.id, events)).await {
        Ok(_) => Ok(()),
        Err(_) => {
            let reason = format!("it did not end within {} s", END.as_secs());
            let failure = Failure { reason, log: String::new() };
            Err(DataError::Failed { service: plan.service.name.to_string(), failure })
        }
    }
}
