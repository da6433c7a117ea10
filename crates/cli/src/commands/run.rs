//! `offshoot run`.

use std::{collections::BTreeMap, io::Read, path::Path, process::ExitCode};

use offshoot_core::{
    agent::PermissionPolicy,
    api::{PlanView, TaskParams, TaskView},
    egress::EgressRule,
    isolation::Isolation,
    name::{Label, TaskName},
    problem::{Problem, ProblemKind},
};

use crate::{
    failure::{Failure, Outcome},
    project, render,
    session::{Session, own_variables, search_path, variables},
    text::escape_line,
    watching::{patiently, until_over},
};

/// Give a task to an agent, in an environment of its own
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What is asked; `-` reads it from standard input
    prompt: String,
    /// The agent; the project's default if not named
    #[arg(long)]
    agent: Option<String>,
    /// Branch, tag or commit to start from, HEAD if not named; NAME=BRANCH brings another repository of `[[repos]]` in
    /// (repeatable)
    #[arg(long, value_name = "[NAME=]BRANCH")]
    from: Vec<String>,
    /// The task's name; made from the prompt if not named
    #[arg(long)]
    name: Option<String>,
    /// A path it is to touch, as in 'src/api/**' or '*.md' (repeatable); other files are flagged in `diff`
    #[arg(long, value_name = "PATTERN")]
    scope: Vec<String>,
    /// The model, as the agent calls it
    #[arg(long)]
    model: Option<String>,
    /// Command that must succeed at the end, as in 'cargo test'
    #[arg(long, value_name = "COMMAND")]
    check: Option<String>,
    /// Let a variable of your environment in, as in ANTHROPIC_API_KEY (repeatable; `ps` shows it)
    #[arg(long, value_name = "NAME")]
    pass_env: Vec<String>,
    /// Allow a host besides the configured ones, as in example.org, *.example.org or host:8080 (repeatable)
    #[arg(long, value_name = "RULE")]
    allow: Vec<EgressRule>,
    /// What kind of environment; the configured one if not named, else the sandbox
    #[arg(long, value_enum)]
    isolation: Option<IsolationArg>,
    /// What the agent's permission requests get; the sandbox is the boundary either way
    #[arg(long, value_enum)]
    permission: Option<Permission>,
    /// What this agent is told besides the project's instructions: a file, or the text itself
    #[arg(long, value_name = "FILE-OR-TEXT")]
    instructions: Option<String>,
    /// Show what happens until the run is over, and exit 1 if it failed
    #[arg(long)]
    follow: bool,
    /// Only say what the task would be and what it would wait for
    #[arg(long, conflicts_with = "follow")]
    dry_run: bool,
}

/// What kind of environment.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum IsolationArg {
    /// Own files, processes and network
    Sandbox,
    /// A git worktree; the agent runs as you, without isolation
    Worktree,
}

impl From<IsolationArg> for Isolation {
    fn from(isolation: IsolationArg) -> Self {
        match isolation {
            IsolationArg::Sandbox => Self::Sandbox,
            IsolationArg::Worktree => Self::Worktree,
        }
    }
}

/// What permission requests get.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Permission {
    /// Said yes to
    Allow,
    /// Said no to
    Deny,
    /// Put to you: see `offshoot approvals`
    Ask,
}

impl From<Permission> for PermissionPolicy {
    fn from(permission: Permission) -> Self {
        match permission {
            Permission::Allow => Self::Allow,
            Permission::Deny => Self::Deny,
            Permission::Ask => Self::Ask,
        }
    }
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let directory = session.directory()?;
    project::check_configuration(&directory, session)?;
    check_name(args.name.as_deref())?;
    let (from, repositories) = by_repository("--from", &args.from)?;
    let params = TaskParams {
        path: directory.to_string_lossy().into_owned(),
        prompt: read_prompt(&args.prompt)?,
        agent: args.agent,
        from,
        repositories,
        name: args.name,
        scope: args.scope,
        model: args.model,
        check: args.check,
        env: variables(&args.pass_env)?,
        allow: args.allow,
        permission: args.permission.map(Into::into),
        instructions: args.instructions.as_deref().map(instructions).transpose()?,
        search_path: search_path(),
        session: own_variables(),
        by_hand: false,
        isolation: args.isolation.map(Into::into),
    };
    if args.dry_run {
        let view: PlanView = session.client.post("/v1/plan", &params).await?;
        if session.screen.json {
            session.screen.print_json(&view)?;
        } else {
            session.screen.print(&render::plan::plan(&view))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let work = session.client.post("/v1/tasks", &params);
    let view: TaskView = patiently(&session.screen, "creating the task", work).await?;
    if args.follow {
        announce(&view, session);
        return until_over(session, &view, 0).await;
    }
    let view = looked_at(&view, session).await?;
    announce(&view, session);
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        session.screen.print(view.task.name.as_str())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Splits the values of an option that are for one repository each: `BRANCH` for this one, `NAME=BRANCH` for another.
pub(crate) fn by_repository(
    option: &str,
    given: &[String],
) -> Result<(Option<String>, BTreeMap<String, String>), Failure> {
    let twice = |what: &str| {
        Problem::new(ProblemKind::Invalid, "two_bases", format!("{option} is said twice for {what}"))
            .hint("say it once for each repository: BRANCH for this one, NAME=BRANCH for another")
    };
    let (mut own, mut others) = (None, BTreeMap::new());
    for value in given {
        let named = value.split_once('=').filter(|(name, _)| name.parse::<Label>().is_ok());
        let (what, before) = match named {
            Some((name, branch)) => (name, others.insert(name.to_owned(), branch.to_owned())),
            None => ("this repository", own.replace(value.clone())),
        };
        if before.is_some() {
            return Err(twice(what).into());
        }
    }
    Ok((own, others))
}

/// A new task with all that is to be known about where it starts; following its events tells the same.
async fn looked_at(view: &TaskView, session: &Session) -> Result<TaskView, Failure> {
    session.client.get(&format!("/v1/tasks/{}", view.task.id)).await
}

/// Prints what a person should know about where a task starts.
pub(crate) fn note(notices: &[String], session: &Session) {
    for notice in notices.iter().filter(|_| !session.screen.json) {
        session.screen.say(&format!("note: {}", escape_line(notice)));
    }
}

/// Notices of a new task, and that it waits if it waits.
pub(crate) fn announce(view: &TaskView, session: &Session) {
    if session.screen.json {
        return;
    }
    note(&view.task.notices, session);
    // First in the queue is everybody for a moment; only whoever really waits wants to know.
    if let Some(place) = view.queue_place.filter(|place| *place > 1 || !will_start(view)) {
        let what = view.waits_for.as_deref().unwrap_or("waits for room");
        session.screen.say(&format!("queued, place {place}: {}", escape_line(what)));
    }
}

/// Whether a queued task will start as soon as the daemon gets to it.
pub(crate) fn will_start(view: &TaskView) -> bool {
    view.waits_for.is_none()
}

/// The prompt; from standard input if it is `-`.
pub(crate) fn read_prompt(prompt: &str) -> Result<String, Failure> {
    let text = if prompt == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| {
            Problem::new(
                ProblemKind::Invalid,
                "prompt_unreadable",
                format!("cannot read the prompt: {error}"),
            )
        })?;
        text
    } else {
        prompt.to_owned()
    };
    if text.trim().is_empty() {
        return Err(Problem::new(ProblemKind::Invalid, "prompt_empty", "the prompt is empty")
            .hint("say what is to be done; for an environment without an agent: offshoot env up")
            .into());
    }
    Ok(text)
}

/// Refuses a name that is none, before anything is asked of the daemon.
pub(crate) fn check_name(name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name else { return Ok(()) };
    match name.parse::<TaskName>() {
        Ok(_) => Ok(()),
        Err(error) => {
            let like = TaskName::from_prompt(name);
            Err(Problem::new(ProblemKind::Invalid, "name_invalid", error.to_string())
                .hint(format!("for example --name {like}"))
                .into())
        }
    }
}

fn instructions(given: &str) -> Result<String, Failure> {
    if given.contains('\n') || !Path::new(given).is_file() {
        return Ok(given.to_owned());
    }
    std::fs::read_to_string(given).map_err(|error| {
        Problem::new(ProblemKind::Invalid, "instructions_unreadable", format!("cannot read {given}: {error}"))
            .into()
    })
}
