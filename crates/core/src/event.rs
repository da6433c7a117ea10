//! What happens, as events: the only truth. Everything shown is a fold of these (see `record`).
//!
//! An event is written before it is acted on. Texts that come from an agent are bounded where they enter and
//! escaped where they are shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    agent::{AgentEvent, PermissionPolicy},
    approval::{ApprovalAnswered, ApprovalRequested},
    comment::CommentAdded,
    egress::EgressRule,
    id::{ApprovalId, EnvironmentId, ProjectId, RunId, TaskId},
    isolation::Isolation,
    lifecycle::RunEnd,
    name::TaskName,
    part::{BranchMove, PartCheckpoint, PartCreated, PartHarvested, PartLanded},
    time::Timestamp,
};

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// Position in the log, from 1, without gaps.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The task it belongs to.
    pub task: TaskId,
    /// The run it belongs to, if it belongs to one.
    pub run: Option<RunId>,
    /// What happened.
    pub event: Event,
}

/// Something that happened to a task, a run or an environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A task was asked for.
    TaskCreated(TaskCreated),
    /// A run of it was asked for: the first or a follow-up.
    RunQueued(RunQueued),
    /// There was room: the run has its place.
    RunAdmitted,
    /// An environment is about to be made; its directory may exist from now on.
    EnvironmentCreating(EnvironmentCreating),
    /// Something about where the task starts that a person should know, found while it was already starting.
    Noticed {
        /// In words, each one sentence.
        notices: Vec<String>,
    },
    /// Something inside asked for a host that it may not reach, or that could not be reached. Told once for each.
    EgressRefused {
        /// What was asked for; empty if it had no name.
        host: String,
        /// The port, where it is known.
        port: Option<u16>,
        /// Why, for people.
        reason: String,
    },
    /// Something that takes a while is being done for the run.
    Preparing {
        /// What, for people: "checking out 4f2a…", "npm ci".
        step: String,
    },
    /// The environment's sandbox answers.
    EnvironmentUp {
        /// Which one.
        environment: EnvironmentId,
        /// The tier of isolation.
        tier: String,
        /// Limits that are only watched, not enforced by the kernel.
        soft_limits: Vec<String>,
        /// From the decision to the sandbox's first answer, in microseconds.
        took_us: u64,
    },
    /// Its processes were frozen because nothing happened.
    EnvironmentSuspended {
        /// Which one.
        environment: EnvironmentId,
    },
    /// Its processes were thawed.
    EnvironmentResumed {
        /// Which one.
        environment: EnvironmentId,
    },
    /// Its processes are gone; its workspace is kept.
    EnvironmentLost {
        /// Which one.
        environment: EnvironmentId,
        /// Why, for people.
        reason: String,
    },
    /// Everything of it is about to be deleted. Recorded before the deletion begins.
    EnvironmentRemoved {
        /// Which one.
        environment: EnvironmentId,
        /// Why, for people.
        reason: String,
    },
    /// A service's process is about to be started.
    ServiceStarting {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which service.
        service: String,
        /// Id of its process in the sandbox; also the name of its journal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exec: Option<String>,
    },
    /// A service is ready.
    ServiceReady {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which service.
        service: String,
        /// From its start, in milliseconds.
        took_ms: u64,
    },
    /// A service ended with code 0, as some are meant to.
    ServiceCompleted {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which service.
        service: String,
    },
    /// A service ended, or never was ready.
    ServiceFailed {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which service.
        service: String,
        /// Why, for people.
        reason: String,
        /// The end of what it said.
        log: String,
        /// Whether it is started again.
        again: bool,
    },
    /// A service that was ready fails its health check, and goes on running.
    ServiceUnhealthy {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which service.
        service: String,
        /// Why, for people.
        reason: String,
    },
    /// It passes its health check again.
    ServiceHealthy {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which service.
        service: String,
    },
    /// A service was stopped because somebody asked for it.
    ServiceStopped {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which service.
        service: String,
    },
    /// An app is about to be started.
    AppStarted {
        /// In which environment.
        environment: EnvironmentId,
        /// Its name.
        app: String,
        /// Id of its process in the sandbox; also the name of its journal.
        exec: String,
        /// The port it is expected to listen at inside.
        port: Option<u16>,
    },
    /// An app ended, or could not be started.
    AppEnded {
        /// In which environment.
        environment: EnvironmentId,
        /// Its name.
        app: String,
        /// Id of its process.
        exec: String,
        /// How, for people.
        reason: String,
        /// Whether somebody asked for it.
        asked: bool,
    },
    /// The run's agent was started (again, if it was there before).
    AgentStarted {
        /// Id of the process in the sandbox; also the name of its journal.
        exec: String,
    },
    /// The agent does not know its session any more; it is started again with a new one.
    SessionLost,
    /// The agent did something. `offset` is where in its journal that is known from.
    Agent {
        /// What it did.
        agent: AgentEvent,
        /// Position in the journal after which interpretation goes on.
        offset: u64,
    },
    /// A snapshot of the workspace was taken.
    Checkpoint {
        /// Its number within the task, from 1.
        number: u32,
        /// The commit that holds it, on a hidden ref.
        commit: String,
        /// What it was taken after: a prompt, a tool call.
        title: String,
        /// Files that differ from the one before, in all repositories.
        changed: u32,
        /// The task's other repositories.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<PartCheckpoint>,
    },
    /// What the workspace holds against its base, counted live.
    Changes(Changes),
    /// Something waits for a person.
    ApprovalRequested(ApprovalRequested),
    /// It was answered; the answer is handed over after this.
    ApprovalAnswered(ApprovalAnswered),
    /// It is not asked any more.
    ApprovalWithdrawn {
        /// Which one.
        approval: ApprovalId,
        /// Why, for people.
        reason: String,
    },
    /// A person took a standing rule back.
    RuleRemoved {
        /// The approval that it was made with.
        rule: ApprovalId,
    },
    /// Somebody has to look.
    AttentionNeeded {
        /// Why, for people.
        reason: String,
    },
    /// What needed somebody is settled.
    AttentionSettled,
    /// The agent waits for nothing in particular.
    AgentResting,
    /// A person asked for the run to be stopped.
    StopRequested,
    /// The project's check began.
    CheckStarted {
        /// The command.
        command: String,
        /// Id of the process in the sandbox.
        exec: String,
    },
    /// The project's check ended.
    CheckEnded {
        /// Exit code; `None` if it was killed or timed out.
        code: Option<i32>,
        /// The end of its output.
        output: String,
    },
    /// The agent is done for, and why. What it left is brought out all the same.
    AgentFailed {
        /// Why, for people.
        reason: String,
    },
    /// The run's commits are being brought out.
    Harvesting,
    /// They are out and checked.
    Harvested(Harvested),
    /// The run is over.
    RunEnded {
        /// How.
        end: RunEnd,
        /// Why, for people.
        reason: String,
    },
    /// A person said anew which paths the task is to touch.
    ScopeChanged {
        /// Patterns; none for everything.
        scope: Vec<String>,
    },
    /// A person commented on a line; a draft until it is sent.
    CommentAdded(CommentAdded),
    /// A draft says something else.
    CommentChanged {
        /// Which one.
        number: u32,
        /// What it says now.
        text: String,
    },
    /// A comment was taken away.
    CommentRemoved {
        /// Which one.
        number: u32,
    },
    /// Drafts went to the agent with this entry's run.
    CommentsSent {
        /// Which ones.
        numbers: Vec<u32>,
    },
    /// The workspace is about to become again what it was at a checkpoint.
    RestoreStarted {
        /// Number of the checkpoint.
        step: u32,
    },
    /// It has become so, on top of all that was before.
    Restored {
        /// Number of the checkpoint.
        step: u32,
    },
    /// It could not become so.
    RestoreFailed {
        /// Why, for people.
        reason: String,
    },
    /// A landing is about to be made.
    LandingStarted {
        /// Into which branch.
        target: String,
        /// Which commit.
        head: String,
        /// As one commit?
        squash: bool,
        /// With several repositories: every branch that is to move, before the first does.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        moves: Vec<BranchMove>,
    },
    /// The landing did not happen; everything is as it was.
    LandingRefused {
        /// Why, for people.
        reason: String,
    },
    /// The work is in the target branch.
    Landed {
        /// The branch.
        target: String,
        /// Its new tip.
        commit: String,
        /// With several repositories: all that landed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        repositories: Vec<PartLanded>,
    },
    /// The task was thrown away.
    Discarded {
        /// Why, for people.
        reason: String,
    },
}

/// The particulars of a new task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskCreated {
    /// Its name, unique among the project's tasks that are not landed or discarded.
    pub name: TaskName,
    /// Its project.
    pub project: ProjectId,
    /// The repository's root: work tree, or git directory if it is bare.
    pub root: String,
    /// Base commit.
    pub base: String,
    /// The branch the base was taken from and a landing goes to; `None` for a detached base.
    pub target: Option<String>,
    /// The task's own branch.
    pub branch: String,
    /// The agent; `None` for an environment by hand.
    pub agent: Option<String>,
    /// What kind of environment it gets.
    #[serde(default)]
    pub isolation: Isolation,
    /// The worktree it was made from, which is not Offshoot's to delete; `None` for all others.
    #[serde(default)]
    pub adopted: Option<String>,
    /// What the main repository is called beside the others; empty if it is the only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// The other repositories, in the order of `offshoot.toml`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<PartCreated>,
    /// The paths it is to touch, as patterns; none for everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// It is the one instance of the repository's shared apps, at this branch; empty for the branch that was checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
    /// Notices worth keeping: "the checkout has 3 changed files; they are not part of this task".
    pub notices: Vec<String>,
}

/// The particulars of a new run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunQueued {
    /// Number within the task, from 1.
    pub number: u32,
    /// What is asked; empty for an environment by hand.
    pub prompt: String,
    /// The model, if one was named.
    pub model: Option<String>,
    /// The command that must succeed at the end, if there is one.
    pub check: Option<String>,
    /// Names (never values) of environment variables the user lets in.
    pub pass_env: Vec<String>,
    /// What the agent's permission requests get.
    pub permission: PermissionPolicy,
    /// What this task's agent is told besides the project's instructions.
    #[serde(default)]
    pub instructions: Option<String>,
    /// Hosts that may be reached, all sources merged.
    #[schema(value_type = Vec<String>)]
    pub egress: Vec<EgressRule>,
    /// Limits of the environment.
    pub limits: Limits,
}

/// What an environment's whole process tree may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// CPU in percent of one core; `None` for no limit.
    pub cpu_percent: Option<u32>,
    /// Disk for what it writes, in bytes.
    pub disk_bytes: u64,
}

/// The particulars of a new environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvironmentCreating {
    /// Its id.
    pub environment: EnvironmentId,
    /// The commit it starts from.
    pub base: String,
    /// Key of the setup layer it stands on, if there is one.
    pub setup: Option<String>,
    /// Where its files are on the host, if that is a place for people: a worktree.
    #[serde(default)]
    pub workspace: Option<String>,
    /// Its services, in the order in which they are started.
    #[serde(default)]
    pub services: Vec<ServiceView>,
}

/// A service of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name, under which it is found inside.
    pub name: String,
    /// Its address inside.
    pub address: String,
    /// The ports it listens at.
    pub ports: Vec<u16>,
    /// What runs: an image, or a program of this machine.
    pub runs: String,
}

/// What a workspace holds against its base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changes {
    /// Files that differ.
    pub files: u32,
    /// Lines added.
    pub added: u64,
    /// Lines deleted.
    pub deleted: u64,
    /// Subject of the newest commit on the task's branch, if it has one of its own.
    pub latest_commit: Option<String>,
}

/// What a run left, brought out and checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Harvested {
    /// Tip of the task's branch; the base if nothing was committed.
    pub head: String,
    /// Commits since the base.
    pub commits: u32,
    /// What differs from the base.
    pub changes: Changes,
    /// Whether files had been left uncommitted and were committed on the agent's behalf.
    pub leftovers: bool,
    /// Whether the branch in the user's repository has it; if not, why not.
    pub unpublished: Option<String>,
    /// The task's other repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<PartHarvested>,
}
