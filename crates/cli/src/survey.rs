//! What `init` finds in a repository: lockfiles, a way to test, a compose file, files that are not part of it. Reads names
//! and a few files, each within a limit; runs nothing.
//!
//! | file | owns |
//! |---|---|
//! | `tool` | the tools that install dependencies |
//! | `detect` | the setups of one directory |
//! | `compose` | services out of a compose file; `yaml`, `variables` and `convert` are its parts |
//! | `configuration` | the commented `offshoot.toml` |

mod compose;
mod configuration;
mod convert;
mod detect;
mod tool;
mod variables;
mod yaml;

#[cfg(test)]
mod tests;

use std::{fs, path::Path};

pub(crate) use self::{
    compose::{Composed, compose},
    configuration::configuration,
};

/// Directories that hold what a tool made, never a project of its own.
const SKIPPED: &[&str] =
    &["node_modules", "target", "vendor", "dist", "build", "venv", "__pycache__", "testdata", "fixtures"];
/// Most directories looked at: those of a large monorepo, three levels deep.
const MAX_DIRECTORIES: usize = 1000;
/// How many levels below the root: `packages/team/name`.
const MAX_DEPTH: usize = 3;
/// Most setups proposed. Past this somebody has to choose.
const MAX_SETUPS: usize = 24;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// One for each lockfile; the root's first.
    pub setups: Vec<Setup>,
    /// Commands that could be the check; the first is the best guess.
    pub checks: Vec<String>,
    /// Files with settings or secrets beside the committed ones.
    pub private: Vec<String>,
}

/// One way of installing dependencies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Its name in the configuration.
    pub name: String,
    /// The tool's name.
    pub tool: &'static str,
    /// As people call it, with its lockfile.
    pub title: String,
    /// What it runs.
    pub commands: Vec<String>,
    /// Files that decide whether the commands must run again.
    pub key: Vec<String>,
    /// Hosts that the commands reach.
    pub hosts: Vec<String>,
    /// Variables that it needs.
    pub env: Vec<(String, String)>,
    /// What tests it.
    pub check: Option<String>,
}

impl Survey {
    /// All hosts, each once.
    pub(crate) fn hosts(&self) -> Vec<String> {
        distinct(self.setups.iter().flat_map(|setup| setup.hosts.clone()))
    }

    /// All variables, each once.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        distinct(self.setups.iter().flat_map(|setup| setup.env.clone()))
    }
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut all, item| {
        if !all.contains(&item) {
            all.push(item);
        }
        all
    })
}

/// Looks at a repository.
pub(crate) fn survey(root: &Path) -> Survey {
    let mut setups: Vec<Setup> = Vec::new();
    for below in directories(root) {
        setups.extend(detect::look(root, &below));
    }
    setups.truncate(MAX_SETUPS);
    detect::name_apart(&mut setups);
    let mut checks: Vec<String> = setups.iter().filter_map(|setup| setup.check.clone()).collect();
    if has_target(root) {
        checks.insert(0, "make test".to_owned());
    }
    Survey { setups, checks, private: private_files(root) }
}

/// The root (empty) and the directories below it, those near it first, in alphabetical order.
fn directories(root: &Path) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut level = vec![String::new()];
    for _ in 0..MAX_DEPTH {
        let mut next: Vec<String> = Vec::new();
        for parent in &level {
            let room = MAX_DIRECTORIES.saturating_sub(found.len() + next.len());
            next.extend(children(root, parent).into_iter().take(room));
        }
        found.extend(next.iter().cloned());
        level = next;
    }
    found
}

fn children(root: &Path, parent: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join(parent)) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        // Not through links, and not into another repository (a submodule).
        .filter(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_dir()) && !entry.path().join(".git").exists()
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) && detect::plain(name))
        .collect();
    names.sort();
    names.into_iter().map(|name| if parent.is_empty() { name } else { format!("{parent}/{name}") }).collect()
}

fn has_target(root: &Path) -> bool {
    ["Makefile", "GNUmakefile", "makefile"]
        .iter()
        .any(|name| detect::text_of(&root.join(name), 1 << 20).lines().any(|line| line.starts_with("test:")))
}

fn private_files(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            let example = ["example", "sample", "template", "dist"]
                .iter()
                .any(|word| name.ends_with(&format!(".{word}")));
            let private = name == ".env"
                || name.starts_with(".env.")
                || matches!(name.as_str(), ".envrc" | ".npmrc" | ".netrc" | ".pypirc" | "credentials.json")
                || name.ends_with(".pem")
                || name.ends_with(".key");
            private && !example
        })
        .collect();
    names.sort();
    names
}
