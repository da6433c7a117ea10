//! `offshoot adopt`.

use std::{path::PathBuf, process::ExitCode};

use offshoot_core::api::{AdoptParams, TaskView};

use crate::{
    commands::run::{check_name, note},
    failure::Outcome,
    session::{Session, own_variables, search_path},
    watching::{patiently, until_up},
};

/// Make a task by hand of a worktree that you or another tool made; it is never deleted
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The worktree
    path: PathBuf,
    /// The task's name; made from the branch if not named
    #[arg(long)]
    name: Option<String>,
    /// The branch to land on; that of the checkout if not named
    #[arg(long, value_name = "BRANCH")]
    into: Option<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    check_name(args.name.as_deref())?;
    let params = AdoptParams {
        path: session.directory()?.join(&args.path).to_string_lossy().into_owned(),
        name: args.name,
        target: args.into,
        search_path: search_path(),
        session: own_variables(),
    };
    let work = session.client.post("/v1/worktrees/adopt", &params);
    let view: TaskView = patiently(&session.screen, "adopting the worktree", work).await?;
    let view = until_up(session, &view).await?;
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        note(&view.task.notices, session);
        session.screen.print(view.task.name.as_str())?;
    }
    Ok(ExitCode::SUCCESS)
}
