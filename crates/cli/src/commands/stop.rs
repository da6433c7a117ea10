//! `offshoot stop`.

use std::process::ExitCode;

use offshoot_core::api::TaskView;

use crate::{failure::Outcome, session::Session, watching::patiently};

/// Interrupt a task's run; what it did is kept
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names, ids, or beginnings of ids
    #[arg(required = true)]
    tasks: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    for task in &args.tasks {
        let path = session.task_path(task, "/stop")?;
        let nothing = serde_json::json!({});
        let work = session.client.post(&path, &nothing);
        let view: TaskView = patiently(&session.screen, "stopping", work).await?;
        if session.screen.json {
            session.screen.print_json(&view)?;
        } else {
            session.screen.say(&format!(
                "{}: {}; its work is kept",
                view.task.name,
                if view.task.state.is_active() { "stopping" } else { view.task.state.word() }
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
