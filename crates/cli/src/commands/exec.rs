//! `offshoot exec` and `offshoot env exec`.

use std::{io::IsTerminal, process::ExitCode};

use offshoot_core::api::{ExecParams, ExecView};
use serde::Serialize;

use crate::{
    commands::attach::{in_terminal, require_terminal},
    failure::{Failure, Outcome},
    session::{Session, encode},
    terminal,
    watching::patiently,
    wire::{Collected, Mode, carry, exit_code},
};

/// Run a command inside a task's environment, and exit with its exit code
///
/// Standard input goes in unless it is a terminal (then use --terminal); standard output and standard error come out. A command
/// that a signal ended gives 128 and the signal's number.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// Give the command a terminal
    #[arg(long, short = 't', conflicts_with = "json")]
    terminal: bool,
    /// Directory inside; the workspace if not named
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Executed {
    /// Exit code, if the command exited by itself.
    code: Option<i32>,
    /// Signal, if one ended it.
    signal: Option<i32>,
    /// Standard output; bytes that are not UTF-8 are replaced.
    stdout: String,
    /// Standard error; bytes that are not UTF-8 are replaced.
    stderr: String,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    if args.terminal {
        require_terminal("exec --terminal")?;
    }
    let params =
        ExecParams { argv: args.command, cwd: args.cwd, terminal: args.terminal.then(terminal::size) };
    let path = session.task_path(&args.task, "/exec")?;
    let start = session.client.post(&path, &params);
    let exec: ExecView = patiently(&session.screen, "waking the environment", start).await?;
    if args.terminal {
        return in_terminal(session, &args.task, &exec).await;
    }
    let path = session.task_path(&args.task, &format!("/exec/{}/stream", encode(&exec.exec)))?;
    let socket = session.client.socket(&path).await?;
    let mut collected = Collected::default();
    let mode = if session.screen.json {
        Mode::Collect
    } else {
        Mode::Pipes { input: !std::io::stdin().is_terminal() }
    };
    let ending = carry(socket, mode, &session.screen, &mut collected).await?;
    if session.screen.json {
        let (code, signal) = collected.exit.unwrap_or_default();
        session.screen.print_json(&Executed {
            code,
            signal,
            stdout: String::from_utf8_lossy(&collected.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&collected.stderr).into_owned(),
        })?;
        return match exit_code(code, signal) {
            0 => Ok(ExitCode::SUCCESS),
            code => Err(Failure::Code(code)),
        };
    }
    ending.outcome()
}
