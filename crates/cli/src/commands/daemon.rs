//! `offshoot daemon`.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use offshoot_core::{
    api::{API_VERSION, DaemonView},
    problem::{Problem, ProblemKind},
};
use offshoot_server::{StartOptions, ensure, wait_until_gone};

use crate::{
    failure::{Failure, Outcome},
    session::Session,
    text::{count, escape_line, moment, size},
    watching::patiently,
};

/// How long a stop may take: answers in progress are finished first.
const STOP_TIME: Duration = Duration::from_secs(30);

/// The process that decides and remembers; started on demand, stopped without disturbing runs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start the daemon if it does not run
    Start {
        /// Also serve the API on this loopback address, with a token
        #[arg(long, value_name = "127.0.0.1:PORT")]
        tcp: Option<SocketAddr>,
    },
    /// What runs, where, and how much room is left; never starts it
    Status,
    /// Stop the daemon; runs go on, and the next daemon takes them up
    Stop,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    match args.command {
        Command::Start { tcp } => start(tcp, session).await,
        Command::Status => {
            let view = require(session).await?;
            show(&view, session)
        }
        Command::Stop => stop(session).await,
    }
}

async fn start(tcp: Option<SocketAddr>, session: &Session) -> Outcome {
    if let Some(address) = tcp.filter(|a| !a.ip().is_loopback()) {
        return Err(Problem::new(
            ProblemKind::Invalid,
            "tcp_not_loopback",
            format!("{address} is not a loopback address"),
        )
        .hint("use 127.0.0.1:PORT, and a tunnel to reach it from elsewhere")
        .into());
    }
    let place = session.place.clone();
    let starting = async {
        tokio::task::spawn_blocking(move || ensure(&place, &StartOptions { tcp }))
            .await
            .map_err(|e| Problem::internal("cannot start the daemon", &e))?
            .map_err(Failure::from)
    };
    let started = patiently(&session.screen, "starting the daemon", starting).await?;
    let view: DaemonView = session.client.get("/v1/daemon").await?;
    if tcp.is_some() && view.tcp.is_none() {
        return Err(Problem::new(
            ProblemKind::Conflict,
            "daemon_without_tcp",
            "the daemon runs already, without TCP",
        )
        .hint("offshoot daemon stop, then start it again with --tcp; runs are not disturbed")
        .into());
    }
    if !started {
        session.screen.say("the daemon runs already");
    }
    show(&view, session)
}

async fn require(session: &Session) -> Result<DaemonView, Failure> {
    if !session.client.is_up().await? {
        return Err(Problem::new(ProblemKind::NotFound, "daemon_not_running", "no daemon runs")
            .hint("every command that needs it starts it, or: offshoot daemon start")
            .into());
    }
    session.client.get("/v1/daemon").await
}

async fn stop(session: &Session) -> Outcome {
    if !session.client.is_up().await? {
        session.screen.say("no daemon runs");
        return Ok(ExitCode::SUCCESS);
    }
    let view: DaemonView = session.client.post("/v1/daemon/stop", &serde_json::json!({})).await?;
    let place = session.place.clone();
    let gone = async {
        tokio::task::spawn_blocking(move || wait_until_gone(&place, STOP_TIME))
            .await
            .map_err(|e| Problem::internal("cannot wait for the daemon", &e))?
            .map_err(Failure::from)
    };
    if !patiently(&session.screen, "waiting for the daemon to end", gone).await? {
        return Err(Problem::new(
            ProblemKind::Unavailable,
            "daemon_hangs",
            format!("the daemon (process {}) does not end", view.pid),
        )
        .hint("end that process; runs are not disturbed")
        .into());
    }
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        let runs = count(u64::from(view.active_runs), "run");
        session.screen.say(&format!("stopped; {runs} in progress go on without it"));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(view: &DaemonView, session: &Session) -> Outcome {
    if session.screen.json {
        session.screen.print_json(view)?;
    } else {
        session.screen.print(&describe(view))?;
    }
    if view.api_version != API_VERSION || view.version != env!("CARGO_PKG_VERSION") {
        session.screen.say(&format!(
            "this is offshoot {}, the daemon is {}; offshoot daemon stop, then go on",
            env!("CARGO_PKG_VERSION"),
            escape_line(&view.version)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(view: &DaemonView) -> String {
    let tcp = view
        .tcp
        .as_ref()
        .map(|a| format!("\nTCP         http://{a}, token in api-token"))
        .unwrap_or_default();
    let apps = view
        .preview
        .as_ref()
        .map(|at| format!("\napps        http://<app>.<task>.{}/", escape_line(at)))
        .unwrap_or_default();
    format!(
        "process     {}\nversion     {}\nstate       {}\nsince       {}\nruns        {} active, {} queued; room for {} \
         more (at most {}, {} of memory){apps}{tcp}\n",
        view.pid,
        escape_line(&view.version),
        escape_line(&view.state_dir),
        moment(view.started_at),
        view.active_runs,
        view.queued_runs,
        view.room_for,
        view.max_runs,
        size(view.memory_bytes),
    )
}
