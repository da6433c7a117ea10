//! Who looks after one service: starts it, looks whether it is ready and stays so, reads what it says, starts it again
//! within bounds, and does what a person wants of it.

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use offshoot_core::service::{Condition, Healthcheck, RestartPolicy};
use offshoot_sandbox::{
    Event, ExecRequest, Exit, Stdio,
    journal::{Kind, ReadError, Reader},
};
use tokio::sync::{broadcast::error::RecvError, watch};

use super::{Failure, Health, Sink, Standings, State, Told, Wanted};
use crate::{
    sandbox::Sandbox,
    service::{plan::Plan, probe::Probe},
    tail::Marks,
};

/// How much of the end of what a service said is told when it fails.
const LOG_END: usize = 4000;
/// Bytes of a journal read at a time.
const READ: usize = 256 << 10;
/// Pause before a service is started again, doubled each time up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A service that ran for so long has recovered: its attempts are counted anew.
const RECOVERED: Duration = Duration::from_secs(300);
/// What a service has to end by itself when a person stops it; as Docker has it.
const GRACE: Duration = Duration::from_secs(10);

/// Who looks after one service.
pub(super) struct Keeper {
    sandbox: Sandbox,
    plan: Plan,
    name: String,
    standings: Standings,
    sink: Sink,
}

/// How one start of a service went.
enum Went {
    /// It was ready and ended.
    Ended(Option<Exit>),
    /// It never became ready, stopped being so, or met its limit; why, for people.
    Failed(String),
    /// Somebody wants something else.
    Asked,
    /// The sandbox is gone.
    Gone,
}

/// What comes after a life.
enum Next {
    /// Nothing, until somebody wants something.
    Rests,
    /// Somebody wants something.
    Asked,
    /// The sandbox is gone.
    Gone,
}

impl Keeper {
    pub fn new(sandbox: Sandbox, plan: Plan, standings: Standings, sink: Sink) -> Self {
        let name = plan.service.name.to_string();
        Self { sandbox, plan, name, standings, sink }
    }

    /// Until the sandbox is gone.
    pub async fn keep(self, mut wishes: watch::Receiver<Wanted>) {
        let Some((mut number, mut running)) = self.found().await else { return };
        loop {
            let wanted = *wishes.borrow_and_update();
            let next = if wanted.runs {
                if !running {
                    self.settle(State::Waiting, None);
                }
                self.took_up(wanted);
                self.live(&mut number, running, &mut wishes).await
            } else {
                if running {
                    self.stop(&format!("svc-{}-{number}", self.name)).await;
                }
                let known = self.standings.borrow()[&self.name].state == State::Stopped;
                self.settle(State::Stopped, (!known).then_some(Told::Stopped));
                self.took_up(wanted);
                Next::Rests
            };
            running = false;
            match next {
                Next::Rests if wishes.changed().await.is_ok() => {}
                Next::Asked => {}
                Next::Rests | Next::Gone => return,
            }
        }
    }

    /// Its starts, one after another, until it is done, failed for good, or somebody wants something.
    async fn live(&self, number: &mut u32, running: bool, wishes: &mut watch::Receiver<Wanted>) -> Next {
        let (mut attempt, mut pause) = (0, PAUSES.0);
        let mut adopt = running;
        if !running {
            let dependencies = tokio::select! {
                all = self.dependencies() => all,
                Ok(()) = wishes.changed() => return Next::Asked,
            };
            if let Err(failure) = dependencies {
                self.settle(State::Failed(failure.clone()), Some(Told::Failed(failure)));
                return Next::Rests;
            }
        }
        loop {
            if !adopt {
                *number += 1;
            }
            let exec = format!("svc-{}-{number}", self.name);
            let began = Instant::now();
            let path = self.sandbox.journal(&exec);
            let mut log = Log { path, at: 0, end: Vec::new(), marks: Marks::default() };
            let went = self.once(&exec, adopt, &mut log, wishes).await;
            adopt = false;
            self.read(&mut log, &exec).await;
            let reason = match went {
                Went::Gone => return Next::Gone,
                Went::Asked => return Next::Asked,
                Went::Failed(reason) => reason,
                Went::Ended(exit) => match exit {
                    Some(Exit::Code(0)) if self.plan.service.restart.policy != RestartPolicy::Always => {
                        self.settle(State::Completed, Some(Told::Completed));
                        return Next::Rests;
                    }
                    Some(Exit::Code(code)) => format!("it ended with code {code}"),
                    Some(Exit::Signal(signal)) => format!("it was ended by signal {signal}"),
                    None => return Next::Gone,
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
                return Next::Rests;
            }
            attempt += 1;
            self.settle(State::Waiting, Some(Told::Restarting(failure)));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = wishes.changed() => return Next::Asked,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// The number of its newest process, and whether that runs.
    async fn found(&self) -> Option<(u32, bool)> {
        let prefix = format!("svc-{}-", self.name);
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
        let mut standings = self.standings.subscribe();
        loop {
            {
                let now = standings.borrow_and_update();
                let mut all = true;
                for (on, dependency) in &self.plan.service.depends_on {
                    let state = now.get(on.as_str()).map(|standing| &standing.state);
                    match (dependency.condition, state) {
                        (_, Some(State::Failed(_))) => {
                            let reason = format!("it depends on {on}, which failed");
                            return Err(Failure { reason, log: String::new() });
                        }
                        // One that is elsewhere (a shared server) is there.
                        (_, None | Some(State::Completed)) => {}
                        (Condition::ServiceStarted, Some(state)) => {
                            all &= !matches!(state, State::Waiting | State::Stopped);
                        }
                        (Condition::ServiceHealthy, Some(state)) => all &= *state == State::Ready,
                        (Condition::ServiceCompletedSuccessfully, Some(_)) => all = false,
                    }
                }
                if all {
                    return Ok(());
                }
            }
            if standings.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Starts it (unless it runs), looks whether it is ready and stays so, until it ends.
    async fn once(
        &self,
        exec: &str,
        adopt: bool,
        log: &mut Log,
        wishes: &mut watch::Receiver<Wanted>,
    ) -> Went {
        let mut events = self.sandbox.events();
        if !adopt {
            self.settle(State::Starting, Some(Told::Starting(Some(exec.to_owned()))));
            if let Err(error) = self.sandbox.exec(self.request(exec)).await {
                let why = offshoot_core::problem::chain(&error);
                return Went::Failed(format!("it could not be started: {why}"));
            }
            offshoot_core::fault::point("service.started");
        } else if let Some(exit) = self.exited(exec).await {
            return Went::Ended(Some(exit));
        }
        let (began, mut met) = (Instant::now(), None);
        let mut looks = Looks { asked: 0, refused: 0, ready: false, ill: false };
        loop {
            let probe = format!("probe-{exec}-{}", looks.asked + 1);
            let look = self.look(&probe, looks.pause(self.check(), &self.plan.probe));
            tokio::pin!(look);
            let went = loop {
                tokio::select! {
                    passed = &mut look => break self.looked(passed, &mut looks, began, adopt),
                    event = events.recv() => match event {
                        Ok(Event::LimitExceeded { exec: Some(over), what }) if over == exec => met = Some(what),
                        Ok(Event::Exited { exec: ended, exit }) if ended == exec => {
                            break Some(met.take().map_or_else(|| looks.ended(exit), Went::Failed));
                        }
                        Ok(Event::Output { exec: spoke, .. }) if spoke == exec => self.read(log, exec).await,
                        Ok(Event::InitGone) | Err(RecvError::Closed) => break Some(Went::Gone),
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => {
                            self.read(log, exec).await;
                            if let Some(exit) = self.exited(exec).await {
                                break Some(Went::Ended(Some(exit)));
                            }
                        }
                    },
                    Ok(()) = wishes.changed() => break Some(Went::Asked),
                }
            };
            let Some(went) = went else { continue };
            if matches!(self.plan.probe, Probe::Command(_)) {
                // One that was under way.
                let _ = self.sandbox.signal(&probe, 9).await;
            }
            match &went {
                Went::Failed(_) => drop(self.sandbox.end_tree(exec).await),
                Went::Asked => self.stop(exec).await,
                Went::Ended(_) | Went::Gone => {}
            }
            return went;
        }
    }

    fn request(&self, exec: &str) -> ExecRequest {
        ExecRequest {
            id: exec.to_owned(),
            argv: self.plan.argv.clone(),
            env: self.plan.env.clone(),
            cwd: self.plan.cwd.clone(),
            stdio: Stdio::Journal,
            root: self.plan.root.clone(),
            tree: true,
            memory_bytes: self.plan.service.memory().map(|m| m.0),
        }
    }

    fn check(&self) -> Healthcheck {
        self.plan.service.healthcheck.clone().unwrap_or_default()
    }

    /// Asks whether it is ready, after a pause; what is frozen is not asked, nor believed.
    async fn look(&self, id: &str, pause: Option<Duration>) -> bool {
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => std::future::pending().await,
        }
        loop {
            let thawed = self.sandbox.thawed().await;
            let passed = self.plan.probe.ask(&self.sandbox, &self.plan, id.to_owned()).await;
            if passed || !self.sandbox.froze_since(thawed) {
                return passed;
            }
        }
    }

    /// What follows from a look; `Some` if it is the end of this start.
    fn looked(&self, passed: bool, looks: &mut Looks, began: Instant, adopt: bool) -> Option<Went> {
        let (check, was_ready) = (self.check(), looks.ready);
        looks.asked += 1;
        looks.ready |= passed;
        let health = Some(Health { passed, at: SystemTime::now() });
        self.standings.send_if_modified(|all| {
            if let Some(standing) = all.get_mut(&self.name) {
                standing.health = health;
            }
            // Nobody waits for it.
            false
        });
        if passed {
            looks.refused = 0;
            if !was_ready {
                let told = if adopt { Told::Healthy } else { Told::Ready(began.elapsed()) };
                self.settle(State::Ready, Some(told));
            } else if std::mem::take(&mut looks.ill) {
                self.settle(State::Ready, Some(Told::Healthy));
            }
            return None;
        }
        if was_ready || began.elapsed() >= check.start_period() {
            looks.refused += 1;
        }
        if looks.refused < check.retries() || looks.ill {
            return None;
        }
        if !was_ready {
            return Some(Went::Failed(format!("it was not ready after {} s", began.elapsed().as_secs())));
        }
        let reason = self.plan.probe.failing();
        if self.plan.service.restart.policy != RestartPolicy::No {
            return Some(Went::Failed(reason));
        }
        looks.ill = true;
        self.settle(State::Unhealthy, Some(Told::Unhealthy(reason)));
        None
    }

    async fn exited(&self, exec: &str) -> Option<Exit> {
        self.sandbox.execs().await.ok()?.into_iter().find(|state| state.id == exec)?.exit
    }

    /// Ends it as it wants to be ended, then with all that it started itself.
    async fn stop(&self, exec: &str) {
        let events = self.sandbox.events();
        if self.sandbox.signal(exec, self.plan.stop).await.is_ok() {
            let _ = tokio::time::timeout(GRACE, self.sandbox.exit(exec, events)).await;
        }
        let events = self.sandbox.events();
        if self.sandbox.end_tree(exec).await.is_ok() && self.exited(exec).await.is_none() {
            let _ = tokio::time::timeout(GRACE, self.sandbox.exit(exec, events)).await;
        }
    }

    /// Takes in what it said, so that it need not wait, and where the end of that is.
    async fn read(&self, log: &mut Log, exec: &str) {
        log.read(&self.sandbox, exec).await;
        self.standings.send_if_modified(|all| {
            if let Some(standing) = all.get_mut(&self.name) {
                standing.log_from = log.marks.near_end();
            }
            false
        });
    }

    fn settle(&self, state: State, told: Option<Told>) {
        // Told first: what is acted on has been recorded.
        if let Some(told) = told {
            (self.sink)(&self.name, told);
        }
        self.standings.send_modify(|all| {
            if let Some(standing) = all.get_mut(&self.name) {
                if state == State::Starting {
                    (standing.health, standing.log_from) = (None, 0);
                }
                standing.state = state;
            }
        });
    }

    fn took_up(&self, wanted: Wanted) {
        self.standings.send_modify(|all| {
            if let Some(standing) = all.get_mut(&self.name) {
                standing.wish = wanted.times;
            }
        });
    }
}

/// How it went with asking whether a service is ready.
struct Looks {
    asked: u32,
    /// In a row, as far as they count.
    refused: u32,
    /// Whether it ever was.
    ready: bool,
    /// Whether it was told that it is not any more.
    ill: bool,
}

impl Looks {
    /// How long to wait before the next; `None` if there is nothing to be found out any more.
    fn pause(&self, check: Healthcheck, probe: &Probe) -> Option<Duration> {
        match (self.ready, probe) {
            (true, Probe::Started) => None,
            (true, _) => Some(check.interval()),
            // A quick one is asked often at first: it is somebody's wait.
            (false, _) => Some(check.start_interval().min(Duration::from_millis(10) * self.asked)),
        }
    }

    /// What its end means.
    fn ended(&self, exit: Exit) -> Went {
        match (self.ready, exit) {
            (true, exit) | (false, exit @ Exit::Code(0)) => Went::Ended(Some(exit)),
            (false, Exit::Code(code)) => {
                Went::Failed(format!("it ended with code {code} before it was ready"))
            }
            (false, Exit::Signal(signal)) => {
                Went::Failed(format!("signal {signal} ended it before it was ready"))
            }
        }
    }
}

/// The end of what a service said.
struct Log {
    path: PathBuf,
    at: u64,
    end: Vec<u8>,
    marks: Marks,
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
                    self.marks.note(next);
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
