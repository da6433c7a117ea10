//! Apps: the long-lived commands of a project (`[apps.NAME]` in its offshoot.toml), started in a task's environment for a
//! person to look at its work.
//!
//! Invariants: of each app one process at a time in an environment; a start is recorded before it happens; an app that
//! ran when its environment lost its processes is started again with it. What an app says is its process's journal
//! (`app-NAME-N`), of which the latest part is kept however much it says.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use offshoot_core::{
    api::{AppChange, AppList, AppLog, AppView},
    event::Event,
    id::{EnvironmentId, TaskId},
    lifecycle::{AppState, EnvironmentState},
    problem::{Problem, ProblemKind, chain},
    record::{AppRecord, TaskRecord},
};
use offshoot_environment::{
    lease::Lease,
    tail::{self, Marks},
    worktree::Runtime,
};
use offshoot_gateway::PreviewName;
use offshoot_sandbox::{Event as SandboxEvent, ExecRequest, Exit, Stdio};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    declared::{self, App},
    engine::{Engine, TaskRef},
    environments::Live,
};

/// What an app has to end by itself after SIGTERM, and then to be gone.
const GRACE: Duration = Duration::from_secs(5);
/// What is remembered of apps besides the log.
#[derive(Default)]
pub struct Apps {
    /// One at a time per task may start or stop apps.
    gates: Mutex<HashMap<TaskId, Arc<tokio::sync::Mutex<()>>>>,
    /// Processes that somebody asked to end.
    asked: Mutex<HashSet<(EnvironmentId, String)>>,
    /// Where the ends of their journals are.
    marks: Mutex<HashMap<(EnvironmentId, String), Marks>>,
}

impl Apps {
    fn gate(&self, task: TaskId) -> Arc<tokio::sync::Mutex<()>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default().clone()
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, HashSet<(EnvironmentId, String)>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a record of a journal ends there.
    fn mark(&self, environment: EnvironmentId, exec: &str, at: u64) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.entry((environment, exec.to_owned())).or_default().note(at);
    }

    /// Where to begin reading for the end of a journal.
    fn near_end(&self, environment: EnvironmentId, exec: &str) -> u64 {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(&(environment, exec.to_owned())).map_or(0, Marks::near_end)
    }

    /// Forgets an environment that is gone.
    pub fn forget(&self, environment: EnvironmentId) {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).retain(|(id, _), _| *id != environment);
        self.asked().retain(|(id, _)| *id != environment);
    }
}

impl Engine {
    /// The apps of a task: those of the project's configuration, and those that were ever started.
    pub async fn apps(&self, task: &TaskRef) -> Result<AppList, Problem> {
        Ok(AppList { apps: self.app_views(&self.find(task)?) })
    }

    /// Starts, stops or restarts an app. Starting wakes the environment, or brings it up again.
    pub async fn change_app(&self, task: &TaskRef, app: &str, change: AppChange) -> Result<AppView, Problem> {
        let record = self.find(task)?;
        let gate = self.inner.apps.gate(record.id);
        let _gate = gate.lock().await;
        if matches!(change, AppChange::Stop | AppChange::Restart) {
            self.stop_app(record.id, app).await?;
        }
        if matches!(change, AppChange::Start | AppChange::Restart) {
            let config = app_of(&record, app)?;
            let Some(environment) = present(&record) else { return Err(gone(&record)) };
            let live = self.ready_as(record.id, Some(environment)).await?;
            let _ = self.services_ready(&live).await;
            self.start_app(record.id, &live, app, &config).await?;
        }
        let record = self.inner.ledger.task(record.id)?;
        self.app_views(&record).into_iter().find(|view| view.name == app).ok_or_else(|| unknown(&record, app))
    }

    /// The end of what an app said last. Wakes nothing.
    pub async fn app_log(&self, task: &TaskRef, app: &str) -> Result<AppLog, Problem> {
        let record = self.find(task)?;
        let environment = record.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed);
        let known = environment.and_then(|e| Some((e.id, e.apps.iter().find(|known| known.name == app)?)));
        let Some((id, known)) = known else {
            app_of(&record, app)?;
            return Err(Problem::new(
                ProblemKind::NotFound,
                "no_output",
                format!("{app} was not started in {}", record.name),
            )
            .hint(format!("start it with `offshoot app start {} {app}`", record.name)));
        };
        let lease = Lease::open(&self.inner.layout, id)
            .map_err(|e| Problem::internal("the environment is not whole", &e))?;
        let (path, exec) = (lease.journal(&known.exec), known.exec.clone());
        let from = self.inner.apps.near_end(id, &exec);
        read_log(exec, path, from).await
    }

    /// Apps as they are shown; by name.
    pub(crate) fn app_views(&self, record: &TaskRecord) -> Vec<AppView> {
        let environment = record.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed);
        let Some(environment) = environment else { return Vec::new() };
        // A configuration that cannot be read is told of where it is needed.
        let described = declared::apps(record).unwrap_or_default();
        let ports =
            self.lease_of(environment.id).map(|lease| lease.terms().ports.clone()).unwrap_or_default();
        let known = |name: &str| environment.apps.iter().find(|known| known.name == name);
        let mut views = BTreeMap::new();
        let names = described.keys().chain(environment.apps.iter().map(|k| &k.name)).map(String::as_str);
        for name in names {
            let known: Option<&AppRecord> = known(name);
            let running = known.filter(|known| known.state != AppState::Ended).and_then(|known| known.port);
            let port = running.or_else(|| described.get(name)?.config.port);
            let named = PreviewName { app: name.to_owned(), task: self.label(record) };
            let leads = ports.iter().find(|leads| leads.name == name && Some(leads.port) == port);
            views.insert(
                name.to_owned(),
                AppView {
                    name: name.to_owned(),
                    state: known.map_or(AppState::Ended, |known| known.state),
                    since: known.map(|known| known.since),
                    port,
                    url: port.and_then(|_| Some(named.url(self.inner.doors.preview_port()?))),
                    address: leads.map(|leads| format!("127.0.0.1:{}", leads.host)),
                    exec: known.map(|known| known.exec.clone()),
                    reason: known.and_then(|known| known.reason.clone()),
                },
            );
        }
        views.into_values().collect()
    }

    /// What a task is called in host names: its name, or its id if another project has one of that name.
    pub(crate) fn label(&self, record: &TaskRecord) -> String {
        let by_name = TaskRef { task: record.name.to_string(), path: None };
        match self.find(&by_name) {
            Ok(found) if found.id == record.id => record.name.to_string(),
            _ => record.id.to_string(),
        }
    }

    /// Takes up the apps of an environment that has processes again: those that run are watched, those that did are
    /// started again, and in a new one those that start with it.
    pub(crate) fn keep_apps(&self, task: TaskId, live: &Live) {
        let (engine, live) = (self.clone(), live.clone());
        tokio::spawn(async move {
            let gate = engine.inner.apps.gate(task);
            let _gate = gate.lock().await;
            if let Err(problem) = engine.take_up_apps(task, &live).await {
                tracing::warn!(%problem, "could not take up the apps of an environment");
            }
        });
    }

    async fn take_up_apps(&self, task: TaskId, live: &Live) -> Result<(), Problem> {
        let record = self.inner.ledger.task(task)?;
        let Some(environment) =
            record.environment.as_ref().filter(|e| e.id == live.lease.terms().environment)
        else {
            return Ok(());
        };
        // Taken before the question, so no end is missed.
        let events: HashMap<_, _> =
            environment.apps.iter().map(|known| (known.exec.clone(), live.sandbox.events())).collect();
        let execs = live.sandbox.execs().await.unwrap_or_default();
        let mut wanted = Vec::new();
        for known in &environment.apps {
            match (known.state, execs.iter().find(|exec| exec.id == known.exec)) {
                (AppState::Ended, _) => {}
                (_, Some(exec)) => match (exec.exit, events.get(&known.exec)) {
                    (None, Some(events)) => self.watch_app(task, live, known, events.resubscribe()),
                    (exit, _) => self.app_ended(task, live, &known.name, &known.exec, exit),
                },
                (_, None) => wanted.push(known.name.clone()),
            }
        }
        let described = declared::apps(&record)?;
        let new = described
            .iter()
            .filter(|(name, app)| app.start && !environment.apps.iter().any(|known| known.name == **name));
        wanted.extend(new.map(|(name, _)| name.clone()));
        if wanted.is_empty() {
            return Ok(());
        }
        // They may need them; one that failed keeps no app from saying so itself.
        let _ = self.services_ready(live).await;
        for name in wanted {
            let Some(app) = described.get(&name) else { continue };
            // One that does not start is recorded as that, and the others are started.
            if let Err(problem) = self.start_app_anew(task, live, &name, app).await {
                tracing::info!(%problem, app = name, "an app was not started");
            }
        }
        Ok(())
    }

    /// Starts an app unless it runs. The gate is held.
    async fn start_app(&self, task: TaskId, live: &Live, name: &str, app: &App) -> Result<(), Problem> {
        let record = self.inner.ledger.task(task)?;
        let known = record.environment.as_ref().and_then(|e| e.apps.iter().find(|known| known.name == name));
        if known.is_some_and(|known| known.state == AppState::Running) {
            return Ok(());
        }
        self.start_app_anew(task, live, name, app).await
    }

    async fn start_app_anew(&self, task: TaskId, live: &Live, name: &str, app: &App) -> Result<(), Problem> {
        let terms = live.lease.terms();
        let other = terms.others.iter().find(|other| other.name == app.repository);
        let app = &app.config;
        let exec = format!("app-{name}-{}", next_number(live, name));
        let run = self.inner.ledger.task(task)?.run().map(|run| run.id);
        // Without a boundary a port is everybody's, so an app has one of the environment's own.
        let port = match terms.runtime {
            Runtime::Sandbox => app.port,
            Runtime::Worktree(_) => {
                terms.ports.iter().find(|leads| leads.name == name).map(|leads| leads.port)
            }
        };
        let started = Event::AppStarted {
            environment: terms.environment,
            app: name.to_owned(),
            exec: exec.clone(),
            port,
        };
        self.inner.ledger.append(task, run, vec![started])?;
        let mut env = other.map(|other| other.env.clone()).unwrap_or_default();
        env.extend(app.env.clone());
        if let Some(port) = port {
            env.entry("PORT".to_owned()).or_insert_with(|| port.to_string());
        }
        let workspace = other.map_or(&terms.workspace, |other| &other.workspace);
        let cwd = match &app.cwd {
            Some(cwd) => Some(workspace.join(cwd.as_str())),
            None => other.map(|_| workspace.clone()),
        };
        let cwd = cwd.map(|cwd| cwd.to_string_lossy().into_owned());
        let request = ExecRequest {
            id: exec.clone(),
            argv: ["/bin/sh", "-c", &app.command].map(str::to_owned).to_vec(),
            env,
            cwd,
            stdio: Stdio::Journal,
            ..ExecRequest::default()
        };
        let events = live.sandbox.events();
        if let Err(error) = live.sandbox.exec(request).await {
            let reason = format!("it could not be started: {}", chain(&error));
            let ended = Event::AppEnded {
                environment: terms.environment,
                app: name.to_owned(),
                exec,
                reason: reason.clone(),
                asked: false,
            };
            self.inner.ledger.append(task, run, vec![ended])?;
            return Err(Problem::new(ProblemKind::Failed, "app_not_started", format!("{name}: {reason}"))
                .hint("check its command and cwd in offshoot.toml"));
        }
        offshoot_core::fault::point("app.started");
        let known = AppRecord {
            name: name.to_owned(),
            state: AppState::Running,
            since: crate::clock::now(),
            exec,
            port,
            reason: None,
        };
        self.watch_app(task, live, &known, events);
        Ok(())
    }

    /// Starts an app that ended by itself, for those who rely on it.
    fn start_again(&self, task: TaskId, environment: EnvironmentId, name: String) {
        let engine = self.clone();
        tokio::spawn(async move {
            let gate = engine.inner.apps.gate(task);
            let _gate = gate.lock().await;
            let again = async {
                let app = app_of(&engine.inner.ledger.task(task)?, &name)?;
                let live = engine.ready_as(task, Some(environment)).await?;
                engine.start_app(task, &live, &name, &app).await
            };
            if let Err(problem) = again.await {
                tracing::info!(%problem, app = name, "an app was not started again");
            }
        });
    }

    /// Ends an app if it runs, and waits for that. The gate is held.
    async fn stop_app(&self, task: TaskId, name: &str) -> Result<(), Problem> {
        let record = self.inner.ledger.task(task)?;
        let known =
            record.environment.as_ref().and_then(|e| Some((e.id, e.apps.iter().find(|k| k.name == name)?)));
        let Some((environment, known)) = known else {
            return app_of(&record, name).map(|_| ());
        };
        match known.state {
            AppState::Ended => return Ok(()),
            AppState::Interrupted => {
                let ended = Event::AppEnded {
                    environment,
                    app: name.to_owned(),
                    exec: known.exec.clone(),
                    reason: "it was stopped".to_owned(),
                    asked: true,
                };
                return self.inner.ledger.append(task, record.run().map(|run| run.id), vec![ended]);
            }
            AppState::Running => {}
        }
        let live = self.ready_as(task, Some(environment)).await?;
        self.inner.apps.asked().insert((environment, known.exec.clone()));
        let mut newest = self.inner.ledger.watch();
        let ended = async {
            loop {
                newest.borrow_and_update();
                let now = self.inner.ledger.task(task)?;
                let apps = now.environment.iter().flat_map(|e| &e.apps);
                let runs = apps.into_iter().any(|a| a.exec == known.exec && a.state == AppState::Running);
                if !runs || newest.changed().await.is_err() {
                    return Ok::<_, Problem>(());
                }
            }
        };
        tokio::pin!(ended);
        for signal in [15, 9] {
            let _ = live.sandbox.signal(&known.exec, signal).await;
            if let Ok(ended) = tokio::time::timeout(GRACE, &mut ended).await {
                return ended;
            }
        }
        Err(Problem::new(
            ProblemKind::Failed,
            "app_not_stopped",
            format!("{name} did not end when it was killed"),
        ))
    }

    /// Sees to it that an app never waits for a reader, and that its end is recorded.
    fn watch_app(&self, task: TaskId, live: &Live, known: &AppRecord, mut events: Receiver<SandboxEvent>) {
        let (engine, live, name, exec) = (self.clone(), live.clone(), known.name.clone(), known.exec.clone());
        let environment = live.lease.terms().environment;
        tokio::spawn(async move {
            let exit = loop {
                match events.recv().await {
                    Ok(SandboxEvent::Output { exec: spoke, end_offset }) if spoke == exec => {
                        engine.inner.apps.mark(environment, &exec, end_offset);
                        let _ = live.sandbox.ack(&exec, end_offset).await;
                    }
                    Ok(SandboxEvent::Exited { exec: ended, exit }) if ended == exec => break Some(exit),
                    Ok(SandboxEvent::InitGone) | Err(RecvError::Closed) => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => {
                        let execs = live.sandbox.execs().await.unwrap_or_default();
                        let Some(state) = execs.iter().find(|state| state.id == exec) else { break None };
                        let _ = live.sandbox.ack(&exec, state.journal_end).await;
                        if state.exit.is_some() {
                            break state.exit;
                        }
                    }
                }
            };
            engine.app_ended(task, &live, &name, &exec, exit);
        });
    }

    fn app_ended(&self, task: TaskId, live: &Live, name: &str, exec: &str, exit: Option<Exit>) {
        let environment = live.lease.terms().environment;
        let asked = self.inner.apps.asked().remove(&(environment, exec.to_owned()));
        let reason = match exit {
            _ if asked => "it was stopped".to_owned(),
            Some(Exit::Code(code)) => format!("it ended with code {code}"),
            Some(Exit::Signal(signal)) => format!("signal {signal} ended it"),
            None => "it ended, nobody knows how".to_owned(),
        };
        let ended =
            Event::AppEnded { environment, app: name.to_owned(), exec: exec.to_owned(), reason, asked };
        let run = self.inner.ledger.task(task).ok().and_then(|record| record.run().map(|run| run.id));
        if let Err(problem) = self.inner.ledger.append(task, run, vec![ended]) {
            tracing::warn!(%problem, "could not record the end of an app");
        }
        if !asked && self.may_restart(task, name) {
            self.start_again(task, environment, name.to_owned());
        }
    }
}

/// The environment that a task has.
pub(crate) fn present(record: &TaskRecord) -> Option<EnvironmentId> {
    record.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed).map(|e| e.id)
}

pub(crate) fn gone(record: &TaskRecord) -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "environment_gone",
        format!("{} is {} and has no environment", record.name, record.state.word()),
    )
    .hint(format!("`offshoot show {}` tells more", record.name))
}

fn unknown(record: &TaskRecord, app: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, "no_such_app", format!("{} has no app {app:?}", record.name))
        .hint(format!("`offshoot app ls {}` lists them; [apps.NAME] in offshoot.toml adds one", record.name))
}

/// An app as its repository describes it.
fn app_of(record: &TaskRecord, app: &str) -> Result<App, Problem> {
    declared::apps(record)?.remove(app).ok_or_else(|| unknown(record, app))
}

/// A number that no process of the app had: journals outlive sandboxes, and their names are not used again.
fn next_number(live: &Live, name: &str) -> u32 {
    let prefix = format!("app-{name}-");
    let journals = live.lease.journal("x");
    let entries =
        journals.parent().and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let used = entries.filter_map(|e| e.file_name().to_str()?.strip_prefix(&prefix)?.parse::<u32>().ok());
    used.max().unwrap_or_default() + 1
}

/// The end of what a process said.
pub(crate) async fn read_log(exec: String, journal: PathBuf, from: u64) -> Result<AppLog, Problem> {
    let said = tokio::task::spawn_blocking(move || tail::said(&journal, from))
        .await
        .map_err(|e| Problem::internal("reading was interrupted", &e))?;
    Ok(AppLog { exec, text: said.text, truncated: said.truncated, next: said.next })
}
