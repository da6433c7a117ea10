//! The engine's one shared state, its start and its end, and how a task is found and shown.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use offshoot_agents::{AgentDefinition, Catalog, LocateError, Located};
use offshoot_core::{
    api::{API_VERSION, AgentView, DaemonView, EventList, TaskList, TaskView},
    config::{self, MachineConfig, UserConfig},
    event::{Entry, Limits},
    id::TaskId,
    lifecycle::{EnvironmentState, RunState, TaskState},
    problem::{Problem, ProblemKind},
    record::TaskRecord,
    time::Timestamp,
};
use offshoot_environment::{database::Register, layers::Builders, layout::Layout, machine::Machine, remove};
use offshoot_image::{Images, Owner};
use offshoot_notify::Outbox;
use offshoot_store::{OpenError, Store, TaskFilter};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use crate::{
    admission::{self, Capacity, WaitsFor},
    apps::Apps,
    clock,
    doors::Doors,
    environments::Environments,
    hosts::Hosts,
    ledger::{Ledger, corrupt, store_problem},
    notices::Notices,
    presence::Presence,
    project::{self, Projects},
    secrets::Secrets,
    shared::Instances,
};

/// Tasks shown at the most by one list.
const MAX_LIST: usize = 1000;

/// How the daemon was started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// The `offshoot` binary, for the shims.
    pub exe: PathBuf,
    /// The user's `config.toml`, if there is one.
    pub user_config: PathBuf,
}

/// The engine; a cheap handle.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

/// Place in the queue, and what it waits for if it does not start at once.
type Place = (u32, Option<&'static str>);

/// What waits, in order, and what works.
type Load = (Vec<(TaskId, Limits)>, Vec<Limits>);

pub(crate) struct Inner {
    pub options: Options,
    pub layout: Layout,
    pub machine: Machine,
    pub ledger: Ledger,
    pub projects: Projects,
    pub environments: Environments,
    pub images: Images,
    /// What was begun on shared database servers.
    pub databases: Register,
    /// Held while something there is dropped.
    pub dropping: tokio::sync::Mutex<()>,
    pub catalog: Catalog,
    pub secrets: Secrets,
    pub notices: Notices,
    pub apps: Apps,
    pub doors: Doors,
    pub instances: Instances,
    pub started_at: Timestamp,
    /// Hosts that connections wait for.
    pub hosts: Hosts,
    /// What is on its way to people.
    pub outbox: Outbox,
    /// What people look at.
    pub presence: Presence,
    /// Held while it is decided what becomes of approvals.
    pub deciding: Mutex<()>,
    /// Something may be admitted.
    pub wake: Notify,
    /// Runs that have a driver.
    pub drivers: Mutex<HashMap<TaskId, JoinHandle<()>>>,
    /// What goes on besides, to be ended on close.
    pub background: Mutex<Vec<JoinHandle<()>>>,
}

/// Which task is meant: its id, the beginning of its id, or its name. A name that several projects use means the
/// one of the project that `path` lies in.
#[derive(Clone, Debug, Default)]
pub struct TaskRef {
    /// Id, beginning of an id, or name.
    pub task: String,
    /// The caller's directory.
    pub path: Option<PathBuf>,
}

impl Engine {
    /// Opens the store, takes up what runs, and starts deciding.
    pub async fn open(options: Options) -> Result<Self, Problem> {
        let engine = {
            let options = options.clone();
            tokio::task::spawn_blocking(move || Self::build(options))
                .await
                .map_err(|e| Problem::internal("the start was interrupted", &e))??
        };
        // First: what is brought up in the recovery is found by it.
        engine.open_preview();
        engine.recover().await?;
        let (scheduler, keeper, deadlines) = (engine.clone(), engine.clone(), engine.clone());
        let (dropper, teller) = (engine.clone(), engine.clone());
        let tasks = vec![
            tokio::spawn(async move { scheduler.schedule().await }),
            tokio::spawn(async move { keeper.keep_house().await }),
            tokio::spawn(async move { deadlines.keep_deadlines().await }),
            tokio::spawn(async move { teller.keep_telling().await }),
            tokio::spawn(async move { dropper.keep_dropping().await }),
        ];
        engine.inner.background.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
        Ok(engine)
    }

    fn build(options: Options) -> Result<Self, Problem> {
        offshoot_git::check_version().map_err(|e| {
            Problem::new(ProblemKind::Unavailable, "git_missing", offshoot_core::problem::chain(&e))
                .hint("install git 2.38 or newer")
        })?;
        match offshoot_sandbox::delegate() {
            Ok(delegated) => tracing::info!(delegated, "control groups"),
            Err(error) => {
                tracing::info!(%error, "no control groups; limits are watched where they cannot be held")
            }
        }
        let store = Store::open(&options.state_dir.join("store.db")).map_err(open_problem)?;
        let user = read_user_config(&options.user_config)?;
        let texts: Vec<_> = user.agents.iter().map(|(name, table)| agent_text(name, table)).collect();
        let origin = options.user_config.to_string_lossy().into_owned();
        let catalog =
            Catalog::with(texts.iter().map(|text| (origin.as_str(), text.as_str()))).map_err(|e| {
                Problem::new(ProblemKind::Invalid, "bad_agent_definition", offshoot_core::problem::chain(&e))
                    .hint("see docs/agents.md for what a definition may say")
            })?;
        let layout = Layout::new(&options.state_dir);
        let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/home/dev"));
        let builders = Builders::new(processors(), capacity_of(&user.machine).memory_bytes);
        let machine = Machine::here(options.exe.clone(), home, builders);
        for dir in [layout.environments(), layout.projects(), layout.trash()] {
            std::fs::create_dir_all(&dir)
                .map_err(|e| Problem::internal("could not make the state directory", &e))?;
        }
        let owner = (rustix::process::geteuid().is_root())
            .then_some(Owner { uid: machine.identity.uid, gid: machine.identity.gid });
        let images = Images::open(&layout.images(), owner)
            .map_err(|e| Problem::internal("could not open the images", &e))?;
        Ok(Self {
            inner: Arc::new(Inner {
                ledger: Ledger::new(Arc::new(store)),
                projects: Projects::new(layout.clone(), machine.clone()),
                environments: Environments::default(),
                images,
                databases: Register::new(&layout),
                dropping: tokio::sync::Mutex::default(),
                secrets: Secrets::default(),
                notices: Notices::default(),
                apps: Apps::default(),
                doors: Doors::default(),
                instances: Instances::default(),
                started_at: clock::now(),
                hosts: Hosts::default(),
                outbox: Outbox::default(),
                presence: Presence::default(),
                deciding: Mutex::default(),
                wake: Notify::new(),
                drivers: Mutex::default(),
                background: Mutex::default(),
                options,
                layout,
                machine,
                catalog,
            }),
        })
    }

    /// After a start: every environment is adopted or known to be down, every run that was under way goes on.
    async fn recover(&self) -> Result<(), Problem> {
        let store = self.inner.ledger.store();
        let filter = TaskFilter { project: None, include_done: true };
        let tasks = store.tasks(&filter, usize::MAX).map_err(|e| store_problem(&e))?;
        self.sweep_unknown(&tasks).await;
        self.sweep_ports(&tasks);
        for task in &tasks {
            self.adopt(task).await?;
            self.open_ports_again(task);
        }
        for task in tasks {
            let task = self.inner.ledger.task(task.id)?;
            self.finish_landing(&task).await;
            if let Some(step) = task.restoring {
                let (engine, id) = (self.clone(), task.id);
                tokio::spawn(async move {
                    if let Err(problem) = engine.finish_restore(id, step).await {
                        tracing::warn!(task = %id, %problem, "could not go back to a checkpoint");
                    }
                });
            }
            let left = task.environment.as_ref().is_some_and(|e| e.state != EnvironmentState::Removed);
            if left && matches!(task.state, TaskState::Landed | TaskState::Discarded) {
                self.tidy_up(&task, &format!("the task is {}", task.state.word())).await;
            }
            if task.run().is_some_and(|run| !run.state.is_over() && run.state != RunState::Queued) {
                self.drive(task.id);
            }
        }
        self.answer_by_rules()?;
        self.keep_waiting_hosts()?;
        let (layout, ledger) = (self.inner.layout.clone(), self.inner.ledger.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = ledger.store().backup() {
                tracing::warn!(%error, "could not copy the store");
            }
            if let Err(error) = remove::empty_trash(&layout) {
                tracing::warn!(%error, "could not empty the trash");
            }
        });
        Ok(())
    }

    /// Stops deciding; what runs in sandboxes goes on by itself.
    pub async fn close(&self) {
        let handles: Vec<_> = {
            let mut background = self.inner.background.lock().unwrap_or_else(PoisonError::into_inner);
            let mut drivers = self.inner.drivers.lock().unwrap_or_else(PoisonError::into_inner);
            background.drain(..).chain(drivers.drain().map(|(_, handle)| handle)).collect()
        };
        self.inner.doors.close_all();
        for handle in &handles {
            handle.abort();
        }
        for handle in handles {
            let _ = handle.await;
        }
        // Work that cannot be interrupted may hold the engine for longer than the process waits for it.
        self.inner.ledger.store().close();
    }

    /// Admits what fits whenever something changed.
    async fn schedule(&self) {
        loop {
            if let Err(problem) = self.admit() {
                tracing::error!(%problem, "could not admit");
            }
            self.inner.wake.notified().await;
        }
    }

    fn admit(&self) -> Result<(), Problem> {
        let (queued, working) = self.load()?;
        let limits: Vec<_> = queued.iter().map(|(_, limits)| *limits).collect();
        let (fits, _) = admission::admit(&limits, &working, self.capacity()?);
        for (task, _) in queued.into_iter().take(fits) {
            let record = self.inner.ledger.task(task)?;
            let Some(run) = record.run().filter(|run| run.state == RunState::Queued) else { continue };
            self.inner.ledger.append(task, Some(run.id), vec![offshoot_core::event::Event::RunAdmitted])?;
            self.drive(task);
        }
        Ok(())
    }

    /// What waits, in order, and what works.
    pub(crate) fn load(&self) -> Result<Load, Problem> {
        let store = self.inner.ledger.store();
        let queued = store.queued().map_err(|e| store_problem(&e))?;
        let queued =
            queued.iter().filter_map(|q| Some((q.task, store.task(q.task).ok()??.run()?.limits))).collect();
        let active = [TaskState::Running, TaskState::NeedsAttention, TaskState::Idle];
        let working = store.tasks_in_states(&active).map_err(|e| store_problem(&e))?;
        Ok((queued, working.iter().filter_map(|task| Some(task.run()?.limits)).collect()))
    }

    pub(crate) fn user_config(&self) -> Result<UserConfig, Problem> {
        read_user_config(&self.inner.options.user_config)
    }

    pub(crate) fn capacity(&self) -> Result<Capacity, Problem> {
        Ok(capacity_of(&self.user_config()?.machine))
    }

    /// The task that is meant.
    pub(crate) fn find(&self, task: &TaskRef) -> Result<TaskRecord, Problem> {
        let store = self.inner.ledger.store();
        let none = || {
            Problem::new(ProblemKind::NotFound, "no_such_task", format!("there is no task {:?}", task.task))
                .hint("`offshoot ps --all` lists them")
        };
        if task.task.is_empty() {
            return Err(none());
        }
        let mut found = store.find(&task.task, None).map_err(|e| store_problem(&e))?;
        if found.len() > 1
            && let Some(root) = task.path.as_deref().and_then(|p| project::discover(p).ok())
        {
            let id = self.inner.projects.of(&root, store)?.id;
            if found.iter().any(|record| record.project == id) {
                found.retain(|record| record.project == id);
            }
        }
        // A name that was used again means the one that is not done with.
        if found.iter().any(|r| !matches!(r.state, TaskState::Landed | TaskState::Discarded)) {
            found.retain(|r| !matches!(r.state, TaskState::Landed | TaskState::Discarded));
        }
        found.sort_by_key(|record| std::cmp::Reverse(record.id));
        let done = found.iter().all(|r| matches!(r.state, TaskState::Landed | TaskState::Discarded));
        match found.len() {
            0 => Err(none()),
            1 => Ok(found.remove(0)),
            _ if done && found.iter().all(|r| r.name == found[0].name && r.project == found[0].project) => {
                Ok(found.remove(0))
            }
            _ => {
                let list: Vec<_> =
                    found.iter().map(|r| format!("{} {} in {}", r.id, r.name, r.root)).collect();
                Err(Problem::new(
                    ProblemKind::Conflict,
                    "ambiguous_task",
                    format!("{:?} can mean {} tasks", task.task, found.len()),
                )
                .hint("name one by its id")
                .detail(list.join("\n")))
            }
        }
    }

    /// A task as it is shown, by id.
    pub(crate) async fn view(&self, id: TaskId) -> Result<TaskView, Problem> {
        let record = self.inner.ledger.task(id)?;
        let queue = self.queue_places()?;
        Ok(self.view_of(record, &queue).await)
    }

    fn queue_places(&self) -> Result<HashMap<TaskId, Place>, Problem> {
        let (queued, working) = self.load()?;
        let limits: Vec<_> = queued.iter().map(|(_, limits)| *limits).collect();
        let (_, waits) = admission::admit(&limits, &working, self.capacity()?);
        let reason = waits.map(waiting);
        Ok(queued.into_iter().map(|(task, _)| task).zip((1..).map(|place| (place, reason))).collect())
    }

    async fn view_of(&self, task: TaskRecord, queue: &HashMap<TaskId, Place>) -> TaskView {
        let place = queue.get(&task.id);
        let usage = match &task.environment {
            Some(environment) if environment.state.has_processes() => {
                self.inner.environments.usage(environment.id).await
            }
            _ => None,
        };
        TaskView {
            queue_place: place.map(|(place, _)| *place),
            waits_for: place.and_then(|(_, reason)| reason.map(str::to_owned)),
            memory_bytes: usage.as_ref().map(|u| u.memory_bytes),
            processes: usage.as_ref().map(|u| u32::try_from(u.processes).unwrap_or(u32::MAX)),
            disk_bytes: task.environment.as_ref().and_then(|e| self.inner.environments.disk(e.id)),
            apps: self.app_views(&task),
            ports: self.port_views(&task),
            suggested_prompt: suggested(&task),
            task,
        }
    }

    /// One task, with all that is to be known about where it starts.
    pub async fn task(&self, task: &TaskRef) -> Result<TaskView, Problem> {
        let id = self.find(task)?.id;
        self.looked_around(id).await;
        self.view(id).await
    }

    /// The tasks of the project that `path` lies in, or of all; landed and discarded ones only if asked for.
    pub async fn tasks(&self, path: Option<&Path>, all: bool) -> Result<TaskList, Problem> {
        let store = self.inner.ledger.store();
        // Taken before the list: a stream from here may tell something twice, but never misses anything.
        let seq = store.last_seq();
        let project = match path {
            Some(path) => Some(self.inner.projects.of(&project::discover(path)?, store)?.id),
            None => None,
        };
        // A task over several repositories is in each of them.
        let filter = TaskFilter { project: None, include_done: all };
        let most = if project.is_some() { usize::MAX } else { MAX_LIST };
        let mut records = store.tasks(&filter, most).map_err(|e| store_problem(&e))?;
        if let Some(project) = project {
            let there = |record: &TaskRecord| {
                record.project == project
                    || record.others.iter().any(|other| other.project == project && !other.read_only)
            };
            records.retain(there);
            records.truncate(MAX_LIST);
        }
        let queue = self.queue_places()?;
        let mut tasks = Vec::with_capacity(records.len());
        for record in records {
            tasks.push(self.view_of(record, &queue).await);
        }
        Ok(TaskList { tasks, seq, now: clock::now() })
    }

    /// Entries of the log after `after`.
    pub async fn events(
        &self,
        after: u64,
        task: Option<&TaskRef>,
        limit: usize,
    ) -> Result<EventList, Problem> {
        let task = task.map(|t| self.find(t)).transpose()?.map(|t| t.id);
        let entries = self.inner.ledger.store().entries(after, task, limit).map_err(|e| store_problem(&e))?;
        Ok(EventList { next: entries.last().map_or(after, |entry| entry.seq), entries })
    }

    /// The newest entries of the log before `before`, in order.
    pub async fn events_before(
        &self,
        before: u64,
        task: Option<&TaskRef>,
        limit: usize,
    ) -> Result<EventList, Problem> {
        let task = task.map(|t| self.find(t)).transpose()?.map(|t| t.id);
        let entries =
            self.inner.ledger.store().entries_before(before, task, limit).map_err(|e| store_problem(&e))?;
        Ok(EventList { next: entries.last().map_or(0, |entry| entry.seq), entries })
    }

    /// Entries of the log after `after`, then those to come.
    pub async fn follow_events(
        &self,
        after: u64,
        task: Option<&TaskRef>,
    ) -> Result<mpsc::Receiver<Entry>, Problem> {
        let task = task.map(|t| self.find(t)).transpose()?.map(|t| t.id);
        Ok(self.inner.ledger.follow(after, task))
    }

    /// The agents that are known, and where they are installed.
    pub async fn agents(&self, search_path: Option<&str>) -> Result<Vec<AgentView>, Problem> {
        let path = search_path.map(str::to_owned).or_else(|| std::env::var("PATH").ok()).unwrap_or_default();
        let catalog = &self.inner.catalog;
        Ok(catalog
            .iter()
            .map(|definition| AgentView {
                name: definition.name.clone(),
                title: definition.title.clone(),
                protocol: definition.protocol.word().to_owned(),
                program: self
                    .located(definition, &path)
                    .ok()
                    .map(|located| located.program.to_string_lossy().into_owned()),
                install: definition.install.clone(),
                auth_env: definition.auth_env.clone(),
                asks: definition.can_ask(),
            })
            .collect())
    }

    /// Where an agent is installed, and what it needs to run.
    pub(crate) fn located(&self, definition: &AgentDefinition, path: &str) -> Result<Located, LocateError> {
        offshoot_agents::locate(definition.program(), path.as_ref(), &self.inner.machine.home)
    }

    /// The daemon itself.
    pub async fn daemon(&self) -> DaemonView {
        let capacity = self.capacity().unwrap_or(Capacity { max_runs: 0, memory_bytes: 0 });
        let (queued, working) = self.load().unwrap_or_default();
        let limits = self
            .user_config()
            .map(|user| config::limits(&config::LimitsConfig::default(), &user.limits))
            .unwrap_or(config::DEFAULT_LIMITS);
        DaemonView {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api_version: API_VERSION,
            state_dir: self.inner.options.state_dir.to_string_lossy().into_owned(),
            started_at: self.inner.started_at,
            active_runs: u32::try_from(working.len()).unwrap_or(u32::MAX),
            queued_runs: u32::try_from(queued.len()).unwrap_or(u32::MAX),
            room_for: admission::room_for(&limits, &working, capacity),
            max_runs: capacity.max_runs,
            memory_bytes: capacity.memory_bytes,
            tcp: None,
            preview: self.inner.doors.preview_port().map(|port| format!("localhost:{port}")),
            default_limits: limits,
        }
    }
}

/// What the first in the queue waits for, in words.
pub(crate) fn waiting(waits: WaitsFor) -> &'static str {
    match waits {
        WaitsFor::Memory => "memory: another run has to end first",
        WaitsFor::Runs => "a place: as many runs work as may at a time",
    }
}

/// What could be asked next of an agent that stopped at a denial.
fn suggested(task: &TaskRecord) -> Option<String> {
    let over = task.state.is_settled() && !matches!(task.state, TaskState::Landed | TaskState::Discarded);
    task.run().filter(|_| over && task.agent.is_some())?.denied.clone()
}

/// A user's agent as the text of a definition file.
fn agent_text(name: &str, table: &toml::Table) -> String {
    let mut table = table.clone();
    table.insert("name".to_owned(), name.into());
    table.to_string()
}

fn read_user_config(path: &Path) -> Result<UserConfig, Problem> {
    match std::fs::read_to_string(path) {
        Ok(text) => UserConfig::parse(&text).map_err(|error| project::config_problem(path, &text, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(UserConfig::default()),
        Err(error) => Err(Problem::new(
            ProblemKind::Unavailable,
            "config_unreadable",
            format!("could not read {}: {error}", path.display()),
        )),
    }
}

fn open_problem(error: OpenError) -> Problem {
    match error {
        OpenError::Corrupt { path, backup, detail } => corrupt(&path, backup.as_deref(), &detail),
        OpenError::Newer { .. } => {
            Problem::new(ProblemKind::Incompatible, "store_newer", error.to_string()).hint("update offshoot")
        }
        OpenError::Locked { .. } => Problem::new(ProblemKind::Conflict, "store_in_use", error.to_string())
            .hint("`offshoot daemon status` tells which daemon runs"),
        OpenError::DiskFull { .. } => Problem::new(ProblemKind::Unavailable, "disk_full", error.to_string()),
        error => {
            Problem::new(ProblemKind::Unavailable, "store_unusable", offshoot_core::problem::chain(&error))
        }
    }
}

/// What this machine gives to runs, by the user's word.
fn capacity_of(machine: &MachineConfig) -> Capacity {
    let default = Capacity::of_machine(processors(), total_memory());
    Capacity {
        max_runs: machine.max_runs.unwrap_or(default.max_runs),
        memory_bytes: machine.memory.map_or(default.memory_bytes, |m| m.0),
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn total_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<u64>().ok());
    kib.map_or(4 << 30, |kib| kib << 10)
}
