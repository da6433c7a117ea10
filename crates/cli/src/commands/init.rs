//! `offshoot init`.

use std::{collections::BTreeMap, fs, io, io::Write, path::Path, process::ExitCode};

use offshoot_core::problem::{Problem, ProblemKind};
use serde::Serialize;

use crate::{
    commands::agents,
    failure::{Failure, Outcome},
    project::{PROJECT_FILE, SERVICES_FILE, require_root},
    session::Session,
    survey::{Composed, Survey, compose, configuration, survey},
    text::escape_line,
};

/// Look at this repository and write a commented offshoot.toml for it, and services.json if it has a compose file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Overwrite files that are there
    #[arg(long)]
    force: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Initialised {
    /// The file that was written.
    file: String,
    /// The other file that was written, if services were found.
    services_file: Option<String>,
    /// What was found in the repository.
    found: Vec<String>,
    /// Setups, and their commands.
    setup: BTreeMap<String, Vec<String>>,
    /// Services, out of a compose file.
    services: Vec<String>,
    /// What of the compose file could not be taken over.
    left_out: Vec<String>,
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
    let composed = compose(&root);
    // Without a daemon the file is written all the same, only without a default agent.
    let agents: Vec<String> = agents::list(session)
        .await
        .unwrap_or_default()
        .into_iter()
        .filter(|agent| agent.program.is_some())
        .map(|agent| agent.name)
        .collect();
    write(&file, &configuration(&found, composed.as_ref(), &agents), args.force)?;
    let services = root.join(SERVICES_FILE);
    let text = composed.as_ref().and_then(|c| c.text.as_deref());
    // What somebody wrote by hand knows more than a compose file.
    let kept = text.is_some() && !args.force && services.symlink_metadata().is_ok();
    let wrote = match text {
        Some(text) if !kept => {
            write(&services, text, args.force)?;
            true
        }
        _ => false,
    };
    if session.screen.json {
        let composed = composed.unwrap_or_default();
        session.screen.print_json(&Initialised {
            file: file.to_string_lossy().into_owned(),
            services_file: wrote.then(|| services.to_string_lossy().into_owned()),
            check: found.checks.first().cloned(),
            found: found.setups.iter().map(|s| s.title.clone()).collect(),
            setup: found.setups.into_iter().map(|s| (s.name, s.commands)).collect(),
            services: composed.services,
            left_out: composed.notes,
            agents,
            private: found.private,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    session.screen.print(&escape_line(&file.to_string_lossy()))?;
    if wrote {
        session.screen.print(&escape_line(&services.to_string_lossy()))?;
    }
    tell(session, &found, composed.as_ref(), &agents, kept);
    Ok(ExitCode::SUCCESS)
}

fn tell(session: &Session, found: &Survey, composed: Option<&Composed>, agents: &[String], kept: bool) {
    let screen = &session.screen;
    let or_none = |items: &[String]| {
        if items.is_empty() { "none".to_owned() } else { escape_line(&items.join(", ")) }
    };
    let titles: Vec<String> = found.setups.iter().map(|s| s.title.clone()).collect();
    screen.say(&format!("dependencies: {}", or_none(&titles)));
    screen.say(&format!("check: {}", or_none(found.checks.get(..1).unwrap_or_default())));
    if let Some(composed) = composed {
        screen.say(&format!("services of {}: {}", composed.file, or_none(&composed.services)));
        if kept {
            screen.say("services.json was there and is left as it is; offshoot init --force overwrites it");
        }
        let apps: Vec<String> = composed.apps.iter().map(|app| app.name.clone()).collect();
        if !apps.is_empty() {
            screen.say(&format!("built here, so proposed as apps: {}", or_none(&apps)));
        }
        if !composed.notes.is_empty() {
            screen.say("not taken over:");
        }
        for note in &composed.notes {
            screen.say(&format!("  {}", escape_line(note)));
        }
    }
    screen.say(&format!("agents on PATH: {}", or_none(agents)));
    if !found.private.is_empty() {
        screen.say(&format!(
            "not copied into environments unless committed: {} (let single variables in with run --pass-env NAME)",
            or_none(&found.private)
        ));
    }
    screen.say("look it over and commit it; then: offshoot run \"…\"");
}

fn write(file: &Path, text: &str, force: bool) -> Result<(), Failure> {
    if force {
        // Not written through: a link in a repository may lead anywhere.
        let _ = fs::remove_file(file);
    }
    let opened = fs::OpenOptions::new().write(true).create_new(true).open(file);
    opened.and_then(|mut f| f.write_all(text.as_bytes())).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return exists(file);
        }
        Failure::from(Problem::new(
            ProblemKind::Unavailable,
            "config_unwritable",
            format!("cannot write {}: {error}", file.display()),
        ))
    })
}

fn exists(file: &Path) -> Failure {
    Problem::new(ProblemKind::Conflict, "config_exists", format!("{} is there already", file.display()))
        .hint("offshoot init --force overwrites it")
        .into()
}
