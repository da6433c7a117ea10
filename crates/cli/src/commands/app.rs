//! `offshoot app`.

use std::process::ExitCode;

use offshoot_core::{
    api::{AppChange, AppList, AppLog, AppParams, AppView},
    lifecycle::AppState,
};

use crate::{
    failure::{Failure, Outcome},
    session::{Session, encode},
    text::{escape_block, escape_line, pad},
    watching::patiently,
    wire::{Collected, Mode, carry},
};

/// The project's apps ([apps.NAME] in offshoot.toml) in a task's environment
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List a task's apps with their URLs
    Ls {
        /// Name, id, or beginning of an id
        task: String,
    },
    /// Start an app; wakes the environment
    Start(Which),
    /// Stop an app
    Stop(Which),
    /// Stop an app and start it again
    Restart(Which),
    /// Show the end of what an app said
    Logs {
        #[command(flatten)]
        which: Which,
        /// Go on with what it says from now on, until it ends
        #[arg(long, short = 'f', conflicts_with = "json")]
        follow: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Name, id, or beginning of an id
    task: String,
    /// The app's name
    app: String,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    match args.command {
        Command::Ls { task } => ls(&task, session).await,
        Command::Start(which) => {
            report(&change(&which.task, &which.app, AppChange::Start, session).await?, session)
        }
        Command::Stop(which) => {
            report(&change(&which.task, &which.app, AppChange::Stop, session).await?, session)
        }
        Command::Restart(which) => {
            report(&change(&which.task, &which.app, AppChange::Restart, session).await?, session)
        }
        Command::Logs { which, follow } => {
            let path = format!("/apps/{}/log", encode(&which.app));
            show_log(&which.task, &path, follow, session).await
        }
    }
}

/// Starts, stops or restarts an app.
pub(crate) async fn change(
    task: &str,
    app: &str,
    change: AppChange,
    session: &Session,
) -> Result<AppView, Failure> {
    let path = session.task_path(task, &format!("/apps/{}", encode(app)))?;
    let params = AppParams { change };
    let work = session.client.post(&path, &params);
    let what = if change == AppChange::Stop { "stopping the app" } else { "starting the app" };
    patiently(&session.screen, what, work).await
}

/// A task's apps.
pub(crate) async fn list(task: &str, session: &Session) -> Result<AppList, Failure> {
    session.client.get(&session.task_path(task, "/apps")?).await
}

async fn ls(task: &str, session: &Session) -> Outcome {
    let list = list(task, session).await?;
    if session.screen.json {
        session.screen.print_json(&list)?;
    } else if list.apps.is_empty() {
        session.screen.say("no apps; [apps.NAME] in offshoot.toml describes one");
    } else {
        let lines: Vec<String> = list.apps.iter().map(line).collect();
        session.screen.print(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn report(view: &AppView, session: &Session) -> Outcome {
    if session.screen.json {
        session.screen.print_json(view)?;
    } else {
        session.screen.print(&line(view))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An app in one line.
pub(crate) fn line(view: &AppView) -> String {
    let reason = match (&view.reason, view.state) {
        (Some(reason), AppState::Ended) => format!("({})", escape_line(reason)),
        _ => String::new(),
    };
    let parts = [
        pad(&escape_line(&view.name), 12),
        pad(view.state.word(), 12),
        view.url.as_deref().map(escape_line).unwrap_or_default(),
        view.address.as_deref().map(escape_line).unwrap_or_default(),
        reason,
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// Shows the end of what a process of a task said, which is at `path`, and what it says from now on.
pub(super) async fn show_log(task: &str, path: &str, follow: bool, session: &Session) -> Outcome {
    let log: AppLog = session.client.get(&session.task_path(task, path)?).await?;
    if session.screen.json {
        session.screen.print_json(&log)?;
        return Ok(ExitCode::SUCCESS);
    }
    if log.truncated {
        session.screen.say("what it said before is left out");
    }
    let text = log.text.trim_end_matches('\n');
    if !text.is_empty() {
        session.screen.print(&escape_block(text))?;
    }
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    let path = session.task_path(task, &format!("/exec/{}/stream", encode(&log.exec)))?;
    let sign = if path.contains('?') { '&' } else { '?' };
    let socket = session.client.socket(&format!("{path}{sign}from={}", log.next)).await?;
    // Only looking: nothing may be handed in, not even that there is nothing.
    carry(socket, Mode::Look, &session.screen, &mut Collected::default()).await?;
    Ok(ExitCode::SUCCESS)
}
