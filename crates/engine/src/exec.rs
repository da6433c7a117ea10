//! Commands in an environment for a person: shells, checks by eye, the agent's own terminal.

use std::time::Duration;

use offshoot_agents::Protocol;
use offshoot_core::{
    api::{ExecParams, ExecView, StreamNotice, TerminalSize},
    lifecycle::{EnvironmentState, TaskState},
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_sandbox::{
    Event as SandboxEvent, ExecRequest, Exit, Stdio, Terminal,
    journal::{Kind, ReadError, Reader},
};
use tokio::sync::{broadcast::error::RecvError, mpsc};

use crate::{
    clock,
    engine::{Engine, TaskRef},
    environments::{Live, variables},
    stream::{ExecStream, StreamInput, StreamItem},
};

/// Bytes of a journal read at a time.
const READ: usize = 64 * 1024;
/// Pieces of output on their way to a reader.
const PIECES: usize = 32;
/// How often a stream that hears nothing looks by itself, in case a message was lost.
const TICK: Duration = Duration::from_secs(5);

/// How long somebody who joins waits for an agent that is being started: its layers may have to be built.
const START_WAIT: Duration = Duration::from_secs(60);
/// How often it is looked meanwhile.
const START_LOOK: Duration = Duration::from_millis(50);

impl Engine {
    /// Starts a command in the task's environment, which is woken or brought up again if need be.
    pub async fn exec(&self, task: &TaskRef, params: ExecParams) -> Result<ExecView, Problem> {
        let record = self.find(task)?;
        refuse_gone(&record)?;
        let live = self.ready(record.id).await?;
        // One that failed is no reason to keep a person out.
        let _ = self.services_ready(&live).await;
        let argv =
            if params.argv.is_empty() { vec!["/bin/bash".to_owned(), "-l".to_owned()] } else { params.argv };
        let exec = format!("x-{}", clock::id().simple());
        let names = record.run().map(|r| r.pass_env.clone()).unwrap_or_default();
        let (env, _) = self.inner.secrets.env(record.id, &names);
        let stdio = params
            .terminal
            .map_or(Stdio::Journal, |t| Stdio::Terminal(Terminal { rows: t.rows, cols: t.cols }));
        let request = ExecRequest {
            id: exec.clone(),
            argv,
            env: variables(env),
            cwd: params.cwd,
            stdio,
            ..ExecRequest::default()
        };
        live.sandbox.exec(request).await.map_err(|e| {
            Problem::new(
                ProblemKind::Failed,
                "command_not_started",
                format!("the command did not start: {}", chain(&e)),
            )
            .hint("inside is what the host has in /usr and on your PATH; [tools] in config.toml adds directories")
        })?;
        Ok(ExecView { exec })
    }

    /// The agent's own terminal: the running one, or its terminal program in the finished environment.
    pub async fn attach(&self, task: &TaskRef, size: TerminalSize) -> Result<ExecView, Problem> {
        let record = self.find(task)?;
        refuse_gone(&record)?;
        let Some(run) = record.run().cloned() else {
            return Err(Problem::new(ProblemKind::Conflict, "wrong_state", "the task has no run"));
        };
        if !run.state.is_over() {
            return self.attach_running(&record).await;
        }
        let mut env = self.handed_in(&record, &run)?;
        let live = self.ready(record.id).await?;
        let launch = self.terminal_launch(&record, &run, &live)?;
        self.prepare(&record, &live, &launch.files).await?;
        let exec = format!("attach-{}", clock::id().simple());
        env.extend(launch.env);
        let size = Terminal { rows: size.rows, cols: size.cols };
        let request = ExecRequest {
            id: exec.clone(),
            argv: launch.argv,
            env,
            stdio: Stdio::Terminal(size),
            ..ExecRequest::default()
        };
        live.sandbox.exec(request).await.map_err(|e| {
            Problem::new(
                ProblemKind::Failed,
                "agent_not_started",
                format!("the agent did not start: {}", chain(&e)),
            )
        })?;
        Ok(ExecView { exec })
    }

    /// The terminal of an agent that works in one; of one that is only just starting, as soon as it is there.
    async fn attach_running(&self, record: &TaskRecord) -> Result<ExecView, Problem> {
        let refused = |why: &str| {
            let what = format!("{} is {}, and {why}", record.name, record.state.word());
            Problem::new(ProblemKind::Conflict, "no_terminal_now", what).hint(format!(
                "`offshoot logs -f {0}` shows what it does; once it is done, attach continues its session",
                record.name
            ))
        };
        if self.definition(record)?.protocol != Protocol::Terminal {
            return Err(refused("its agent is spoken to by protocol, not by a terminal"));
        }
        let not_started = || refused("its agent has not started");
        if record.state == TaskState::Queued {
            return Err(not_started());
        }
        let live = self.ready(record.id).await?;
        let mut newest = self.inner.ledger.watch();
        let started = async {
            loop {
                newest.borrow_and_update();
                let now = self.inner.ledger.task(record.id)?;
                let exec = now.run().and_then(|run| run.exec.clone());
                if let Some(exec) = exec.filter(|exec| live.lease.journal(exec).exists()) {
                    return Ok(ExecView { exec });
                }
                if now.run().is_none_or(|run| run.state.is_over()) {
                    return Err(not_started());
                }
                // Between the record of the start and the start there is no event.
                let _ = tokio::time::timeout(START_LOOK, newest.changed()).await;
            }
        };
        tokio::time::timeout(START_WAIT, started).await.unwrap_or_else(|_| Err(not_started()))
    }

    /// The bytes of a command: all from a place in its journal (0 is the beginning), then those to come, and a way to send some.
    pub async fn exec_stream(&self, task: &TaskRef, exec: &str, from: u64) -> Result<ExecStream, Problem> {
        let record = self.find(task)?;
        let live = self.ready(record.id).await?;
        let missing = || {
            Problem::new(ProblemKind::NotFound, "no_such_exec", format!("there is no command {exec:?} in it"))
        };
        if exec.is_empty()
            || !exec.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            || exec.starts_with('.')
        {
            return Err(missing());
        }
        let reader = Reader::open(&live.lease.journal(exec)).map_err(|_| missing())?;
        let (output, output_receiver) = mpsc::channel(PIECES);
        let (input, input_receiver) = mpsc::channel(PIECES);
        tokio::spawn(hand_in(self.clone(), live.clone(), exec.to_owned(), input_receiver));
        tokio::spawn(read_out(self.clone(), live, exec.to_owned(), (reader, from), output));
        Ok(ExecStream { output: output_receiver, input })
    }
}

async fn read_out(
    engine: Engine,
    live: Live,
    exec: String,
    (reader, mut at): (Reader, u64),
    output: mpsc::Sender<StreamItem>,
) {
    let mut events = live.sandbox.events();
    let environment = live.lease.terms().environment;
    loop {
        let records = match reader.read_from(at, READ) {
            Ok((records, next)) => {
                at = next;
                records
            }
            Err(ReadError::Gone(_)) => {
                let reason = "the beginning of its output is no longer kept".to_owned();
                let _ = output.send(StreamItem::Notice(StreamNotice::Gone { reason })).await;
                return;
            }
            Err(error) => {
                tracing::warn!(exec, error = %chain(&error), "could not read a journal");
                return;
            }
        };
        let any = !records.is_empty();
        for record in records {
            let item = match record.kind {
                Kind::Stdout | Kind::Terminal => StreamItem::Stdout(record.bytes),
                Kind::Stderr => StreamItem::Stderr(record.bytes),
                Kind::Exit => {
                    let (code, signal) = match record.exit() {
                        Some(Exit::Code(code)) => (Some(code), None),
                        Some(Exit::Signal(signal)) => (None, Some(signal)),
                        None => (None, None),
                    };
                    let _ = output.send(StreamItem::Notice(StreamNotice::Exited { code, signal })).await;
                    return;
                }
                _ => continue,
            };
            if output.send(item).await.is_err() {
                return;
            }
        }
        if any {
            engine.inner.environments.touch(environment);
            // A person's command has no other reader; what was shown need not hold the command up.
            if exec.starts_with("x-") || exec.starts_with("attach-") {
                let _ = live.sandbox.ack(&exec, at).await;
            }
            continue;
        }
        tokio::select! {
            event = events.recv() => if matches!(event, Ok(SandboxEvent::InitGone) | Err(RecvError::Closed)) {
                let reason = "its environment is gone".to_owned();
                let _ = output.send(StreamItem::Notice(StreamNotice::Gone { reason })).await;
                return;
            },
            () = tokio::time::sleep(TICK) => {},
            () = output.closed() => return,
        }
    }
}

async fn hand_in(engine: Engine, live: Live, exec: String, mut input: mpsc::Receiver<StreamInput>) {
    while let Some(item) = input.recv().await {
        engine.inner.environments.touch(live.lease.terms().environment);
        let done = match item {
            StreamInput::Bytes(bytes) => live.sandbox.input(&exec, &bytes).await,
            StreamInput::Resize(size) => live.sandbox.resize(&exec, size.rows, size.cols).await,
            StreamInput::Close => live.sandbox.close_input(&exec).await,
            StreamInput::Signal(number) => live.sandbox.signal(&exec, number).await,
        };
        if let Err(error) = done {
            tracing::debug!(exec, error = %chain(&error), "input was not taken");
        }
    }
}

fn refuse_gone(record: &TaskRecord) -> Result<(), Problem> {
    let gone = record.environment.as_ref().is_some_and(|e| e.state == EnvironmentState::Removed)
        && record.state.is_settled()
        && record.state != TaskState::Complete;
    if gone {
        return Err(Problem::new(
            ProblemKind::Conflict,
            "environment_gone",
            format!("{} is {}; its environment was taken away", record.name, record.state.word()),
        )
        .hint(format!("`offshoot show {}` tells when and why", record.name)));
    }
    Ok(())
}
