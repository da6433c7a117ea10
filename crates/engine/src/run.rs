//! The driver of one run, from admission to its end. Where it stands is in the log only: after a restart the driver
//! is started again and goes on from the recorded state.

use std::{sync::PoisonError, time::Duration};

use crate::{converse::Outcome, engine::Engine, harvest::Processes};
use offshoot_core::{
    event::Event,
    fault,
    id::{RunId, TaskId},
    lifecycle::{EnvironmentState, RunEnd, RunState},
    problem::Problem,
    record::{RunRecord, TaskRecord},
};

/// How often a run that cannot be recorded for want of room is tried again.
const NO_ROOM: Duration = Duration::from_secs(1);
/// Why what an agent asked for needs no answer any more.
const AGENT_GONE: &str = "the agent is gone";

impl Engine {
    /// Starts the driver of a task's run, unless it has one.
    pub(crate) fn drive(&self, task: TaskId) {
        let mut drivers = self.inner.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        drivers.retain(|_, handle| !handle.is_finished());
        if drivers.contains_key(&task) {
            return;
        }
        let engine = self.clone();
        drivers.insert(
            task,
            tokio::spawn(async move {
                while let Err(problem) = engine.carry_out(task).await {
                    if engine.give_up(task, &problem).await {
                        break;
                    }
                    tokio::time::sleep(NO_ROOM).await;
                }
                engine.inner.wake.notify_one();
            }),
        );
    }

    /// Goes on with the newest run from where it stands until it is over.
    async fn carry_out(&self, task: TaskId) -> Result<(), Problem> {
        loop {
            let record = self.inner.ledger.task(task)?;
            let Some(run) = record.run().cloned() else { return Ok(()) };
            match run.state {
                RunState::Queued | RunState::Complete | RunState::Failed | RunState::Stopped => return Ok(()),
                _ if record.agent.is_none() => return self.hold(&record, &run).await,
                RunState::Preparing if run.stop_requested => self.append(&record, &run, Event::Harvesting)?,
                RunState::Preparing | RunState::Working => {
                    let outcome = self.converse(&record, &run).await?;
                    self.after_work(task, &run, outcome).await?;
                }
                RunState::Checking => self.check(&record, &run).await?,
                RunState::Harvesting => {
                    self.harvest(task, Processes::End).await?;
                    let record = self.inner.ledger.task(task)?;
                    let (end, reason) = verdict(record.run().unwrap_or(&run));
                    self.append(&record, &run, Event::RunEnded { end, reason })?;
                    fault::point("run.ended");
                    return Ok(());
                }
            }
        }
    }

    /// An environment by hand: up, then nothing until a person asks.
    async fn hold(&self, record: &TaskRecord, run: &RunRecord) -> Result<(), Problem> {
        if run.stop_requested {
            return self.append(
                record,
                run,
                Event::RunEnded { end: RunEnd::Stopped, reason: "taken down".to_owned() },
            );
        }
        // Removed: a daemon that was killed never made it whole.
        let wanted = [EnvironmentState::Creating, EnvironmentState::Removed];
        if record.environment.as_ref().is_none_or(|e| wanted.contains(&e.state)) {
            let live = self.ready(record.id).await?;
            self.services_ready(&live).await?;
        }
        self.append(record, run, Event::AgentResting)
    }

    /// What follows the agent's work: the check, or right away the harvest.
    async fn after_work(&self, task: TaskId, run: &RunRecord, outcome: Outcome) -> Result<(), Problem> {
        let record = self.inner.ledger.task(task)?;
        let stopped = record.run().is_some_and(|run| run.stop_requested);
        match (outcome, &run.check) {
            (Outcome::Done, Some(command)) => {
                let event =
                    Event::CheckStarted { command: command.clone(), exec: format!("check-{}", run.number) };
                self.append(&record, run, event)
            }
            (Outcome::SessionLost, _) if !stopped => self.append(&record, run, Event::SessionLost),
            (Outcome::Done | Outcome::SessionLost, None | Some(_)) => {
                self.append(&record, run, Event::Harvesting)
            }
            (Outcome::Failed(reason), _) => {
                let events = vec![Event::AgentFailed { reason }, Event::Harvesting];
                self.record_without_approvals(record.id, Some(run.id), AGENT_GONE, events)
            }
        }
    }

    /// The driver met something it cannot mend: the run has failed, and what it left is brought out if that works.
    /// `false` if that cannot be recorded, or need not be: with a full disk nothing is given up, but begun again where
    /// the log stands once there is room.
    async fn give_up(&self, task: TaskId, problem: &Problem) -> bool {
        let Ok(record) = self.inner.ledger.task(task) else { return true };
        let Some(run) = record.run().filter(|run| !run.state.is_over()) else { return true };
        if problem.code == "disk_full" && run.state != RunState::Preparing {
            tracing::warn!(%task, "waits for room on the disk");
            return false;
        }
        tracing::warn!(%task, code = problem.code, %problem, "run failed");
        let mut reason = problem.message.clone();
        if let Some(detail) = &problem.detail {
            reason.push('\n');
            reason.push_str(detail);
        }
        if let Some(hint) = &problem.hint {
            reason.push_str("\nhint: ");
            reason.push_str(hint);
        }
        let has_environment =
            record.environment.as_ref().is_some_and(|e| e.state != EnvironmentState::Removed);
        if record.agent.is_some() && has_environment && run.state != RunState::Harvesting {
            // Why it failed comes first: whoever goes on from here after a restart must not take it for done.
            let events = vec![Event::AgentFailed { reason: reason.clone() }, Event::Harvesting];
            let noted = self.record_without_approvals(task, Some(run.id), AGENT_GONE, events);
            if let Err(problem) = noted.and(self.harvest(task, Processes::End).await) {
                tracing::warn!(%task, %problem, "could not bring out what a failed run left");
            }
        }
        let ended = Event::RunEnded { end: RunEnd::Failed, reason };
        match self.record_without_approvals(task, Some(run.id), AGENT_GONE, vec![ended]) {
            Ok(()) => true,
            Err(problem) => {
                tracing::error!(%task, %problem, "could not record a failed run");
                problem.code != "disk_full"
            }
        }
    }

    /// Asks for the task's run to be stopped; its work is kept.
    pub async fn stop(&self, task: &crate::engine::TaskRef) -> Result<offshoot_core::api::TaskView, Problem> {
        let record = self.find(task)?;
        let Some(run) = record.run().filter(|run| !run.state.is_over()) else {
            return Err(Problem::new(
                offshoot_core::problem::ProblemKind::Conflict,
                "not_active",
                format!("{} has no run to stop: it is {}", record.name, record.state.word()),
            ));
        };
        if run.state == RunState::Queued {
            let ended =
                Event::RunEnded { end: RunEnd::Stopped, reason: "stopped before it began".to_owned() };
            self.append(&record, run, ended)?;
        } else {
            if !run.stop_requested {
                let reason = "the run was stopped";
                self.record_without_approvals(record.id, Some(run.id), reason, vec![Event::StopRequested])?;
            }
            self.drive(record.id);
        }
        self.inner.wake.notify_one();
        self.view(record.id).await
    }

    pub(crate) fn append(&self, record: &TaskRecord, run: &RunRecord, event: Event) -> Result<(), Problem> {
        self.inner.ledger.append(record.id, Some(run.id), vec![event])
    }

    /// Waits until the run with this id is over or `until` says otherwise, by following the log.
    pub(crate) async fn wait_over(&self, task: TaskId, run: RunId) -> Result<TaskRecord, Problem> {
        let mut newest = self.inner.ledger.watch();
        loop {
            newest.borrow_and_update();
            let record = self.inner.ledger.task(task)?;
            if record.runs.iter().any(|r| r.id == run && r.state.is_over()) {
                return Ok(record);
            }
            if newest.changed().await.is_err() {
                return Ok(record);
            }
        }
    }
}

/// How a harvested run ended: by what is recorded of it.
fn verdict(run: &RunRecord) -> (RunEnd, String) {
    if run.stop_requested {
        return (RunEnd::Stopped, "stopped by a person".to_owned());
    }
    match (&run.failure, run.check_code) {
        (Some(failure), _) => (RunEnd::Failed, failure.clone()),
        (None, None) => (RunEnd::Complete, "the agent finished".to_owned()),
        (None, Some(0)) => (RunEnd::Complete, "the agent finished and the check passed".to_owned()),
        (None, Some(-1)) => (RunEnd::Failed, "the check was killed or took too long".to_owned()),
        (None, Some(code)) => (RunEnd::Failed, format!("the check failed with exit code {code}")),
    }
}

/// The last bytes of a file that a sandbox wrote to.
pub(crate) fn tail(path: &std::path::Path, most: usize) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most as u64)))?;
    let mut bytes = Vec::with_capacity(most);
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
