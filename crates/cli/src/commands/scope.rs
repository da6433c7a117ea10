//! `offshoot scope`.

use std::process::ExitCode;

use offshoot_core::api::{ScopeParams, TaskView};

use crate::{failure::Outcome, session::Session, text::escape_line};

/// Show or change which paths a task is to touch; others are flagged in `diff`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// What it is to touch from now on, as in 'src/api/**' or '*.md'
    patterns: Vec<String>,
    /// It may touch everything
    #[arg(long, conflicts_with = "patterns")]
    none: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let view: TaskView = if args.patterns.is_empty() && !args.none {
        session.client.get(&session.task_path(&args.task, "")?).await?
    } else {
        let path = session.task_path(&args.task, "/scope")?;
        session.client.post(&path, &ScopeParams { scope: args.patterns }).await?
    };
    if session.screen.json {
        session.screen.print_json(&view.task.scope)?;
    } else if view.task.scope.is_empty() {
        session.screen.say("no scope: it may touch everything");
    } else {
        let lines: Vec<_> = view.task.scope.iter().map(|pattern| escape_line(pattern)).collect();
        session.screen.print(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
