//! `offshoot show`.

use std::process::ExitCode;

use offshoot_core::{
    api::{EventList, TaskView},
    event::Entry,
};
use serde::Serialize;

use crate::{
    failure::{Failure, Outcome},
    render::task,
    session::Session,
};

/// Show a task's history: its runs, prompts, checkpoints, what happened, how it ended
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
}

/// What `--json` prints.
#[derive(Serialize)]
struct History {
    /// The task.
    view: TaskView,
    /// Its events, in order.
    events: Vec<Entry>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let view: TaskView = session.client.get(&session.task_path(&args.task, "")?).await?;
    let events = entries(session, &view.task.id.to_string()).await?;
    if session.screen.json {
        session.screen.print_json(&History { view, events })?;
    } else {
        session.screen.print(&task::history(&view, &events, session.screen.colour))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All entries of a task so far.
pub(crate) async fn entries(session: &Session, task: &str) -> Result<Vec<Entry>, Failure> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let path = format!("/v1/tasks/{task}/events?after={after}&limit=5000");
        let list: EventList = session.client.get(&path).await?;
        if list.entries.is_empty() {
            return Ok(all);
        }
        after = list.next;
        all.extend(list.entries);
    }
}
