//! `offshoot worktree`: the worktrees of a repository, whoever made them.

use std::process::ExitCode;

use offshoot_core::api::WorktreeView;

use crate::{
    failure::Outcome,
    session::{Session, encode},
    text::{count, escape_line, short},
};

/// Worktrees of this repository, whoever made them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them, with the task each belongs to, if it is one of Offshoot's
    Ls,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let Command::Ls = args.command;
    let path = encode(&session.directory()?.to_string_lossy());
    let all: Vec<WorktreeView> = session.client.get(&format!("/v1/worktrees?path={path}")).await?;
    if session.screen.json {
        session.screen.print_json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    for tree in &all {
        session.screen.print(&line(tree))?;
    }
    if all.iter().any(|tree| !tree.main && tree.task.is_none()) {
        session.screen.say("`offshoot adopt PATH` makes a task of one; it is never deleted then");
    }
    Ok(ExitCode::SUCCESS)
}

fn line(tree: &WorktreeView) -> String {
    let mut parts = vec![tree.branch.as_deref().map_or("no branch".to_owned(), escape_line)];
    parts.extend(tree.commit.as_deref().map(|commit| short(commit).to_owned()));
    if let Some(changed) = tree.changed.filter(|n| *n > 0) {
        parts.push(format!("{} changed", count(changed, "file")));
    }
    if !tree.present {
        parts.push("its directory is gone".to_owned());
    }
    match (&tree.task, tree.main) {
        (Some(task), _) => parts.push(format!("task {}", escape_line(task))),
        (None, true) => parts.push("the checkout".to_owned()),
        (None, false) => parts.push("not a task".to_owned()),
    }
    if let Some(reason) = tree.locked.as_deref().filter(|_| tree.task.is_none()) {
        parts.push(format!("locked {}", escape_line(reason)).trim_end().to_owned());
    }
    format!("{}  {}", escape_line(&tree.path), parts.join(", "))
}
