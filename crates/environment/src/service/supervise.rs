//! The life of an environment's services: started when what they depend on is there, found ready, looked at for as long
//! as they run, started again within bounds, stopped and started when a person asks, their words read so that they never
//! have to wait for a reader.
//!
//! Holds nothing that cannot be found again: which services run is known by the sandbox's processes, whose ids are
//! `svc-<name>-<n>`. Taking up a running sandbox is the same as starting in a new one.

mod keeper;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, task::JoinSet};

use self::keeper::Keeper;
use super::plan::Plan;
use crate::sandbox::Sandbox;

/// Where a service stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for others, or for its next start.
    Waiting,
    /// Started and not ready yet.
    Starting,
    /// Ready.
    Ready,
    /// Was ready, runs, and fails its health check.
    Unhealthy,
    /// Was stopped by a person.
    Stopped,
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
    /// It is about to be started, as this process of the sandbox if it is one.
    Starting(Option<String>),
    /// It is ready, so long after its start.
    Ready(Duration),
    /// It fails its health check; why, for people.
    Unhealthy(String),
    /// It passes its health check again, or did when it was taken up.
    Healthy,
    /// It was stopped, as a person wanted.
    Stopped,
    /// It ended with code 0, as it was meant to.
    Completed,
    /// It failed and is started again.
    Restarting(Failure),
    /// It failed for good.
    Failed(Failure),
}

/// Who hears what is told; called with the service's name.
pub type Sink = Arc<dyn Fn(&str, Told) + Send + Sync>;

/// What a health check found, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it passed.
    pub passed: bool,
    /// When.
    pub at: SystemTime,
}

/// A service as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: State,
    /// What its last health check found.
    pub health: Option<Health>,
    /// Where to begin reading in the journal of its newest process for the end of it.
    pub log_from: u64,
    /// The newest wish of a person that was taken up.
    wish: u64,
}

/// What a person wants of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    runs: bool,
    /// Counts wishes: another one ends what runs.
    times: u64,
}

/// How each service stands, by name.
type Standings = watch::Sender<BTreeMap<String, Standing>>;

/// The services of one environment, looked after for as long as this is held.
pub struct Supervisor {
    standings: watch::Receiver<BTreeMap<String, Standing>>,
    waited: Vec<String>,
    wanted: BTreeMap<String, watch::Sender<Wanted>>,
    _tasks: JoinSet<()>,
}

impl Supervisor {
    /// Takes up what runs in `sandbox` and starts what does not, but for those that a person has `stopped`.
    pub fn start(sandbox: &Sandbox, plans: &[Plan], stopped: &BTreeSet<String>, sink: &Sink) -> Self {
        let first = |name: &String| {
            let state = if stopped.contains(name) { State::Stopped } else { State::Waiting };
            Standing { state, health: None, log_from: 0, wish: 0 }
        };
        let names = plans.iter().map(|plan| plan.service.name.to_string());
        let (sender, standings) = watch::channel(names.map(|name| (name.clone(), first(&name))).collect());
        let (mut tasks, mut wanted) = (JoinSet::new(), BTreeMap::new());
        for plan in plans {
            let name = plan.service.name.to_string();
            let (wish, wishes) = watch::channel(Wanted { runs: !stopped.contains(&name), times: 0 });
            let keeper = Keeper::new(sandbox.clone(), plan.clone(), sender.clone(), sink.clone());
            tasks.spawn(keeper.keep(wishes));
            wanted.insert(name, wish);
        }
        let waited = plans.iter().filter(|p| p.service.wait).map(|p| p.service.name.to_string()).collect();
        Self { standings, waited, wanted, _tasks: tasks }
    }

    /// Waits until every service that is waited for was ready, is done or was stopped; the first one that failed instead.
    pub async fn ready(&self) -> Result<(), (String, Failure)> {
        let mut standings = self.standings.clone();
        loop {
            {
                let now = standings.borrow_and_update();
                let of =
                    |name: &String| now.get(name).map_or(State::Waiting, |standing| standing.state.clone());
                for name in &self.waited {
                    if let State::Failed(failure) = of(name) {
                        return Err((name.clone(), failure));
                    }
                }
                if !self.waited.iter().any(|name| matches!(of(name), State::Waiting | State::Starting)) {
                    return Ok(());
                }
            }
            if standings.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// How each stands.
    pub fn standings(&self) -> BTreeMap<String, Standing> {
        self.standings.borrow().clone()
    }

    /// Starts a service that does not run, or one that does once more; returns when it is ready or will not be. `false`
    /// if there is none of this name.
    pub async fn run(&self, name: &str, again: bool) -> bool {
        let runs = |state: &State| matches!(state, State::Starting | State::Ready | State::Unhealthy);
        let waits = |state: &State| matches!(state, State::Waiting | State::Starting);
        if !again && self.standings.borrow().get(name).is_some_and(|standing| runs(&standing.state)) {
            return true;
        }
        self.wish(name, true, |state| !waits(state)).await
    }

    /// Stops a service; returns when it has ended. `false` if there is none of this name.
    pub async fn stop(&self, name: &str) -> bool {
        self.wish(name, false, |state| *state == State::Stopped).await
    }

    /// Says what is wanted, and waits until it has become of it.
    async fn wish(&self, name: &str, runs: bool, done: impl Fn(&State) -> bool) -> bool {
        let Some(wanted) = self.wanted.get(name) else { return false };
        let mut standings = self.standings.clone();
        let mut wish = 0;
        wanted.send_modify(|wanted| {
            wish = wanted.times + 1;
            *wanted = Wanted { runs, times: wish };
        });
        let become_of_it = |all: &BTreeMap<String, Standing>| {
            all.get(name).is_none_or(|now| now.wish >= wish && done(&now.state))
        };
        // An error is the end of the sandbox.
        let _ = standings.wait_for(become_of_it).await;
        true
    }
}
