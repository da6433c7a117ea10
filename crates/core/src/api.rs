//! The shapes of the HTTP API: what is asked (`…Params`) and what is answered (`…View`). Server, CLI and every
//! other client use these and nothing else. Records and events of the log are part of the API as they are.

mod plan;
mod review;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    agent::PermissionPolicy,
    approval::{ApprovalRecord, Verdict},
    egress::EgressRule,
    event::{Entry, Limits},
    id::TaskId,
    isolation::Isolation,
    lifecycle::{AppState, ServiceState},
    name::TaskName,
    record::TaskRecord,
    rule::{RuleRecord, RuleScope},
    time::Timestamp,
};

pub use plan::{LayerKind, LayerList, LayerView, PlanView};
pub use review::{
    CheckView, CommentChangeParams, CommentList, CommentParams, CommentView, CommitView, ConflictView,
    DiffView, FileText, FileView, LandParams, LandView, LandingPart, LandingView, RepositoryDiff,
    RestoreParams, ScopeParams, SendCommentsParams,
};

/// Version of the API. A client refuses a daemon of another one.
pub const API_VERSION: u32 = 1;

/// `POST /v1/tasks`: a new task with its first run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaskParams {
    /// Any directory of the repository.
    pub path: String,
    /// What is asked. Empty, and no agent: an environment by hand.
    pub prompt: String,
    /// The agent; the project's default if not named.
    pub agent: Option<String>,
    /// Make an environment without an agent.
    pub by_hand: bool,
    /// A branch, tag or commit to start from; HEAD if not named.
    pub from: Option<String>,
    /// Other repositories of the task, by their names in `[[repos]]` of `offshoot.toml`, and what each starts from. The main
    /// one may be among them, in place of `from`.
    pub repositories: BTreeMap<String, String>,
    /// The task's name; made from the prompt if not named.
    pub name: Option<String>,
    /// The paths it is to touch, as patterns like those of `.gitignore`; everything if there are none. Other files are
    /// flagged in diffs, and the agent is told.
    pub scope: Vec<String>,
    /// The model, as the agent calls it.
    pub model: Option<String>,
    /// The command that must succeed at the end; the project's if not named.
    pub check: Option<String>,
    /// Variables to let in. Their values go to the daemon's memory and the environment only, never to the log.
    pub env: Vec<Variable>,
    /// Hosts to allow besides the configured ones.
    #[schema(value_type = Vec<String>)]
    pub allow: Vec<EgressRule>,
    /// What permission requests get; the project's setting if not named.
    pub permission: Option<PermissionPolicy>,
    /// What this task's agent is told besides the project's instructions.
    pub instructions: Option<String>,
    /// The caller's PATH, to find agents and tools on.
    pub search_path: Option<String>,
    /// The caller's own variables for a worktree, where processes are his: of these, those on a list (docs/worktrees.md). None
    /// goes into a sandbox.
    pub session: Vec<Variable>,
    /// What kind of environment; the configured one if not named, else the sandbox.
    pub isolation: Option<Isolation>,
}

/// `POST /v1/worktrees/adopt`: a worktree that a person or another tool made becomes a task by hand. It is never deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdoptParams {
    /// Any directory of the worktree.
    pub path: String,
    /// The task's name; made from the branch if not named.
    pub name: Option<String>,
    /// Where a landing goes; the branch of the main checkout if not named.
    pub target: Option<String>,
    /// The caller's PATH, to find tools on.
    pub search_path: Option<String>,
    /// The caller's own variables for a worktree, where processes are his: of these, those on a list (docs/worktrees.md). None
    /// goes into a sandbox.
    pub session: Vec<Variable>,
}

/// `GET /v1/worktrees`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorktreeView {
    /// Its directory.
    pub path: String,
    /// Whether it is the checkout itself, or the bare repository.
    pub main: bool,
    /// The branch checked out in it.
    pub branch: Option<String>,
    /// The commit it stands on.
    pub commit: Option<String>,
    /// Whether the directory is there.
    pub present: bool,
    /// Why it is locked, if it is.
    pub locked: Option<String>,
    /// Files that differ from its commit; `None` if that could not be asked.
    pub changed: Option<u64>,
    /// The task it belongs to; `None` if it is nobody's of Offshoot's.
    pub task: Option<String>,
}

/// A variable let into an environment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Variable {
    /// Its name; shown by `ps`.
    pub name: String,
    /// Its value; never shown and never stored.
    pub value: String,
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

/// `POST /v1/tasks/{task}/runs`: a follow-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FollowUpParams {
    /// What is asked.
    pub prompt: String,
    /// The model, as the agent calls it.
    pub model: Option<String>,
    /// The command that must succeed at the end; as before if not named.
    pub check: Option<String>,
    /// Variables to let in, in place of the earlier ones.
    pub env: Vec<Variable>,
    /// The caller's PATH, to find agents and tools on.
    pub search_path: Option<String>,
}

/// `POST /v1/tasks/{task}/discard`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiscardParams {
    /// Even if there is work that is not landed.
    pub force: bool,
    /// Why, for the log.
    pub reason: Option<String>,
}

/// `POST /v1/tasks/{task}/exec`: a command in the environment, waited for. Its output comes by the events of the
/// terminal WebSocket if a terminal is wanted, else in the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExecParams {
    /// The command and its arguments; the user's shell if empty.
    pub argv: Vec<String>,
    /// Directory inside; the workspace if not named.
    pub cwd: Option<String>,
    /// Give it a terminal of this size.
    pub terminal: Option<TerminalSize>,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A command that was started in an environment. Its bytes come and go over
/// `GET /v1/tasks/{task}/exec/{exec}/stream` (WebSocket).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecView {
    /// Its id.
    pub exec: String,
}

/// What goes from client to daemon as text frames of an exec's WebSocket. Bytes for its input are binary frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StreamRequest {
    /// The terminal has a new size.
    Resize(TerminalSize),
    /// No more input.
    CloseInput,
    /// Send this signal, by number.
    Signal {
        /// The number, as in `kill -l`.
        number: i32,
    },
}

/// What comes from daemon to client as text frames of an exec's WebSocket. Output is binary frames: the first byte
/// is 1 for standard output or the terminal, 2 for standard error; the rest is what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StreamNotice {
    /// The command is over; nothing follows.
    Exited {
        /// Exit code, if it exited by itself.
        code: Option<i32>,
        /// Signal, if one ended it.
        signal: Option<i32>,
    },
    /// The environment is gone; nothing follows.
    Gone {
        /// Why, for people.
        reason: String,
    },
}

/// A task as lists and pages show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// What the log tells.
    pub task: TaskRecord,
    /// Place in the queue, from 1, if it waits.
    pub queue_place: Option<u32>,
    /// What it waits for, in words; `None` if it starts at once.
    pub waits_for: Option<String>,
    /// Memory its environment uses now, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes in its environment now, besides pid 1.
    pub processes: Option<u32>,
    /// Disk that what it wrote takes, in bytes, as last measured.
    pub disk_bytes: Option<u64>,
    /// Its apps.
    #[serde(default)]
    pub apps: Vec<AppView>,
    /// Ports of this machine that lead into its environment.
    #[serde(default)]
    pub ports: Vec<PortView>,
    /// What could be asked next, ready to be sent as a follow-up: the agent stopped at a denial and was not told more.
    #[serde(default)]
    pub suggested_prompt: Option<String>,
}

/// A port of this machine that leads into an environment: for `psql`, debuggers and the like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortView {
    /// What it is for: an app, a service, or the variable that holds it.
    pub name: String,
    /// Where programs of this machine find it: `127.0.0.1:20003`.
    pub address: String,
    /// The port inside.
    pub port: u16,
}

/// An app of an environment, as lists and pages show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppView {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: AppState,
    /// Since when; `None` if it was never started.
    pub since: Option<Timestamp>,
    /// The port it is expected to listen at inside.
    pub port: Option<u16>,
    /// Where a browser finds it; `None` without a port.
    pub url: Option<String>,
    /// Where programs of this machine find the same port: `127.0.0.1:20003`; `None` if none leads there.
    pub address: Option<String>,
    /// Id of its newest process, whose output `GET /v1/tasks/{task}/exec/{exec}/stream` has.
    pub exec: Option<String>,
    /// How it ended, for people.
    pub reason: Option<String>,
}

/// `GET /v1/tasks/{task}/apps`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppList {
    /// By name.
    pub apps: Vec<AppView>,
}

/// What is to become of an app or a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppChange {
    /// Start it, if it does not run.
    Start,
    /// Stop it, if it runs.
    Stop,
    /// Stop it, then start it.
    Restart,
}

/// `POST /v1/tasks/{task}/apps/{app}` and `POST /v1/tasks/{task}/services/{service}`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppParams {
    /// What is to become of it.
    pub change: AppChange,
}

/// `GET /v1/tasks/{task}/apps/{app}/log` and `GET /v1/tasks/{task}/services/{service}/log`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppLog {
    /// Id of the process that said it.
    pub exec: String,
    /// The end of what it said, both outputs in order; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether there was more before.
    pub truncated: bool,
    /// Where its output goes on: `from` of `GET /v1/tasks/{task}/exec/{exec}/stream`.
    pub next: u64,
}

/// A service of an environment, as it stands now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceStatus {
    /// Its name, under which it is found inside.
    pub name: String,
    /// Where it stands.
    pub state: ServiceState,
    /// Since when; `None` if it was never started.
    pub since: Option<Timestamp>,
    /// Its address inside.
    pub address: String,
    /// The ports it listens at inside.
    pub ports: Vec<u16>,
    /// Ports of this machine that lead to it.
    pub host: Vec<PortView>,
    /// What runs: an image, or a program of this machine.
    pub runs: String,
    /// Memory that it uses now, in bytes; `None` if it does not run, or nobody counts.
    pub memory_bytes: Option<u64>,
    /// Memory that it may use, in bytes; `None` for the environment's.
    pub memory_limit_bytes: Option<u64>,
    /// What its last health check found; `None` if there was none since the daemon looks after it.
    pub health: Option<HealthView>,
    /// How long its last start took until it was ready, in milliseconds.
    pub ready_ms: Option<u64>,
    /// How often it was started again after it had failed.
    pub restarts: u32,
    /// Id of its newest process, whose output `GET /v1/tasks/{task}/exec/{exec}/stream` has.
    pub exec: Option<String>,
    /// Why it failed, or fails its health check, for people.
    pub reason: Option<String>,
}

/// What a health check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// Whether it passed.
    pub passed: bool,
    /// When.
    pub at: Timestamp,
}

/// `GET /v1/tasks/{task}/services`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceList {
    /// In the order in which they are started.
    pub services: Vec<ServiceStatus>,
}

/// `GET /v1/tasks`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskList {
    /// Newest first.
    pub tasks: Vec<TaskView>,
    /// Sequence number of the newest event that the list knows of; a stream from there misses nothing.
    pub seq: u64,
    /// The daemon's clock.
    pub now: Timestamp,
}

/// `GET /v1/approvals`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalList {
    /// What waits for a person, the longest first; of all there ever were, the newest first.
    pub approvals: Vec<ApprovalView>,
    /// Of all there ever were: there are older ones, to be had with `before` this number.
    #[serde(default)]
    pub next: Option<u64>,
    /// Sequence number of the newest event that the list knows of; a stream from there misses nothing.
    pub seq: u64,
    /// The daemon's clock.
    pub now: Timestamp,
}

/// An approval with what one has to know to answer it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// What people call it: `TASK/NUMBER`.
    pub name: String,
    /// What the log tells.
    pub approval: ApprovalRecord,
    /// Its task.
    pub task: TaskId,
    /// Name of its task.
    pub task_name: TaskName,
    /// The task's repository.
    pub root: String,
    /// The task's agent.
    pub agent: Option<String>,
    /// What the run was asked to do, shortened.
    pub prompt: String,
    /// Whether the answer can become a standing rule.
    pub can_be_rule: bool,
}

/// `POST /v1/approvals/{approval}`: an answer. Not to answer is "not now": it goes on waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerParams {
    /// Yes or no.
    pub verdict: Verdict,
    /// One of the offered answers, by its id or label, where a mere yes or no does not do.
    #[serde(default)]
    pub option: Option<String>,
    /// The reason of a no, or an answer in own words; the agent is told.
    #[serde(default)]
    pub text: Option<String>,
    /// From now on the same gets the same answer, in this task or in its project.
    #[serde(default)]
    pub rule: Option<RuleScope>,
    /// The rule is about all commands that begin with these words.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The rule is about all files below this directory.
    #[serde(default)]
    pub below: Option<String>,
}

/// `GET /v1/approvals/rules`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleList {
    /// The newest first.
    pub rules: Vec<RuleView>,
}

/// A standing rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleView {
    /// What people call it: like the approval that it was made with, `TASK/NUMBER`.
    pub name: String,
    /// What the log tells.
    pub rule: RuleRecord,
    /// The task in which it was made.
    pub task: TaskId,
    /// That task's repository.
    pub root: String,
    /// How many requests it answered. Connections to a host count once for each run.
    #[serde(default)]
    pub answered: u64,
    /// When it last answered one.
    #[serde(default)]
    pub last_answered: Option<Timestamp>,
}

/// `POST /v1/presence`: what a person looks at. Holds for 45 seconds, so a client that goes on showing it says so again
/// every 20.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PresenceParams {
    /// A name that the client made up for itself, at most 64 bytes: one client looks at one task.
    pub client: String,
    /// The task, by id or name; none if the person looks elsewhere by now.
    #[serde(default)]
    pub task: Option<String>,
    /// Any directory of a repository: of two tasks with one name, the one of this project is meant.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub path: Option<PathBuf>,
}

/// `POST /v1/notifications/test`: what became of a message to everything that is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotificationTest {
    /// One for each; none if nothing is configured.
    pub sent: Vec<NotificationSent>,
}

/// What became of one notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotificationSent {
    /// Where it went: `webhook`, `ntfy`, `slack`, `desktop`.
    pub to: String,
    /// The host it went to, if it left this machine.
    pub host: Option<String>,
    /// Why it was not taken; none if it was.
    pub error: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// `GET /v1/events` and `GET /v1/tasks/{task}/events` without `Accept: text/event-stream`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// In order.
    pub entries: Vec<Entry>,
    /// Give this as `after` to go on.
    pub next: u64,
}

/// `POST /v1/prune` and `POST /v1/tasks/{task}/discard` answer with this: what went, and what stayed, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneView {
    /// What is gone.
    pub removed: Vec<Reasoned>,
    /// What was kept although it was looked at.
    pub kept: Vec<Reasoned>,
    /// Bytes of disk that came free, as measured.
    pub freed_bytes: u64,
}

/// A thing with the reason for what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reasoned {
    /// What: `environment of add-a-date-filter`, `layer 4f2a…`.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// `GET /v1/daemon`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DaemonView {
    /// Its process id on the host.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// Version of the API.
    pub api_version: u32,
    /// Where it keeps everything.
    pub state_dir: String,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Runs that work now.
    pub active_runs: u32,
    /// Runs that wait.
    pub queued_runs: u32,
    /// How many more runs with the default limits would be admitted now.
    pub room_for: u32,
    /// Most runs at a time.
    pub max_runs: u32,
    /// Memory that runs together may count on, in bytes.
    pub memory_bytes: u64,
    /// Where the API listens on TCP, if it was asked to.
    pub tcp: Option<String>,
    /// Where apps are found: `localhost:7878`, as in `http://<app>.<task>.localhost:7878/`; `None` if no port was to be
    /// had.
    #[serde(default)]
    pub preview: Option<String>,
    /// The limits of an environment if nobody says otherwise.
    pub default_limits: Limits,
}

/// `GET /v1/capacity`: how many more environments fit this machine, and why not more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapacityView {
    /// How many more runs of this project would be admitted now.
    pub room_for: u32,
    /// What the one after those would wait for, in words.
    pub then_waits_for: String,
    /// Runs that work now.
    pub active_runs: u32,
    /// Runs that wait.
    pub queued_runs: u32,
    /// Most runs at a time.
    pub max_runs: u32,
    /// Memory that runs together may count on, in bytes.
    pub memory_bytes: u64,
    /// What of that the runs that work are counted with.
    pub counted_bytes: u64,
    /// What one more run of this project is counted with: a quarter of its limit, at least 1 GiB, as not all peak at once.
    pub each_bytes: u64,
    /// Memory that this machine has left now.
    pub free_memory_bytes: u64,
    /// Disk that is left where environments are.
    pub free_disk_bytes: u64,
    /// The environments that have processes, the largest first.
    pub environments: Vec<UsageView>,
}

/// What one environment uses now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// The task's name.
    pub task: String,
    /// Whether its processes are frozen.
    pub suspended: bool,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processes besides pid 1.
    pub processes: u32,
    /// Disk that what it wrote takes, in bytes.
    pub disk_bytes: u64,
    /// Memory of its services, by name, in bytes.
    pub services: BTreeMap<String, u64>,
}

/// `GET /v1/agents`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The protocol it is spoken to in.
    pub protocol: String,
    /// Where it was found; `None` if it is not installed.
    pub program: Option<String>,
    /// How to install it.
    pub install: String,
    /// Variables it may need to be let in.
    pub auth_env: Vec<String>,
    /// Whether its permission requests can be put to a person; if not, it works without asking.
    pub asks: bool,
}
