//! A definition and the circumstances of a run become a command line, an environment, files and the setup of the
//! conversation. Pure; the engine writes the files and starts the process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use offshoot_core::agent::PermissionPolicy;
use thiserror::Error;

use crate::conversation::{SessionWish, Setup, Wire};
use crate::definition::{AgentDefinition, Protocol};

/// The circumstances. All paths are paths inside the sandbox.
#[derive(Debug, Clone)]
pub struct LaunchParams {
    /// The agent's real executable.
    pub executable: PathBuf,
    /// Its private directory, kept between the runs of a task.
    pub state_dir: PathBuf,
    /// There is no sandbox, and the agent has the settings and the log-in that the user made for it: nothing is written
    /// for it, and no variable leads it elsewhere.
    pub own_settings: bool,
    /// The working directory.
    pub cwd: PathBuf,
    /// The model, if one was chosen.
    pub model: Option<String>,
    /// New or which.
    pub session: SessionWish,
    /// A UUID for a new session, for agents that take one.
    pub new_session_id: String,
    /// What becomes of permission questions.
    pub permission: PermissionPolicy,
    /// Instructions for the agent.
    pub instructions: Option<String>,
    /// The prompt. Only oneshot agents get it on the command line.
    pub prompt: String,
    /// What the agent will have in its environment anyway: keys passed on, addresses of gateways.
    pub env: BTreeMap<String, String>,
}

/// What the agent's stdin and stdout are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// Two pipes (and one for stderr).
    Pipes,
    /// A terminal of this size.
    Terminal {
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
}

/// A file to be written before the agent starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchFile {
    /// Where, inside.
    pub path: PathBuf,
    /// What.
    pub text: String,
    /// Whether a file that is there already is left alone.
    pub keep: bool,
}

/// Everything needed to start an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables in addition to `LaunchParams::env`.
    pub env: BTreeMap<String, String>,
    /// Files to be written before.
    pub files: Vec<LaunchFile>,
    /// What its stdin and stdout are.
    pub stdio: Stdio,
    /// For `Conversation::new`; to be stored with the run.
    pub setup: Setup,
}

/// Why an agent cannot be started that way.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LaunchError {
    /// Nobody can answer its questions from outside.
    #[error("{agent} cannot be asked for permission from outside; let it work without asking")]
    CannotAsk {
        /// The agent.
        agent: String,
    },
    /// It has no terminal interface.
    #[error("{agent} has no terminal interface")]
    NoTerminal {
        /// The agent.
        agent: String,
    },
    /// A path that is not Unicode.
    #[error("the path {path:?} is not valid Unicode, which {agent} needs")]
    Path {
        /// The agent.
        agent: String,
        /// The path.
        path: PathBuf,
    },
}

impl AgentDefinition {
    /// The launch of a supervised conversation.
    pub fn resolve(&self, params: &LaunchParams) -> Result<Launch, LaunchError> {
        let fill = Fill::new(self, params)?;
        let mode = self
            .permission
            .mode(params.permission)
            .ok_or_else(|| LaunchError::CannotAsk { agent: self.name.clone() })?;
        let wire = match self.protocol {
            Protocol::Acp => Wire::Acp,
            Protocol::ClaudeStreamJson => Wire::ClaudeStreamJson,
            Protocol::CodexAppServer => Wire::CodexAppServer,
            Protocol::Terminal => Wire::Terminal,
            Protocol::Oneshot => Wire::Oneshot,
        };
        let mut argv = vec![fill.program.clone()];
        let in_file = self.instructions_in_file(params) && params.instructions.is_some();
        let groups = [
            (true, self.command.get(1..).unwrap_or_default()),
            (true, &mode.args[..]),
            (params.model.is_some(), &self.model_args[..]),
            (in_file, &self.instructions.args[..]),
            (params.session == SessionWish::New, &self.new_session_args[..]),
            (params.session != SessionWish::New, &self.resume_args[..]),
            (true, &self.prompt_args[..]),
        ];
        for (_, args) in groups.iter().filter(|(wanted, _)| *wanted) {
            argv.extend(args.iter().map(|arg| fill.text(arg, false)));
        }
        let mut env = self.fill_env(&fill, params);
        env.extend(fill.env(&mode.env));
        let stdio = match self.protocol {
            Protocol::Terminal => Stdio::Terminal {
                rows: crate::conversation::TERMINAL_ROWS,
                cols: crate::conversation::TERMINAL_COLS,
            },
            _ => Stdio::Pipes,
        };
        let setup = Setup {
            wire,
            session: params.session.clone(),
            cwd: fill.cwd.clone(),
            permission: params.permission,
            mode: mode.mode.clone(),
            model: params.model.clone(),
            approval: mode.approval.clone(),
            preamble: params.instructions.clone().filter(|_| !self.instructions_in_file(params)),
            prompt: Some(params.prompt.clone()),
            idle_after_s: self.idle_after_s,
            silence_s: self.silence_s,
        };
        Ok(Launch { argv, env, files: self.fill_files(&fill, params), stdio, setup })
    }

    /// The launch of the agent's own interface for a person in a terminal.
    pub fn resolve_terminal(&self, params: &LaunchParams) -> Result<Launch, LaunchError> {
        let fill = Fill::new(self, params)?;
        let unconfined = self.terminal.unconfined_args.as_deref().filter(|_| params.own_settings);
        let args = unconfined
            .or(self.terminal.args.as_deref())
            .ok_or_else(|| LaunchError::NoTerminal { agent: self.name.clone() })?;
        let mut argv = vec![fill.program.clone()];
        argv.extend(args.iter().map(|arg| fill.text(arg, false)));
        if params.model.is_some() {
            argv.extend(self.model_args.iter().map(|arg| fill.text(arg, false)));
        }
        if params.session != SessionWish::New {
            argv.extend(self.terminal.resume_args.iter().map(|arg| fill.text(arg, false)));
        }
        let setup = Setup {
            wire: Wire::Terminal,
            session: params.session.clone(),
            cwd: fill.cwd.clone(),
            permission: params.permission,
            mode: None,
            model: None,
            approval: None,
            preamble: None,
            prompt: None,
            idle_after_s: self.idle_after_s,
            silence_s: self.silence_s,
        };
        let stdio = Stdio::Terminal {
            rows: crate::conversation::TERMINAL_ROWS,
            cols: crate::conversation::TERMINAL_COLS,
        };
        let env = self.fill_env(&fill, params);
        Ok(Launch { argv, env, files: self.fill_files(&fill, params), stdio, setup })
    }

    fn fill_env(&self, fill: &Fill<'_>, params: &LaunchParams) -> BTreeMap<String, String> {
        let mut env = if params.own_settings { BTreeMap::new() } else { fill.env(&self.env) };
        if params.model.is_some() {
            env.extend(fill.env(&self.model_env));
        }
        env
    }

    /// Whether instructions go to a file: not to one of the user's own settings, only to one that is named in an argument.
    fn instructions_in_file(&self, params: &LaunchParams) -> bool {
        self.instructions.file.is_some() && !(params.own_settings && self.instructions.args.is_empty())
    }

    fn fill_files(&self, fill: &Fill<'_>, params: &LaunchParams) -> Vec<LaunchFile> {
        let seeds = if params.own_settings { &[][..] } else { &self.files[..] };
        let mut files: Vec<LaunchFile> = seeds
            .iter()
            .map(|file| {
                let quoted = file.path.ends_with(".json") || file.path.ends_with(".toml");
                let text = fill.text(&file.content, quoted);
                LaunchFile { path: params.state_dir.join(&file.path), text, keep: file.keep }
            })
            .collect();
        if let (Some(file), Some(text)) = (&self.instructions.file, &params.instructions)
            && self.instructions_in_file(params)
        {
            let path = params.state_dir.join(file);
            files.push(LaunchFile { path, text: text.clone(), keep: false });
        }
        files
    }
}

/// The values of the placeholders.
struct Fill<'a> {
    params: &'a LaunchParams,
    program: String,
    state: String,
    cwd: String,
    session: &'a str,
}

impl<'a> Fill<'a> {
    fn new(agent: &AgentDefinition, params: &'a LaunchParams) -> Result<Self, LaunchError> {
        let text = |path: &PathBuf| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| LaunchError::Path { agent: agent.name.clone(), path: path.clone() })
        };
        Ok(Self {
            params,
            program: text(&params.executable)?,
            state: text(&params.state_dir)?,
            cwd: text(&params.cwd)?,
            session: match &params.session {
                SessionWish::New => &params.new_session_id,
                SessionWish::Resume(session) => session,
            },
        })
    }

    fn value(&self, name: &str) -> Option<String> {
        let var = |name: &str| self.params.env.get(name).cloned().unwrap_or_default();
        match name {
            "state" => Some(self.state.clone()),
            "cwd" => Some(self.cwd.clone()),
            "session" => Some(self.session.to_owned()),
            "model" => Some(self.params.model.clone().unwrap_or_default()),
            "prompt" => Some(self.params.prompt.clone()),
            "program" => Some(self.program.clone()),
            _ => {
                if let Some(name) = name.strip_prefix("tail:") {
                    let value = var(name);
                    let skip = value.chars().count().saturating_sub(20);
                    return Some(value.chars().skip(skip).collect());
                }
                let name = name.strip_prefix("env:")?;
                let (name, default) = name.split_once('|').unwrap_or((name, ""));
                let value = var(name);
                Some(if value.is_empty() { default.to_owned() } else { value })
            }
        }
    }

    /// Fills in the placeholders of a text; what is filled in is not searched again.
    fn text(&self, template: &str, quoted: bool) -> String {
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            let (before, from) = rest.split_at(start);
            filled.push_str(before);
            let value = from.find('}').and_then(|end| Some((self.value(&from[1..end])?, end)));
            match value {
                Some((value, end)) => {
                    filled.push_str(&if quoted { escape(&value) } else { value });
                    rest = &from[end + 1..];
                }
                None => {
                    filled.push('{');
                    rest = &from[1..];
                }
            }
        }
        filled.push_str(rest);
        filled
    }

    fn env(&self, templates: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let filled = templates.iter().map(|(name, template)| {
            // Variables that hold JSON begin like it.
            (name.clone(), self.text(template, template.starts_with("{\"")))
        });
        filled.filter(|(_, value)| !value.is_empty()).collect()
    }
}

/// The inside of a JSON string, which is also the inside of a TOML basic string.
fn escape(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    fn params() -> LaunchParams {
        LaunchParams {
            executable: "/opt/agent/bin/x".into(),
            state_dir: "/state".into(),
            own_settings: false,
            cwd: "/repo \"q\"".into(),
            model: None,
            session: SessionWish::New,
            new_session_id: "11111111-2222-4333-8444-555555555555".into(),
            permission: PermissionPolicy::Allow,
            instructions: Some("be brief".into()),
            prompt: "do {state} it".into(),
            env: BTreeMap::from([("ANTHROPIC_API_KEY".into(), "abcdefghijklmnopqrstuvwxyz".into())]),
        }
    }

    #[test]
    fn a_new_session_and_a_resumed_one() {
        let catalog = Catalog::shipped().unwrap();
        let claude = catalog.get("claude").unwrap();
        let launch = claude.resolve(&params()).unwrap();
        assert_eq!(launch.argv[0], "/opt/agent/bin/x");
        assert!(
            launch.argv.windows(2).any(|two| two == ["--session-id", "11111111-2222-4333-8444-555555555555"])
        );
        assert!(launch.argv.windows(2).any(|two| two == ["--permission-mode", "bypassPermissions"]));
        assert_eq!(launch.env["CLAUDE_CONFIG_DIR"], "/state");
        assert!(
            launch
                .files
                .iter()
                .any(|file| file.path == std::path::Path::new("/state/CLAUDE.md") && file.text == "be brief")
        );
        assert_eq!(launch.setup.preamble, None);

        let resumed =
            LaunchParams { session: SessionWish::Resume("s-1".into()), model: Some("m".into()), ..params() };
        let launch = claude.resolve(&resumed).unwrap();
        assert!(launch.argv.windows(2).any(|two| two == ["--resume", "s-1"]));
        assert!(launch.argv.windows(2).any(|two| two == ["--model", "m"]));
        assert!(!launch.argv.iter().any(|arg| arg == "--session-id"));
    }

    #[test]
    fn files_stay_valid_json_and_toml_whatever_is_filled_in() {
        let catalog = Catalog::shipped().unwrap();
        for agent in catalog.iter() {
            for file in agent.resolve(&params()).unwrap().files {
                match file.path.extension().and_then(|extension| extension.to_str()) {
                    Some("json") => {
                        serde_json::from_str::<serde_json::Value>(&file.text).unwrap();
                    }
                    Some("toml") => {
                        file.text.parse::<toml::Table>().unwrap();
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn what_is_filled_in_is_not_searched_again() {
        let catalog = Catalog::shipped().unwrap();
        let launch = catalog.get("aider").unwrap().resolve(&params()).unwrap();
        assert!(launch.argv.iter().any(|arg| arg == "do {state} it"), "{:?}", launch.argv);
    }

    #[test]
    fn without_a_sandbox_the_users_own_settings_are_left_alone() {
        let catalog = Catalog::shipped().unwrap();
        for agent in catalog.iter() {
            let launch = agent.resolve(&LaunchParams { own_settings: true, ..params() }).unwrap();
            assert_eq!(
                launch.env, agent.permission.allow.env,
                "{}: no variable leads it elsewhere",
                agent.name
            );
            let told = launch.setup.preamble.is_some();
            let kept = !agent.instructions.args.is_empty();
            assert_eq!(launch.files.len(), usize::from(kept), "{}", agent.name);
            assert_ne!(told, kept, "{}: instructions are given once", agent.name);
            let attached = agent.resolve_terminal(&LaunchParams { own_settings: true, ..params() });
            let free = |arg: &String| arg.contains("dangerously") || arg.contains("bypass");
            assert!(
                !attached.is_ok_and(|launch| launch.argv.iter().any(free)),
                "{} asks when attached",
                agent.name
            );
        }
    }

    #[test]
    fn an_agent_that_cannot_ask_says_so() {
        let catalog = Catalog::shipped().unwrap();
        let asking = LaunchParams { permission: PermissionPolicy::Ask, ..params() };
        let error = catalog.get("aider").unwrap().resolve(&asking).unwrap_err();
        assert_eq!(error, LaunchError::CannotAsk { agent: "aider".into() });
    }
}
