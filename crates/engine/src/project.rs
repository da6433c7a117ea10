//! A project as the engine works with it: the user's repository, Offshoot's own object store of it, its layers, and
//! its configuration as it is on the user's disk now.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use offshoot_core::{
    config::{ConfigError, ProjectConfig},
    id::ProjectId,
    name::BRANCHES,
    problem::{Problem, ProblemKind},
    record::TaskRecord,
};
use offshoot_environment::{layers::Layers, layout::Layout, machine::Machine};
use offshoot_git::{
    repository::{DiscoverError, Person, Repository},
    store::Store as ObjectStore,
};
use offshoot_store::Store;

use crate::ledger::store_problem;

/// Name of the project's configuration file.
pub const CONFIG_FILE: &str = "offshoot.toml";

/// A project that is in use.
#[derive(Clone)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its own objects.
    pub objects: ObjectStore,
    /// Its layers.
    pub layers: Layers,
}

/// The projects in use.
pub struct Projects {
    layout: Layout,
    machine: Machine,
    open: Mutex<HashMap<ProjectId, Project>>,
}

impl Projects {
    /// None yet.
    pub fn new(layout: Layout, machine: Machine) -> Self {
        Self { layout, machine, open: Mutex::default() }
    }

    /// The project of a repository; made known if it was not.
    pub fn of(&self, repository: &Repository, store: &Store) -> Result<Project, Problem> {
        let git_dir = repository.common_dir().to_string_lossy().into_owned();
        let root = repository.root().to_string_lossy().into_owned();
        let id = store.project(&git_dir, &root).map_err(|e| store_problem(&e))?;
        self.open(id, repository)
    }

    /// The project of a task. The repository is looked for only if the project is not in use yet.
    pub fn of_task(&self, task: &TaskRecord) -> Result<Project, Problem> {
        self.of_part(task.project, &task.root)
    }

    /// The same for one of a task's repositories.
    pub fn of_part(&self, id: ProjectId, root: &str) -> Result<Project, Problem> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        open.map_or_else(|| self.open(id, &repository_of(root)?), Ok)
    }

    /// The project of a task, by the repository that task came from.
    pub fn open(&self, id: ProjectId, repository: &Repository) -> Result<Project, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(project) = open.get(&id) {
            return Ok(project.clone());
        }
        std::fs::create_dir_all(self.layout.project(id))
            .map_err(|e| Problem::internal("could not make the project's directory", &e))?;
        let objects = ObjectStore::open(&self.layout.store(id), repository.object_format())
            .map_err(|e| git_problem("could not open the project's objects", &e))?;
        let layers = Layers::open(self.layout.clone(), id, self.machine.clone())
            .map_err(|e| Problem::internal("could not open the project's layers", &e))?;
        let project = Project { id, objects, layers };
        open.insert(id, project.clone());
        Ok(project)
    }
}

/// Whether what a task starts from was written by a run: brought back by its own, or taken from the branch of another.
pub fn is_of_run(head: Option<&str>, target: Option<&str>) -> bool {
    head.is_some() || target.is_some_and(|branch| branch.starts_with(BRANCHES))
}

/// Finds the repository that `path` lies in.
pub fn discover(path: &Path) -> Result<Repository, Problem> {
    Repository::discover(path).map_err(|error| match error {
        DiscoverError::NotARepository { path } => Problem::new(
            ProblemKind::NotFound,
            "not_a_repository",
            format!("{} is not in a git repository", path.display()),
        )
        .hint("change into one, or make one with `git init` and a first commit"),
        error => Problem::new(
            ProblemKind::Unavailable,
            "repository_unusable",
            offshoot_core::problem::chain(&error),
        ),
    })
}

/// The project's configuration as the user's own files have it now (what an agent wrote is not looked at).
pub fn config(root: &Path) -> Result<ProjectConfig, Problem> {
    let path = root.join(CONFIG_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => ProjectConfig::parse(&text).map_err(|error| config_problem(&path, &text, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(ProjectConfig::default()),
        Err(error) => Err(Problem::new(
            ProblemKind::Unavailable,
            "config_unreadable",
            format!("could not read {}: {error}", path.display()),
        )),
    }
}

/// A mistake in a configuration file, with line and column.
pub fn config_problem(path: &Path, text: &str, error: &ConfigError) -> Problem {
    let place = error.span.as_ref().map_or(String::new(), |span| {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        format!(":{line}:{column}")
    });
    Problem::new(ProblemKind::Invalid, "bad_config", format!("{}{place}: {}", path.display(), error.message))
        .hint("see docs/reference/configuration.md, or write a fresh file with `offshoot init`")
}

/// What git's refusal means to a person.
pub fn git_problem(what: &str, error: &dyn std::error::Error) -> Problem {
    Problem::new(
        ProblemKind::Failed,
        "git_failed",
        format!("{what}: {}", offshoot_core::problem::chain(error)),
    )
}

/// The repository of a task, found again by its root.
pub fn repository_of(root: &str) -> Result<Repository, Problem> {
    discover(&PathBuf::from(root)).map_err(|problem| {
        problem
            .hint("the repository was moved or deleted; the task's commits are still in Offshoot's own store")
    })
}

/// Who commits inside, for a repository that is looked for first.
pub fn author(root: &str) -> Person {
    repository_of(root).map_or_else(|_| nobody(), |repository| person(&repository))
}

fn nobody() -> Person {
    Person { name: "Offshoot".to_owned(), email: "offshoot@localhost".to_owned() }
}

/// Who commits inside: the user, as his own git knows him.
pub fn person(repository: &Repository) -> Person {
    let known = repository.identity().ok().flatten();
    known.unwrap_or_else(nobody)
}
