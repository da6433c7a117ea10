//! Taking things away: never work that is not landed unless told to, and never without a recorded reason.

use offshoot_core::{
    api::{DiscardParams, PruneView, Reasoned},
    event::Event,
    id::EnvironmentId,
    lifecycle::{EnvironmentState, RunEnd, RunState, TaskState},
    problem::{Problem, ProblemKind},
    record::TaskRecord,
};
use offshoot_environment::{lease, remove};
use offshoot_store::TaskFilter;

use crate::{
    engine::{Engine, TaskRef},
    harvest::Processes,
    ledger::store_problem,
    parts::{Part, parts},
    project,
};

impl Engine {
    /// Throws a task away. Refuses if it holds work that is not landed, unless forced.
    pub async fn discard(&self, task: &TaskRef, params: DiscardParams) -> Result<PruneView, Problem> {
        let record = self.find(task)?;
        if matches!(record.state, TaskState::Landed | TaskState::Discarded) {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "wrong_state",
                format!("{} is {} already", record.name, record.state.word()),
            ));
        }
        let at_work = record.agent.is_some() && record.state.is_active();
        if at_work && !params.force {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "still_active",
                format!("{} is {}", record.name, record.state.word()),
            )
            .hint(format!("stop it first with `offshoot stop {}`, or add --force", record.name)));
        }
        if at_work {
            self.stop(task).await?;
            if let Some(run) = record.run() {
                self.wait_over(record.id, run.id).await?;
            }
        }
        let record = self.inner.ledger.task(record.id)?;
        self.removable(&record)?;
        let record = match self.brought_out(record.clone(), Processes::Keep).await {
            Ok(record) => record,
            Err(_) if params.force => record,
            Err(problem) => return Err(problem),
        };
        // What was adopted is only let go: nothing of it is deleted.
        if record.has_unlanded_work() && !params.force && record.adopted.is_none() {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "unlanded_work",
                format!(
                    "{} holds work that is not landed: {} changed files",
                    record.name,
                    record.changes.files + record.others.iter().map(|other| other.changes.files).sum::<u32>()
                ),
            )
            .hint(format!(
                "look at it with `offshoot diff {0}`; `offshoot discard {0} --force` throws it away",
                record.name
            )));
        }
        let reason = params.reason.unwrap_or_else(|| "thrown away by a person".to_owned());
        let mut events = Vec::new();
        if record.run().is_some_and(|run| !run.state.is_over()) {
            events.push(Event::RunEnded { end: RunEnd::Stopped, reason: reason.clone() });
        }
        events.push(Event::Discarded { reason: reason.clone() });
        self.record_without_approvals(record.id, record.run().map(|r| r.id), &reason, events)?;
        let being_made = record.run().is_some_and(|run| run.state == RunState::Preparing);
        let mut view = PruneView::default();
        if let Some(path) = &record.adopted {
            let reason = "it was adopted: worktree and branch are yours".to_owned();
            view.kept.push(Reasoned { what: format!("worktree {path}"), reason });
        }
        // In this order: the recorded removal says after a crash that nothing is left to do.
        let branches: Vec<_> = parts(&record).into_iter().filter(Part::has_commits).collect();
        if record.adopted.is_none() && !branches.is_empty() {
            self.drop_branch(&record).await;
            view.removed.extend(branches.into_iter().map(|part| {
                let within = if part.name.is_empty() { String::new() } else { format!(" of {}", part.name) };
                Reasoned { what: format!("branch {}{within}", part.branch), reason: reason.clone() }
            }));
        }
        if let Some(environment) =
            record.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed)
        {
            view.freed_bytes += self.inner.environments.disk(environment.id).unwrap_or_default();
            self.remove_environment(&record, &reason).await?;
            view.removed
                .push(Reasoned { what: format!("environment of {}", record.name), reason: reason.clone() });
            view.kept.extend(self.parts_left(environment.id));
        } else if being_made {
            // Layers that are under way may take long, and are of use to others. Then it goes, or a start of the daemon ends it.
            let what = format!("environment of {}", record.name);
            let (engine, record, reason) = (self.clone(), record.clone(), reason.clone());
            tokio::spawn(async move {
                if let Err(problem) = engine.remove_environment(&record, &reason).await {
                    tracing::warn!(%problem, "an environment that was still being made was not taken away");
                }
            });
            view.kept.push(Reasoned {
                what,
                reason: "it is still being made, and goes when that has come to its end".to_owned(),
            });
        }
        self.inner.secrets.forget(record.id);
        self.inner.wake.notify_one();
        Ok(view)
    }

    /// Takes away what nobody needs: layers of no environment, directories of no task, environments of finished tasks
    /// that changed nothing.
    pub async fn prune(&self) -> Result<PruneView, Problem> {
        let mut view = PruneView::default();
        let filter = TaskFilter { project: None, include_done: true };
        let tasks = self.inner.ledger.store().tasks(&filter, usize::MAX).map_err(|e| store_problem(&e))?;
        for task in &tasks {
            self.prune_task(task, &mut view).await?;
        }
        let tasks = self.inner.ledger.store().tasks(&filter, usize::MAX).map_err(|e| store_problem(&e))?;
        self.prune_unknown(&tasks, &mut view).await;
        self.prune_databases(&tasks, &mut view).await;
        self.prune_layers(&tasks, &mut view).await;
        let layout = self.inner.layout.clone();
        let emptied = tokio::task::spawn_blocking(move || remove::empty_trash(&layout)).await;
        if let Ok(Err(error)) = emptied {
            view.kept.push(Reasoned { what: "trash".to_owned(), reason: error.to_string() });
        }
        Ok(view)
    }

    async fn prune_task(&self, task: &TaskRecord, view: &mut PruneView) -> Result<(), Problem> {
        let Some(environment) = task.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed)
        else {
            return Ok(());
        };
        if task.shared.is_some() && !matches!(task.state, TaskState::Landed | TaskState::Discarded) {
            return self.prune_shared(task, view).await;
        }
        let what = format!("environment of {}", task.name);
        let kept = |reason: &str| Reasoned { what: what.clone(), reason: reason.to_owned() };
        if task.state.is_active() {
            view.kept.push(kept(&format!("the task is {}", task.state.word())));
            return Ok(());
        }
        let task = if task.has_unlanded_work() {
            task.clone()
        } else {
            match self.brought_out(task.clone(), Processes::Keep).await {
                Ok(task) => task,
                Err(problem) => {
                    view.kept.push(kept(&format!("what it holds cannot be brought out: {problem}")));
                    return Ok(());
                }
            }
        };
        if task.has_unlanded_work() {
            view.kept.push(kept("it holds work that is not landed"));
            return Ok(());
        }
        let reason = match task.state {
            TaskState::Landed => "the task is landed",
            TaskState::Discarded => "the task was thrown away",
            _ if task.head.is_some() => "its run is over and changed nothing",
            _ => {
                view.kept.push(kept("what it holds was never brought out"));
                return Ok(());
            }
        };
        view.freed_bytes += self.inner.environments.disk(environment.id).unwrap_or_default();
        self.remove_environment(&task, reason).await?;
        view.kept.extend(self.parts_left(environment.id));
        view.removed.push(Reasoned { what, reason: reason.to_owned() });
        Ok(())
    }

    async fn prune_unknown(&self, tasks: &[TaskRecord], view: &mut PruneView) {
        let Ok(entries) = std::fs::read_dir(self.inner.layout.environments()) else { return };
        for entry in entries.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|n| n.parse::<EnvironmentId>().ok()) else {
                continue;
            };
            let known = tasks.iter().any(|t| t.environment.as_ref().is_some_and(|e| e.id == id));
            // Nothing is brought up in a directory before the log knows it, so no work can be in it.
            if known || entry.path().join("journal").exists() {
                continue;
            }
            let what = format!("directory of environment {id}");
            match lease::discard_dir(&self.inner.layout, id) {
                Ok(()) => view.removed.push(Reasoned { what, reason: "no task knows it".to_owned() }),
                Err(error) => view.kept.push(Reasoned { what, reason: error.to_string() }),
            }
        }
    }

    async fn prune_layers(&self, tasks: &[TaskRecord], view: &mut PruneView) {
        let used = self.layers_in_use(tasks);
        let Ok(projects) = self.inner.ledger.store().projects() else { return };
        for known in projects {
            let Ok(repository) = project::discover(std::path::Path::new(&known.root)) else { continue };
            let Ok(project) = self.inner.projects.open(known.id, &repository) else { continue };
            match project.layers.prune(&|id| used.contains_key(id)).await {
                Ok(gone) => {
                    view.removed.extend(gone.into_iter().map(|(id, reason)| Reasoned {
                        what: format!("layer {id}"),
                        reason: reason.to_owned(),
                    }))
                }
                Err(error) => view.kept.push(Reasoned {
                    what: format!("layers of {}", known.root),
                    reason: offshoot_core::problem::chain(&error),
                }),
            }
        }
    }
}
