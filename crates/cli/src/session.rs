//! What every command works with.

use std::{env, ffi::OsString, path::PathBuf};

use offshoot_core::{
    api::Variable,
    isolation::is_of_host,
    problem::{Problem, ProblemKind},
};
use offshoot_server::place::Place;

use crate::{client::Client, failure::Failure, screen::Screen};

/// Place, screen and client of one command.
pub(crate) struct Session {
    /// Where everything is kept.
    pub place: Place,
    /// Where it prints.
    pub screen: Screen,
    /// How it asks the daemon.
    pub client: Client,
}

impl Session {
    /// For this process.
    pub(crate) fn new(screen: Screen) -> Result<Self, Failure> {
        let place = Place::of_caller().map_err(Problem::from)?;
        Ok(Self { client: Client::new(place.clone(), screen.clone()), place, screen })
    }

    /// The caller's directory.
    pub(crate) fn directory(&self) -> Result<PathBuf, Failure> {
        env::current_dir().map_err(|error| {
            Problem::new(ProblemKind::NotFound, "no_directory", format!("no current directory: {error}"))
                .hint("it may have been deleted; cd to one that exists")
                .into()
        })
    }

    /// The API path of an approval (encoded already), its task named as seen from the caller's directory.
    pub(crate) fn approval_path(&self, rest: &str) -> Result<String, Failure> {
        if rest.is_empty() || rest.len() > 400 {
            return Err(
                Problem::new(ProblemKind::Invalid, "approval_invalid", "give TASK/NUMBER or an id").into()
            );
        }
        let scope = match env::current_dir() {
            Ok(dir) => format!("?path={}", encode(&dir.to_string_lossy())),
            Err(_) => String::new(),
        };
        Ok(format!("/v1/approvals/{rest}{scope}"))
    }

    /// The API path of a task, named as seen from the caller's directory: `/v1/tasks/NAME{rest}?path=…`.
    pub(crate) fn task_path(&self, task: &str, rest: &str) -> Result<String, Failure> {
        if task.is_empty() || task.len() > 200 {
            return Err(Problem::new(ProblemKind::Invalid, "task_invalid", "give a task's name or id").into());
        }
        // Without a directory a name can still be found if it is unique.
        let scope = match env::current_dir() {
            Ok(dir) => format!("?path={}", encode(&dir.to_string_lossy())),
            Err(_) => String::new(),
        };
        Ok(format!("/v1/tasks/{}{rest}{scope}", encode(task)))
    }
}

/// The caller's own variables, for a worktree where processes are his; those on the list only.
pub(crate) fn own_variables() -> Vec<Variable> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let own = env::vars_os().filter_map(text).filter(|(name, _)| is_of_host(name));
    own.map(|(name, value)| Variable { name, value }).collect()
}

/// The caller's PATH.
pub(crate) fn search_path() -> Option<String> {
    env::var("PATH").ok()
}

/// The values of the variables that `--pass-env` names.
pub(crate) fn variables(names: &[String]) -> Result<Vec<Variable>, Failure> {
    names.iter().map(|name| variable(name)).collect()
}

fn variable(name: &str) -> Result<Variable, Failure> {
    let valid = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !valid {
        return Err(Problem::new(
            ProblemKind::Invalid,
            "variable_invalid",
            format!("{name:?} is not the name of a variable"),
        )
        .hint("give only the name, as in --pass-env ANTHROPIC_API_KEY; the value is taken from your environment")
        .into());
    }
    match env::var(name) {
        Ok(value) => Ok(Variable { name: name.to_owned(), value }),
        Err(env::VarError::NotPresent) => Err(Problem::new(
            ProblemKind::Invalid,
            "variable_unset",
            format!("{name} is not set here, so it cannot be passed"),
        )
        .hint(format!("export {name}=… first"))
        .into()),
        Err(env::VarError::NotUnicode(_)) => Err(Problem::new(
            ProblemKind::Invalid,
            "variable_invalid",
            format!("the value of {name} is not text"),
        )
        .into()),
    }
}

/// A text as one part of a path or query.
pub(crate) fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}
