//! `offshoot land`.

use std::process::ExitCode;

use offshoot_core::{
    api::{LandParams, LandView, LandingView},
    problem::ProblemKind,
};

use crate::{
    commands::run::by_repository,
    failure::Outcome,
    session::{Session, encode},
    text::{count, escape_block, escape_line, short},
    watching::patiently,
};

/// Bring a task's branch into its target, if that is clean; else say what conflicts and change nothing
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id, or beginning of an id
    task: String,
    /// As one commit
    #[arg(long)]
    squash: bool,
    /// Into this branch, the one the task was started from if not named; NAME=BRANCH for another repository (repeatable)
    #[arg(long, value_name = "[NAME=]BRANCH")]
    into: Vec<String>,
    /// Message of the commit that is made, if one is made
    #[arg(long, short = 'm', value_name = "TEXT")]
    message: Option<String>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    if args.dry_run {
        return foretell(args, session).await;
    }
    let (target, targets) = by_repository("--into", &args.into)?;
    let params = LandParams { squash: args.squash, target, targets, message: args.message };
    let path = session.task_path(&args.task, "/land")?;
    let work = session.client.post(&path, &params);
    let view: LandView = patiently(&session.screen, "landing", work).await?;
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        for one in &view.repositories {
            let branch = format!("{}: {}", escape_line(&one.repository), escape_line(&one.target));
            session.screen.print(&format!("{branch} {}: {}", how(&one.how), short(&one.commit)))?;
        }
        if view.repositories.is_empty() {
            let branch = escape_line(&view.target);
            session.screen.print(&format!("{branch} {}: {}", how(&view.how), short(&view.commit)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn foretell(args: Args, session: &Session) -> Outcome {
    let mut path = session.task_path(&args.task, "/landing")?;
    let into = (!args.into.is_empty()).then(|| format!("into={}", encode(&args.into.join(","))));
    for query in args.squash.then(|| "squash=true".to_owned()).into_iter().chain(into) {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(&query);
    }
    let view: LandingView =
        patiently(&session.screen, "trying the landing", session.client.get(&path)).await?;
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        session.screen.print(foretold(&view, args.squash).trim_end())?;
    }
    Ok(if view.clean { ExitCode::SUCCESS } else { ExitCode::from(ProblemKind::Conflict.exit_code()) })
}

fn foretold(view: &LandingView, squash: bool) -> String {
    let mut text = String::new();
    for part in &view.repositories {
        let of = if part.repository.is_empty() {
            String::new()
        } else {
            format!("{}: ", escape_line(&part.repository))
        };
        let target = part.target.as_deref().map_or("no branch".to_owned(), escape_line);
        let how = match part.how.as_deref() {
            Some("up_to_date") => "has it already",
            Some("fast_forward") => "would be moved forward to it",
            Some("squash") => "would have it as one commit",
            Some(_) => "would have it by a merge",
            None => "would refuse it",
        };
        text.push_str(&format!("{of}{target} {how}; {} ahead, {} behind\n", part.ahead, part.behind));
        for conflict in &part.conflicts {
            text.push_str(&format!(
                "conflict in {} ({})\n",
                escape_line(&conflict.path),
                escape_line(&conflict.kind)
            ));
            text.push_str(&escape_block(&conflict.hunks));
        }
    }
    if let Some(problem) = &view.problem {
        text.push_str(&format!("it would not land: {}\n", escape_block(&problem.message)));
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("hint: {}\n", escape_block(hint)));
        }
    }
    let mut warn = |n: u32, one: &str, what: &str| {
        if n > 0 {
            text.push_str(&format!("! {} {what}\n", count(n.into(), one)));
        }
    };
    warn(view.outside_scope, "file", "outside of the task's scope: see `offshoot diff --stat`");
    warn(view.runs_on_host, "file", "that would run on your machine: see `offshoot diff --stat`");
    warn(view.unsent_comments, "comment", "not sent: see `offshoot comments`");
    if squash || view.repositories.iter().any(|part| part.how.as_deref() == Some("merge")) {
        let message = if squash { &view.squash_message } else { &view.merge_message };
        text.push_str("message, if -m gives no other:\n");
        for line in escape_block(message).lines() {
            text.push_str(format!("    {line}").trim_end());
            text.push('\n');
        }
    }
    text
}

fn how(word: &str) -> &'static str {
    match word {
        "up_to_date" => "had it already",
        "fast_forward" => "was moved forward to it",
        "squash" => "has it as one commit",
        _ => "has it by a merge",
    }
}
