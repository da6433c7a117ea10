//! `offshoot discard`, and what `env down` does.

use std::process::ExitCode;

use offshoot_core::api::{DiscardParams, PruneView};

use crate::{
    commands::prune,
    failure::{Failure, Outcome},
    session::Session,
    watching::patiently,
};

/// Throw a task away: its run, environment and branch. Refuses if there is unlanded work, unless forced
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names, ids, or beginnings of ids
    #[arg(required = true)]
    tasks: Vec<String>,
    /// Even if there is work that is not landed
    #[arg(long)]
    force: bool,
    /// Why, for the log
    #[arg(long)]
    reason: Option<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    for task in &args.tasks {
        let params = DiscardParams { force: args.force, reason: args.reason.clone() };
        discard(task, &params, session).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Throws one task away and tells what went.
pub(crate) async fn discard(task: &str, params: &DiscardParams, session: &Session) -> Result<(), Failure> {
    let path = session.task_path(task, "/discard")?;
    let went: PruneView =
        patiently(&session.screen, "taking it down", session.client.post(&path, params)).await?;
    prune::show(&went, session)
}
