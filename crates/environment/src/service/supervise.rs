//! The life of an environment's services: started when what they depend on is there, found ready, started again within
//! bounds, their words read so that they never have to wait for a reader.
//!
//! Holds nothing that cannot be found again: which services run is known by the sandbox's processes, whose ids are
//! `svc-<name>-<n>`. Taking up a running sandbox is the same as starting in a new one.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use offshoot_core::service::{Condition, Healthcheck, RestartPolicy};
use offshoot_sandbox::{
    Event, ExecRequest, Exit, Stdio,
    journal::{Kind, ReadError, Reader},
};
use tokio::{sync::watch, task::JoinSet};

use super::plan::Plan;
use crate::sandbox::Sandbox;

/// How much of the end of what a service said is told when it fails.
const LOG_END: usize = 4000;
/// Bytes of a journal read at a time.
const READ: usize = 256 << 10;
/// Pause before a service is started again, doubled each time up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A service that ran for so long has recovered: its attempts are counted anew.
const RECOVERED: Duration = Duration::from_secs(300);

/// Where a service stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for others, or for its next start.
    Waiting,
    /// Started and not ready yet.
    Starting,
    /// Ready.
    Ready,
    /// Ended by itself with code 0 and is not started again.
    Completed,
    /// Will not run any more.
    Failed(Failure),
}

/// Why a service does not run, and what it said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In words.
    pub reason: String,
    /// The end of its log.
    pub log: String,
}

/// What is told of services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its process is about to be started.
    Starting,
    /// It is ready, so long after its start.
    Ready(Duration),
    /// It ended with code 0, as it was meant to.
    Completed,
    /// It failed and is started again.
    Restarting(Failure),
    /// It failed for good.
    Failed(Failure),
}

/// Who hears what is told; called with the service's name.
pub type Sink = Arc<dyn Fn(&str, Told) + Send + Sync>;

/// The services of one environment, looked after for as long as this is held.
pub struct Supervisor {
    states: watch::Receiver<BTreeMap<String, State>>,
    waited: Vec<String>,
    _tasks: JoinSet<()>,
}

impl Supervisor {
    /// Takes up what runs in `sandbox` and starts what does not.
    pub fn start(sandbox: &Sandbox, plans: &[Plan], sink: &Sink) -> Self {
        let states = plans.iter().map(|plan| (plan.service.name.to_string(), State::Waiting)).collect();
        let (sender, states) = watch::channel(states);
        let mut tasks = JoinSet::new();
        for plan in plans {
            let keeper = Keeper {
                sandbox: sandbox.clone(),
                plan: plan.clone(),
                states: sender.clone(),
                sink: sink.clone(),
            };
            tasks.spawn(keeper.keep());
        }
        let waited = plans.iter().filter(|p| p.service.wait).map(|p| p.service.name.to_string()).collect();
        Self { states, waited, _tasks: tasks }
    }

    /// Waits until every service that is waited for is ready or done; the first one that failed instead.
    pub async fn ready(&self) -> Result<(), (String, Failure)> {
        let mut states = self.states.clone();
        loop {
            {
                let now = states.borrow_and_update();
                let of = |name: &String| now.get(name).cloned().unwrap_or(State::Waiting);
                for name in &self.waited {
                    if let State::Failed(failure) = of(name) {
                        return Err((name.clone(), failure));
                    }
                }
                if self.waited.iter().all(|name| matches!(of(name), State::Ready | State::Completed)) {
                    return Ok(());
                }
            }
            if states.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Where each stands.
    pub fn states(&self) -> BTreeMap<String, State> {
        self.states.borrow().clone()
    }
}

/// Who looks after one service.
struct Keeper {
    sandbox: Sandbox,
    plan: Plan,
    states: watch::Sender<BTreeMap<String, State>>,
    sink: Sink,
}

/// How one start of a service went.
enum Went {
    /// It was ready and ended.
    Ended(Option<Exit>),
    /// It never became ready, or met its limit; why, for people.
    Failed(String),
    /// The sandbox is gone.
    Gone,
}

impl Keeper {
    async fn keep(self) {
        let name = self.plan.service.name.to_string();
        let (mut attempt, mut pause) = (0, PAUSES.0);
        let Some((mut number, running)) = self.found().await else { return };
        if !running && let Err(failure) = self.dependencies().await {
            self.settle(State::Failed(failure.clone()), Some(Told::Failed(failure)));
            return;
        }
        let mut adopt = running;
        loop {
            if !adopt {
                number += 1;
            }
            let exec = format!("svc-{name}-{number}");
            let began = Instant::now();
            let mut log = Log { path: self.sandbox.journal(&exec), at: 0, end: Vec::new() };
            let went = self.once(&exec, adopt, &mut log).await;
            adopt = false;
            log.read(&self.sandbox, &exec).await;
            let reason = match went {
                Went::Gone => return,
                Went::Failed(reason) => reason,
                Went::Ended(exit) => match exit {
                    Some(Exit::Code(0)) if self.plan.service.restart.policy != RestartPolicy::Always => {
                        self.settle(State::Completed, Some(Told::Completed));
                        return;
                    }
                    Some(Exit::Code(code)) => format!("it ended with code {code}"),
                    Some(Exit::Signal(signal)) => format!("it was ended by signal {signal}"),
                    None => return,
                },
            };
            let failure = Failure { reason, log: log.text() };
            if began.elapsed() >= RECOVERED {
                (attempt, pause) = (0, PAUSES.0);
            }
            if self.plan.service.restart.policy == RestartPolicy::No
                || attempt >= self.plan.service.restart.attempts
            {
                self.settle(State::Failed(failure.clone()), Some(Told::Failed(failure)));
                return;
            }
            attempt += 1;
            self.settle(State::Waiting, Some(Told::Restarting(failure)));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// The number of its newest process, and whether that runs.
    async fn found(&self) -> Option<(u32, bool)> {
        let prefix = format!("svc-{}-", self.plan.service.name);
        let execs = self.sandbox.execs().await.ok()?;
        let number = |id: &str| id.strip_prefix(&prefix)?.parse::<u32>().ok();
        // Journals outlive the sandbox, and their names are not used again.
        let journals = self.sandbox.journal("x");
        let entries = std::fs::read_dir(journals.parent()?).into_iter().flatten().flatten();
        let used = entries.filter_map(|e| number(e.file_name().to_str()?)).max().unwrap_or_default();
        let running = execs.iter().filter(|e| e.exit.is_none()).filter_map(|e| number(&e.id)).max();
        Some(running.map_or((used, false), |n| (n, true)))
    }

    async fn dependencies(&self) -> Result<(), Failure> {
        let mut states = self.states.subscribe();
        loop {
            {
                let now = states.borrow_and_update();
                let mut all = true;
                for (on, dependency) in &self.plan.service.depends_on {
                    let state = now.get(on.as_str());
                    match (dependency.condition, state) {
                        (_, Some(State::Failed(_))) => {
                            let reason = format!("it depends on {on}, which failed");
                            return Err(Failure { reason, log: String::new() });
                        }
                        // One that is elsewhere (a shared server) is there.
                        (_, None | Some(State::Completed)) => {}
                        (Condition::ServiceStarted, Some(state)) => all &= *state != State::Waiting,
                        (Condition::ServiceHealthy, Some(state)) => all &= *state == State::Ready,
                        (Condition::ServiceCompletedSuccessfully, Some(_)) => all = false,
                    }
                }
                if all {
                    return Ok(());
                }
            }
            if states.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Starts it (unless it runs), waits until it is ready, then until it ends.
    async fn once(&self, exec: &str, adopt: bool, log: &mut Log) -> Went {
        let mut events = self.sandbox.events();
        if !adopt {
            self.settle(State::Starting, Some(Told::Starting));
            let plan = &self.plan;
            let request = ExecRequest {
                id: exec.to_owned(),
                argv: plan.argv.clone(),
                env: plan.env.clone(),
                cwd: plan.cwd.clone(),
                stdio: Stdio::Journal,
                root: plan.root.clone(),
                tree: true,
                memory_bytes: plan.service.memory().map(|m| m.0),
            };
            if let Err(error) = self.sandbox.exec(request).await {
                return Went::Failed(format!(
                    "it could not be started: {}",
                    offshoot_core::problem::chain(&error)
                ));
            }
            offshoot_core::fault::point("service.started");
        } else if let Some(exit) = self.exited(exec).await {
            return Went::Ended(Some(exit));
        }
        let began = Instant::now();
        let usual = Healthcheck::default();
        let check = self.plan.service.healthcheck.as_ref().unwrap_or(&usual);
        let (mut asked, mut refused, mut ready, mut met) = (0_u32, 0, false, None);
        loop {
            if !ready {
                asked += 1;
                let id = format!("probe-{exec}-{asked}");
                if self.plan.probe.ask(&self.sandbox, &self.plan, id).await {
                    ready = true;
                    self.settle(State::Ready, (!adopt).then(|| Told::Ready(began.elapsed())));
                } else if began.elapsed() >= check.start_period() {
                    refused += 1;
                    if refused >= check.retries() {
                        self.end(exec).await;
                        return Went::Failed(format!(
                            "it was not ready after {} s",
                            began.elapsed().as_secs()
                        ));
                    }
                }
            }
            // A quick one is asked often at first: it is somebody's wait.
            let pause = check.start_interval().min(Duration::from_millis(10) * asked);
            let wait =
                async { if ready { std::future::pending().await } else { tokio::time::sleep(pause).await } };
            tokio::select! {
                event = events.recv() => match event {
                    Ok(Event::LimitExceeded { exec: Some(over), what }) if over == exec => met = Some(what),
                    Ok(Event::Exited { exec: ended, exit }) if ended == exec => {
                        if let Some(what) = met {
                            return Went::Failed(what);
                        }
                        return match (ready, exit) {
                            (true, exit) | (false, exit @ Exit::Code(0)) => Went::Ended(Some(exit)),
                            (false, Exit::Code(code)) => {
                                Went::Failed(format!("it ended with code {code} before it was ready"))
                            }
                            (false, Exit::Signal(signal)) => {
                                Went::Failed(format!("signal {signal} ended it before it was ready"))
                            }
                        };
                    }
                    Ok(Event::Output { exec: spoke, .. }) if spoke == exec => {
                        log.read(&self.sandbox, exec).await;
                    }
                    Ok(Event::InitGone) | Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                        return Went::Gone;
                    }
                    Ok(_) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {
                        log.read(&self.sandbox, exec).await;
                        if let Some(exit) = self.exited(exec).await {
                            return Went::Ended(Some(exit));
                        }
                    }
                },
                () = wait => {}
            }
        }
    }

    async fn exited(&self, exec: &str) -> Option<Exit> {
        self.sandbox.execs().await.ok()?.into_iter().find(|state| state.id == exec)?.exit
    }

    /// Ends it, with all that it started itself.
    async fn end(&self, exec: &str) {
        let _ = self.sandbox.end_tree(exec).await;
    }

    fn settle(&self, state: State, told: Option<Told>) {
        let name = self.plan.service.name.to_string();
        // Told first: what is acted on has been recorded.
        if let Some(told) = told {
            (self.sink)(&name, told);
        }
        self.states.send_modify(|states| {
            states.insert(name, state);
        });
    }
}

/// The end of what a service said.
struct Log {
    path: PathBuf,
    at: u64,
    end: Vec<u8>,
}

impl Log {
    /// Takes in what is new and says so, so that the service need not wait.
    async fn read(&mut self, sandbox: &Sandbox, exec: &str) {
        let Ok(reader) = Reader::open(&self.path) else { return };
        loop {
            match reader.read_from(self.at, READ) {
                Ok((records, next)) if !records.is_empty() => {
                    for record in records {
                        if matches!(record.kind, Kind::Stdout | Kind::Stderr) {
                            self.end.extend_from_slice(&record.bytes);
                        }
                    }
                    let surplus = self.end.len().saturating_sub(LOG_END);
                    self.end.drain(..surplus);
                    self.at = next;
                }
                // Given back long ago: what matters is its end.
                Err(ReadError::Gone(_)) => {
                    let states = sandbox.execs().await.unwrap_or_default();
                    let Some(state) = states.iter().find(|state| state.id == exec) else { break };
                    self.at = state.journal_end;
                }
                Ok(_) | Err(_) => break,
            }
        }
        let _ = sandbox.ack(exec, self.at).await;
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.end).into_owned()
    }
}
