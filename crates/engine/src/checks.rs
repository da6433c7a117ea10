//! The project's check: run in the environment at the end of a run, and what it said.

use std::{collections::BTreeMap, fs::File, path::PathBuf, time::Duration};

use offshoot_core::{
    api::CheckView,
    event::Event,
    fault,
    problem::{Problem, ProblemKind},
    record::{RunRecord, TaskRecord},
};
use offshoot_environment::machine::{self, Command};
use offshoot_sandbox::Exit;

use crate::{
    clock,
    engine::{Engine, TaskRef},
    environments::Live,
    project,
    run::tail,
};

/// How long a check may take, if the project does not say.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How much of the end of a check's output is kept for good, in bytes.
const CHECK_OUTPUT: usize = 8000;
/// How much of it is shown as long as the environment is there, in bytes: more than anybody reads.
const SHOWN: usize = 2 << 20;

impl Engine {
    /// What the check of a run said: all of it as long as the environment is there, then its end.
    pub async fn check_log(&self, task: &TaskRef, number: u32) -> Result<CheckView, Problem> {
        let record = self.find(task)?;
        let run = record.runs.iter().find(|run| run.number == number).ok_or_else(|| {
            let text = format!("{} has no run {number}", record.name);
            Problem::new(ProblemKind::NotFound, "no_such_run", text)
        })?;
        let command = run.check.clone().ok_or_else(|| {
            let text = format!("run {number} of {} has no check", record.name);
            Problem::new(ProblemKind::NotFound, "no_check", text)
        })?;
        let kept = run.check_output.clone().unwrap_or_default();
        let code = run.check_code;
        let view = |text: String, truncated| CheckView { run: number, command, code, text, truncated };
        let Some(environment) = &record.environment else { return Ok(view(kept, false)) };
        let path = self.inner.layout.environment(environment.id).join(format!("{}.log", log(run)));
        let read = tokio::task::spawn_blocking(move || {
            let size = File::open(&path)?.metadata()?.len();
            Ok::<_, std::io::Error>((tail(&path, SHOWN)?, size > SHOWN as u64))
        });
        match read.await {
            Ok(Ok((bytes, truncated))) => Ok(view(String::from_utf8_lossy(&bytes).into_owned(), truncated)),
            _ => {
                let truncated = kept.len() >= CHECK_OUTPUT;
                Ok(view(kept, truncated))
            }
        }
    }

    /// Runs the project's check in the environment.
    pub(crate) async fn check(&self, record: &TaskRecord, run: &RunRecord) -> Result<(), Problem> {
        if run.check_code.is_some() || run.stop_requested {
            return self.append(record, run, Event::Harvesting);
        }
        let live = self.ready(record.id).await?;
        let unreachable = |e| Problem::internal("the sandbox does not answer", &e);
        let execs = live.sandbox.execs().await.map_err(unreachable)?;
        if execs.iter().any(|exec| exec.id.starts_with("check-") && exec.exit.is_none()) {
            // Begun before a restart; nobody hears its end any more.
            live.sandbox.kill_all().await.map_err(unreachable)?;
        }
        let command = run.check.clone().unwrap_or_default();
        let timeout =
            project::config(&PathBuf::from(&record.root))?.check.timeout.map_or(CHECK_TIMEOUT, |t| t.0);
        let (code, output) = self.command(&live, &log(run), &command, timeout).await?;
        let events = vec![Event::CheckEnded { code, output }, Event::Harvesting];
        self.inner.ledger.append(record.id, Some(run.id), events)?;
        fault::point("run.checked");
        Ok(())
    }

    async fn command(
        &self,
        live: &Live,
        what: &str,
        command: &str,
        timeout: Duration,
    ) -> Result<(Option<i32>, String), Problem> {
        let path = live.lease.dir().join(format!("{what}.log"));
        let open = || File::options().create(true).write(true).truncate(true).read(true).open(&path);
        let failed = |e| Problem::internal("could not keep the command's output", &e);
        let file = open().map_err(failed)?;
        let both = file.try_clone().map_err(failed)?;
        let command = Command {
            id: format!("{what}-{}", clock::id()),
            argv: vec!["sh".to_owned(), "-c".to_owned(), command.to_owned()],
            env: BTreeMap::new(),
            seconds: timeout.as_secs(),
        };
        let ended = machine::run_inside(&live.sandbox, command, file, both).await;
        let bytes = tail(&path, CHECK_OUTPUT).unwrap_or_default();
        let mut output = String::from_utf8_lossy(&bytes).into_owned();
        let code = match ended {
            Ok(Exit::Code(code)) => Some(code),
            Ok(Exit::Signal(signal)) => {
                output.push_str(&format!("\n(ended by signal {signal})"));
                None
            }
            Err(error) => {
                output.push_str(&format!("\n({})", offshoot_core::problem::chain(&error)));
                None
            }
        };
        Ok((code, output))
    }
}

/// The name of what a run's check says.
fn log(run: &RunRecord) -> String {
    format!("check-{}", run.number)
}
