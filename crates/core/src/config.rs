//! The two configuration files: `offshoot.toml` in the repository (what the project needs) and the user's own
//! `config.toml` (what this person and this machine want). Parsing and merging only; reading is the caller's.
//!
//! Unknown keys are refused, so that a typing error never becomes a silent default.

mod notifications;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    agent::PermissionPolicy,
    egress::EgressRule,
    event::Limits,
    isolation::Isolation,
    name::Label,
    service::{RelativePath, Services, parts::is_variable},
    time::{Bytes, Span},
};

pub use notifications::{
    NotificationKind, NotificationsConfig, NtfyConfig, SlackConfig, TokenConfig, WebhookConfig,
};

/// `offshoot.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProjectConfig {
    /// What this repository is called beside others.
    pub project: ProjectSection,
    /// Other repositories that tasks may be about, too.
    pub repos: Vec<RepoConfig>,
    /// Who works here, and what they are told.
    pub agent: AgentConfig,
    /// What must be installed before anybody can work, by name. Setups do not see what others install.
    pub setup: BTreeMap<Label, SetupConfig>,
    /// What must succeed before a run counts as complete.
    pub check: CheckConfig,
    /// Which hosts may be reached.
    pub egress: EgressConfig,
    /// What becomes of connections to other hosts.
    pub network: NetworkConfig,
    /// What an environment may use.
    pub limits: LimitsConfig,
    /// What else an environment has.
    pub environment: EnvironmentConfig,
    /// Where worktrees go, for `isolation = "worktree"`.
    pub worktree: WorktreeConfig,
    /// What is built here and can be started and looked at: front ends, back ends, workers.
    pub apps: BTreeMap<Label, AppConfig>,
    /// Ports of this machine that each environment has for itself.
    pub ports: PortsConfig,
}

/// `[project]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProjectSection {
    /// The name of this repository beside others; made from its directory's name if not given.
    pub name: Option<Label>,
}

/// `[[repos]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RepoConfig {
    /// What it is called here.
    pub name: Label,
    /// Where it is, seen from this repository's root: `../front`.
    pub path: String,
    /// The branch that its shared apps run at; the one that is checked out there if not given.
    #[serde(default)]
    pub branch: Option<String>,
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
    /// How long a permission request waits for a person; then it counts as denied.
    pub approval_timeout: Option<Span>,
    /// What every agent of this project is told, placed where that agent reads it, never in the diff.
    pub instructions: Option<String>,
}

/// `[setup.NAME]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetupConfig {
    /// Commands that install what the project needs; run once per state of the `key` files.
    pub commands: Vec<String>,
    /// Files whose content decides whether the commands must run again (lockfiles).
    pub key: Vec<String>,
    /// Setups whose results this one needs; those that do not wait for each other are built at the same time.
    pub after: Vec<Label>,
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

/// `[network]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkConfig {
    /// What becomes of a connection to a host that is on no allow-list: `ask` (it is held, and a person is asked) or
    /// `refuse`. The project's and the user's files both have to say yes to being asked; `ask` if neither speaks.
    pub unknown: Option<UnknownHosts>,
}

/// What becomes of a connection to a host that is on no allow-list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownHosts {
    /// It is held, and a person is asked.
    #[default]
    Ask,
    /// It is refused.
    Refuse,
}

impl NetworkConfig {
    /// Whether a person is asked, if project and user say this.
    pub fn asks(&self, user: &Self) -> bool {
        [self, user].iter().all(|config| config.unknown.unwrap_or_default() == UnknownHosts::Ask)
    }
}

/// `[approvals]` of the user's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApprovalsConfig {
    /// How long connections to a host that is on no allow-list are held for a person; then they are refused.
    pub host_deadline: Option<Span>,
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

/// `[repositories]` of the user's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UserRepositoriesConfig {
    /// Whether a project's `[[repos]]` that a task does not name are shown to it, for reading only. A repository alone cannot
    /// have others of yours shown to an agent.
    pub show: bool,
    /// Whether tasks reach the `shared = true` apps of those that they do not name. The same holds.
    pub serve: bool,
}

/// `[environment]` of the user's file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UserEnvironmentConfig {
    /// What kind of environment, where neither the command line nor the project says otherwise.
    pub isolation: Option<Isolation>,
}

/// `[apps.NAME]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AppConfig {
    /// The command, given to `sh -c` inside the environment.
    pub command: String,
    /// The port it listens at inside; every environment may use the same.
    #[serde(default)]
    pub port: Option<u16>,
    /// Whether it is started with the environment, not only when asked for.
    #[serde(default)]
    pub start: bool,
    /// Its variables, besides those of the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it runs, relative to the workspace.
    #[serde(default)]
    pub cwd: Option<RelativePath>,
    /// Whether environments that do not change it use one instance together.
    #[serde(default)]
    pub shared: bool,
}

/// `[ports]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PortsConfig {
    /// How many ports each environment has; without it, as many as the variables need.
    pub count: Option<u16>,
    /// Variables that hold one of the ports each, by its number in the environment's block, from 0.
    pub variables: BTreeMap<String, u16>,
}

impl PortsConfig {
    /// Most ports of one environment: a hundred environments then still fit between 20000 and 30000.
    pub const MOST: u16 = 100;

    /// How many ports an environment has.
    pub fn count(&self) -> u16 {
        self.count.unwrap_or_else(|| self.variables.values().max().map_or(0, |index| index.saturating_add(1)))
    }
}

/// The user's own `config.toml`: the same keys as taste, and what only a user may say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct UserConfig {
    /// Like the project's, which wins where both speak.
    pub agent: AgentConfig,
    /// Added to the project's; `host:PORT` is allowed here.
    pub egress: EgressConfig,
    /// What becomes of connections to other hosts; `refuse` counts wherever it stands.
    pub network: NetworkConfig,
    /// How what waits for a person waits.
    pub approvals: ApprovalsConfig,
    /// Who is told what.
    pub notifications: NotificationsConfig,
    /// Like the project's, which wins where both speak, but never above these.
    pub limits: LimitsConfig,
    /// What kind of environment tasks get.
    pub environment: UserEnvironmentConfig,
    /// Where worktrees go.
    pub worktree: UserWorktreeConfig,
    /// What projects may show of other repositories.
    pub repositories: UserRepositoriesConfig,
    /// How much of this machine Offshoot may use.
    pub machine: MachineConfig,
    /// Tools to show inside, read-only, besides those found on PATH.
    pub tools: ToolsConfig,
    /// Database servers that environments may have a database or schema of their own on, by name.
    pub servers: BTreeMap<Label, ServerConfig>,
    /// How apps are looked at.
    pub preview: PreviewConfig,
    /// How browsers reach the dashboard.
    pub dashboard: DashboardConfig,
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

/// `[servers.NAME]`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServerConfig {
    /// Where it is and who may make databases on it: `postgres://admin:secret@localhost:5432/postgres`. Never enters an
    /// environment.
    pub url: String,
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It holds a password.
        f.write_str("ServerConfig(…)")
    }
}

/// `[preview]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreviewConfig {
    /// The port of this machine's loopback under which all apps are found, by host name.
    pub port: Option<u16>,
}

/// `[dashboard]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DashboardConfig {
    /// The port of this machine's loopback at which it is found.
    pub port: Option<u16>,
    /// After how long without use a browser has to log in anew: `30d`.
    pub forget_after: Option<Span>,
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

impl ConfigError {
    /// Where, for people: line and column from 1, in characters.
    pub fn line_column(&self, text: &str) -> Option<(usize, usize)> {
        let before = text.get(..self.span.as_ref()?.start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((before.matches('\n').count() + 1, before.get(line_start..)?.chars().count() + 1))
    }

    /// An error at the first place of `text` where all of `words` stand one after the other: near enough to find it.
    fn near(message: String, text: &str, words: &[&str]) -> Self {
        let mut span = None;
        let mut from = 0;
        for word in words {
            match text.get(from..).and_then(|rest| rest.find(word)) {
                Some(at) => {
                    span = Some(from + at..from + at + word.len());
                    from += at + word.len();
                }
                None => break,
            }
        }
        Self { message, span }
    }
}

impl ProjectConfig {
    /// Reads the text of `offshoot.toml`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(ConfigError::from)?;
        if let Some(rule) = config.egress.allow.iter().find(|rule| matches!(rule, EgressRule::Host(_))) {
            let rule = rule.to_string();
            let message = format!(
                "{rule} opens a port of your own machine; a repository cannot do that, only your config.toml or --allow"
            );
            return Err(ConfigError::near(message, text, &[&rule]));
        }
        config.check_setups(text)?;
        config.check_repos(text)?;
        config.check_apps(text)?;
        config.check_ports(text)?;
        Ok(config)
    }

    fn check_setups(&self, text: &str) -> Result<(), ConfigError> {
        for (name, setup) in &self.setup {
            let wrong =
                |message: String| Err(ConfigError::near(message, text, &["[setup.", name.as_str(), "after"]));
            if let Some(other) = setup.after.iter().find(|other| !self.setup.contains_key(*other)) {
                return wrong(format!("there is no setup called {other}"));
            }
            let (mut seen, mut pending) = (Vec::new(), setup.after.iter().collect::<Vec<_>>());
            while let Some(next) = pending.pop().filter(|next| !seen.contains(next)) {
                if next == name {
                    return wrong(format!("{name} waits for itself"));
                }
                seen.push(next);
                pending.extend(self.setup.get(next).into_iter().flat_map(|setup| &setup.after));
            }
        }
        Ok(())
    }

    /// Repositories of a project at the most: each costs an environment three mounts, and a person a look.
    const MOST_REPOS: usize = 32;

    fn check_repos(&self, text: &str) -> Result<(), ConfigError> {
        if self.repos.len() > Self::MOST_REPOS {
            let message = format!("a project has at most {} other repositories", Self::MOST_REPOS);
            return Err(ConfigError::near(message, text, &["[[repos]]"]));
        }
        for (n, repo) in self.repos.iter().enumerate() {
            let name = repo.name.as_str();
            let wrong = |message: String| Err(ConfigError::near(message, text, &["repos", name]));
            if repo.path.trim().is_empty() || repo.path.contains('\0') {
                return wrong(format!("the path of {name} is none"));
            }
            let taken = self.repos[..n].iter().any(|other| other.name == repo.name);
            if taken || self.project.name.as_ref() == Some(&repo.name) {
                return wrong(format!("two repositories are called {name}"));
            }
        }
        Ok(())
    }

    fn check_apps(&self, text: &str) -> Result<(), ConfigError> {
        let mut taken: BTreeMap<u16, &Label> = BTreeMap::new();
        for (name, app) in &self.apps {
            let wrong = |message: String, word: &str| {
                Err(ConfigError::near(message, text, &["apps", name.as_str(), word]))
            };
            if app.command.trim().is_empty() {
                return wrong(format!("the command of {name} is empty"), "command");
            }
            if app.port == Some(0) {
                return wrong(format!("0 is not a port for {name} to listen at"), "port");
            }
            if let Some(other) = app.port.and_then(|port| taken.insert(port, name)) {
                return wrong(
                    format!("{other} and {name} both listen at the same port of one environment"),
                    "port",
                );
            }
            if let Some(variable) = app.env.keys().find(|variable| !is_variable(variable)) {
                return wrong(format!("{variable:?} is not the name of a variable"), variable);
            }
        }
        Ok(())
    }

    fn check_ports(&self, text: &str) -> Result<(), ConfigError> {
        let count = self.ports.count();
        if count > PortsConfig::MOST {
            let message = format!("an environment has at most {} ports of this machine", PortsConfig::MOST);
            return Err(ConfigError::near(message, text, &["ports", "count"]));
        }
        for (variable, index) in &self.ports.variables {
            let wrong = |message| Err(ConfigError::near(message, text, &["ports", "variables", variable]));
            if !is_variable(variable) {
                return wrong(format!("{variable:?} is not the name of a variable"));
            }
            if *index >= count {
                return wrong(format!("{variable} is port {index} of {count}; they are counted from 0"));
            }
        }
        Ok(())
    }

    /// Refuses services that clash with what this file says. The place is one in `services.json`, whose text is given.
    pub fn check_services(&self, services: &Services, text: &str) -> Result<(), ConfigError> {
        for service in &services.services {
            let name = &service.name;
            let wrong = |message| Err(ConfigError::near(message, text, &[&format!("\"{name}\"")]));
            if self.apps.contains_key(name) {
                return wrong(format!("{name} is an app in offshoot.toml too; one name, one thing"));
            }
            for local in service.ports.iter().filter_map(|port| port.local) {
                if let Some((app, _)) = self.apps.iter().find(|(_, app)| app.port == Some(local)) {
                    return wrong(format!("localhost:{local} is claimed by both {name} and the app {app}"));
                }
            }
            if let Some(variable) = service.injected().keys().find(|v| self.ports.variables.contains_key(*v))
            {
                return wrong(format!("{variable} is set by both {name} and [ports] in offshoot.toml"));
            }
        }
        Ok(())
    }
}

impl UserConfig {
    /// Reads the text of the user's `config.toml`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(ConfigError::from)?;
        config.notifications.check(text)?;
        for (name, server) in &config.servers {
            let schemes = ["postgres://", "postgresql://", "mysql://", "mariadb://", "redis://", "valkey://"];
            if !schemes.iter().any(|scheme| server.url.starts_with(scheme)) {
                // The text itself may hold a password.
                let message = format!("the url of {name} begins with none of {}", schemes.join(", "));
                return Err(ConfigError::near(message, text, &["servers", name.as_str(), "url"]));
            }
        }
        Ok(config)
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

/// Memory that something with such limits is counted with where room is shared: it may take more for a while, up to its
/// limit, as not all peak at once; counting every limit in full would leave most of the machine unused. At least 1 GiB:
/// an agent idles at 100 to 600 MB, and what it builds comes on top.
pub fn counted(limits: &Limits) -> u64 {
    (limits.memory_bytes / 4).max(1 << 30).min(limits.memory_bytes)
}

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
            [setup.web]
            commands = ["npm ci"]
            key = ["package-lock.json"]
            [apps.web]
            command = "npm start"
            port = 3000
            cwd = "web"
            [ports]
            variables = { PORT = 0, API_PORT = 1 }
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
        assert_eq!(config.setup["web"].commands, ["npm ci"]);
        assert_eq!((config.apps["web"].port, config.ports.count()), (Some(3000), 2));
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
            ("[setup]\ncommands = [\"x\"]", "[\"x\"]"),
            ("[setup.Web]\ncommands = []", "Web"),
            ("[setup.a]\nafter = [\"b\"]", "after"),
            ("[setup.a]\nafter = [\"b\"]\n[setup.b]\nafter = [\"c\"]\n[setup.c]\nafter = [\"b\"]", "after"),
            ("[apps.web]\nport = 1", "apps"),
            ("[apps.web]\ncommand = \"x\"\ncwd = \"/etc\"", "/etc"),
            ("[apps.a]\ncommand = \"x\"\nport = 1\n[apps.b]\ncommand = \"x\"\nport = 1", "port"),
            ("[ports]\ncount = 1\nvariables = { PORT = 1 }", "PORT"),
            ("[ports]\ncount = 101", "count"),
            ("[[repos]]\nname = \"a\"\npath = \"../a\"\n[[repos]]\nname = \"a\"\npath = \"../b\"", "a"),
            ("[project]\nname = \"a\"\n[[repos]]\nname = \"a\"\npath = \"../a\"", "a"),
            ("[[repos]]\nname = \"a\"\npath = \"\"", "a"),
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
