//! What is watched for as long as the engine lives: environments that nobody uses are frozen, and so are those that
//! write more than they may, or while the disk is nearly full. Nothing is ever deleted here.

use std::{
    collections::HashSet,
    path::Path,
    time::{Duration, Instant},
};

use offshoot_core::{
    event::Event,
    id::TaskId,
    lifecycle::{EnvironmentState, RunState, TaskState},
    problem::{Problem, chain},
    record::TaskRecord,
};
use offshoot_store::TaskFilter;

use crate::{engine::Engine, ledger::store_problem};

/// After how long without activity processes are frozen, if nobody says otherwise.
const SUSPEND_AFTER: Duration = Duration::from_secs(30 * 60);
/// How often the house is looked after. Costs a look at a table and at the free space.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// Free disk below which nobody may write: enough for the store and for bringing out what there is.
const RESERVE: u64 = 256 << 20;
/// Free disk at which writing goes on; higher, so that it does not flutter.
const RELIEF: u64 = 512 << 20;
/// What everybody wrote is measured again when so much disk was used up, or so much time passed.
const MEASURE_AFTER: (u64, Duration) = (512 << 20, Duration::from_secs(300));

/// What the guard remembers.
struct Watch {
    free: u64,
    measured: Instant,
    /// Frozen because the disk is nearly full, to be thawed again.
    held: HashSet<TaskId>,
}

impl Engine {
    /// Looks after the house for as long as the engine lives.
    pub(crate) async fn keep_house(&self) {
        let mut watch = Watch { free: self.free_space(), measured: Instant::now(), held: HashSet::new() };
        let mut tick = tokio::time::interval(self.housekeeping());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.inner.environments.all().is_empty() {
                continue;
            }
            if let Err(problem) = self.let_go_unneeded(self.suspend_after()).await {
                tracing::warn!(%problem, "could not let go of what is shared");
            }
            if let Err(problem) = self.suspend_idle().await {
                tracing::warn!(%problem, "could not suspend");
            }
            if let Err(problem) = self.watch_disk(&mut watch).await {
                tracing::warn!(%problem, "could not watch the disk");
            }
        }
    }

    /// Often enough for the shortest span that is to be noticed.
    fn housekeeping(&self) -> Duration {
        HOUSEKEEPING.min(self.suspend_after() / 2).max(Duration::from_millis(100))
    }

    fn suspend_after(&self) -> Duration {
        let configured = self.user_config().ok().and_then(|user| user.machine.suspend_after);
        configured.map_or(SUSPEND_AFTER, |span| span.0)
    }

    fn free_space(&self) -> u64 {
        free_space(self.inner.layout.root())
    }

    async fn suspend_idle(&self) -> Result<(), Problem> {
        let idle = self.inner.environments.quiet_for(self.suspend_after());
        if idle.is_empty() {
            return Ok(());
        }
        for task in self.open_tasks()? {
            let Some(environment) = &task.environment else { continue };
            let at_work = matches!(task.state, TaskState::Running | TaskState::Queued);
            if !at_work && idle.contains(&environment.id) {
                self.freeze(&task, None).await?;
            }
        }
        Ok(())
    }

    async fn watch_disk(&self, watch: &mut Watch) -> Result<(), Problem> {
        let free = self.free_space();
        if free >= RELIEF && !watch.held.is_empty() {
            for task in watch.held.drain() {
                self.ready(task).await?;
                let record = self.inner.ledger.task(task)?;
                if record.state == TaskState::NeedsAttention {
                    let run = record.run().map(|r| r.id);
                    self.inner.ledger.append(task, run, vec![Event::AttentionSettled])?;
                }
            }
        }
        let due =
            watch.free.saturating_sub(free) >= MEASURE_AFTER.0 || watch.measured.elapsed() >= MEASURE_AFTER.1;
        if !due && free >= RESERVE {
            return Ok(());
        }
        watch.free = free;
        watch.measured = Instant::now();
        for task in self.open_tasks()? {
            let Some(environment) = &task.environment else { continue };
            let Some(live) = self.inner.environments.live(environment.id) else { continue };
            let lease = live.lease.clone();
            let written = tokio::task::spawn_blocking(move || lease.written())
                .await
                .map_err(|e| Problem::internal("measuring was interrupted", &e))?;
            self.inner.environments.measured(environment.id, written.bytes);
            let limit = live.lease.terms().limits.disk_bytes;
            if written.bytes > limit {
                let reason = format!(
                    "it wrote {} MiB, more than its {} MiB; it is frozen until you stop it",
                    written.bytes >> 20,
                    limit >> 20
                );
                self.freeze(&task, Some(reason)).await?;
            } else if free < RESERVE && task.state == TaskState::Running {
                let reason = "the disk is nearly full; it is frozen until there is room".to_owned();
                if self.freeze(&task, Some(reason)).await? {
                    watch.held.insert(task.id);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn open_tasks(&self) -> Result<Vec<TaskRecord>, Problem> {
        let filter = TaskFilter { project: None, include_done: false };
        self.inner.ledger.store().tasks(&filter, usize::MAX).map_err(|e| store_problem(&e))
    }

    /// Freezes a task's environment, with a reason for a person if there is one. Returns whether it was frozen now.
    async fn freeze(&self, task: &TaskRecord, reason: Option<String>) -> Result<bool, Problem> {
        let gate = self.inner.environments.gate(task.id);
        let _gate = gate.lock().await;
        let task = self.inner.ledger.task(task.id)?;
        let Some(environment) = task.environment.as_ref().filter(|e| e.state == EnvironmentState::Up) else {
            return Ok(false);
        };
        // What prepares it or brings its work out is ours, and short. (Without an agent nothing more is prepared.)
        let ours =
            |state| state == RunState::Harvesting || task.agent.is_some() && state == RunState::Preparing;
        if task.run().is_some_and(|run| ours(run.state)) {
            return Ok(false);
        }
        let Some(live) = self.inner.environments.live(environment.id) else { return Ok(false) };
        let mut events = vec![Event::EnvironmentSuspended { environment: environment.id }];
        if task.state.after(offshoot_core::lifecycle::TaskChange::Attend).is_some() {
            events.extend(reason.map(|reason| Event::AttentionNeeded { reason }));
        }
        self.inner.ledger.append(task.id, task.run().map(|r| r.id), events)?;
        if let Err(error) = live.freeze().await {
            tracing::warn!(error = %chain(&error), environment = %environment.id, "could not freeze");
        }
        Ok(true)
    }
}

/// Bytes that an ordinary user may still write where `path` is; a lot, if that cannot be told.
pub(crate) fn free_space(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}
