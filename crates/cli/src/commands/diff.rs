//! `offshoot diff`.

use std::process::ExitCode;

use offshoot_core::api::DiffView;

use crate::{
    failure::Outcome,
    render::diff,
    session::{Session, encode},
    watching::patiently,
};

/// Show what a task changed against its base
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// Only what this checkpoint changed against the one before
    #[arg(long, value_name = "NUMBER")]
    step: Option<u32>,
    /// Only in this one of the task's repositories; in all, their names stand before the paths
    #[arg(long, value_name = "NAME")]
    repo: Option<String>,
    /// Only the list of files
    #[arg(long)]
    stat: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let mut path = session.task_path(&args.task, "/diff")?;
    let step = args.step.map(|step| format!("step={step}"));
    let repository = args.repo.map(|name| format!("repository={}", encode(&name)));
    for query in step.into_iter().chain(repository) {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(&query);
    }
    let view: DiffView = patiently(&session.screen, "comparing", session.client.get(&path)).await?;
    let screen = &session.screen;
    if screen.json {
        screen.print_json(&view)?;
    } else if args.stat {
        screen.print(&diff::stat(&view))?;
    } else if screen.stdout_tty {
        screen.print(&format!("{}\n{}", diff::stat(&view), diff::patch(&view.patch, screen.colour)))?;
    } else if !view.patch.is_empty() {
        // To a pipe goes the patch as it is, so that git apply takes it.
        screen.print(&view.patch)?;
    }
    if view.truncated {
        screen.say("the patch was cut: it is too long to show; look at the branch itself");
    }
    Ok(ExitCode::SUCCESS)
}
