//! `offshoot follow-up`.

use std::process::ExitCode;

use offshoot_core::{
    api::{FollowUpParams, TaskList, TaskView},
    problem::{Problem, ProblemKind},
};

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
    #[arg(required_unless_present = "from_denial")]
    prompt: Option<String>,
    /// Ask what `show` suggests after a denial that ended the agent's turn
    #[arg(long, conflicts_with = "prompt")]
    from_denial: bool,
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
    let prompt = match &args.prompt {
        Some(prompt) => read_prompt(prompt)?,
        None => {
            let view: TaskView = session.client.get(&session.task_path(&args.task, "")?).await?;
            let text = format!("no denial ended the last turn of {}", view.task.name);
            let none =
                || Problem::new(ProblemKind::Conflict, "no_suggestion", text).hint("say what is to be done");
            view.suggested_prompt.ok_or_else(none)?
        }
    };
    let params = FollowUpParams {
        prompt,
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
