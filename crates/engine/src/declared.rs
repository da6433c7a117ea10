//! What the repositories of a task say is to run in its environment: the apps and services of those that it is about, put
//! together. Each is found by its name, so two of one name are refused before anything is recorded.
//!
//! Read from the user's own files, as all configuration is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use offshoot_core::{
    config::{AppConfig, ProjectConfig},
    problem::{Problem, ProblemKind},
    record::TaskRecord,
    service::Services,
};

use crate::{
    others::about,
    project::{self, CONFIG_FILE},
    services::{self, SERVICES_FILE},
};

/// Services of one environment at the most, whatever repositories they come from: each has an address of its own.
const SERVICES: usize = 128;

/// One repository's word.
pub(crate) struct Declared {
    /// Where it is on the host.
    pub root: PathBuf,
    /// Its `offshoot.toml`.
    pub config: ProjectConfig,
    /// Its `services.json`.
    pub services: Services,
}

/// An app of an environment.
#[derive(Clone)]
pub(crate) struct App {
    /// What was written.
    pub config: AppConfig,
    /// The repository it belongs to; empty for the main one.
    pub repository: String,
    /// Whether it comes with the environment. One that others rely on does, where they are in the same one.
    pub start: bool,
}

impl Declared {
    /// Reads what a repository says; `name` is what it is called beside others.
    pub fn read(name: &str, root: &Path) -> Result<Self, Problem> {
        let read = || {
            let (config, services) = (project::config(root)?, services::read(root)?);
            Ok(Self { root: root.to_owned(), config, services })
        };
        read().map_err(|problem| about(name, problem))
    }

    /// The names that it takes, with the file that says so.
    fn names(&self) -> impl Iterator<Item = (String, PathBuf)> {
        let apps = self.config.apps.keys().map(|name| (name.to_string(), self.root.join(CONFIG_FILE)));
        let services = self.services.order().into_iter();
        apps.chain(services.map(|service| (service.name.to_string(), self.root.join(SERVICES_FILE))))
    }
}

/// Names that are taken, with the file that takes each.
pub(crate) type Taken = BTreeMap<String, PathBuf>;

/// The names of all, or why they cannot be in one environment.
pub(crate) fn names(all: &[Declared]) -> Result<Taken, Problem> {
    let mut taken = Taken::new();
    for (name, file) in all.iter().flat_map(Declared::names) {
        if let Some(other) = taken.get(&name)
            && *other != file
        {
            return Err(collision(&name, other, &file));
        }
        taken.insert(name, file);
    }
    let services = all.iter().map(|one| one.services.order().len()).sum::<usize>();
    if services > SERVICES {
        let text = format!("{services} services in one environment; {SERVICES} can be");
        return Err(Problem::new(ProblemKind::Invalid, "too_many_services", text));
    }
    Ok(taken)
}

pub(crate) fn collision(name: &str, one: &Path, other: &Path) -> Problem {
    let (one, other) = (one.display(), other.display());
    let text = format!("{name} is in {one} and in {other}, and would be found under one name");
    Problem::new(ProblemKind::Invalid, "name_collision", text)
        .hint(format!("call {name} something else in one of them"))
}

/// What the repositories that a task is about say; the main one's first.
pub(crate) fn of(record: &TaskRecord) -> Result<Vec<Declared>, Problem> {
    let main = Declared::read("", Path::new(&record.root))?;
    let others = record.others.iter().filter(|other| !other.read_only);
    let others = others.map(|other| Declared::read(&other.name, Path::new(&other.root)));
    std::iter::once(Ok(main)).chain(others).collect()
}

/// The apps of a task, by name. The main repository's wins where files were changed since they were looked at.
pub(crate) fn apps(record: &TaskRecord) -> Result<BTreeMap<String, App>, Problem> {
    let mut apps = BTreeMap::new();
    let main = [(String::new(), record.root.as_str())];
    let others = record.others.iter().filter(|other| !other.read_only);
    for (repository, root) in main.into_iter().chain(others.map(|o| (o.name.clone(), o.root.as_str()))) {
        let config = project::config(Path::new(root)).map_err(|problem| about(&repository, problem))?;
        for (name, app) in config.apps {
            let start = app.start || app.shared && (!repository.is_empty() || record.shared.is_some());
            let repository = repository.clone();
            apps.entry(name.to_string()).or_insert(App { config: app, repository, start });
        }
    }
    Ok(apps)
}
