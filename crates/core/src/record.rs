//! Projections: what the log adds up to. `TaskRecord::apply` is the only place where an event changes a record,
//! so dropping the records and folding the log again gives the same.

mod approvals;
mod review;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    agent::{AgentEvent, PermissionPolicy, ToolStatus},
    approval::ApprovalRecord,
    comment::CommentRecord,
    egress::EgressRule,
    event::{Changes, Entry, Event, Limits, ServiceView},
    id::{EnvironmentId, ProjectId, RunId, TaskId},
    isolation::Isolation,
    lifecycle::{
        AppState, EnvironmentChange, EnvironmentState, RunChange, RunEnd, RunState, ServiceState, TaskChange,
        TaskState,
    },
    name::TaskName,
    part::{BranchMove, PartRecord},
    rule::RuleRecord,
    time::Timestamp,
};

/// A task with its runs and its environment, as the log tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskRecord {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub name: TaskName,
    /// Its project.
    pub project: ProjectId,
    /// The repository's root.
    pub root: String,
    /// Base commit.
    pub base: String,
    /// Where a landing goes.
    pub target: Option<String>,
    /// Its own branch.
    pub branch: String,
    /// Its agent; `None` for an environment by hand.
    pub agent: Option<String>,
    /// What kind of environment it gets.
    #[serde(default)]
    pub isolation: Isolation,
    /// The worktree it was made from, which is not Offshoot's to delete.
    #[serde(default)]
    pub adopted: Option<String>,
    /// What its main repository is called beside the others; empty if it is the only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// Its other repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<PartRecord>,
    /// The paths it is to touch, as patterns; none for everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// It is the one instance of the repository's shared apps, at this branch; empty for the branch that was checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
    /// Notices given when it was created.
    pub notices: Vec<String>,
    /// Where it stands.
    pub state: TaskState,
    /// Since when.
    pub state_since: Timestamp,
    /// Why somebody has to look, or why the last run ended as it did.
    pub reason: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When anything last happened to it.
    pub updated_at: Timestamp,
    /// Its runs, oldest first.
    pub runs: Vec<RunRecord>,
    /// Its environment, if it has one.
    pub environment: Option<EnvironmentRecord>,
    /// The agent's session, for a follow-up to resume.
    pub session: Option<String>,
    /// The newest tool call, for people.
    pub latest_tool: Option<String>,
    /// What its workspace holds against its base.
    pub changes: Changes,
    /// Its checkpoints, oldest first.
    pub checkpoints: Vec<CheckpointRecord>,
    /// Tip of its branch, once something was brought out.
    pub head: Option<String>,
    /// Why the branch in the user's repository does not have `head`, if so.
    pub unpublished: Option<String>,
    /// The commit that a landing made.
    pub landed: Option<String>,
    /// A landing that was begun and neither done nor refused.
    pub landing: Option<Landing>,
    /// What waits for a person, and what was answered and not handed over yet, oldest first.
    #[serde(default)]
    pub approvals: Vec<ApprovalRecord>,
    /// Whether it was idle when connections of its environment began to wait for a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rests: bool,
    /// How many approvals there ever were.
    #[serde(default)]
    pub approvals_asked: u32,
    /// Standing rules that were made here, oldest first.
    #[serde(default)]
    pub rules: Vec<RuleRecord>,
    /// Comments on lines, oldest first: drafts, and the newest of those that were sent.
    #[serde(default)]
    pub comments: Vec<CommentRecord>,
    /// How many comments there ever were.
    #[serde(default)]
    pub comments_made: u32,
    /// The checkpoint that the workspace is being brought back to.
    #[serde(default)]
    pub restoring: Option<u32>,
    /// The checkpoint that it was brought back to since the last run.
    #[serde(default)]
    pub restored: Option<u32>,
}

/// A landing in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Landing {
    /// Into which branch.
    pub target: String,
    /// Which commit.
    pub head: String,
    /// As one commit?
    pub squash: bool,
    /// With several repositories: every branch that is to move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<BranchMove>,
}

/// One run, as the log tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// Number within the task, from 1.
    pub number: u32,
    /// What was asked.
    pub prompt: String,
    /// The model, if one was named.
    pub model: Option<String>,
    /// The command that must succeed at the end.
    pub check: Option<String>,
    /// Names of variables the user let in.
    pub pass_env: Vec<String>,
    /// What permission requests get.
    pub permission: PermissionPolicy,
    /// What the agent is told besides the project's instructions.
    #[serde(default)]
    pub instructions: Option<String>,
    /// Hosts that may be reached.
    #[schema(value_type = Vec<String>)]
    pub egress: Vec<EgressRule>,
    /// Limits of the environment.
    pub limits: Limits,
    /// Where it stands.
    pub state: RunState,
    /// When it was asked for.
    pub queued_at: Timestamp,
    /// When it was admitted.
    pub started_at: Option<Timestamp>,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Process of its agent in the sandbox; also the name of the journal.
    pub exec: Option<String>,
    /// How far the journal has been interpreted.
    pub offset: u64,
    /// Whether a person asked for it to be stopped.
    pub stop_requested: bool,
    /// Result of the check.
    pub check_code: Option<i32>,
    /// End of the check's output.
    pub check_output: Option<String>,
    /// Why its agent failed, if it did.
    pub failure: Option<String>,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// Tokens read, as far as the agent tells.
    pub input_tokens: u64,
    /// Tokens written, as far as the agent tells.
    pub output_tokens: u64,
    /// The agent's own estimate of the cost in US dollars.
    pub cost_usd: Option<f64>,
    /// What its agent is to be told about requests that a person denied, oldest first.
    #[serde(default)]
    pub denials: Vec<String>,
    /// What would be said about a denial after which its agent did nothing more.
    #[serde(default)]
    pub denied: Option<String>,
    /// The checkpoint that the workspace was brought back to before it.
    #[serde(default)]
    pub restored: Option<u32>,
}

/// An environment, as the log tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentRecord {
    /// Its id.
    pub id: EnvironmentId,
    /// The commit it started from.
    pub base: String,
    /// Key of its setup layer.
    pub setup: Option<String>,
    /// Where its files are on the host, if that is a place for people: a worktree.
    #[serde(default)]
    pub workspace: Option<String>,
    /// Where it stands.
    pub state: EnvironmentState,
    /// Since when.
    pub since: Timestamp,
    /// The tier of isolation it has.
    pub tier: Option<String>,
    /// Limits that are only watched.
    pub soft_limits: Vec<String>,
    /// How long it took to come up, in microseconds.
    pub up_us: Option<u64>,
    /// Its services, in the order in which they are started.
    #[serde(default)]
    pub services: Vec<ServiceRecord>,
    /// Apps that were ever started in it, by name.
    #[serde(default)]
    pub apps: Vec<AppRecord>,
}

/// A service of an environment, as the log tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceRecord {
    /// What it is.
    pub service: ServiceView,
    /// Where it stands.
    pub state: ServiceState,
    /// Since when.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Id of its newest process; also the name of the journal.
    #[serde(default)]
    pub exec: Option<String>,
    /// How long its last start took until it was ready, in milliseconds.
    pub ready_ms: Option<u64>,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it failed, or fails its health check, if it did.
    pub reason: Option<String>,
    /// The end of what it said when it failed.
    pub log: Option<String>,
}

/// An app, as the log tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppRecord {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: AppState,
    /// Since when.
    pub since: Timestamp,
    /// Id of its newest process; also the name of the journal.
    pub exec: String,
    /// The port it is expected to listen at inside.
    pub port: Option<u16>,
    /// How it ended, for people.
    pub reason: Option<String>,
}

/// A snapshot of the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointRecord {
    /// Number within the task, from 1.
    pub number: u32,
    /// The commit that holds it.
    pub commit: String,
    /// What it was taken after.
    pub title: String,
    /// Files that differ from the one before.
    pub changed: u32,
    /// When.
    pub at: Timestamp,
}

/// An event that does not fit the records it is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// The first event of a task is not its creation.
    #[error("the task has no record yet")]
    NoTask,
    /// The event's run is not one of the task's.
    #[error("the task has no such run")]
    NoRun,
    /// The event's environment is not the task's.
    #[error("the task has no such environment")]
    NoEnvironment,
    /// The event's repository is not one of the task's.
    #[error("the task has no such repository")]
    NoRepository,
    /// The event's service is not one of the environment's.
    #[error("the environment has no such service")]
    NoService,
    /// The event's comment is not one of the task's, or cannot be changed any more.
    #[error("the task has no such draft")]
    NoComment,
    /// The event's checkpoint is not one of the task's.
    #[error("the task has no such checkpoint")]
    NoCheckpoint,
    /// The event's approval or rule is not one of the task's.
    #[error("the task has no such approval")]
    NoApproval,
    /// The transition table does not have this step.
    #[error("a {what} that is {from} cannot {change}")]
    Transition {
        /// Task, run, environment or approval.
        what: &'static str,
        /// The state it is in.
        from: String,
        /// The change asked for.
        change: String,
    },
}

impl TaskRecord {
    /// The record a task starts with. The entry must be its creation.
    pub fn create(entry: &Entry) -> Result<Self, FoldError> {
        let Event::TaskCreated(created) = &entry.event else { return Err(FoldError::NoTask) };
        let created = created.clone();
        Ok(Self {
            id: entry.task,
            name: created.name,
            project: created.project,
            root: created.root,
            base: created.base,
            target: created.target,
            branch: created.branch,
            agent: created.agent,
            isolation: created.isolation,
            adopted: created.adopted,
            repository: created.repository,
            others: created.others.into_iter().map(PartRecord::new).collect(),
            scope: created.scope,
            shared: created.shared,
            notices: created.notices,
            // A task is born settled; the run that is queued in the same transaction makes it wait.
            state: TaskState::Stopped,
            state_since: entry.at,
            reason: None,
            created_at: entry.at,
            updated_at: entry.at,
            runs: Vec::new(),
            environment: None,
            session: None,
            latest_tool: None,
            changes: Changes::default(),
            checkpoints: Vec::new(),
            head: None,
            unpublished: None,
            landed: None,
            landing: None,
            approvals: Vec::new(),
            rests: false,
            approvals_asked: 0,
            rules: Vec::new(),
            comments: Vec::new(),
            comments_made: 0,
            restoring: None,
            restored: None,
        })
    }

    /// The newest run.
    pub fn run(&self) -> Option<&RunRecord> {
        self.runs.last()
    }

    /// Whether the task holds work that is neither landed nor thrown away.
    pub fn has_unlanded_work(&self) -> bool {
        // What shared apps write is nobody's work.
        self.shared.is_none()
            && !matches!(self.state, TaskState::Landed | TaskState::Discarded)
            && (self.head.as_ref().is_some_and(|head| *head != self.base)
                || self.changes.files > 0
                || self.others.iter().any(PartRecord::has_work))
    }

    /// Another repository of the task, by its name.
    pub fn other(&self, name: &str) -> Option<&PartRecord> {
        self.others.iter().find(|part| part.name == name)
    }

    /// Folds one event in. Refuses what the transition tables refuse and leaves the record as it was.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let mut next = self.clone();
        next.fold(entry)?;
        next.updated_at = entry.at;
        *self = next;
        Ok(())
    }

    fn fold(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let at = entry.at;
        match &entry.event {
            Event::TaskCreated(_) => return Err(FoldError::NoTask),
            Event::RunQueued(queued) => {
                self.not_restoring("Queue")?;
                self.change(TaskChange::Queue, at)?;
                self.reason = None;
                self.runs.push(RunRecord {
                    id: entry.run.ok_or(FoldError::NoRun)?,
                    number: queued.number,
                    prompt: queued.prompt.clone(),
                    model: queued.model.clone(),
                    check: queued.check.clone(),
                    pass_env: queued.pass_env.clone(),
                    permission: queued.permission,
                    instructions: queued.instructions.clone(),
                    egress: queued.egress.clone(),
                    limits: queued.limits,
                    state: RunState::Queued,
                    queued_at: at,
                    started_at: None,
                    ended_at: None,
                    exec: None,
                    offset: 0,
                    stop_requested: false,
                    check_code: None,
                    check_output: None,
                    failure: None,
                    reason: None,
                    input_tokens: 0,
                    output_tokens: 0,
                    cost_usd: None,
                    denials: Vec::new(),
                    denied: None,
                    restored: self.restored.take(),
                });
            }
            Event::RunAdmitted => {
                self.change(TaskChange::Start, at)?;
                let run = self.run_mut(entry)?;
                run.change(RunChange::Admit)?;
                run.started_at = Some(at);
            }
            Event::EnvironmentCreating(creating) => {
                if self.environment.as_ref().is_some_and(|e| e.state != EnvironmentState::Removed) {
                    return Err(FoldError::NoEnvironment);
                }
                self.environment = Some(EnvironmentRecord {
                    id: creating.environment,
                    base: creating.base.clone(),
                    setup: creating.setup.clone(),
                    workspace: creating.workspace.clone(),
                    state: EnvironmentState::Creating,
                    since: at,
                    tier: None,
                    soft_limits: Vec::new(),
                    up_us: None,
                    services: creating.services.iter().cloned().map(ServiceRecord::new).collect(),
                    apps: Vec::new(),
                });
            }
            Event::EnvironmentUp { environment, tier, soft_limits, took_us } => {
                let env = self.environment_mut(*environment)?;
                env.change(EnvironmentChange::Up, at)?;
                env.tier = Some(tier.clone());
                env.soft_limits.clone_from(soft_limits);
                env.up_us = Some(*took_us);
                self.latest_tool = None;
            }
            Event::EnvironmentSuspended { environment } => {
                self.environment_mut(*environment)?.change(EnvironmentChange::Suspend, at)?;
            }
            Event::EnvironmentResumed { environment } => {
                self.environment_mut(*environment)?.change(EnvironmentChange::Resume, at)?;
            }
            Event::EnvironmentLost { environment, .. } => {
                let environment = self.environment_mut(*environment)?;
                environment.change(EnvironmentChange::Lose, at)?;
                for service in environment.services.iter_mut().filter(|s| s.state != ServiceState::Stopped) {
                    service.stands(ServiceState::Waiting, at);
                }
                for app in environment.apps.iter_mut().filter(|app| app.state == AppState::Running) {
                    app.state = AppState::Interrupted;
                    app.since = at;
                }
            }
            Event::EnvironmentRemoved { environment, .. } => {
                let env = self.environment_mut(*environment)?;
                env.change(EnvironmentChange::Remove, at)?;
                env.apps.clear();
            }
            Event::ServiceStarting { environment, service, exec } => {
                let service = self.service_mut(*environment, service)?;
                service.stands(ServiceState::Starting, at);
                service.exec.clone_from(exec);
            }
            Event::ServiceReady { environment, service, took_ms } => {
                let service = self.service_mut(*environment, service)?;
                service.stands(ServiceState::Ready, at);
                service.ready_ms = Some(*took_ms);
            }
            Event::ServiceUnhealthy { environment, service, reason } => {
                let service = self.service_mut(*environment, service)?;
                service.stands(ServiceState::Unhealthy, at);
                service.reason = Some(reason.clone());
            }
            Event::ServiceHealthy { environment, service } => {
                let service = self.service_mut(*environment, service)?;
                service.stands(ServiceState::Ready, at);
                service.reason = None;
            }
            Event::ServiceCompleted { environment, service } => {
                self.service_mut(*environment, service)?.stands(ServiceState::Completed, at);
            }
            Event::ServiceStopped { environment, service } => {
                let service = self.service_mut(*environment, service)?;
                service.stands(ServiceState::Stopped, at);
                service.reason = None;
            }
            Event::ServiceFailed { environment, service, reason, log, again } => {
                let service = self.service_mut(*environment, service)?;
                service.stands(if *again { ServiceState::Waiting } else { ServiceState::Failed }, at);
                service.restarts += u32::from(*again);
                service.reason = Some(reason.clone());
                service.log = Some(log.clone());
            }
            Event::EgressRefused { .. } => {}
            Event::Noticed { notices } => self.notices.extend(notices.iter().cloned()),
            Event::Preparing { step } => self.latest_tool = Some(step.clone()),
            Event::AppStarted { environment, app, exec, port } => {
                let record = AppRecord {
                    name: app.clone(),
                    state: AppState::Running,
                    since: at,
                    exec: exec.clone(),
                    port: *port,
                    reason: None,
                };
                let apps = &mut self.environment_mut(*environment)?.apps;
                match apps.iter_mut().find(|known| known.name == *app) {
                    Some(known) => *known = record,
                    None => apps.push(record),
                }
            }
            Event::AppEnded { environment, app, exec, reason, .. } => {
                let apps = &mut self.environment_mut(*environment)?.apps;
                // One that was started again meanwhile goes on.
                if let Some(known) = apps.iter_mut().find(|known| known.name == *app && known.exec == *exec) {
                    known.state = AppState::Ended;
                    known.since = at;
                    known.reason = Some(reason.clone());
                }
            }
            Event::AgentStarted { exec } => {
                self.latest_tool = None;
                let run = self.run_mut(entry)?;
                if run.state != RunState::Working {
                    run.change(RunChange::Work)?;
                }
                if run.exec.as_ref() != Some(exec) {
                    run.exec = Some(exec.clone());
                    run.offset = 0;
                }
            }
            Event::SessionLost => {
                self.session = None;
                let run = self.run_mut(entry)?;
                run.exec = None;
                run.offset = 0;
            }
            Event::Agent { agent, offset } => {
                let run = self.run_mut(entry)?;
                run.offset = run.offset.max(*offset);
                self.fold_agent(entry, agent)?;
            }
            Event::Checkpoint { number, commit, title, changed, others } => {
                for taken in others {
                    self.other_mut(&taken.name)?.checkpoint(*number, taken);
                }
                self.checkpoints.push(CheckpointRecord {
                    number: *number,
                    commit: commit.clone(),
                    title: title.clone(),
                    changed: *changed,
                    at,
                });
            }
            Event::Changes(changes) => self.changes = changes.clone(),
            Event::AttentionNeeded { reason } => {
                if self.state != TaskState::NeedsAttention {
                    self.change(TaskChange::Attend, at)?;
                }
                self.reason = Some(reason.clone());
            }
            Event::ApprovalRequested(asked) => self.asked(entry, asked)?,
            Event::ApprovalAnswered(answered) => self.answered(entry, answered)?,
            Event::ApprovalWithdrawn { approval, .. } => self.withdrawn(entry, *approval)?,
            Event::RuleRemoved { rule } => self.rule_removed(*rule)?,
            Event::AttentionSettled if self.waiting().next().is_some() => self.rests = false,
            Event::AgentResting if self.waiting().next().is_some() => self.rests = true,
            Event::AttentionSettled => {
                self.rests = false;
                if self.state != TaskState::Running {
                    self.change(TaskChange::Proceed, at)?;
                }
                self.reason = None;
            }
            Event::AgentResting => {
                if self.state != TaskState::Idle {
                    self.change(TaskChange::Rest, at)?;
                }
                self.reason = None;
            }
            Event::StopRequested => self.run_mut(entry)?.stop_requested = true,
            Event::CheckStarted { .. } => self.run_mut(entry)?.change(RunChange::Check)?,
            Event::CheckEnded { code, output } => {
                let run = self.run_mut(entry)?;
                run.check_code = Some(code.unwrap_or(-1));
                run.check_output = Some(output.clone());
            }
            Event::AgentFailed { reason } => self.run_mut(entry)?.failure = Some(reason.clone()),
            Event::Harvesting => {
                let run = self.run_mut(entry)?;
                if run.state != RunState::Harvesting {
                    run.change(RunChange::Harvest)?;
                }
            }
            Event::Harvested(harvested) => {
                self.head = Some(harvested.head.clone());
                self.changes = harvested.changes.clone();
                self.unpublished.clone_from(&harvested.unpublished);
                for part in &harvested.others {
                    self.other_mut(&part.name)?.harvested(part);
                }
            }
            Event::RunEnded { end, reason } => {
                let run = self.run_mut(entry)?;
                run.change(RunChange::End(*end))?;
                run.ended_at = Some(at);
                run.reason = Some(reason.clone());
                let run = run.id;
                self.approvals.retain(|approval| approval.run != run);
                self.rests = false;
                self.change(
                    match end {
                        RunEnd::Complete => TaskChange::Complete,
                        RunEnd::Failed => TaskChange::Fail,
                        RunEnd::Stopped => TaskChange::Stop,
                    },
                    at,
                )?;
                self.reason = Some(reason.clone());
            }
            Event::ScopeChanged { scope } => self.scope.clone_from(scope),
            Event::CommentAdded(added) => self.commented(added, at),
            Event::CommentChanged { number, text } => self.comment_changed(*number, text, at)?,
            Event::CommentRemoved { number } => self.comment_removed(*number)?,
            Event::CommentsSent { numbers } => self.comments_sent(entry, numbers)?,
            Event::RestoreStarted { step } => self.restore_started(*step)?,
            Event::Restored { step } => {
                self.restoring = None;
                self.restored = Some(*step);
            }
            Event::RestoreFailed { .. } => self.restoring = None,
            Event::LandingStarted { target, head, squash, moves } => {
                self.not_restoring("Land")?;
                let (target, head) = (target.clone(), head.clone());
                self.landing = Some(Landing { target, head, squash: *squash, moves: moves.clone() });
            }
            Event::LandingRefused { .. } => self.landing = None,
            Event::Landed { commit, repositories, .. } => {
                self.change(TaskChange::Land, at)?;
                self.landed = Some(commit.clone());
                for landed in repositories.iter().filter(|landed| landed.repository != self.repository) {
                    let part = self.others.iter_mut().find(|part| part.name == landed.repository);
                    part.ok_or(FoldError::NoRepository)?.landed = Some(landed.commit.clone());
                }
                self.landing = None;
                self.reason = None;
            }
            Event::Discarded { reason } => {
                self.change(TaskChange::Discard, at)?;
                self.reason = Some(reason.clone());
            }
        }
        Ok(())
    }

    fn fold_agent(&mut self, entry: &Entry, agent: &AgentEvent) -> Result<(), FoldError> {
        self.handed_over(entry, agent)?;
        self.went_on(entry, agent)?;
        match agent {
            AgentEvent::SessionOpened { session } => self.session = Some(session.clone()),
            AgentEvent::ToolCall { title, status, .. } if !title.is_empty() => {
                self.latest_tool = Some(match status {
                    ToolStatus::Failed => format!("{title} (failed)"),
                    _ => title.clone(),
                });
            }
            AgentEvent::Usage { input_tokens, output_tokens, cost_usd } => {
                let run = self.run_mut(entry)?;
                run.input_tokens = *input_tokens;
                run.output_tokens = *output_tokens;
                run.cost_usd = *cost_usd;
            }
            _ => {}
        }
        Ok(())
    }

    fn change(&mut self, change: TaskChange, at: Timestamp) -> Result<(), FoldError> {
        self.state = self.state.after(change).ok_or_else(|| refused("task", self.state, change))?;
        self.state_since = at;
        Ok(())
    }

    fn run_mut(&mut self, entry: &Entry) -> Result<&mut RunRecord, FoldError> {
        self.runs.iter_mut().rfind(|run| Some(run.id) == entry.run).ok_or(FoldError::NoRun)
    }

    fn other_mut(&mut self, name: &str) -> Result<&mut PartRecord, FoldError> {
        self.others.iter_mut().find(|part| part.name == name).ok_or(FoldError::NoRepository)
    }

    fn environment_mut(&mut self, id: EnvironmentId) -> Result<&mut EnvironmentRecord, FoldError> {
        self.environment.as_mut().filter(|env| env.id == id).ok_or(FoldError::NoEnvironment)
    }

    fn service_mut(&mut self, id: EnvironmentId, name: &str) -> Result<&mut ServiceRecord, FoldError> {
        let services = &mut self.environment_mut(id)?.services;
        services.iter_mut().find(|service| service.service.name == name).ok_or(FoldError::NoService)
    }
}

impl RunRecord {
    fn change(&mut self, change: RunChange) -> Result<(), FoldError> {
        self.state = self.state.after(change).ok_or_else(|| refused("run", self.state, change))?;
        Ok(())
    }
}

impl ServiceRecord {
    fn new(service: ServiceView) -> Self {
        let state = ServiceState::Waiting;
        Self { service, state, since: None, exec: None, ready_ms: None, restarts: 0, reason: None, log: None }
    }

    fn stands(&mut self, state: ServiceState, at: Timestamp) {
        self.state = state;
        self.since = Some(at);
    }
}

impl EnvironmentRecord {
    fn change(&mut self, change: EnvironmentChange, at: Timestamp) -> Result<(), FoldError> {
        self.state = self.state.after(change).ok_or_else(|| refused("environment", self.state, change))?;
        self.since = at;
        Ok(())
    }
}

fn refused(what: &'static str, from: impl std::fmt::Debug, change: impl std::fmt::Debug) -> FoldError {
    FoldError::Transition { what, from: format!("{from:?}"), change: format!("{change:?}") }
}
