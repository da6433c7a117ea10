//! `offshoot attach`.

use std::io::IsTerminal;

use offshoot_core::{
    api::ExecView,
    problem::{Problem, ProblemKind},
};

use crate::{
    failure::{Failure, Outcome},
    presence::looking,
    session::{Session, encode},
    terminal,
    wire::{Collected, Ending, Mode, carry},
};

/// Join the agent's own terminal; Ctrl-\ twice detaches and leaves it running
///
/// While the agent works in a terminal, this is that terminal. Otherwise the agent's session is resumed in a terminal
/// in the task's environment.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    require_terminal("attach")?;
    let path = session.task_path(&args.task, "/attach")?;
    let exec: ExecView = session.client.post(&path, &terminal::size()).await?;
    in_terminal(session, &args.task, &exec).await
}

/// Refuses where there is no terminal to become the one inside.
pub(crate) fn require_terminal(command: &str) -> Result<(), Failure> {
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::Invalid, "no_terminal", format!("{command} needs a terminal"))
        .hint("without one use: offshoot exec TASK -- COMMAND, or offshoot logs -f TASK")
        .into())
}

/// Makes this terminal the command's.
pub(crate) async fn in_terminal(session: &Session, task: &str, exec: &ExecView) -> Outcome {
    let path = session.task_path(task, &format!("/exec/{}/stream", encode(&exec.exec)))?;
    let socket = session.client.socket(&path).await?;
    let mut collected = Collected::default();
    let carried = carry(socket, Mode::Terminal, &session.screen, &mut collected);
    let ending = looking(session, task, carried).await?;
    if matches!(ending, Ending::Detached) {
        session.screen.say("detached; what runs there goes on");
    }
    ending.outcome()
}
