//! The environments that exist: their sandboxes' connections, their proxies, when something last happened in them.
//!
//! `ready` is the only way to a sandbox: it makes, adopts, thaws or brings up again whatever is needed first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use offshoot_core::{
    event::Event,
    id::{EnvironmentId, TaskId},
    isolation::Isolation,
    lifecycle::{EnvironmentState, TaskState},
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_environment::{
    layers::LayerError,
    lease::{self, Lease, LeaseError},
    sandbox::Sandbox,
    service::supervise::Supervisor,
};
use offshoot_gateway::{Egress, Forward};
use offshoot_sandbox::{ConnectionError, Event as SandboxEvent, Stats};
use tokio::sync::broadcast::error::RecvError;

use crate::{databases::Parts, engine::Engine, proxy, worktrees};

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
    /// Of a worktree, the sandbox with its services.
    pub beside: Option<Sandbox>,
    /// Its proxy; served for as long as this is held.
    #[expect(dead_code, reason = "dropping it ends the proxy")]
    pub egress: Arc<Egress>,
    /// Its services; looked after for as long as this is held.
    pub services: Arc<Supervisor>,
    /// The ways to its parts of shared servers; open for as long as this is held.
    pub parts: Arc<Parts>,
    /// The ways to apps that it shares; open for as long as this is held.
    #[expect(dead_code, reason = "dropping it closes them")]
    pub shared: Arc<Vec<Forward>>,
    /// The ways from ports of `localhost` inside to services; open for as long as this is held.
    #[expect(dead_code, reason = "dropping it closes them")]
    pub led: Arc<Vec<Forward>>,
}

impl Live {
    /// Stops all its processes where they are.
    pub async fn freeze(&self) -> Result<(), ConnectionError> {
        if let Some(beside) = &self.beside {
            beside.freeze().await?;
        }
        self.sandbox.freeze().await
    }

    /// Lets them go on.
    pub async fn thaw(&self) -> Result<(), ConnectionError> {
        if let Some(beside) = &self.beside {
            beside.thaw().await?;
        }
        self.sandbox.thaw().await
    }

    /// Asks a worktree's services to end, before their sandbox is taken away.
    pub async fn end_beside(&self) {
        if let Some(beside) = &self.beside
            && let Err(error) = beside.down().await
        {
            tracing::warn!(environment = %self.lease.terms().environment, %error, "services did not go down when asked");
        }
    }

    /// The sandbox in which something listens at an address.
    pub fn sandbox_at(&self, address: std::net::IpAddr) -> &Sandbox {
        let serves = self.lease.terms().services.iter().any(|plan| plan.address == address);
        self.beside.as_ref().filter(|_| serves).unwrap_or(&self.sandbox)
    }
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
            None if matches!(record.state, TaskState::Landed | TaskState::Discarded) => {
                let gone = format!("{} is {} and has no environment", record.name, record.state.word());
                return Err(Problem::new(ProblemKind::Conflict, "environment_gone", gone));
            }
            None => self.make(&record).await?,
            Some(environment) => environment.id,
        };
        self.inner.environments.touch(id);
        let state = environment.map_or(EnvironmentState::Creating, |e| e.state);
        if let Some(live) = self.inner.environments.live(id).filter(|live| live.lease.is_gone()) {
            let reason = "its directory was deleted by hand; it is made again from its branch".to_owned();
            live.end_beside().await;
            live.lease.down(Some(&live.sandbox)).await.map_err(lease_problem)?;
            self.lost(task, id, &reason);
        }
        if let Some(live) = self.inner.environments.live(id) {
            self.files_there(&record, &live).await?;
            if state == EnvironmentState::Suspended {
                live.thaw().await.map_err(|e| Problem::internal("could not resume the environment", &e))?;
                self.inner.ledger.append(task, run, vec![Event::EnvironmentResumed { environment: id }])?;
            }
            return Ok(live);
        }
        self.bring_up(&record, id).await
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
        let (shared, listeners) = self.lead_to_shared(task, lease.terms(), listeners)?;
        let (led, listeners) = crate::services::lead_to_services(&sandbox, lease.terms(), listeners)?;
        let (parts, listeners) = self.lead_to_parts(task, &lease, listeners)?;
        let asked = self.asks(task, lease.terms().environment);
        let egress =
            proxy::serve(self.inner.ledger.clone(), task, listeners, &lease.terms().egress, Some(asked))
                .map_err(|e| Problem::internal("could not serve the environment's network", &e))?;
        let id = lease.terms().environment;
        let mut events = sandbox.events();
        let beside = self.beside(&lease).await?;
        let services = self.supervise(task, &lease, beside.as_ref().unwrap_or(&sandbox));
        let live = Live {
            lease,
            sandbox,
            beside,
            egress: Arc::new(egress),
            services,
            parts,
            shared: Arc::new(shared),
            led: Arc::new(led),
        };
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
                        if let Err(problem) = self.take_up(task.id, lease, connection).await {
                            let reason = format!("it could not be taken up: {}", problem.message);
                            let event = Event::EnvironmentLost { environment: environment.id, reason };
                            return self.inner.ledger.append(task.id, run, vec![event]);
                        }
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
        // It may have been made meanwhile.
        let now = self.inner.ledger.task(record.id)?;
        let Some(environment) = now.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed)
        else {
            return Ok(());
        };
        self.removable(&now)?;
        let event = Event::EnvironmentRemoved { environment: environment.id, reason: reason.to_owned() };
        self.inner.ledger.append(record.id, record.run().map(|r| r.id), vec![event])?;
        let live = self.inner.environments.forget(environment.id);
        self.inner.doors.close(environment.id);
        self.inner.apps.forget(environment.id);
        if let Some(live) = &live {
            live.end_beside().await;
        }
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
