//! `offshoot env`: an environment by hand, without an agent.

use std::process::ExitCode;

use offshoot_core::{
    api::{DiscardParams, TaskParams, TaskView},
    egress::EgressRule,
};

use crate::{
    commands::{
        discard, exec,
        run::{IsolationArg, announce, by_repository, check_name, note},
    },
    failure::Outcome,
    project,
    session::{Session, own_variables, search_path, variables},
    text::span,
    watching::{patiently, until_up},
};

/// An environment without an agent, for a person or a script
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an environment and wait until it is up; prints its name
    Up(Up),
    /// Run a command inside, and exit with its exit code
    Exec(exec::Args),
    /// Take the environment away; refuses if there is unlanded work, unless forced
    Down(Down),
}

#[derive(Debug, clap::Args)]
struct Up {
    /// Its name; `env` if not named
    #[arg(long)]
    name: Option<String>,
    /// Branch, tag or commit to start from, HEAD if not named; NAME=BRANCH brings another repository of `[[repos]]` in
    /// (repeatable)
    #[arg(long, value_name = "[NAME=]BRANCH")]
    from: Vec<String>,
    /// Let a variable of your environment in (repeatable; `ps` shows it)
    #[arg(long, value_name = "NAME")]
    pass_env: Vec<String>,
    /// Allow a host besides the configured ones (repeatable)
    #[arg(long, value_name = "RULE")]
    allow: Vec<EgressRule>,
    /// What kind of environment; the configured one if not named, else the sandbox
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
}

#[derive(Debug, clap::Args)]
struct Down {
    /// Names, ids, or beginnings of ids
    #[arg(required = true)]
    tasks: Vec<String>,
    /// Even if there is work that is not landed
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    match args.command {
        Command::Up(args) => up(args, session).await,
        Command::Exec(args) => exec::run(args, session).await,
        Command::Down(args) => {
            for task in &args.tasks {
                let params = DiscardParams { force: args.force, reason: None };
                discard::discard(task, &params, session).await?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn up(args: Up, session: &Session) -> Outcome {
    let directory = session.directory()?;
    project::check_configuration(&directory, session)?;
    check_name(args.name.as_deref())?;
    let (from, repositories) = by_repository("--from", &args.from)?;
    let params = TaskParams {
        path: directory.to_string_lossy().into_owned(),
        by_hand: true,
        from,
        repositories,
        name: args.name,
        env: variables(&args.pass_env)?,
        allow: args.allow,
        search_path: search_path(),
        session: own_variables(),
        isolation: args.isolation.map(Into::into),
        ..TaskParams::default()
    };
    let work = session.client.post("/v1/tasks", &params);
    let view: TaskView = patiently(&session.screen, "making the environment", work).await?;
    announce(&view, session);
    let told = view.task.notices.len();
    let view = until_up(session, &view).await?;
    note(view.task.notices.get(told..).unwrap_or_default(), session);
    if session.screen.json {
        session.screen.print_json(&view)?;
        return Ok(ExitCode::SUCCESS);
    }
    session.screen.print(view.task.name.as_str())?;
    if let Some(us) = view.task.environment.as_ref().and_then(|e| e.up_us) {
        session.screen.say(&format!("up in {}", span(us.div_ceil(1000))));
    }
    Ok(ExitCode::SUCCESS)
}
