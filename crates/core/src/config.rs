//! The two configuration files: `offshoot.toml` in the repository (what the project needs) and the user's own
//! `config.toml` (what this person and this machine want). Parsing and merging only; reading is the caller's.
//!
//! Unknown keys are refused, so that a typing error never becomes a silent default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    agent::PermissionPolicy,
    egress::EgressRule,
    event::Limits,
    isolation::Isolation,
    time::{Bytes, Span},
};

/// `offshoot.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProjectConfig {
    /// Who works here, and what they are told.
    pub agent: AgentConfig,
    /// What must be installed before anybody can work.
    pub setup: SetupConfig,
    /// What must succeed before a run counts as complete.
    pub check: CheckConfig,
    /// Which hosts may be reached.
    pub egress: EgressConfig,
    /// What an environment may use.
    pub limits: LimitsConfig,
    /// What else an environment has.
    pub environment: EnvironmentConfig,
    /// Where worktrees go, for `isolation = "worktree"`.
    pub worktree: WorktreeConfig,
}

/// `[agent]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AgentConfig {
    /// The agent that `run` takes if none is named.
    pub default: Option<String>,
    /// The model it is given if none is named.
    pub model: Option<String>,
    /// What an agent's own permission requests get inside the sandbox.
    pub permission: Option<PermissionPolicy>,
    /// What every agent of this project is told, placed where that agent reads it, never in the diff.
    pub instructions: Option<String>,
}

/// `[setup]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetupConfig {
    /// Commands that install what the project needs; run once per state of the `key` files.
    pub commands: Vec<String>,
    /// Files whose content decides whether the commands must run again (lockfiles).
    pub key: Vec<String>,
}

/// `[check]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheckConfig {
    /// The command, given to `sh -c` inside the environment.
    pub command: Option<String>,
    /// How long it may take.
    pub timeout: Option<Span>,
}

/// `[egress]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EgressConfig {
    /// Hosts that may be reached: `example.org`, `example.org:8443`, `*.example.org`.
    /// `host:PORT` (this machine's own loopback) counts only in the user's file and on the command line.
    pub allow: Vec<EgressRule>,
}

/// `[limits]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsConfig {
    /// Memory of an environment's whole process tree.
    pub memory: Option<Bytes>,
    /// Processes and threads of an environment.
    pub processes: Option<u32>,
    /// CPU in percent of one core.
    pub cpu: Option<u32>,
    /// Disk for what an environment writes.
    pub disk: Option<Bytes>,
}

/// `[environment]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EnvironmentConfig {
    /// Variables every process inside has. Not for secrets: the file is committed.
    pub env: BTreeMap<String, String>,
    /// After how long without activity the processes are frozen.
    pub suspend_after: Option<Span>,
    /// What kind of environment: `sandbox` or `worktree`. A project's `worktree` counts only with the user's consent.
    pub isolation: Option<Isolation>,
}

/// `[worktree]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct WorktreeConfig {
    /// Where a task's worktree goes: a path with `{repo}` and `{task}`, seen from the checkout. Outside the checkout;
    /// a project's own is a folder beside it.
    pub path: Option<String>,
    /// The file for variables of one environment, such as `PORT`: `.env.local`; empty for none.
    pub env_file: Option<String>,
}

/// `[worktree]` of the user's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UserWorktreeConfig {
    /// Like the project's, which gives way to this one. May be anywhere outside the checkout.
    pub path: Option<String>,
    /// Like the project's, which gives way to this one.
    pub env_file: Option<String>,
    /// Whether a project's `isolation = "worktree"` counts without being asked for on the command line.
    pub from_project: bool,
}

/// `[environment]` of the user's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UserEnvironmentConfig {
    /// What kind of environment, where neither the command line nor the project says otherwise.
    pub isolation: Option<Isolation>,
}

/// The user's own `config.toml`: the same keys as taste, and what only a user may say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UserConfig {
    /// Like the project's, which wins where both speak.
    pub agent: AgentConfig,
    /// Added to the project's; `host:PORT` is allowed here.
    pub egress: EgressConfig,
    /// Like the project's, which wins where both speak, but never above these.
    pub limits: LimitsConfig,
    /// What kind of environment tasks get.
    pub environment: UserEnvironmentConfig,
    /// Where worktrees go.
    pub worktree: UserWorktreeConfig,
    /// How much of this machine Offshoot may use.
    pub machine: MachineConfig,
    /// Tools to show inside, read-only, besides those found on PATH.
    pub tools: ToolsConfig,
    /// Agents of the user's own or changes to the shipped ones, by name; see docs/agents.md.
    pub agents: BTreeMap<String, toml::Table>,
}

/// `[machine]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MachineConfig {
    /// Runs at a time; the rest waits.
    pub max_runs: Option<u32>,
    /// Memory that runs together may count on; the rest waits.
    pub memory: Option<Bytes>,
    /// After how long without activity processes are frozen.
    pub suspend_after: Option<Span>,
}

/// `[tools]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ToolsConfig {
    /// Absolute directories.
    pub directories: Vec<String>,
}

/// A configuration file that cannot be used. `span` are byte offsets in its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where.
    pub span: Option<std::ops::Range<usize>>,
}

impl ProjectConfig {
    /// Reads the text of `offshoot.toml`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(ConfigError::from)?;
        if let Some(rule) = config.egress.allow.iter().find(|rule| matches!(rule, EgressRule::Host(_))) {
            let at = text.find(&rule.to_string());
            return Err(ConfigError {
                message: format!(
                    "{rule} opens a port of your own machine; a repository cannot do that, only your config.toml or --allow"
                ),
                span: at.map(|at| at..at + rule.to_string().len()),
            });
        }
        Ok(config)
    }
}

impl UserConfig {
    /// Reads the text of the user's `config.toml`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(ConfigError::from)
    }
}

impl From<toml::de::Error> for ConfigError {
    fn from(error: toml::de::Error) -> Self {
        Self { message: error.message().to_owned(), span: error.span() }
    }
}

/// What an environment may use if nobody says otherwise. Memory: the largest agent measured idles at 600 MB and
/// a compiler beside it takes as much as it can get; processes: a parallel build with its language servers stays
/// below 500; disk: a large build directory is 10 GB.
pub const DEFAULT_LIMITS: Limits =
    Limits { memory_bytes: 4 << 30, processes: 1024, cpu_percent: None, disk_bytes: 20 << 30 };

/// The limits that hold: the project's wish, else the user's, else the default, and never above the user's.
pub fn limits(project: &LimitsConfig, user: &LimitsConfig) -> Limits {
    let pick = |wish: Option<u64>, cap: Option<u64>, default: u64| match (wish, cap) {
        (Some(wish), Some(cap)) => wish.min(cap),
        (Some(value), None) | (None, Some(value)) => value,
        (None, None) => default,
    };
    let processes = |l: &LimitsConfig| l.processes.map(u64::from);
    let memory = |l: &LimitsConfig| l.memory.map(|b| b.0);
    let disk = |l: &LimitsConfig| l.disk.map(|b| b.0);
    let cpu = match (project.cpu, user.cpu) {
        (Some(wish), Some(cap)) => Some(wish.min(cap)),
        (wish, cap) => wish.or(cap),
    };
    Limits {
        memory_bytes: pick(memory(project), memory(user), DEFAULT_LIMITS.memory_bytes),
        processes: u32::try_from(pick(processes(project), processes(user), DEFAULT_LIMITS.processes.into()))
            .unwrap_or(u32::MAX),
        cpu_percent: cpu,
        disk_bytes: pick(disk(project), disk(user), DEFAULT_LIMITS.disk_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_reads() {
        let config = ProjectConfig::parse(
            r#"
            [agent]
            default = "claude"
            permission = "allow"
            instructions = "Run the tests."
            [setup]
            commands = ["npm ci"]
            key = ["package-lock.json"]
            [check]
            command = "npm test"
            timeout = "10m"
            [egress]
            allow = ["registry.npmjs.org", "*.example.org:8443"]
            [limits]
            memory = "2g"
            "#,
        )
        .unwrap();
        assert_eq!(config.check.command.as_deref(), Some("npm test"));
        assert_eq!(config.egress.allow.len(), 2);
        let limits =
            limits(&config.limits, &LimitsConfig { memory: Some(Bytes(1 << 30)), ..Default::default() });
        assert_eq!(limits.memory_bytes, 1 << 30, "the user's cap holds");
    }

    #[test]
    fn mistakes_are_pointed_at() {
        for (text, at) in [
            ("[agent]\ndefualt = \"x\"", "defualt"),
            ("[egress]\nallow = [\"1.2.3.4\"]", "[\"1.2.3.4\"]"),
            ("[egress]\nallow = [\"host:8080\"]", "host:8080"),
            ("[check]\ntimeout = \"soon\"", "\"soon\""),
        ] {
            let error = ProjectConfig::parse(text).unwrap_err();
            let span = error.span.clone().unwrap();
            assert!(
                text[span.clone()].contains(at.trim_matches(['[', ']', '"'])),
                "{error:?} {:?}",
                &text[span]
            );
        }
    }
}
