//! `offshoot follow-up`.

use std::process::ExitCode;

use offshoot_core::api::{FollowUpParams, TaskList, TaskView};

use crate::{
    commands::run::{announce, read_prompt},
    failure::Outcome,
    session::{Session, search_path, variables},
    watching::{patiently, until_over},
};

/// Give a task another run: same branch, same workspace, with what came before as context
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// What is asked; `-` reads it from standard input
    prompt: String,
    /// The model, as the agent calls it
    #[arg(long)]
    model: Option<String>,
    /// Command that must succeed at the end; as before if not named
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// Let a variable of your environment in, in place of the earlier ones (repeatable)
    #[arg(long, value_name = "NAME")]
    pass_env: Vec<String>,
    /// Show what happens until the run is over, and exit 1 if it failed
    #[arg(long)]
    follow: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let params = FollowUpParams {
        prompt: read_prompt(&args.prompt)?,
        model: args.model,
        check: args.check,
        env: variables(&args.pass_env)?,
        search_path: search_path(),
    };
    // What the earlier runs did has been seen: following begins where the log ends now.
    let seq = match args.follow {
        true => session.client.get::<TaskList>("/v1/tasks").await?.seq,
        false => 0,
    };
    let path = session.task_path(&args.task, "/runs")?;
    let work = session.client.post(&path, &params);
    let view: TaskView = patiently(&session.screen, "queueing the run", work).await?;
    announce(&view, session);
    if args.follow {
        return until_over(session, &view, seq).await;
    }
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        session.screen.print(view.task.name.as_str())?;
    }
    Ok(ExitCode::SUCCESS)
}
