//! Going back to a checkpoint: the files of the workspace become again what they were, as a new state on top of the
//! branch. What they are before that is a checkpoint, too, so nothing is lost, and going back can be taken back.
//!
//! It is recorded before it begins; until it is over no run and no landing starts. Every step may be repeated, so a
//! daemon that finds it half done does it again.

use offshoot_core::{
    api::TaskView,
    event::Event,
    fault,
    id::TaskId,
    problem::{Problem, ProblemKind},
    record::TaskRecord,
};
use offshoot_git::{inside, oid::Oid};

use crate::{
    diff::at_step,
    engine::{Engine, TaskRef},
    environments::Live,
    harvest::Processes,
    parts::{Part, parts},
};

/// How long git may take to write the files of a large tree.
const SECONDS: u64 = 600;

impl Engine {
    /// Brings the workspace back to a checkpoint; 0 is what the task started from. An environment that is gone is made
    /// anew for it.
    pub async fn restore(&self, task: &TaskRef, step: u32) -> Result<TaskView, Problem> {
        let record = self.find(task)?;
        refuse_restoring(&record)?;
        if let Some(path) = &record.adopted {
            let text = format!("{path} is somebody's own worktree; its files are not written");
            return Err(Problem::new(ProblemKind::Conflict, "adopted", text)
                .hint("`git checkout` there does what you want"));
        }
        if !record.can_be_restored() {
            let text = format!("{} is {}; it cannot go back now", record.name, record.state.word());
            let problem = Problem::new(ProblemKind::Conflict, "still_active", text);
            return Err(match record.state.is_active() {
                true => problem.hint(format!("wait for it, or stop it with `offshoot stop {}`", record.name)),
                false => problem,
            });
        }
        for part in parts(&record) {
            at_step(&record, &part, step)?;
        }
        let record = self.brought_out(record, Processes::Keep).await?;
        let run = record.run().map(|run| run.id);
        self.inner.ledger.append(record.id, run, vec![Event::RestoreStarted { step }])?;
        fault::point("restore.recorded");
        self.finish_restore(record.id, step).await?;
        self.view(record.id).await
    }

    /// Brings the files back and records that, or why not.
    pub(crate) async fn finish_restore(&self, task: TaskId, step: u32) -> Result<(), Problem> {
        let done = self.bring_back(task, step).await;
        let run = self.inner.ledger.task(task)?.run().map(|run| run.id);
        let event = match &done {
            Ok(()) => Event::Restored { step },
            Err(problem) => Event::RestoreFailed { reason: problem.message.clone() },
        };
        self.inner.ledger.append(task, run, vec![event])?;
        done
    }

    async fn bring_back(&self, task: TaskId, step: u32) -> Result<(), Problem> {
        let live = self.ready(task).await?;
        let record = self.inner.ledger.task(task)?;
        let Some(run) = record.run().map(|run| run.id) else { return Ok(()) };
        self.checkpoint(task, run, &live, &format!("before going back to checkpoint {step}")).await?;
        fault::point("restore.kept");
        for part in parts(&record) {
            let (_, commit) = at_step(&record, &part, step)?;
            self.write_files(&part, &live, &commit).await?;
            fault::point("restore.files");
        }
        self.checkpoint(task, run, &live, &format!("back to checkpoint {step}")).await?;
        self.harvest(task, Processes::Keep).await?;
        fault::point("restore.harvested");
        Ok(())
    }

    async fn write_files(&self, part: &Part, live: &Live, commit: &Oid) -> Result<(), Problem> {
        let script = inside::restore(commit);
        let Err(problem) = self.report_of(part, live, "restore", script.clone(), SECONDS).await else {
            return Ok(());
        };
        // In an environment that was made anew the checkpoint is not known yet.
        let objects = self.inner.projects.of_part(part.project, &part.root)?.objects;
        let (known, commit) = (live.lease.worktree().is_some(), commit.clone());
        let offered = tokio::task::spawn_blocking(move || {
            !known && objects.has_commit(&commit).unwrap_or(false) && objects.offer(&commit).unwrap_or(false)
        });
        if !offered.await.unwrap_or(false) {
            return Err(problem);
        }
        self.report_of(part, live, "restore", script, SECONDS).await.map(drop)
    }
}

/// Refuses what cannot be done while the workspace's files are being brought back.
pub(crate) fn refuse_restoring(record: &TaskRecord) -> Result<(), Problem> {
    let Some(step) = record.restoring else { return Ok(()) };
    let text = format!("{} is going back to checkpoint {step}", record.name);
    Err(Problem::new(ProblemKind::Conflict, "restoring", text).hint("try again in a moment"))
}

/// What the next run's agent is told about it.
pub(crate) fn told(step: u32) -> String {
    let state = if step == 0 { "at the start of the task".to_owned() } else { format!("at step {step}") };
    format!(
        "Since your last turn a person has put the files of the workspace back to how they were {state}. What came after \
         that is in the history of the branch, but not in the files any more.\n\n"
    )
}
