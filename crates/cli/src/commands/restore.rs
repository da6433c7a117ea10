//! `offshoot restore`.

use std::process::ExitCode;

use offshoot_core::api::{RestoreParams, TaskView};

use crate::{failure::Outcome, session::Session, watching::patiently};

/// Bring a task's workspace back to a checkpoint; what it holds now is a checkpoint before that
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// Number of the checkpoint, as `show` lists them; 0 is what the task started from
    step: u32,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let path = session.task_path(&args.task, "/restore")?;
    let params = RestoreParams { step: args.step };
    let work = session.client.post(&path, &params);
    let view: TaskView = patiently(&session.screen, "going back", work).await?;
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        session.screen.print(&format!("the files are those of checkpoint {} again", args.step))?;
        let newest = view.task.checkpoints.last().map_or(0, |checkpoint| checkpoint.number);
        session.screen.say(&format!("`offshoot show {}` lists checkpoints, up to {newest}", view.task.name));
    }
    Ok(ExitCode::SUCCESS)
}
