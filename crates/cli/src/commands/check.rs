//! `offshoot check`.

use std::process::ExitCode;

use offshoot_core::{
    api::{CheckView, TaskView},
    problem::{Problem, ProblemKind},
};

use crate::{
    failure::Outcome,
    session::Session,
    text::{escape_block, escape_line},
};

/// Show what the check of a run said
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// Number of the run; the newest if not named
    run: Option<u32>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let number = match args.run {
        Some(number) => number,
        None => {
            let view: TaskView = session.client.get(&session.task_path(&args.task, "")?).await?;
            let text = format!("{} has no run", view.task.name);
            view.task.run().ok_or_else(|| Problem::new(ProblemKind::NotFound, "no_such_run", text))?.number
        }
    };
    let path = session.task_path(&args.task, &format!("/runs/{number}/check"))?;
    let view: CheckView = session.client.get(&path).await?;
    if session.screen.json {
        session.screen.print_json(&view)?;
        return Ok(ExitCode::SUCCESS);
    }
    if view.truncated {
        session.screen.say("only the end of it is there");
    }
    session.screen.print(escape_block(view.text.trim_end()).as_str())?;
    let how = match view.code {
        None => "is not over".to_owned(),
        Some(0) => "passed".to_owned(),
        Some(-1) => "was killed or took too long".to_owned(),
        Some(code) => format!("failed with {code}"),
    };
    session.screen.say(&format!("{} {how}", escape_line(&view.command)));
    Ok(ExitCode::SUCCESS)
}
