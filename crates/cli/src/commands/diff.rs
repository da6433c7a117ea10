//! `offshoot diff`.

use std::process::ExitCode;

use offshoot_core::api::DiffView;

use crate::{
    failure::Outcome,
    render::diff,
    session::{Session, encode},
    text::escape_line,
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
    /// Only this commit of the task, against the one before
    #[arg(long, value_name = "COMMIT", conflicts_with = "step")]
    commit: Option<String>,
    /// Only this file, as --stat names it; also one that is too long for the whole patch
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Lines that differ in whitespace only are the same
    #[arg(long)]
    ignore_whitespace: bool,
    /// Lines around a change, 3 if not said
    #[arg(long, short = 'U', value_name = "LINES")]
    context: Option<u32>,
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
    let more = [
        args.commit.map(|commit| format!("commit={}", encode(&commit))),
        args.file.map(|file| format!("file={}", encode(&file))),
        args.ignore_whitespace.then(|| "whitespace=ignore".to_owned()),
        args.context.map(|lines| format!("context={lines}")),
        args.stat.then(|| "stat=true".to_owned()),
    ];
    for query in step.into_iter().chain(repository).chain(more.into_iter().flatten()) {
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
        for file in view.files.iter().filter(|file| file.truncated) {
            screen.say(&format!(
                "{} is too long to be shown with the others: see --file",
                escape_line(&file.path)
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
