//! Starting a run's agent in its environment: what it is told and given, once, and recorded before it is done.

use std::{collections::BTreeMap, path::Path};

use offshoot_agents::{
    LaunchParams, SessionWish, Setup,
    launch::{Launch, LaunchFile, Stdio as AgentStdio},
};
use offshoot_core::{
    event::Event,
    fault,
    problem::{Problem, ProblemKind, chain},
    record::{RunRecord, TaskRecord},
};
use offshoot_environment::machine::{self, Command};
use offshoot_sandbox::{ExecRequest, Exit, Stdio, Terminal};
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    engine::Engine,
    environments::{Live, variables},
    parts, project, restore,
};

/// Writes files given as triples of path, text and `keep`, and lines to the repository's private exclude list. Runs
/// inside: the home directory may hold traps by now.
const PREPARE: &str = r#"
set -e
exclude=$1; shift
if [ -n "$exclude" ]; then
  # In a worktree the list that is read is shared by all; the host has written one of its own.
  if [ -z "${OFFSHOOT_GIT_DIR:-}" ]; then
    mkdir -p .git/info
    printf '%s\n' "$exclude" | while IFS= read -r line; do
      grep -qxF -e "$line" .git/info/exclude 2>/dev/null || printf '%s\n' "$line" >> .git/info/exclude
    done
  fi
fi
while [ $# -ge 3 ]; do
  mkdir -p "$(dirname "$1")"
  if [ "$3" != keep ] || [ ! -e "$1" ]; then printf %s "$2" > "$1"; fi
  shift 3
done
"#;

/// What a conversation must be given again at a replay.
#[derive(Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// What stays the same for its whole life.
    pub setup: Setup,
    /// The prompt as it was sent: with context, if it needs any.
    pub prompt: String,
}

impl Engine {
    /// Starts the run's agent, or finds that it was started before. Returns the process and what is said to it.
    pub(crate) async fn agent_started(
        &self,
        record: &TaskRecord,
        run: &RunRecord,
        live: &Live,
    ) -> Result<(String, Recorded), Problem> {
        // A second try of a run, without a session that was lost, has a journal of its own.
        let first = format!("run-{}", run.number);
        let fresh = if live.lease.journal(&first).exists() { format!("{first}-again") } else { first };
        let exec = run.exec.clone().unwrap_or(fresh);
        let path = live.lease.dir().join(format!("{exec}.json"));
        let recorded: Option<Recorded> =
            std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let Some(recorded) = recorded
            && live.lease.journal(&exec).exists()
        {
            return Ok((exec, recorded));
        }
        self.populated(record, live).await?;
        let launch = self.launch(record, run, live)?;
        let recorded = Recorded { setup: launch.setup.clone(), prompt: self.prompt(record, run) };
        let failed = |e: &dyn std::error::Error| Problem::internal("could not record the launch", e);
        let text = serde_json::to_vec(&recorded).map_err(|e| failed(&e))?;
        std::fs::write(&path, text).map_err(|e| failed(&e))?;
        self.append(record, run, Event::AgentStarted { exec: exec.clone() })?;
        fault::point("run.launch");
        self.prepare(record, live, &launch.files).await?;
        let mut env = self.handed_in(record, run)?;
        env.extend(launch.env);
        let stdio = match launch.stdio {
            AgentStdio::Pipes => Stdio::Journal,
            AgentStdio::Terminal { rows, cols } => Stdio::Terminal(Terminal { rows, cols }),
        };
        live.sandbox
            .exec(ExecRequest { id: exec.clone(), argv: launch.argv, env, stdio, ..ExecRequest::default() })
            .await
            .map_err(|e| {
                Problem::new(
                    ProblemKind::Failed,
                    "agent_not_started",
                    format!("the agent did not start: {}", chain(&e)),
                )
            })?;
        fault::point("run.launched");
        Ok((exec, recorded))
    }

    /// The variables that were handed in for a run; refused if the value of one is not known any more.
    pub(crate) fn handed_in(
        &self,
        record: &TaskRecord,
        run: &RunRecord,
    ) -> Result<BTreeMap<String, String>, Problem> {
        let (known, missing) = self.inner.secrets.env(record.id, &run.pass_env);
        if missing.is_empty() {
            return Ok(variables(known));
        }
        Err(Problem::new(
            ProblemKind::Unavailable,
            "variable_forgotten",
            format!("the value of {} is not known any more (it is never stored)", missing.join(", ")),
        )
        .hint("follow up with --pass-env to hand it in again"))
    }

    /// The agent's command line and files for a run.
    fn launch(&self, record: &TaskRecord, run: &RunRecord, live: &Live) -> Result<Launch, Problem> {
        let params = self.launch_params(record, run, live)?;
        let definition = self.definition(record)?;
        definition
            .resolve(&params)
            .map_err(|e| Problem::new(ProblemKind::Invalid, "agent_cannot", e.to_string()))
    }

    /// The same for the agent's own terminal program, to be used by a person.
    pub(crate) fn terminal_launch(
        &self,
        record: &TaskRecord,
        run: &RunRecord,
        live: &Live,
    ) -> Result<Launch, Problem> {
        let params = self.launch_params(record, run, live)?;
        let definition = self.definition(record)?;
        definition.resolve_terminal(&params).map_err(|e| {
            Problem::new(ProblemKind::Conflict, "no_terminal", e.to_string())
                .hint("`offshoot logs -f` shows what it does; `offshoot shell` opens a terminal beside it")
        })
    }

    pub(crate) fn definition(
        &self,
        record: &TaskRecord,
    ) -> Result<&offshoot_agents::AgentDefinition, Problem> {
        let name = record.agent.as_deref().unwrap_or_default();
        self.inner.catalog.get(name).ok_or_else(|| {
            Problem::new(
                ProblemKind::NotFound,
                "unknown_agent",
                format!("there is no agent named {name:?} any more"),
            )
        })
    }

    fn launch_params(
        &self,
        record: &TaskRecord,
        run: &RunRecord,
        live: &Live,
    ) -> Result<LaunchParams, Problem> {
        let definition = self.definition(record)?;
        let located = self.located(definition, &self.inner.secrets.path(record.id)).map_err(|e| {
            Problem::new(ProblemKind::Unavailable, "agent_not_installed", chain(&e))
                .hint(format!("install it with: {}", definition.install))
        })?;
        let config = project::config(Path::new(&record.root))?;
        let (secrets, _) = self.inner.secrets.env(record.id, &run.pass_env);
        let mut env = config.environment.env;
        env.extend(variables(secrets));
        // In a worktree an agent has the user's own settings and log-in; what is ours lies with the environment.
        let own_settings = live.lease.worktree().is_some();
        let state = match own_settings {
            true => live.lease.dir().join("agent"),
            false => self.inner.machine.home_for(Path::new(&record.root)).join(".offshoot"),
        };
        let told = parts::told(record, live.lease.terms());
        let parts = [told, scope(record), config.agent.instructions, run.instructions.clone()];
        let instructions: Vec<_> = parts.into_iter().flatten().collect();
        Ok(LaunchParams {
            executable: located.program,
            state_dir: state.join(&definition.name),
            own_settings,
            cwd: live.lease.terms().workspace.clone(),
            model: run.model.clone(),
            session: record.session.clone().map_or(SessionWish::New, SessionWish::Resume),
            new_session_id: clock::id().to_string(),
            permission: run.permission,
            instructions: (!instructions.is_empty()).then(|| instructions.join("\n\n")),
            prompt: self.prompt(record, run),
            env,
        })
    }

    /// Writes the agent's files, inside.
    pub(crate) async fn prepare(
        &self,
        record: &TaskRecord,
        live: &Live,
        files: &[LaunchFile],
    ) -> Result<(), Problem> {
        let exclude = self.definition(record)?.git_exclude.join("\n");
        let mut argv: Vec<_> = ["sh", "-c", PREPARE, "offshoot"].map(str::to_owned).to_vec();
        argv.push(exclude);
        for file in files {
            argv.push(file.path.to_string_lossy().into_owned());
            argv.push(file.text.clone());
            argv.push(if file.keep { "keep" } else { "replace" }.to_owned());
        }
        let failed = |e: std::io::Error| Problem::internal("could not prepare the agent", &e);
        let path = live.lease.dir().join("prepare.log");
        let log = std::fs::File::create(&path).map_err(failed)?;
        let both = log.try_clone().map_err(failed)?;
        let id = format!("prepare-{}", clock::id());
        let command = Command { id, argv, env: live.lease.git_variables(), seconds: 60 };
        match machine::run_inside(&live.sandbox, command, log, both).await {
            Ok(Exit::Code(0)) => Ok(()),
            Ok(exit) => {
                let end = crate::run::tail(&path, 2000).unwrap_or_default();
                Err(Problem::new(
                    ProblemKind::Failed,
                    "agent_not_prepared",
                    format!("its files could not be written: {exit:?}"),
                )
                .detail(String::from_utf8_lossy(&end)))
            }
            Err(error) => Err(Problem::internal("could not prepare the agent", &error)),
        }
    }

    /// The prompt of a run: with what was asked and done before, where the agent's own session cannot tell it.
    fn prompt(&self, record: &TaskRecord, run: &RunRecord) -> String {
        let restored = run.restored.map(restore::told).unwrap_or_default();
        if run.number == 1 || record.session.is_some() {
            return format!("{restored}{}", run.prompt);
        }
        let mut text = String::from("Earlier work on this branch, oldest first:\n");
        for earlier in record.runs.iter().filter(|r| r.number < run.number) {
            let asked: String = earlier.prompt.chars().take(2000).collect();
            text.push_str(&format!(
                "\n{}. asked: {asked}\n   result: {}\n",
                earlier.number,
                earlier.reason.as_deref().unwrap_or("unknown")
            ));
        }
        text.push_str("\n`git log` shows what was committed. Now:\n\n");
        text.push_str(&restored);
        text.push_str(&run.prompt);
        text
    }
}

/// What an agent is told of the paths that it is to touch.
fn scope(record: &TaskRecord) -> Option<String> {
    let named = record.scope.join(", ");
    (!record.scope.is_empty()).then(|| {
        format!(
            "Change only files that these patterns (as in .gitignore) name: {named}. If the task cannot be done without \
             changing others, change as few as possible and say why."
        )
    })
}
