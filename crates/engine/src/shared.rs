//! Apps that tasks share: of a repository that a task is not about, the apps with `shared = true` run once for all tasks, in
//! an environment of the repository's own, and are found in each task's under their names.
//!
//! Such an instance is a task by hand that the engine starts, keeps and takes away: one lease, one teardown, as with all. It
//! is begun when the first environment that may reach it comes up, and gone when none has for as long as environments are
//! left alone. It stays at its commit for as long as any does. A task reaches the ports of the apps and nothing else of it: its listeners lead there, one way. That
//! takes the user's word (`[repositories] serve`), as a repository alone cannot have another shown.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use offshoot_core::{
    agent::PermissionPolicy,
    api::{PruneView, Reasoned},
    config::{self, ProjectConfig, RepoConfig},
    event::{Event, RunQueued, TaskCreated},
    fault,
    id::{EnvironmentId, ProjectId, RunId, TaskId},
    isolation::Isolation,
    lifecycle::{AppState, EnvironmentState, RunEnd, TaskState},
    name::TaskName,
    problem::{Problem, ProblemKind},
    record::TaskRecord,
};
use offshoot_environment::{lease::Terms, shared::Shared};
use offshoot_gateway::{Dial, Forward, ForwardLimits, Later, Reason, Unavailable};
use offshoot_sandbox::{Listener, ListenerKind};
use tokio::net::TcpStream;

use crate::{
    clock, declared,
    dispatch::{base, exported},
    doors::{closing, dial},
    engine::{Engine, Inner},
    environments::Live,
    others::own_name,
    project::{self, CONFIG_FILE},
};

/// How long a connection waits for an instance: its dependencies may have to be installed first.
const BEGIN: Duration = Duration::from_secs(600);
/// How long one waits for an app that was started to listen.
const LISTEN: Duration = Duration::from_secs(60);
/// Pause before it is tried again: nothing tells of a port that begins to listen.
const PAUSE: Duration = Duration::from_millis(50);
/// An instance that failed is made anew after this, if it is asked for: the machine may have been full.
const AGAIN: Duration = Duration::from_secs(30);
/// How long it takes to start one again.
const RESTART: Duration = Duration::from_secs(5);
/// An app that ends is started again, so often within so long.
const RESTARTS: (usize, Duration) = (5, Duration::from_secs(300));
/// Names tried for an instance.
const NAMES: u32 = 100;

/// What is remembered of instances besides the log.
#[derive(Default)]
pub struct Instances {
    /// Held by whoever looks for one and begins one if there is none.
    gate: tokio::sync::Mutex<()>,
    /// Since when nobody needs them.
    unneeded: Mutex<HashMap<TaskId, Instant>>,
    /// When their apps were started again.
    restarts: Mutex<HashMap<(TaskId, String), Vec<Instant>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which instance is meant: the project, and the branch that was asked for, empty for the one that is checked out.
type Which = (ProjectId, String);

fn which(shared: &Shared) -> Which {
    (shared.project, shared.branch.clone().unwrap_or_default())
}

fn which_is(record: &TaskRecord) -> Option<Which> {
    Some((record.project, record.shared.clone()?))
}

impl Engine {
    /// The apps that a new environment shares with others.
    pub(crate) fn shared_of(
        &self,
        record: &TaskRecord,
        config: &ProjectConfig,
        taken: &declared::Taken,
    ) -> Result<Vec<Shared>, Problem> {
        let about: Vec<_> = record.others.iter().filter(|o| !o.read_only).map(|o| o.name.as_str()).collect();
        Ok(self.shared_beside(Path::new(&record.root), config, &about, taken)?.0)
    }

    /// The same for a task that is about these repositories, and what a person should know of apps that are not there.
    pub(crate) fn shared_beside(
        &self,
        root: &Path,
        config: &ProjectConfig,
        about: &[&str],
        taken: &declared::Taken,
    ) -> Result<(Vec<Shared>, Vec<String>), Problem> {
        let (mut shared, mut notices) = (Vec::new(), Vec::new());
        let mut taken = taken.clone();
        for repo in config.repos.iter().filter(|repo| !about.contains(&repo.name.as_str())) {
            let found = match self.apps_of(root, repo) {
                Ok(found) if found.is_empty() => continue,
                Ok(found) => found,
                Err(problem) => {
                    notices.push(format!("{} is not served: {}", repo.name.as_str(), problem.message));
                    continue;
                }
            };
            if !self.user_config()?.repositories.serve {
                let names: Vec<_> = found.iter().map(|one| one.app.as_str()).collect();
                notices.push(format!(
                    "{} of {} is not there: that a task reaches another repository's app takes your word, \
                     `[repositories] serve = true` in your config.toml",
                    names.join(", "),
                    repo.name.as_str()
                ));
                continue;
            }
            for one in found {
                let file = one.root.join(CONFIG_FILE);
                if let Some(other) = taken.insert(one.app.clone(), file.clone()) {
                    return Err(declared::collision(&one.app, &other, &file));
                }
                let at = u8::try_from(shared.len()).ok().filter(|at| *at < Shared::MOST);
                let at = at.ok_or_else(|| {
                    let text = format!("more than {} shared apps", Shared::MOST);
                    Problem::new(ProblemKind::Invalid, "too_many_apps", text)
                })?;
                shared.push(Shared { address: Shared::address(at, one.port), ..one });
            }
        }
        Ok((shared, notices))
    }

    /// The shared apps of a repository, without their addresses.
    fn apps_of(&self, root: &Path, repo: &RepoConfig) -> Result<Vec<Shared>, Problem> {
        let path = root.join(&repo.path);
        let path = std::fs::canonicalize(&path).map_err(|e| {
            let text = format!("{}: {e}", path.display());
            Problem::new(ProblemKind::NotFound, "repository_missing", text)
        })?;
        let config = project::config(&path)?;
        let apps: Vec<_> = config.apps.iter().filter(|(_, app)| app.shared).collect();
        if apps.is_empty() {
            return Ok(Vec::new());
        }
        let repository = project::discover(&path)?;
        let project = self.inner.projects.of(&repository, self.inner.ledger.store())?.id;
        let shared = |(name, port): (&offshoot_core::name::Label, u16)| Shared {
            repository: repo.name.to_string(),
            app: name.to_string(),
            project,
            root: repository.root().to_owned(),
            branch: repo.branch.clone(),
            address: Ipv4Addr::UNSPECIFIED,
            port,
        };
        Ok(apps.into_iter().filter_map(|(name, app)| Some((name, app.port?))).map(shared).collect())
    }

    /// Opens the ways from an environment to the apps that it shares, and sees to it that those come up; hands the other
    /// listeners back.
    pub(crate) fn lead_to_shared(
        &self,
        task: TaskId,
        terms: &Terms,
        listeners: Vec<Listener>,
    ) -> Result<(Vec<Forward>, Vec<Listener>), Problem> {
        let (mut ways, mut others) = (Vec::new(), Vec::new());
        for listener in listeners {
            let leads = terms.shared.iter().find(|shared| {
                listener.kind == ListenerKind::Served { address: shared.address, port: shared.port }
            });
            let Some(shared) = leads else {
                others.push(listener);
                continue;
            };
            let way = Arc::new(Way { engine: Arc::downgrade(&self.inner), task, shared: shared.clone() });
            let limits = ForwardLimits { dial: BEGIN, ..ForwardLimits::default() };
            let way = Forward::serve(std::net::TcpListener::from(listener.fd), way, limits);
            ways.push(way.map_err(|e| Problem::internal("could not lead to a shared app", &e))?);
        }
        let mut instances = BTreeSet::new();
        for shared in terms.shared.iter().filter(|shared| instances.insert(which(shared))) {
            let (engine, shared) = (self.clone(), shared.clone());
            tokio::spawn(async move {
                if let Err(problem) = engine.instance(&shared, task, true).await {
                    engine.not_served(task, &shared, &problem);
                }
            });
        }
        Ok((ways, others))
    }

    fn not_served(&self, task: TaskId, shared: &Shared, problem: &Problem) {
        let notice = format!("{} of {} is not there: {}", shared.app, shared.repository, problem.message);
        let known = self.inner.ledger.task(task);
        let Some(record) = known.ok().filter(|record| !record.notices.contains(&notice)) else { return };
        let run = record.run().map(|run| run.id);
        if let Err(problem) =
            self.inner.ledger.append(task, run, vec![Event::Noticed { notices: vec![notice] }])
        {
            tracing::warn!(%problem, "could not record that a shared app is not there");
        }
    }

    /// The task that is the instance, begun if there is none. With `renew` one at an older commit that nobody else needs gives way.
    async fn instance(&self, shared: &Shared, asks: TaskId, renew: bool) -> Result<TaskRecord, Problem> {
        let _gate = self.inner.instances.gate.lock().await;
        let wanted = which(shared);
        let found = self.open_tasks()?.into_iter().find(|record| which_is(record).as_ref() == Some(&wanted));
        if let Some(record) = found {
            let stale = match record.state {
                TaskState::Failed | TaskState::Stopped => {
                    let since = clock::now().0.saturating_sub(record.state_since.0);
                    if since < i64::try_from(AGAIN.as_millis()).unwrap_or(i64::MAX) {
                        let reason = record.reason.clone().unwrap_or_else(|| "it was stopped".to_owned());
                        let text = format!("{} does not run: {reason}", record.name);
                        return Err(Problem::new(ProblemKind::Failed, "shared_failed", text)
                            .hint(format!("`offshoot show {}` tells more", record.name)));
                    }
                    Some("it did not run")
                }
                _ if renew
                    && self.needed_by(&record, Some(asks))? == 0
                    && self.is_behind(&record, shared)? =>
                {
                    Some("its branch has gone on, and no task needs it at this commit")
                }
                _ => None,
            };
            match stale {
                None => return Ok(record),
                Some(reason) => self.let_go(&record, reason).await?,
            }
        }
        let (engine, shared) = (self.clone(), shared.clone());
        let id = tokio::task::spawn_blocking(move || engine.begin(&shared, asks))
            .await
            .map_err(|e| Problem::internal("taking the task in was interrupted", &e))??;
        fault::point("shared.recorded");
        self.drive(id);
        self.inner.ledger.task(id)
    }

    /// Records a new instance, admitted at once: who waits for it holds a place already.
    fn begin(&self, shared: &Shared, asks: TaskId) -> Result<TaskId, Problem> {
        let repository = project::discover(&shared.root)?;
        let (config, user) = (project::config(repository.root())?, self.user_config()?);
        let (base, target) = base(&repository, shared.branch.as_deref())?;
        let project = self.inner.projects.of(&repository, self.inner.ledger.store())?;
        exported(&project, &repository, &base)?;
        let (task, run) = (TaskId(clock::id()), RunId(clock::id()));
        let mut egress = config.egress.allow.clone();
        egress.extend(user.egress.allow.iter().filter(|rule| !config.egress.allow.contains(rule)).cloned());
        let queued = RunQueued {
            number: 1,
            prompt: String::new(),
            model: None,
            check: None,
            pass_env: Vec::new(),
            permission: PermissionPolicy::default(),
            instructions: None,
            egress,
            limits: config::limits(&config.limits, &user.limits),
        };
        let created = |name: TaskName| TaskCreated {
            branch: name.branch(),
            name,
            project: project.id,
            root: repository.root().to_string_lossy().into_owned(),
            base: base.to_string(),
            target: target.clone(),
            agent: None,
            isolation: Isolation::Sandbox,
            adopted: None,
            repository: String::new(),
            others: Vec::new(),
            scope: Vec::new(),
            shared: Some(shared.branch.clone().unwrap_or_default()),
            notices: Vec::new(),
        };
        self.inner.secrets.put_path(task, Some(self.inner.secrets.path(asks)));
        let stem = TaskName::from_prompt(&format!("{} shared", own_name(&repository, &config)));
        let mut names = std::iter::once(stem.clone()).chain((2..NAMES).map(|n| stem.numbered(n)));
        loop {
            let name = names.next().ok_or_else(|| {
                Problem::new(
                    ProblemKind::Conflict,
                    "name_taken",
                    format!("there are many tasks called {stem}"),
                )
            })?;
            let events =
                vec![Event::TaskCreated(created(name)), Event::RunQueued(queued.clone()), Event::RunAdmitted];
            match self.inner.ledger.append(task, Some(run), events) {
                Err(problem) if problem.code == "name_taken" => {}
                result => return result.map(|()| task),
            }
        }
    }

    /// Whether its branch has another commit now.
    fn is_behind(&self, record: &TaskRecord, shared: &Shared) -> Result<bool, Problem> {
        let repository = project::discover(&shared.root)?;
        Ok(base(&repository, shared.branch.as_deref())?.0.to_string() != record.base)
    }

    /// How many environments with processes may reach an instance, besides that of one task. One that only other instances
    /// need is needed if they are.
    fn needed_by(&self, record: &TaskRecord, besides: Option<TaskId>) -> Result<usize, Problem> {
        let tasks = self.open_tasks()?;
        let terms = |task: &TaskRecord| {
            let environment = task.environment.as_ref()?;
            let at_work = matches!(environment.state, EnvironmentState::Creating | EnvironmentState::Up);
            let lease = if at_work { self.lease_of(environment.id) } else { None };
            Some(lease?.terms().shared.iter().map(which).collect::<BTreeSet<_>>())
        };
        let reach: Vec<_> = tasks.iter().filter_map(|task| Some((task, terms(task)?))).collect();
        let mut looked = BTreeSet::new();
        let mut wanted: Vec<_> = which_is(record).into_iter().collect();
        let mut needed = 0;
        while let Some(one) = wanted.pop() {
            if !looked.insert(one.clone()) {
                continue;
            }
            for (task, _) in reach.iter().filter(|(task, set)| Some(task.id) != besides && set.contains(&one))
            {
                match which_is(task) {
                    Some(instance) => wanted.push(instance),
                    None => needed += 1,
                }
            }
        }
        Ok(needed)
    }

    /// Takes an instance away. What it wrote was nobody's work.
    async fn let_go(&self, record: &TaskRecord, reason: &str) -> Result<(), Problem> {
        let mut events = Vec::new();
        if record.run().is_some_and(|run| !run.state.is_over()) {
            events.push(Event::RunEnded { end: RunEnd::Stopped, reason: reason.to_owned() });
        }
        events.push(Event::Discarded { reason: reason.to_owned() });
        self.record_without_approvals(record.id, record.run().map(|run| run.id), reason, events)?;
        fault::point("shared.discarded");
        lock(&self.inner.instances.unneeded).remove(&record.id);
        self.remove_environment(record, reason).await?;
        self.inner.secrets.forget(record.id);
        self.inner.wake.notify_one();
        Ok(())
    }

    /// Takes instances away that nobody needed for so long.
    pub(crate) async fn let_go_unneeded(&self, after: Duration) -> Result<(), Problem> {
        for record in self.open_tasks()?.into_iter().filter(|record| record.shared.is_some()) {
            let _gate = self.inner.instances.gate.lock().await;
            let needed = self.needed_by(&record, None)? > 0;
            let since = {
                let mut unneeded = lock(&self.inner.instances.unneeded);
                if needed {
                    unneeded.remove(&record.id);
                    continue;
                }
                *unneeded.entry(record.id).or_insert_with(Instant::now)
            };
            if since.elapsed() >= after {
                self.let_go(&record, "no task needed it any more").await?;
            }
        }
        Ok(())
    }

    /// Takes an instance away that nobody needs now, for whoever wants room.
    pub(crate) async fn prune_shared(
        &self,
        record: &TaskRecord,
        view: &mut PruneView,
    ) -> Result<(), Problem> {
        let _gate = self.inner.instances.gate.lock().await;
        let what = format!("environment of {}", record.name);
        match self.needed_by(record, None)? {
            0 => {
                let reason = "no task needs it".to_owned();
                self.let_go(record, &reason).await?;
                view.removed.push(Reasoned { what, reason });
            }
            tasks => {
                let reason = format!(
                    "it is shared, and {tasks} {} it",
                    if tasks == 1 { "task needs" } else { "tasks need" }
                );
                view.kept.push(Reasoned { what, reason });
            }
        }
        Ok(())
    }

    /// Whether an app that ended by itself is to be started again.
    pub(crate) fn may_restart(&self, task: TaskId, app: &str) -> bool {
        let Ok(record) = self.inner.ledger.task(task) else { return false };
        if record.shared.is_none() || matches!(record.state, TaskState::Landed | TaskState::Discarded) {
            return false;
        }
        let mut restarts = lock(&self.inner.instances.restarts);
        let of = restarts.entry((task, app.to_owned())).or_default();
        of.retain(|at| at.elapsed() < RESTARTS.1);
        let may = of.len() < RESTARTS.0;
        if may {
            of.push(Instant::now());
        }
        may
    }

    /// A connection to a shared app, whose instance is begun and woken for that.
    async fn reach(&self, shared: &Shared, asks: TaskId) -> Result<TcpStream, Unavailable> {
        let failed = |problem: Problem| Unavailable::new(Reason::Failed, problem.message);
        let record = self.instance(shared, asks, false).await.map_err(|problem| {
            self.not_served(asks, shared, &problem);
            failed(problem)
        })?;
        let (live, environment) = self.up(record.id).await.map_err(|problem| {
            self.not_served(asks, shared, &problem);
            failed(problem)
        })?;
        self.inner.environments.touch(environment);
        let began = Instant::now();
        loop {
            match dial(&live, IpAddr::V4(Ipv4Addr::LOCALHOST), shared.port).await {
                Ok(stream) => return Ok(stream),
                Err(unavailable) if unavailable.reason == Reason::NotListening => {
                    let runs = self.keep_running(record.id, &shared.app).map_err(failed)?;
                    if !runs || began.elapsed() >= LISTEN {
                        return Err(unavailable);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(unavailable) => return Err(unavailable),
            }
        }
    }

    /// Waits until an instance's environment is there; its driver makes it.
    async fn up(&self, task: TaskId) -> Result<(Live, EnvironmentId), Problem> {
        let mut newest = self.inner.ledger.watch();
        loop {
            newest.borrow_and_update();
            let record = self.inner.ledger.task(task)?;
            match (record.state, &record.environment) {
                (TaskState::Idle, Some(environment)) if environment.state != EnvironmentState::Removed => {
                    let live = self.ready_as(task, Some(environment.id)).await?;
                    self.services_ready(&live).await?;
                    return Ok((live, environment.id));
                }
                (TaskState::Running | TaskState::NeedsAttention | TaskState::Queued, _) => {}
                (state, _) => {
                    let reason = record.reason.clone().unwrap_or_else(|| state.word().to_owned());
                    let text = format!("{} does not run: {reason}", record.name);
                    return Err(Problem::new(ProblemKind::Failed, "shared_failed", text));
                }
            }
            if newest.changed().await.is_err() {
                return Err(Problem::new(ProblemKind::Unavailable, "stopping", "the daemon is stopping"));
            }
        }
    }

    /// Whether an app of an instance runs or is about to.
    fn keep_running(&self, task: TaskId, app: &str) -> Result<bool, Problem> {
        let record = self.inner.ledger.task(task)?;
        let known = record.environment.as_ref().and_then(|e| e.apps.iter().find(|known| known.name == app));
        // One that was never started is about to be, with its environment.
        Ok(known.is_none_or(|known| known.state != AppState::Ended) || self.is_restarting(task, app))
    }

    fn is_restarting(&self, task: TaskId, app: &str) -> bool {
        let restarts = lock(&self.inner.instances.restarts);
        restarts
            .get(&(task, app.to_owned()))
            .and_then(|of| of.last())
            .is_some_and(|at| at.elapsed() < RESTART)
    }
}

/// Where a shared app's name leads from one environment.
struct Way {
    engine: Weak<Inner>,
    task: TaskId,
    shared: Shared,
}

impl Dial for Way {
    fn dial(&self) -> Later<'_, TcpStream> {
        Box::pin(async move {
            let engine = self.engine.upgrade().map(|inner| Engine { inner }).ok_or_else(closing)?;
            engine.reach(&self.shared, self.task).await
        })
    }

    fn used(&self) -> Later<'_, ()> {
        Box::pin(async move {
            let engine = self.engine.upgrade().map(|inner| Engine { inner }).ok_or_else(closing)?;
            let found = engine.open_tasks().unwrap_or_default();
            let wanted = which(&self.shared);
            let instance = found.iter().find(|record| which_is(record).as_ref() == Some(&wanted));
            if let Some(environment) = instance.and_then(|record| record.environment.as_ref()) {
                engine.inner.environments.touch(environment.id);
            }
            Ok(())
        })
    }
}
