//! The environments that exist: their sandboxes' connections, their proxies, when something last happened in them.
//!
//! `ready` is the only way to a sandbox: it makes, adopts, thaws or brings up again whatever is needed first.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use offshoot_core::{
    egress::EgressRule,
    event::{EnvironmentCreating, Event},
    id::{EnvironmentId, RunId, TaskId},
    isolation::Isolation,
    lifecycle::{EnvironmentState, TaskState},
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_environment::{
    database::{Part, Seeding},
    layers::{Author, CheckoutPlan, LayerError, Served, Setup, SetupRoom},
    lease::{self, Lease, LeaseError, Terms},
    sandbox::Sandbox,
    service::{plan::Plan, supervise::Supervisor},
    tools::Tools,
    worktree::Runtime,
};
use offshoot_gateway::{Egress, EgressEvent, EgressPolicy, Options as EgressOptions, Sink};
use offshoot_git::oid::Oid;
use offshoot_sandbox::{Event as SandboxEvent, Stats};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    clock,
    databases::{self, Parts},
    engine::Engine,
    ledger::Ledger,
    project, services, worktrees,
};

/// How long taking an environment away waits for the servers on which it has something.
const DROPPING: Duration = Duration::from_secs(10);
/// How long a sandbox may take to say what it uses.
const USAGE_TIMEOUT: Duration = Duration::from_millis(500);

/// An environment with processes.
#[derive(Clone)]
pub struct Live {
    /// Its lease.
    pub lease: Lease,
    /// Its sandbox.
    pub sandbox: Sandbox,
    /// Its proxy; served for as long as this is held.
    #[expect(dead_code, reason = "dropping it ends the proxy")]
    pub egress: Arc<Egress>,
    /// Its services; looked after for as long as this is held.
    pub services: Arc<Supervisor>,
    /// The ways to its parts of shared servers; open for as long as this is held.
    pub parts: Arc<Parts>,
}

/// The environments with processes, by id.
#[derive(Default)]
pub struct Environments {
    live: Mutex<HashMap<EnvironmentId, Live>>,
    touched: Mutex<HashMap<EnvironmentId, Instant>>,
    disk: Mutex<HashMap<EnvironmentId, u64>>,
    /// What an environment's files were like when they were last brought out.
    harvested: Mutex<HashMap<EnvironmentId, u64>>,
    /// One at a time per environment may change what state it is in.
    gates: Mutex<HashMap<TaskId, Arc<tokio::sync::Mutex<()>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Environments {
    /// The environment, if it has processes.
    pub fn live(&self, id: EnvironmentId) -> Option<Live> {
        lock(&self.live).get(&id).cloned()
    }

    /// Notes that something happened in it.
    pub fn touch(&self, id: EnvironmentId) {
        lock(&self.touched).insert(id, Instant::now());
    }

    /// Notes how much disk what it wrote takes.
    pub fn measured(&self, id: EnvironmentId, bytes: u64) {
        lock(&self.disk).insert(id, bytes);
    }

    /// Disk that what it wrote takes, as last measured.
    pub fn disk(&self, id: EnvironmentId) -> Option<u64> {
        lock(&self.disk).get(&id).copied()
    }

    /// Notes that everything written up to this signature was brought out.
    pub fn harvested(&self, id: EnvironmentId, signature: u64) {
        lock(&self.harvested).insert(id, signature);
    }

    /// Whether nothing was written since the last time it was brought out.
    pub fn is_harvested(&self, id: EnvironmentId, signature: u64) -> bool {
        // 0 is also what is said of more files than are looked at.
        signature != 0 && lock(&self.harvested).get(&id) == Some(&signature)
    }

    /// What it uses now.
    pub async fn usage(&self, id: EnvironmentId) -> Option<Stats> {
        let live = self.live(id)?;
        tokio::time::timeout(USAGE_TIMEOUT, live.sandbox.stats()).await.ok()?.ok()
    }

    /// All that have processes.
    pub fn all(&self) -> Vec<Live> {
        lock(&self.live).values().cloned().collect()
    }

    /// Those in which nothing happened for so long.
    pub fn quiet_for(&self, span: Duration) -> Vec<EnvironmentId> {
        lock(&self.touched).iter().filter(|(_, at)| at.elapsed() >= span).map(|(id, _)| *id).collect()
    }

    /// Held by whoever changes what state a task's environment is in.
    pub fn gate(&self, task: TaskId) -> Arc<tokio::sync::Mutex<()>> {
        lock(&self.gates).entry(task).or_default().clone()
    }

    fn forget(&self, id: EnvironmentId) -> Option<Live> {
        lock(&self.touched).remove(&id);
        lock(&self.disk).remove(&id);
        lock(&self.harvested).remove(&id);
        lock(&self.live).remove(&id)
    }
}

impl Engine {
    /// The task's environment with processes: made, adopted, thawed or brought up again as need be.
    pub(crate) async fn ready(&self, task: TaskId) -> Result<Live, Problem> {
        self.ready_as(task, None).await
    }

    /// The same, or a refusal if the task's environment is not `only` any more.
    pub(crate) async fn ready_as(&self, task: TaskId, only: Option<EnvironmentId>) -> Result<Live, Problem> {
        let gate = self.inner.environments.gate(task);
        let _gate = gate.lock().await;
        let record = self.inner.ledger.task(task)?;
        let run = record.run().map(|r| r.id);
        let environment = record.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed);
        if only.is_some() && environment.map(|e| e.id) != only {
            let gone = format!("the environment of {} is gone", record.name);
            return Err(Problem::new(ProblemKind::Conflict, "environment_gone", gone));
        }
        let id = match environment {
            None => self.make(&record).await?,
            Some(environment) => environment.id,
        };
        self.inner.environments.touch(id);
        let state = environment.map_or(EnvironmentState::Creating, |e| e.state);
        if let Some(live) = self.inner.environments.live(id).filter(|live| live.lease.is_gone()) {
            let reason = "its directory was deleted by hand; it is made again from its branch".to_owned();
            live.lease.down(Some(&live.sandbox)).await.map_err(lease_problem)?;
            self.lost(task, id, &reason);
        }
        if let Some(live) = self.inner.environments.live(id) {
            self.files_there(&record, &live).await?;
            if state == EnvironmentState::Suspended {
                live.sandbox
                    .thaw()
                    .await
                    .map_err(|e| Problem::internal("could not resume the environment", &e))?;
                self.inner.ledger.append(task, run, vec![Event::EnvironmentResumed { environment: id }])?;
            }
            return Ok(live);
        }
        self.bring_up(&record, id).await
    }

    /// Decides what a new environment is made of, records it, and makes its directory.
    async fn make(&self, record: &TaskRecord) -> Result<EnvironmentId, Problem> {
        let inner = &self.inner;
        if record.isolation == Isolation::Worktree {
            return self.make_worktree(record).await;
        }
        let project = inner.projects.of_task(record)?;
        let run = record
            .run()
            .ok_or_else(|| Problem::new(ProblemKind::Conflict, "wrong_state", "the task has no run"))?;
        let start = record.head.as_ref().unwrap_or(&record.base);
        let commit: Oid = start.parse().map_err(|e| Problem::internal("the task's commit is not one", &e))?;
        if record.head.is_some() {
            // What a run left is not shown to other runs, unless one starts from it.
            let (objects, commit) = (project.objects.clone(), commit.clone());
            tokio::task::spawn_blocking(move || objects.offer(&commit))
                .await
                .map_err(|e| Problem::internal("preparing the commit was interrupted", &e))?
                .map_err(|e| project::git_problem("the task's commit could not be prepared", &e))?;
        }
        let config = project::config(std::path::Path::new(&record.root))?;
        let user = self.user_config()?;
        let named: Vec<_> = user.tools.directories.iter().map(PathBuf::from).collect();
        let path = inner.secrets.path(record.id);
        let tools = Tools::find(&path, &inner.machine.home, &named);
        let mut tools = tools;
        let mut binds = Vec::new();
        if let Some(definition) = record.agent.as_deref().and_then(|a| inner.catalog.get(a))
            && let Ok(located) = self.located(definition, &path)
        {
            binds = located.binds;
            for dir in located
                .path_dirs
                .into_iter()
                .rev()
                .filter(|dir| !tools.path.contains(dir))
                .collect::<Vec<_>>()
            {
                tools.path.insert(0, dir);
            }
        }
        let root = record.root.clone();
        let plan = CheckoutPlan {
            commit,
            workspace: PathBuf::from(&record.root),
            branch: record.target.clone(),
            author: Author::new(move || project::author(&root)),
        };
        let setup = Setup {
            commands: config.setup.values().flat_map(|setup| setup.commands.clone()).collect(),
            key: config.setup.values().flat_map(|setup| setup.key.clone()).collect(),
            egress: run.egress.clone(),
        };
        let told = |step: &str| {
            let event = Event::Preparing { step: step.to_owned() };
            if let Err(problem) = inner.ledger.append(record.id, Some(run.id), vec![event]) {
                tracing::warn!(%problem, "could not record progress");
            }
        };
        let root = std::path::Path::new(&record.root);
        let id = EnvironmentId(clock::id());
        let declared = services::read(root)?;
        let mut parts = self.parts(&declared, id)?;
        let mut services = services::plans(&declared, root, &tools, &inner.images, &told).await?;
        // What the project says itself wins over what its services say.
        let mut env = services.env.clone();
        env.extend(config.environment.env.clone());
        let (ledger, task) = (inner.ledger.clone(), record.id);
        let network = move |listeners: Vec<_>, rules: &[EgressRule]| -> std::io::Result<Served> {
            let served = serve(ledger.clone(), task, listeners, rules).map_err(std::io::Error::other)?;
            Ok(Box::new(served))
        };
        let room = SetupRoom { tools: &tools, env: &env, limits: run.limits, network: &network };
        let stack = project
            .layers
            .with_setup(&project.objects, &plan, &setup, &room, &told)
            .await
            .map_err(layer_problem)?;
        project
            .layers
            .with_data(&project.objects, &plan, &stack, &mut services, &room, &run.egress, &told)
            .await
            .map_err(services::data_problem)?;
        let others = self.others(record, &room, &told).await?;
        let seeding = Seeding {
            store: &project.objects,
            from: &plan,
            stack: &stack,
            room,
            egress: &run.egress,
            register: &inner.databases,
            serve: &databases::door,
            progress: &told,
        };
        self.with_templates(&project.layers, &mut parts, &seeding).await?;
        let mut own = env.clone();
        let ports = self.reserve_ports(id, &config, &services.plans, &mut own)?;
        inner.ledger.append(
            record.id,
            Some(run.id),
            vec![Event::EnvironmentCreating(EnvironmentCreating {
                environment: id,
                base: plan.commit.to_string(),
                setup: stack.setup.clone(),
                workspace: None,
                services: services.plans.iter().map(Plan::view).chain(parts.iter().map(Part::view)).collect(),
            })],
        )?;
        if let Err(problem) = self.make_parts(id, &project.layers, &mut parts, &seeding).await {
            return Err(self.never_made(record, run.id, id, problem).await?);
        }
        let mut env: BTreeMap<_, _> = parts.iter().flat_map(Part::env).collect();
        env.extend(own);
        let terms = Terms {
            environment: id,
            project: record.project,
            hostname: record.name.to_string(),
            workspace: plan.workspace.clone(),
            base: plan.commit.to_string(),
            branch: record.branch.clone(),
            layers: stack.layers.clone(),
            tools,
            binds,
            env,
            egress: run.egress.clone(),
            limits: run.limits,
            runtime: Runtime::Sandbox,
            services: services.plans,
            ports,
            others,
            parts,
        };
        if let Err(error) = Lease::create(&inner.layout, &inner.machine, terms) {
            return Err(self.never_made(record, run.id, id, lease_problem(error)).await?);
        }
        Ok(id)
    }

    /// Takes away what was begun of an environment that could not be made; hands the problem back.
    async fn never_made(
        &self,
        record: &TaskRecord,
        run: RunId,
        id: EnvironmentId,
        problem: Problem,
    ) -> Result<Problem, Problem> {
        let reason = format!("it could not be made: {}", problem.message);
        let removed = Event::EnvironmentRemoved { environment: id, reason };
        self.inner.ledger.append(record.id, Some(run), vec![removed])?;
        if let Err(error) = lease::discard_dir(&self.inner.layout, id) {
            tracing::warn!(%error, environment = %id, "could not delete a half-made environment");
        }
        self.drop_parts(&id.to_string()).await;
        Ok(problem)
    }

    /// Starts an environment's sandbox over what is on disk.
    async fn bring_up(&self, record: &TaskRecord, id: EnvironmentId) -> Result<Live, Problem> {
        let inner = &self.inner;
        let run = record.run().map(|r| r.id);
        let lease = Lease::open(&inner.layout, id).map_err(lease_problem)?;
        if lease.worktree().is_some() {
            return self.bring_up_worktree(record, lease).await;
        }
        let project = inner.projects.of_task(record)?;
        let objects = project.objects.objects_dir();
        let sources = self.sources(&lease)?;
        let (sandbox, took_us) =
            lease.up(&inner.machine, &project.layers, &objects, &sources).await.map_err(lease_problem)?;
        let stats = sandbox.stats().await.unwrap_or_default();
        let soft_limits = ["memory", "processes", "cpu"]
            .iter()
            .filter(|limit| !stats.hard.iter().any(|hard| hard == *limit))
            .filter(|limit| **limit != "cpu" || lease.terms().limits.cpu_percent.is_some())
            .map(|limit| (*limit).to_owned())
            .collect();
        let live = self.take_up(record.id, lease, sandbox).await?;
        inner.ledger.append(
            record.id,
            run,
            vec![Event::EnvironmentUp { environment: id, tier: "T1".to_owned(), soft_limits, took_us }],
        )?;
        Ok(live)
    }

    /// Makes a running sandbox one of the live ones: its proxy served, its end noticed.
    pub(crate) async fn take_up(
        &self,
        task: TaskId,
        lease: Lease,
        sandbox: Sandbox,
    ) -> Result<Live, Problem> {
        let listeners = sandbox
            .listeners()
            .await
            .map_err(|e| Problem::internal("the sandbox did not hand its listeners out", &e))?;
        let (parts, listeners) = self.lead_to_parts(task, &lease, listeners)?;
        let egress = serve(self.inner.ledger.clone(), task, listeners, &lease.terms().egress)
            .map_err(|e| Problem::internal("could not serve the environment's network", &e))?;
        let id = lease.terms().environment;
        let mut events = sandbox.events();
        let services = self.supervise(task, &lease, &sandbox);
        let live = Live { lease, sandbox, egress: Arc::new(egress), services, parts };
        lock(&self.inner.environments.live).insert(id, live.clone());
        self.inner.environments.touch(id);
        self.open_ports(task, live.lease.terms());
        self.keep_apps(task, &live);
        let engine = self.clone();
        tokio::spawn(async move {
            loop {
                let event = match events.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => break,
                };
                match event {
                    SandboxEvent::InitGone => break,
                    SandboxEvent::LimitExceeded { exec: None, what } => engine.limit_exceeded(task, &what),
                    // What has a limit of its own has somebody who looks after it.
                    SandboxEvent::LimitExceeded { .. }
                    | SandboxEvent::Output { .. }
                    | SandboxEvent::Exited { .. } => {}
                }
            }
            engine.lost(task, id, "its sandbox ended (killed, or out of memory)");
        });
        Ok(live)
    }

    fn limit_exceeded(&self, task: TaskId, what: &str) {
        let Ok(record) = self.inner.ledger.task(task) else { return };
        let run = record.run().map(|r| r.id);
        let event = match record.state {
            TaskState::Running | TaskState::Idle | TaskState::NeedsAttention => {
                Event::AttentionNeeded { reason: format!("a limit was met: {what}") }
            }
            _ => Event::Preparing { step: format!("a limit was met: {what}") },
        };
        if let Err(problem) = self.inner.ledger.append(task, run, vec![event]) {
            tracing::warn!(%problem, "could not record a limit");
        }
    }

    /// Notes that an environment has no processes any more, unless that was meant.
    fn lost(&self, task: TaskId, id: EnvironmentId, reason: &str) {
        if self.inner.environments.forget(id).is_none() {
            return;
        }
        let Ok(record) = self.inner.ledger.task(task) else { return };
        if record.environment.is_some_and(|e| e.id == id && e.state.has_processes()) {
            let event = Event::EnvironmentLost { environment: id, reason: reason.to_owned() };
            if let Err(problem) =
                self.inner.ledger.append(task, record.runs.last().map(|r| r.id), vec![event])
            {
                tracing::warn!(%problem, "could not record a lost environment");
            }
        }
    }

    /// After a start: takes up the environment's sandbox if it runs, else records that it does not.
    pub(crate) async fn adopt(&self, task: &TaskRecord) -> Result<(), Problem> {
        let Some(environment) = &task.environment else { return Ok(()) };
        let run = task.run().map(|r| r.id);
        match environment.state {
            EnvironmentState::Removed => {
                // Recorded, but perhaps not done.
                if let Err(error) = lease::discard_dir(&self.inner.layout, environment.id) {
                    tracing::warn!(error = %chain(&error), "could not finish a removal");
                }
                Ok(())
            }
            EnvironmentState::Down => Ok(()),
            EnvironmentState::Creating | EnvironmentState::Up | EnvironmentState::Suspended => {
                let lease = Lease::open(&self.inner.layout, environment.id);
                let connection = match &lease {
                    Ok(lease) => lease.adopt().await.unwrap_or_else(|error| {
                        tracing::warn!(error = %chain(&error), "could not adopt a sandbox");
                        None
                    }),
                    Err(_) => None,
                };
                match (lease, connection) {
                    (Ok(lease), Some(connection)) => {
                        let tier = worktrees::tier(&lease);
                        self.take_up(task.id, lease, connection).await?;
                        if environment.state == EnvironmentState::Creating {
                            let up = Event::EnvironmentUp {
                                environment: environment.id,
                                tier,
                                soft_limits: Vec::new(),
                                took_us: 0,
                            };
                            self.inner.ledger.append(task.id, run, vec![up])?;
                        }
                    }
                    (Ok(lease), None) => {
                        if let Err(error) = lease.down(None).await {
                            tracing::warn!(error = %chain(&error), "could not clean up after a lost sandbox");
                        }
                        let reason = "its sandbox did not run any more when the daemon started".to_owned();
                        let event = Event::EnvironmentLost { environment: environment.id, reason };
                        self.inner.ledger.append(task.id, run, vec![event])?;
                    }
                    (Err(error), _) if environment.state != EnvironmentState::Creating => {
                        // Something may have been written in it: kept as it is.
                        let reason = format!("{}; what was written in it is kept", chain(&error));
                        let event = Event::EnvironmentLost { environment: environment.id, reason };
                        self.inner.ledger.append(task.id, run, vec![event])?;
                    }
                    (Err(_), _) => {
                        // Never became whole: nothing was ever written in it.
                        let reason = "it was never made whole".to_owned();
                        let event = Event::EnvironmentRemoved { environment: environment.id, reason };
                        self.inner.ledger.append(task.id, run, vec![event])?;
                        lease::discard_dir(&self.inner.layout, environment.id)
                            .map_err(|e| Problem::internal("could not delete a half-made environment", &e))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// After a start: directories of environments that the log does not know were begun and never recorded as made.
    pub(crate) async fn sweep_unknown(&self, tasks: &[TaskRecord]) {
        let Ok(entries) = std::fs::read_dir(self.inner.layout.environments()) else { return };
        for entry in entries.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|n| n.parse::<EnvironmentId>().ok()) else {
                continue;
            };
            if tasks.iter().any(|task| task.environment.as_ref().is_some_and(|e| e.id == id)) {
                continue;
            }
            tracing::warn!(environment = %id, "not in the log: kept for `offshoot prune`");
        }
    }

    /// Takes a task's environment away for good. The caller made sure that no work is lost.
    pub(crate) async fn remove_environment(&self, record: &TaskRecord, reason: &str) -> Result<(), Problem> {
        let gate = self.inner.environments.gate(record.id);
        let _gate = gate.lock().await;
        let Some(environment) = record.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed)
        else {
            return Ok(());
        };
        self.removable(record)?;
        let event = Event::EnvironmentRemoved { environment: environment.id, reason: reason.to_owned() };
        self.inner.ledger.append(record.id, record.run().map(|r| r.id), vec![event])?;
        let live = self.inner.environments.forget(environment.id);
        self.inner.doors.close(environment.id);
        self.inner.apps.forget(environment.id);
        match Lease::open(&self.inner.layout, environment.id) {
            Ok(lease) => lease.remove(live.as_ref().map(|l| &l.sandbox)).await.map_err(lease_problem)?,
            Err(_) => lease::discard_dir(&self.inner.layout, environment.id)
                .map_err(|e| Problem::internal("could not delete the environment", &e))?,
        }
        // A server that does not answer is asked again later.
        let _ = tokio::time::timeout(DROPPING, self.drop_parts(&environment.id.to_string())).await;
        if record.isolation == Isolation::Worktree && !record.has_unlanded_work() {
            // Made with the worktree, and at its base still.
            self.drop_branch(record).await;
        }
        self.collect_later(record);
        Ok(())
    }
}

/// Records what an environment was refused, once for each host: a program that asks for ever fills no log.
fn refusals(ledger: Ledger, task: TaskId) -> Sink {
    /// Hosts told of at the most; agents and package managers ask for a handful.
    const HOSTS: usize = 100;
    let told = Mutex::new(HashSet::new());
    Arc::new(move |event| {
        let EgressEvent::Refused { host, port, reason, .. } = event else { return };
        {
            let mut told = lock(&told);
            if told.len() >= HOSTS || !told.insert((host.clone(), port)) {
                return;
            }
        }
        let run = ledger.task(task).ok().and_then(|record| record.run().map(|run| run.id));
        if let Err(problem) = ledger.append(task, run, vec![Event::EgressRefused { host, port, reason }]) {
            tracing::warn!(%problem, "could not record a refusal");
        }
    })
}

/// Serves the network of a sandbox, be it an environment's or a builder's.
fn serve(
    ledger: Ledger,
    task: TaskId,
    listeners: Vec<offshoot_sandbox::Listener>,
    rules: &[EgressRule],
) -> Result<Egress, offshoot_gateway::ServeError> {
    Egress::serve_with(
        listeners.into_iter().map(gateway_listener).collect(),
        EgressPolicy { rules: rules.to_vec() },
        EgressOptions { sink: refusals(ledger, task), ..EgressOptions::default() },
    )
}

fn gateway_listener(listener: offshoot_sandbox::Listener) -> offshoot_gateway::Listener {
    use offshoot_sandbox::ListenerKind as Inside;
    let kind = match listener.kind {
        Inside::Proxy => offshoot_gateway::ListenerKind::Proxy,
        Inside::Transparent { .. } | Inside::Port { .. } | Inside::Served { .. } => {
            offshoot_gateway::ListenerKind::Transparent
        }
    };
    offshoot_gateway::Listener { kind, socket: std::net::TcpListener::from(listener.fd) }
}

pub(crate) fn layer_problem(error: LayerError) -> Problem {
    match &error {
        LayerError::Command { what, log, .. } => Problem::new(
            ProblemKind::Failed,
            "setup_failed",
            format!("the {what} could not be made: {}", chain(&error)),
        )
        .hint("run the command yourself to see more, or change the setup in offshoot.toml")
        .detail(log.clone()),
        LayerError::Start(start) => start_problem(start),
        LayerError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => disk_full(),
        error => Problem::internal("the files of the commit could not be prepared", error),
    }
}

pub(crate) fn lease_problem(error: LeaseError) -> Problem {
    match &error {
        LeaseError::Start(start) => start_problem(start),
        LeaseError::Worktree(error) => worktrees::place_problem(error),
        LeaseError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => disk_full(),
        error => Problem::internal("the environment could not be made", error),
    }
}

fn disk_full() -> Problem {
    Problem::new(ProblemKind::Unavailable, "disk_full", "the disk is full")
        .hint("free some space, for instance with `offshoot prune`")
}

fn start_problem(error: &offshoot_sandbox::StartError) -> Problem {
    Problem::new(
        ProblemKind::Unavailable,
        "no_isolation",
        format!("this machine did not let the sandbox start: {}", chain(error)),
    )
    .hint("`offshoot doctor` says what is missing and how to mend it")
}

/// Variables as a map.
pub(crate) fn variables(env: Vec<offshoot_core::api::Variable>) -> BTreeMap<String, String> {
    env.into_iter().map(|v| (v.name, v.value)).collect()
}
