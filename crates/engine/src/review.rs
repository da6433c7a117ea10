//! Bringing a task's work out for a look, and landing it.

use std::path::PathBuf;

use offshoot_core::{
    api::{LandParams, LandView},
    event::{Event, Harvested},
    fault,
    isolation::Isolation,
    lifecycle::{EnvironmentState, TaskState},
    part::PartHarvested,
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_environment::lease::Lease;
use offshoot_git::{
    land::{How, LandError, LandOptions, land},
    merge::Conflict,
    oid::Oid,
    publish::delete_branch_in,
};

use crate::{
    engine::{Engine, TaskRef},
    environments::lease_problem,
    harvest::Processes,
    parts::parts,
    project,
    restore::refuse_restoring,
};

/// How much of a conflict is shown.
const HUNKS: usize = 16 * 1024;

impl Engine {
    /// The record of a task after what its environment holds was brought out, if that can be done now: not while an
    /// agent works, and not if nothing changed since the last time.
    pub(crate) async fn brought_out(
        &self,
        record: TaskRecord,
        processes: Processes,
    ) -> Result<TaskRecord, Problem> {
        let Some(environment) = record.environment.as_ref().filter(|_| record.shared.is_none()) else {
            return Ok(record);
        };
        let by_hand = record.agent.is_none() && record.state == TaskState::Idle;
        if !(by_hand || record.state.is_settled())
            || matches!(record.state, TaskState::Landed | TaskState::Discarded)
        {
            return Ok(record);
        }
        let lease = match (self.inner.environments.live(environment.id), environment.state) {
            (Some(live), _) => live.lease,
            (None, EnvironmentState::Removed | EnvironmentState::Creating) => return Ok(record),
            // Without processes, but with whatever was written since the last time.
            (None, _) => Lease::open(&self.inner.layout, environment.id).map_err(lease_problem)?,
        };
        let base = lease.terms().base.clone();
        let started: Vec<_> = lease.terms().others.iter().map(|o| (o.name.clone(), o.base.clone())).collect();
        let at = |name: &str| started.iter().find(|(other, _)| other == name).map(|(_, base)| base.as_str());
        let fresh = parts(&record).iter().all(|part| {
            let base = if part.main { Some(base.as_str()) } else { at(&part.name) };
            part.head.is_none() || part.head.as_deref() == base
        });
        let (untouched, written) =
            tokio::task::spawn_blocking(move || (fresh && lease.is_untouched(), lease.written()))
                .await
                .map_err(|e| Problem::internal("looking at the workspace was interrupted", &e))?;
        if untouched {
            // Nothing to bring out, and that is known without asking git.
            if record.head.is_some() {
                return Ok(record);
            }
            let nothing = Harvested {
                head: base,
                others: parts(&record)
                    .into_iter()
                    .filter(|part| !part.main)
                    .map(|part| PartHarvested::nothing(part.name, part.base))
                    .collect(),
                ..Harvested::default()
            };
            let run = record.run().map(|r| r.id);
            self.inner.ledger.append(record.id, run, vec![Event::Harvested(nothing)])?;
            return self.inner.ledger.task(record.id);
        }
        if self.inner.environments.is_harvested(environment.id, written.signature) {
            return Ok(record);
        }
        self.harvest(record.id, processes).await?;
        self.inner.ledger.task(record.id)
    }

    /// Brings a task's work into its target branch, or says why not and leaves everything as it was.
    pub async fn land(&self, task: &TaskRef, params: LandParams) -> Result<LandView, Problem> {
        let record = self.find(task)?;
        if record.state.after(offshoot_core::lifecycle::TaskChange::Land).is_none() {
            return Err(not_landable(&record));
        }
        refuse_restoring(&record)?;
        let record = self.brought_out(record, Processes::End).await?;
        if parts(&record).len() > 1 {
            return self.land_together(&record, params).await;
        }
        let Some(head) = record.head.clone().filter(|head| *head != record.base) else {
            return Err(nothing_to_land(&record));
        };
        let target =
            params.target.clone().or_else(|| record.target.clone()).ok_or_else(|| no_target(&record))?;
        self.refuse_uncommitted(&record, &head)?;
        let run = record.run().map(|r| r.id);
        let started = Event::LandingStarted {
            target: target.clone(),
            head: head.clone(),
            squash: params.squash,
            moves: Vec::new(),
        };
        self.inner.ledger.append(record.id, run, vec![started])?;
        offshoot_core::fault::point("land.recorded");
        let engine = self.clone();
        let (of, into) = (record.clone(), target.clone());
        let landed = tokio::task::spawn_blocking(move || engine.land_now(&of, &head, &into, &params))
            .await
            .map_err(|e| Problem::internal("the landing was interrupted", &e))?;
        match landed {
            Ok(view) => {
                self.landed(&record, &view).await;
                Ok(view)
            }
            Err(problem) => {
                let refused = Event::LandingRefused { reason: problem.message.clone() };
                self.inner.ledger.append(record.id, run, vec![refused])?;
                Err(problem)
            }
        }
    }

    /// An adopted worktree lands what its owner committed.
    pub(crate) fn refuse_uncommitted(&self, record: &TaskRecord, head: &str) -> Result<(), Problem> {
        let Some(path) = &record.adopted else { return Ok(()) };
        let tip = project::repository_of(&record.root)?.branch_commit(&record.branch).ok().flatten();
        if tip.is_some_and(|tip| tip.to_string() == head) {
            return Ok(());
        }
        Err(Problem::new(
            ProblemKind::Conflict,
            "uncommitted_changes",
            format!("{path} has changes that are not committed on {}", record.branch),
        )
        .hint("commit them there, then land again; nothing was changed"))
    }

    fn land_now(
        &self,
        record: &TaskRecord,
        head: &str,
        target: &str,
        params: &LandParams,
    ) -> Result<LandView, Problem> {
        let repository = project::repository_of(&record.root)?;
        let objects = self.inner.projects.open(record.project, &repository)?.objects;
        let head: Oid = head.parse().map_err(|e| Problem::internal("not a commit", &e))?;
        let message = self.message(record, params)?;
        let options = LandOptions { squash: params.squash, message, author: project::person(&repository) };
        let landed =
            land(&objects, &repository, &head, target, &options).map_err(|e| land_problem(record, e))?;
        Ok(LandView {
            target: target.to_owned(),
            commit: landed.commit.to_string(),
            how: word(landed.how).to_owned(),
            repositories: Vec::new(),
        })
    }

    /// The message of the commit that a landing makes, if it makes one.
    pub(crate) fn message(&self, record: &TaskRecord, params: &LandParams) -> Result<String, Problem> {
        if let Some(message) = &params.message {
            return Ok(message.clone());
        }
        let (squash, merge) = self.messages(record)?;
        Ok(if params.squash { squash } else { merge })
    }

    /// Records a landing and takes away what is not needed any more: environment and branch.
    pub(crate) async fn landed(&self, record: &TaskRecord, view: &LandView) {
        let run = record.run().map(|r| r.id);
        let mut events = Vec::new();
        if let Some(run) = record.run().filter(|run| !run.state.is_over()) {
            tracing::debug!(run = %run.id, "landed by hand");
            events.push(Event::RunEnded {
                end: offshoot_core::lifecycle::RunEnd::Stopped,
                reason: "landed".to_owned(),
            });
        }
        events.push(Event::Landed {
            target: view.target.clone(),
            commit: view.commit.clone(),
            repositories: view.repositories.clone(),
        });
        if let Err(problem) = self.inner.ledger.append(record.id, run, events) {
            tracing::error!(%problem, "landed, but could not record it");
            return;
        }
        let reason = format!("landed on {}", view.target);
        self.tidy_up(record, &reason).await;
        self.inner.secrets.forget(record.id);
        self.inner.wake.notify_one();
    }

    /// Takes away what a task that is landed or thrown away does not need any more: branch, then environment, whose
    /// recorded removal says after a crash that there is nothing left to do.
    pub(crate) async fn tidy_up(&self, record: &TaskRecord, reason: &str) {
        if let Err(problem) = self.removable(record) {
            tracing::warn!(task = %record.id, %problem, "an environment stays");
            return;
        }
        self.drop_branch(record).await;
        if let Err(problem) = self.remove_environment(record, reason).await {
            tracing::warn!(task = %record.id, %problem, "could not take an environment away");
        }
    }

    /// Takes the task's branches out of the user's repositories, where they still are what the task left.
    pub(crate) async fn drop_branch(&self, record: &TaskRecord) {
        if record.adopted.is_some() {
            return;
        }
        let own = record.environment.as_ref().and_then(|e| e.workspace.clone()).map(PathBuf::from);
        for part in parts(record) {
            // A worktree is made with its branch; in a sandbox a branch comes with the first commit.
            let base = (record.isolation == Isolation::Worktree).then_some(&part.base);
            let Some(head) = part.head.as_ref().or(base).and_then(|h| h.parse::<Oid>().ok()) else {
                continue;
            };
            let (branch, own) = (part.branch.clone(), own.clone());
            let dropped = tokio::task::spawn_blocking(move || {
                let repository = project::repository_of(&part.root)?;
                delete_branch_in(&repository, &part.branch, &head, own.as_deref())
                    .map_err(|e| Problem::new(ProblemKind::Conflict, "branch_kept", chain(&e)))
            })
            .await;
            fault::point("branch.dropped");
            if let Ok(Err(problem)) = dropped {
                tracing::info!(branch, %problem, "branch kept");
            }
        }
    }

    /// After a start: a landing that was cut off is found done, or done now, or refused.
    pub(crate) async fn finish_landing(&self, record: &TaskRecord) {
        let Some(landing) = record.landing.clone() else { return };
        if !landing.moves.is_empty() {
            return self.finish_together(record, landing.moves).await;
        }
        let engine = self.clone();
        let of = record.clone();
        let done = tokio::task::spawn_blocking(move || {
            let params = LandParams { squash: landing.squash, ..LandParams::default() };
            engine.land_now(&of, &landing.head, &landing.target, &params)
        })
        .await;
        match done {
            Ok(Ok(view)) => self.landed(record, &view).await,
            Ok(Err(problem)) => {
                let refused = Event::LandingRefused { reason: problem.message };
                if let Err(problem) =
                    self.inner.ledger.append(record.id, record.run().map(|r| r.id), vec![refused])
                {
                    tracing::error!(%problem, "could not record a refused landing");
                }
            }
            Err(error) => tracing::warn!(%error, "a landing could not be finished"),
        }
    }
}

/// Why a task in this state does not land.
pub(crate) fn not_landable(record: &TaskRecord) -> Problem {
    let text = format!("{} is {}; it cannot be landed", record.name, record.state.word());
    let problem = Problem::new(ProblemKind::Conflict, "wrong_state", text);
    match record.state.is_active() {
        true => problem.hint(format!("wait for it, or stop it with `offshoot stop {}`", record.name)),
        false => problem,
    }
}

pub(crate) fn nothing_to_land(record: &TaskRecord) -> Problem {
    let text = format!("{} has no commits of its own", record.name);
    Problem::new(ProblemKind::Conflict, "nothing_to_land", text)
        .hint(format!("`offshoot discard {}` takes it away", record.name))
}

pub(crate) fn no_target(record: &TaskRecord) -> Problem {
    let text = format!("{} was not started from a branch", record.name);
    Problem::new(ProblemKind::Invalid, "no_target", text).hint("name the branch to land on with --into")
}

/// How something landed, as the API says it.
pub(crate) fn word(how: How) -> &'static str {
    match how {
        How::UpToDate => "up_to_date",
        How::FastForward => "fast_forward",
        How::Merge => "merge",
        How::Squash => "squash",
    }
}

pub(crate) fn land_problem(record: &TaskRecord, error: LandError) -> Problem {
    let conflict = |code: &str| Problem::new(ProblemKind::Conflict, code, chain(&error));
    match &error {
        LandError::Conflicts { files, .. } => conflict("merge_conflict")
            .hint(format!(
                "nothing was changed; have it mended with `offshoot follow-up {} \"merge the target branch and resolve the conflicts\"`, or merge {} yourself",
                record.name, record.branch
            ))
            .detail(hunks(files)),
        LandError::LocalChanges { paths, .. } => conflict("local_changes")
            .hint("commit or stash these files, then land again; nothing was changed")
            .detail(paths.join("\n")),
        LandError::Busy { .. } => conflict("checkout_busy").hint("finish or abort that first; nothing was changed"),
        LandError::NoTarget(_) => {
            Problem::new(ProblemKind::NotFound, "unknown_target", chain(&error)).hint("name a branch with --into")
        }
        LandError::TargetMoved { .. } => conflict("target_moved").hint("land again"),
        LandError::Unrelated(_) => conflict("unrelated_history"),
        LandError::NoSuchCommit(_) | LandError::Export(_) | LandError::Git(_) => {
            project::git_problem("the landing failed", &error)
        }
    }
}

fn hunks(files: &[Conflict]) -> String {
    let mut text = String::new();
    for file in files {
        text.push_str(&format!("{} ({})\n{}\n", file.path, file.kind, file.hunks));
        if text.len() > HUNKS {
            let mut cut = HUNKS;
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            text.truncate(cut);
            text.push_str("\n…\n");
            break;
        }
    }
    text
}
