//! What is to be known of an agent CLI, as data. One TOML file an agent; `catalog` reads and merges them.
//!
//! Texts may contain placeholders, filled in by `launch`: `{state}` (the agent's private directory), `{cwd}`,
//! `{session}`, `{model}`, `{prompt}`, `{program}`, `{env:NAME}`, `{env:NAME|default}` and `{tail:NAME}` (the last 20
//! characters of a variable). Anything else in braces stays as it is.

use std::collections::BTreeMap;

use offshoot_core::agent::PermissionPolicy;
use serde::Deserialize;

/// How Offshoot talks with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Agent Client Protocol over stdio.
    Acp,
    /// Claude Code's stream-json over stdio.
    ClaudeStreamJson,
    /// `codex app-server` over stdio.
    CodexAppServer,
    /// A terminal, watched by heuristics.
    Terminal,
    /// One process a prompt.
    Oneshot,
}

impl Protocol {
    /// Its name, as definitions spell it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Acp => "acp",
            Self::ClaudeStreamJson => "claude-stream-json",
            Self::CodexAppServer => "codex-app-server",
            Self::Terminal => "terminal",
            Self::Oneshot => "oneshot",
        }
    }
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentDefinition {
    /// The name it is chosen by.
    pub name: String,
    /// The name people know it by.
    pub title: String,
    /// How to talk with it.
    pub protocol: Protocol,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Arguments for a new session, if we choose its id.
    #[serde(default)]
    pub new_session_args: Vec<String>,
    /// Arguments to go on with a session.
    #[serde(default)]
    pub resume_args: Vec<String>,
    /// Arguments that choose the model.
    #[serde(default)]
    pub model_args: Vec<String>,
    /// Variables that choose the model.
    #[serde(default)]
    pub model_env: BTreeMap<String, String>,
    /// Arguments that carry the prompt (oneshot).
    #[serde(default)]
    pub prompt_args: Vec<String>,
    /// Variables: its private directory, updates and telemetry off. A variable whose value comes out empty is left
    /// out.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What the permission policies mean for it.
    #[serde(default)]
    pub permission: Permissions,
    /// Files written into its private directory before it starts.
    #[serde(default)]
    pub files: Vec<SeedFile>,
    /// Where it reads instructions.
    #[serde(default)]
    pub instructions: Instructions,
    /// The command for a person who attaches.
    #[serde(default)]
    pub terminal: TerminalCommand,
    /// Variables that hold its credentials; the user may want to pass one of them.
    #[serde(default)]
    pub auth_env: Vec<String>,
    /// Variables that say where its model is.
    #[serde(default)]
    pub base_url_env: Vec<String>,
    /// Hosts it needs, as egress rules.
    #[serde(default)]
    pub egress: Vec<String>,
    /// Memory it takes by itself, in MB, measured.
    #[serde(default = "default_memory_mb")]
    pub memory_mb: u64,
    /// Patterns of its own litter, for `.git/info/exclude`.
    #[serde(default)]
    pub git_exclude: Vec<String>,
    /// How a person installs it.
    #[serde(default)]
    pub install: String,
    /// The private directory must not be under the directory for temporary files.
    #[serde(default)]
    pub state_not_in_tmp: bool,
    /// Terminal: seconds of silence that mean it waits for a person.
    #[serde(default = "default_idle_after_s")]
    pub idle_after_s: u64,
    /// Seconds of silence within a turn that are worth a look; 0 for never.
    #[serde(default = "default_silence_s")]
    pub silence_s: u64,
}

/// The median of those measured.
fn default_memory_mb() -> u64 {
    250
}

/// Spinners of the measured agents move several times a second; slow commands print less often than that, so some
/// seconds more.
fn default_idle_after_s() -> u64 {
    8
}

/// Longer than a slow build or an hour's quarter of waiting for a model that does not answer.
fn default_silence_s() -> u64 {
    900
}

/// What the permission policies mean for an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// The sandbox is the boundary: nothing should be asked.
    #[serde(default)]
    pub allow: PermissionMode,
    /// A person answers. Not there: the agent cannot be asked from outside.
    pub ask: Option<PermissionMode>,
    /// Everything that asks is refused. Not there: as `ask`.
    pub deny: Option<PermissionMode>,
}

impl Permissions {
    /// The mode for a policy, if the agent can do it.
    #[must_use]
    pub fn mode(&self, policy: PermissionPolicy) -> Option<&PermissionMode> {
        match policy {
            PermissionPolicy::Allow => Some(&self.allow),
            PermissionPolicy::Ask => self.ask.as_ref(),
            PermissionPolicy::Deny => self.deny.as_ref().or(self.ask.as_ref()),
        }
    }
}

/// How an agent is put into a permission mode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionMode {
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// ACP: the session mode to set.
    pub mode: Option<String>,
    /// Codex: the approval policy of the thread.
    pub approval: Option<String>,
}

/// A file written into the agent's private directory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    /// Path in the private directory.
    pub path: String,
    /// Contents. In `.json` and `.toml` files values are filled in with quotes escaped.
    pub content: String,
    /// Whether a file that is there already is left alone.
    #[serde(default)]
    pub keep: bool,
}

/// Where an agent reads instructions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instructions {
    /// A file in its private directory; without one they are put before the first prompt.
    pub file: Option<String>,
    /// Arguments needed for it to be read.
    #[serde(default)]
    pub args: Vec<String>,
}

/// The command for a person who attaches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalCommand {
    /// Arguments after the program; the agent has a terminal interface if they are there.
    pub args: Option<Vec<String>>,
    /// The same where there is no sandbox, if they differ.
    pub unconfined_args: Option<Vec<String>>,
    /// Arguments to go on with a session.
    #[serde(default)]
    pub resume_args: Vec<String>,
}

impl AgentDefinition {
    /// Whether its permission requests can be put to a person and the answer handed over. Not in a terminal, where a
    /// person answers on the screen, and not where a process is a prompt.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        let speaks = !matches!(self.protocol, Protocol::Terminal | Protocol::Oneshot);
        speaks && self.permission.ask.is_some()
    }

    /// The program that has to be found.
    #[must_use]
    pub fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }
}
