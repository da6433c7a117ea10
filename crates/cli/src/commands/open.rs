//! `offshoot open`.

use std::process::ExitCode;

use offshoot_core::{
    api::{AppChange, AppView, DaemonView},
    lifecycle::AppState,
    problem::{Problem, ProblemKind},
};

use crate::{
    browser,
    commands::app,
    failure::{Failure, Outcome},
    session::Session,
};

/// Open a task's app in the browser, starting it if need be; prints its URL
///
/// Without a display only the URL is printed. With several apps and none named it is the page that lists them. Any port
/// that something in the environment listens at is at http://PORT.TASK.localhost:7878/ too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// The app's name, or a port; the only app if not named
    app: Option<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let url = url(&args, session).await?;
    if session.screen.json {
        session.screen.print_json(&serde_json::json!({ "url": url }))?;
    } else {
        session.screen.print(&url)?;
    }
    browser::show(&url);
    Ok(ExitCode::SUCCESS)
}

async fn url(args: &Args, session: &Session) -> Result<String, Failure> {
    let daemon: DaemonView = session.client.get("/v1/daemon").await?;
    let Some(preview) = daemon.preview else {
        return Err(Problem::new(ProblemKind::Unavailable, "no_preview", "no port for previews is free")
            .hint("name one with [preview] port in config.toml, then offshoot daemon stop")
            .into());
    };
    let port = preview.rsplit(':').next().unwrap_or_default();
    let views = app::list(&args.task, session).await?.apps;
    let mut with_url = views.into_iter().filter(|view| view.url.is_some());
    let view: Option<AppView> = match &args.app {
        Some(name) if name.parse::<u16>().is_ok() => {
            return Ok(format!("http://{name}.{}.localhost:{port}/", label(args, session).await?));
        }
        Some(name) => {
            let missing = || {
                Problem::new(
                    ProblemKind::NotFound,
                    "no_such_app",
                    format!("{} has no app {name:?} with a port", args.task),
                )
                .hint(format!(
                    "`offshoot app ls {}` lists them; [apps.NAME] in offshoot.toml adds one",
                    args.task
                ))
            };
            Some(with_url.find(|view| view.name == *name).ok_or_else(missing)?)
        }
        None => match (with_url.next(), with_url.next()) {
            (only, None) => only,
            _ => None,
        },
    };
    let Some(view) = view else {
        return Ok(format!("http://{}.localhost:{port}/", label(args, session).await?));
    };
    let view = match view.state {
        AppState::Ended => app::change(&args.task, &view.name, AppChange::Start, session).await?,
        AppState::Running | AppState::Interrupted => view,
    };
    Ok(view.url.unwrap_or_default())
}

/// What the task is called in host names.
async fn label(args: &Args, session: &Session) -> Result<String, Failure> {
    let view: offshoot_core::api::TaskView = session.client.get(&session.task_path(&args.task, "")?).await?;
    Ok(view.task.name.to_string())
}
