//! `offshoot land`.

use std::process::ExitCode;

use offshoot_core::api::{LandParams, LandView};

use crate::{
    commands::run::by_repository,
    failure::Outcome,
    session::Session,
    text::{escape_line, short},
    watching::patiently,
};

/// Bring a task's branch into its target, if that is clean; else say what conflicts and change nothing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// As one commit
    #[arg(long)]
    squash: bool,
    /// Into this branch, the one the task was started from if not named; NAME=BRANCH for another repository (repeatable)
    #[arg(long, value_name = "[NAME=]BRANCH")]
    into: Vec<String>,
    /// Message of the commit that is made, if one is made
    #[arg(long, short = 'm', value_name = "TEXT")]
    message: Option<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let (target, targets) = by_repository("--into", &args.into)?;
    let params = LandParams { squash: args.squash, target, targets, message: args.message };
    let path = session.task_path(&args.task, "/land")?;
    let work = session.client.post(&path, &params);
    let view: LandView = patiently(&session.screen, "landing", work).await?;
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        for one in &view.repositories {
            let branch = format!("{}: {}", escape_line(&one.repository), escape_line(&one.target));
            session.screen.print(&format!("{branch} {}: {}", how(&one.how), short(&one.commit)))?;
        }
        if view.repositories.is_empty() {
            let branch = escape_line(&view.target);
            session.screen.print(&format!("{branch} {}: {}", how(&view.how), short(&view.commit)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn how(word: &str) -> &'static str {
    match word {
        "up_to_date" => "had it already",
        "fast_forward" => "was moved forward to it",
        "squash" => "has it as one commit",
        _ => "has it by a merge",
    }
}
