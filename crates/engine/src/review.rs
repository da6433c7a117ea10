//! Looking at a task's work and landing it.

use std::path::PathBuf;

use offshoot_core::{
    api::{CommitView, DiffView, FileView, LandParams, LandView, RepositoryDiff},
    event::{Event, Harvested},
    fault,
    isolation::Isolation,
    lifecycle::{EnvironmentState, TaskState},
    part::PartHarvested,
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
    parts::{Part, parts},
    project,
};

/// How much of a conflict is shown.
const HUNKS: usize = 16 * 1024;

impl Engine {
    /// What a task changed: against its base, or what one checkpoint changed against the one before; in all of its
    /// repositories, or in one.
    pub async fn diff(&self, task: &TaskRef, request: crate::DiffRequest) -> Result<DiffView, Problem> {
        let crate::DiffRequest { step, repository, .. } = request;
        let record = self.find(task)?;
        if let Some(name) = &repository {
            part_named(&record, name)?;
        }
        let mut record = self.brought_out(record, Processes::Keep).await?;
        if record.agent.is_some() && record.state.is_active() {
            record = self.peeked(record).await?;
        }
        let engine = self.clone();
        tokio::task::spawn_blocking(move || engine.diff_of(&record, step, repository.as_deref()))
            .await
            .map_err(|e| Problem::internal("the diff was interrupted", &e))?
    }

    /// The record of a task at work, with its checkpoints readable and the newest, taken now, for its head. Nothing of
    /// this is recorded as the task's result.
    async fn peeked(&self, record: TaskRecord) -> Result<TaskRecord, Problem> {
        let (Some(environment), Some(run)) = (&record.environment, record.run()) else { return Ok(record) };
        let Some(live) = self.inner.environments.live(environment.id) else { return Ok(record) };
        self.checkpoint(record.id, run.id, &live, "looked at").await?;
        let name = format!("{}-look", run.id);
        let mut record = self.inner.ledger.task(record.id)?;
        for part in parts(&record) {
            let bundle = self.bundle(&part, &live, "look").await?;
            let project = self.inner.projects.of_part(part.project, &part.root)?;
            let name = name.clone();
            let head = tokio::task::spawn_blocking(move || {
                let file = std::fs::File::open(&bundle)
                    .map_err(|e| Problem::internal("could not read the bundle", &e))?;
                project
                    .objects
                    .drop_run(&name)
                    .map_err(|e| project::git_problem("could not look again", &e))?;
                let imported = project.objects.import(&file, &name, &Limits::default()).map_err(refused)?;
                let _ = std::fs::remove_file(&bundle);
                Ok::<_, Problem>(imported.head)
            })
            .await
            .map_err(|e| Problem::internal("looking was interrupted", &e))??;
            let head = Some(part.newest.clone().unwrap_or_else(|| head.to_string()));
            if part.main {
                record.head = head;
            } else if let Some(other) = record.others.iter_mut().find(|other| other.name == part.name) {
                other.head = head;
            }
        }
        Ok(record)
    }

    fn diff_of(
        &self,
        record: &TaskRecord,
        step: Option<u32>,
        only: Option<&str>,
    ) -> Result<DiffView, Problem> {
        let wanted = parts(record).into_iter().filter(|part| only.is_none_or(|only| part.name == only));
        let mut whole: Option<DiffView> = None;
        for part in wanted {
            let prefix = if only.is_some() { String::new() } else { part.prefix() };
            let mut view = self.diff_in(record, &part, &prefix, step)?;
            if !part.name.is_empty() {
                view.repositories = vec![RepositoryDiff {
                    name: part.name.clone(),
                    base: view.base.clone(),
                    head: view.head.clone(),
                    files: u32::try_from(view.files.len()).unwrap_or(u32::MAX),
                }];
                view.commits.iter_mut().for_each(|commit| commit.repository = Some(part.name.clone()));
            }
            match &mut whole {
                None => whole = Some(view),
                Some(whole) => {
                    whole.files.extend(view.files);
                    whole.commits.extend(view.commits);
                    whole.repositories.extend(view.repositories);
                    // What follows a patch that was cut belongs to nothing.
                    if !whole.truncated {
                        whole.patch.push_str(&view.patch);
                        whole.truncated = view.truncated;
                    }
                }
            }
        }
        whole.ok_or_else(|| {
            Problem::new(ProblemKind::NotFound, "unknown_repository", "there is none of that name")
        })
    }

    /// The diff of one of a task's repositories, with `prefix` before its paths.
    fn diff_in(
        &self,
        record: &TaskRecord,
        part: &Part,
        prefix: &str,
        step: Option<u32>,
    ) -> Result<DiffView, Problem> {
        let objects = self.inner.projects.of_part(part.project, &part.root)?.objects;
        let parse = |text: &str| text.parse::<Oid>().map_err(|e| Problem::internal("not a commit", &e));
        let (base, head) = match step {
            None => (parse(&part.base)?, parse(part.head.as_ref().unwrap_or(&part.base))?),
            Some(step) => {
                let at = record.checkpoints.iter().position(|c| c.number == step).ok_or_else(|| {
                    Problem::new(
                        ProblemKind::NotFound,
                        "no_such_step",
                        format!("{} has no checkpoint {step}", record.name),
                    )
                    .hint(format!("`offshoot show {}` lists them", record.name))
                })?;
                let steps = part.steps(record);
                let commit = steps.get(at).unwrap_or(&part.base);
                let before = at.checked_sub(1).and_then(|at| steps.get(at)).unwrap_or(&part.base);
                (parse(before)?, parse(commit)?)
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
        let options = DiffOptions { prefix: prefix.to_owned(), ..DiffOptions::default() };
        let diff = objects.diff(&base, &head, &options).map_err(git)?;
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
                    path: format!("{prefix}{}", f.path),
                    old_path: f.old_path.map(|path| format!("{prefix}{path}")),
                    binary: f.binary,
                    ..FileView::default()
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
                    repository: None,
                })
                .collect(),
            repositories: Vec::new(),
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
        if parts(&record).len() > 1 {
            return self.land_together(&record, params).await;
        }
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
        Ok(LandView {
            target: target.to_owned(),
            commit: landed.commit.to_string(),
            how: word(landed.how).to_owned(),
            repositories: Vec::new(),
        })
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

pub(crate) fn message(record: &TaskRecord, squash: bool) -> String {
    let prompt = record.runs.first().map(|r| r.prompt.clone()).unwrap_or_default();
    let subject: String = prompt.lines().next().unwrap_or_default().chars().take(72).collect();
    if squash && !subject.trim().is_empty() {
        return if prompt.lines().count() > 1 { format!("{subject}\n\n{prompt}") } else { subject };
    }
    format!("Merge {}\n\n{prompt}", record.branch)
}

/// A repository of the task, by the name that a person gave.
fn part_named(record: &TaskRecord, name: &str) -> Result<Part, Problem> {
    let all = parts(record);
    let known: Vec<_> = all.iter().map(|part| part.name.clone()).filter(|name| !name.is_empty()).collect();
    all.into_iter().find(|part| !name.is_empty() && part.name == name).ok_or_else(|| {
        let text = format!("{} is not about a repository {name:?}", record.name);
        let problem = Problem::new(ProblemKind::NotFound, "unknown_repository", text);
        match known.is_empty() {
            true => problem.hint("it is about one repository only: leave --repo out"),
            false => problem.hint(format!("it is about {}", known.join(", "))),
        }
    })
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

fn letter(status: Status) -> &'static str {
    match status {
        Status::Added => "A",
        Status::Modified => "M",
        Status::Deleted => "D",
        Status::Renamed => "R",
        Status::TypeChanged => "T",
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

use offshoot_core::api::{
    CheckView, CommentList, CommentParams, CommentView, FileText, LandingView, SendCommentsParams, TaskView,
};
fn later() -> Problem {
    Problem::new(ProblemKind::Unavailable, "not_yet", "this comes with the next change")
}
#[expect(missing_docs, reason = "they come with the next change")]
impl Engine {
    pub async fn file(&self, _: &TaskRef, _: crate::FileRequest) -> Result<FileText, Problem> {
        Err(later())
    }
    pub async fn set_scope(&self, _: &TaskRef, _: Vec<String>) -> Result<TaskView, Problem> {
        Err(later())
    }
    pub async fn comments(&self, _: &TaskRef) -> Result<CommentList, Problem> {
        Err(later())
    }
    pub async fn comment(&self, _: &TaskRef, _: CommentParams) -> Result<CommentView, Problem> {
        Err(later())
    }
    pub async fn change_comment(&self, _: &TaskRef, _: u32, _: String) -> Result<CommentView, Problem> {
        Err(later())
    }
    pub async fn remove_comment(&self, _: &TaskRef, _: u32) -> Result<CommentList, Problem> {
        Err(later())
    }
    pub async fn send_comments(&self, _: &TaskRef, _: SendCommentsParams) -> Result<TaskView, Problem> {
        Err(later())
    }
    pub async fn check_log(&self, _: &TaskRef, _: u32) -> Result<CheckView, Problem> {
        Err(later())
    }
    pub async fn restore(&self, _: &TaskRef, _: u32) -> Result<TaskView, Problem> {
        Err(later())
    }
    pub async fn landing(&self, _: &TaskRef, _: crate::LandingRequest) -> Result<LandingView, Problem> {
        Err(later())
    }
}
