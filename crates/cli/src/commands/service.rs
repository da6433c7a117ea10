//! `offshoot service`.

use std::process::ExitCode;

use offshoot_core::api::{AppChange, AppParams, ServiceList, ServiceStatus};

use super::app::show_log;
use crate::{
    failure::Outcome,
    session::{Session, encode},
    text::{escape_line, pad, size},
    watching::patiently,
};

/// The services (services.json) of a task's environment
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List a task's services with their state
    Ls {
        /// Name, id, or beginning of an id
        task: String,
    },
    /// Start a service and wait until it is ready; wakes the environment
    Start(Which),
    /// Stop a service
    Stop(Which),
    /// Stop a service, start it again and wait until it is ready
    Restart(Which),
    /// Show the end of what a service said
    #[command(alias = "log")]
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
    /// The service's name
    service: String,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    match args.command {
        Command::Ls { task } => ls(&task, session).await,
        Command::Start(which) => change(&which, AppChange::Start, session).await,
        Command::Stop(which) => change(&which, AppChange::Stop, session).await,
        Command::Restart(which) => change(&which, AppChange::Restart, session).await,
        Command::Logs { which, follow } => {
            let path = format!("/services/{}/log", encode(&which.service));
            show_log(&which.task, &path, follow, session).await
        }
    }
}

async fn change(which: &Which, change: AppChange, session: &Session) -> Outcome {
    let path = session.task_path(&which.task, &format!("/services/{}", encode(&which.service)))?;
    let params = AppParams { change };
    let work = session.client.post(&path, &params);
    let what = if change == AppChange::Stop { "stopping the service" } else { "starting the service" };
    let status: ServiceStatus = patiently(&session.screen, what, work).await?;
    if session.screen.json {
        session.screen.print_json(&status)?;
    } else {
        session.screen.print(&line(&status))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn ls(task: &str, session: &Session) -> Outcome {
    let list: ServiceList = session.client.get(&session.task_path(task, "/services")?).await?;
    if session.screen.json {
        session.screen.print_json(&list)?;
    } else if list.services.is_empty() {
        session.screen.say("no services; services.json describes them");
    } else {
        let lines: Vec<String> = list.services.iter().map(line).collect();
        session.screen.print(&lines.join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A service in one line.
fn line(status: &ServiceStatus) -> String {
    let ports: Vec<_> = status.ports.iter().map(ToString::to_string).collect();
    let memory = match (status.memory_bytes, status.memory_limit_bytes) {
        (Some(used), Some(limit)) => format!("{} of {}", size(used), size(limit)),
        (Some(used), None) => size(used),
        (None, _) => String::new(),
    };
    let host: Vec<_> = status.host.iter().map(|port| escape_line(&port.address)).collect();
    let parts = [
        pad(&escape_line(&status.name), 12),
        pad(status.state.word(), 10),
        pad(&ports.join(","), 6),
        pad(&memory, 14),
        escape_line(&status.runs),
        host.join(" "),
        status.reason.as_deref().map(|reason| format!("({})", escape_line(reason))).unwrap_or_default(),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ").trim_end().to_owned()
}
