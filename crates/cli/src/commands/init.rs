//! `offshoot init`.

use std::{fs, io, io::Write, process::ExitCode};

use offshoot_core::problem::{Problem, ProblemKind};
use serde::Serialize;

use crate::{
    commands::agents,
    failure::{Failure, Outcome},
    project::{PROJECT_FILE, require_root},
    session::Session,
    survey::{configuration, survey},
    text::escape_line,
};

/// Look at this repository and write a commented offshoot.toml for it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Overwrite an offshoot.toml that is there
    #[arg(long)]
    force: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Initialised {
    /// The file that was written.
    file: String,
    /// What was found in the repository.
    found: Vec<String>,
    /// Setup commands.
    setup: Vec<String>,
    /// The check, if one was found.
    check: Option<String>,
    /// Agents found on PATH.
    agents: Vec<String>,
    /// Files that environments do not get unless they are committed.
    private: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let root = require_root(&session.directory()?)?;
    let file = root.join(PROJECT_FILE);
    if !args.force && file.symlink_metadata().is_ok() {
        return Err(exists(&file));
    }
    let found = survey(&root);
    // Without a daemon the file is written all the same, only without a default agent.
    let agents: Vec<String> = agents::list(session)
        .await
        .unwrap_or_default()
        .into_iter()
        .filter(|agent| agent.program.is_some())
        .map(|agent| agent.name)
        .collect();
    let text = configuration(&found, &agents);
    let mut options = fs::OpenOptions::new();
    if args.force {
        options.write(true).create(true).truncate(true);
    } else {
        options.write(true).create_new(true);
    }
    options.open(&file).and_then(|mut f| f.write_all(text.as_bytes())).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return exists(&file);
        }
        Failure::from(Problem::new(
            ProblemKind::Unavailable,
            "config_unwritable",
            format!("cannot write {}: {error}", file.display()),
        ))
    })?;
    let screen = &session.screen;
    if screen.json {
        screen.print_json(&Initialised {
            file: file.to_string_lossy().into_owned(),
            check: found.checks.first().cloned(),
            found: found.found,
            setup: found.commands,
            agents,
            private: found.private,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    screen.print(&escape_line(&file.to_string_lossy()))?;
    let or_none = |items: &[String]| {
        if items.is_empty() { "none".to_owned() } else { escape_line(&items.join(", ")) }
    };
    screen.say(&format!("dependencies: {}", or_none(&found.found)));
    screen.say(&format!("check: {}", or_none(found.checks.get(..1).unwrap_or_default())));
    screen.say(&format!("agents on PATH: {}", or_none(&agents)));
    if !found.private.is_empty() {
        screen.say(&format!(
            "not copied into environments unless committed: {} (let single variables in with run --pass-env NAME)",
            or_none(&found.private)
        ));
    }
    screen.say("look it over and commit it; then: offshoot run \"…\"");
    Ok(ExitCode::SUCCESS)
}

fn exists(file: &std::path::Path) -> Failure {
    Problem::new(ProblemKind::Conflict, "config_exists", format!("{} is there already", file.display()))
        .hint("offshoot init --force overwrites it")
        .into()
}
