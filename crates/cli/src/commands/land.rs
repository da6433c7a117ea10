//! `offshoot land`.

use std::process::ExitCode;

use offshoot_core::api::{LandParams, LandView};

use crate::{
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
    /// Into this branch; the one the task was started from if not named
    #[arg(long, value_name = "BRANCH")]
    into: Option<String>,
    /// Message of the commit that is made, if one is made
    #[arg(long, short = 'm', value_name = "TEXT")]
    message: Option<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let params = LandParams { squash: args.squash, target: args.into, message: args.message };
    let path = session.task_path(&args.task, "/land")?;
    let work = session.client.post(&path, &params);
    let view: LandView = patiently(&session.screen, "landing", work).await?;
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        let how = match view.how.as_str() {
            "up_to_date" => "had it already",
            "fast_forward" => "was moved forward to it",
            "squash" => "has it as one commit",
            _ => "has it by a merge",
        };
        session.screen.print(&format!("{} {how}: {}", escape_line(&view.target), short(&view.commit)))?;
    }
    Ok(ExitCode::SUCCESS)
}
