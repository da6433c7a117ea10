//! Looking at a task's work and landing it.

use std::path::PathBuf;

use offshoot_core::{
    api::{CommitView, DiffView, FileView, LandParams, LandView},
    event::{Changes, Event, Harvested},
    isolation::Isolation,
    lifecycle::{EnvironmentState, TaskState},
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
    time::Timestamp,
};
use offshoot_environment::lease::Lease;
use offshoot_git::{
    import::Limits,
    land::{How, LandError, LandOptions, land},
    merge::Conflict,
    oid::Oid,
    publish::delete_branch_in,
    view::{DiffOptions, Status},
};

use crate::{
    engine::{Engine, TaskRef},
    environments::lease_problem,
    harvest::{Processes, refused},
    project,
};

/// How much of a conflict is shown.
const HUNKS: usize = 16 * 1024;

impl Engine {
    /// What a task changed: against its base, or what one checkpoint changed against the one before.
    pub async fn diff(&self, task: &TaskRef, step: Option<u32>) -> Result<DiffView, Problem> {
        let record = self.find(task)?;
        let mut record = self.brought_out(record, Processes::Keep).await?;
        if record.agent.is_some() && record.state.is_active() {
            record = self.peeked(record).await?;
        }
        let engine = self.clone();
        tokio::task::spawn_blocking(move || engine.diff_of(&record, step))
            .await
            .map_err(|e| Problem::internal("the diff was interrupted", &e))?
    }

    /// The record of a task at work, with its checkpoints readable and the newest, taken now, for its head. Nothing of
    /// this is recorded as the task's result.
    async fn peeked(&self, record: TaskRecord) -> Result<TaskRecord, Problem> {
        let (Some(environment), Some(run)) = (&record.environment, record.run()) else { return Ok(record) };
        let Some(live) = self.inner.environments.live(environment.id) else { return Ok(record) };
        self.checkpoint(record.id, run.id, &live, "looked at").await?;
        let bundle = self.bundle(&record, &live, "look").await?;
        let name = format!("{}-look", run.id);
        let mut record = self.inner.ledger.task(record.id)?;
        let project = self.inner.projects.open(record.project, &project::repository_of(&record.root)?)?;
        let head = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(&bundle)
                .map_err(|e| Problem::internal("could not read the bundle", &e))?;
            project.objects.drop_run(&name).map_err(|e| project::git_problem("could not look again", &e))?;
            let imported = project.objects.import(&file, &name, &Limits::default()).map_err(refused)?;
            let _ = std::fs::remove_file(&bundle);
            Ok::<_, Problem>(imported.head)
        })
        .await
        .map_err(|e| Problem::internal("looking was interrupted", &e))??;
        let newest = record.checkpoints.last().map(|c| c.commit.clone());
        record.head = Some(newest.unwrap_or_else(|| head.to_string()));
        Ok(record)
    }

    fn diff_of(&self, record: &TaskRecord, step: Option<u32>) -> Result<DiffView, Problem> {
        let repository = project::repository_of(&record.root)?;
        let objects = self.inner.projects.open(record.project, &repository)?.objects;
        let parse = |text: &str| text.parse::<Oid>().map_err(|e| Problem::internal("not a commit", &e));
        let (base, head) = match step {
            None => (parse(&record.base)?, parse(record.head.as_ref().unwrap_or(&record.base))?),
            Some(step) => {
                let at = record.checkpoints.iter().position(|c| c.number == step).ok_or_else(|| {
                    Problem::new(
                        ProblemKind::NotFound,
                        "no_such_step",
                        format!("{} has no checkpoint {step}", record.name),
                    )
                    .hint(format!("`offshoot show {}` lists them", record.name))
                })?;
                let before = at.checked_sub(1).map_or(&record.base, |at| &record.checkpoints[at].commit);
                (parse(before)?, parse(&record.checkpoints[at].commit)?)
            }
        };
        let git = |e| project::git_problem("the diff could not be made", &e);
        for commit in [&base, &head] {
            if !objects.has_commit(commit).map_err(git)? {
                return Err(Problem::new(
                    ProblemKind::Conflict,
                    "not_brought_out",
                    "that checkpoint is still inside the environment",
                )
                .hint("it can be looked at when the run is over"));
            }
        }
        let diff = objects.diff(&base, &head, &DiffOptions::default()).map_err(git)?;
        let files = objects.files(&base, &head).map_err(git)?;
        let commits = if step.is_some() { Vec::new() } else { objects.commits(&base, &head).map_err(git)? };
        Ok(DiffView {
            base: base.to_string(),
            head: head.to_string(),
            files: files
                .into_iter()
                .map(|f| FileView {
                    status: letter(f.status).to_owned(),
                    added: (!f.binary).then_some(f.added),
                    deleted: (!f.binary).then_some(f.deleted),
                    path: f.path,
                    old_path: f.old_path,
                })
                .collect(),
            commits: commits
                .into_iter()
                .rev()
                .map(|c| CommitView {
                    commit: c.oid.to_string(),
                    subject: c.subject,
                    author: c.author,
                    at: Timestamp(c.at.saturating_mul(1000)),
                })
                .collect(),
            patch: String::from_utf8_lossy(&diff.patch).into_owned(),
            truncated: diff.truncated,
        })
    }

    /// The record of a task after what its environment holds was brought out, if that can be done now: not while an
    /// agent works, and not if nothing changed since the last time.
    pub(crate) async fn brought_out(
        &self,
        record: TaskRecord,
        processes: Processes,
    ) -> Result<TaskRecord, Problem> {
        let Some(environment) = &record.environment else { return Ok(record) };
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
        let fresh = record.head.as_ref().is_none_or(|head| *head == base);
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
                commits: 0,
                changes: Changes::default(),
                leftovers: false,
                unpublished: None,
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
            let problem = Problem::new(
                ProblemKind::Conflict,
                "wrong_state",
                format!("{} is {}; it cannot be landed", record.name, record.state.word()),
            );
            return Err(if record.state.is_active() {
                problem.hint(format!("wait for it, or stop it with `offshoot stop {}`", record.name))
            } else {
                problem
            });
        }
        let record = self.brought_out(record, Processes::End).await?;
        let Some(head) = record.head.clone().filter(|head| *head != record.base) else {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "nothing_to_land",
                format!("{} has no commits of its own", record.name),
            )
            .hint(format!("`offshoot discard {}` takes it away", record.name)));
        };
        let target = params.target.clone().or_else(|| record.target.clone()).ok_or_else(|| {
            Problem::new(
                ProblemKind::Invalid,
                "no_target",
                format!("{} was not started from a branch", record.name),
            )
            .hint("name the branch to land on with --into")
        })?;
        self.refuse_uncommitted(&record, &head)?;
        let run = record.run().map(|r| r.id);
        let started =
            Event::LandingStarted { target: target.clone(), head: head.clone(), squash: params.squash };
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
    fn refuse_uncommitted(&self, record: &TaskRecord, head: &str) -> Result<(), Problem> {
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
        let message = params.message.clone().unwrap_or_else(|| message(record, params.squash));
        let options = LandOptions { squash: params.squash, message, author: project::person(&repository) };
        let landed =
            land(&objects, &repository, &head, target, &options).map_err(|e| land_problem(record, e))?;
        let how = match landed.how {
            How::UpToDate => "up_to_date",
            How::FastForward => "fast_forward",
            How::Merge => "merge",
            How::Squash => "squash",
        };
        Ok(LandView { target: target.to_owned(), commit: landed.commit.to_string(), how: how.to_owned() })
    }

    /// Records a landing and takes away what is not needed any more: environment and branch.
    async fn landed(&self, record: &TaskRecord, view: &LandView) {
        let run = record.run().map(|r| r.id);
        let mut events = Vec::new();
        if let Some(run) = record.run().filter(|run| !run.state.is_over()) {
            tracing::debug!(run = %run.id, "landed by hand");
            events.push(Event::RunEnded {
                end: offshoot_core::lifecycle::RunEnd::Stopped,
                reason: "landed".to_owned(),
            });
        }
        events.push(Event::Landed { target: view.target.clone(), commit: view.commit.clone() });
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

    /// Takes the task's branch out of the user's repository, if it still is what the task left.
    pub(crate) async fn drop_branch(&self, record: &TaskRecord) {
        // A worktree is made with its branch; in a sandbox a branch comes with the first commit.
        let base = (record.isolation == Isolation::Worktree).then_some(&record.base);
        let Some(head) = record.head.as_ref().or(base).and_then(|h| h.parse::<Oid>().ok()) else { return };
        if record.adopted.is_some() {
            return;
        }
        let (root, branch) = (record.root.clone(), record.branch.clone());
        let own = record.environment.as_ref().and_then(|e| e.workspace.clone()).map(PathBuf::from);
        let dropped = tokio::task::spawn_blocking(move || {
            let repository = project::repository_of(&root)?;
            delete_branch_in(&repository, &branch, &head, own.as_deref())
                .map_err(|e| Problem::new(ProblemKind::Conflict, "branch_kept", chain(&e)))
        })
        .await;
        if let Ok(Err(problem)) = dropped {
            tracing::info!(branch = record.branch, %problem, "branch kept");
        }
    }

    /// After a start: a landing that was cut off is found done, or done now, or refused.
    pub(crate) async fn finish_landing(&self, record: &TaskRecord) {
        let Some(landing) = record.landing.clone() else { return };
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

fn message(record: &TaskRecord, squash: bool) -> String {
    let prompt = record.runs.first().map(|r| r.prompt.clone()).unwrap_or_default();
    let subject: String = prompt.lines().next().unwrap_or_default().chars().take(72).collect();
    if squash && !subject.trim().is_empty() {
        return if prompt.lines().count() > 1 { format!("{subject}\n\n{prompt}") } else { subject };
    }
    format!("Merge {}\n\n{prompt}", record.branch)
}

fn letter(status: Status) -> &'static str {
    match status {
        Status::Added => "A",
        Status::Modified => "M",
        Status::Deleted => "D",
        Status::Renamed => "R",
        Status::TypeChanged => "T",
    }
}

fn land_problem(record: &TaskRecord, error: LandError) -> Problem {
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
