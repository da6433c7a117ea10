//! `offshoot shell`.

use offshoot_core::api::{ExecParams, ExecView};

use crate::{
    commands::attach::{in_terminal, require_terminal},
    failure::Outcome,
    session::Session,
    terminal,
    watching::patiently,
};

/// Open a terminal inside a task's environment, also after its agent has finished
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    require_terminal("shell")?;
    let params = ExecParams { terminal: Some(terminal::size()), ..ExecParams::default() };
    let path = session.task_path(&args.task, "/exec")?;
    let start = session.client.post(&path, &params);
    let exec: ExecView = patiently(&session.screen, "waking the environment", start).await?;
    in_terminal(session, &args.task, &exec).await
}
