//! A task's repositories, gone through as one list: the main one first, then those that are part of the task besides.
//!
//! A task over one repository has a list of one, whose commands, files and events are what they would be without any of
//! this. Those that are only shown are not in the list: nothing is done with them.

use std::path::PathBuf;

use offshoot_core::{id::ProjectId, problem::Problem, record::TaskRecord};
use offshoot_environment::{lease::Terms, other::Other, shared::Shared};
use offshoot_git::{inside, oid::Oid, repository::Repository};

use crate::{
    engine::Engine,
    environments::Live,
    project::{self, Project},
};

/// One of a task's repositories.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What it is called beside the others; empty for the only one.
    pub name: String,
    /// Whether it is the main one.
    pub main: bool,
    /// Its project.
    pub project: ProjectId,
    /// Its root.
    pub root: String,
    /// Its base commit.
    pub base: String,
    /// Where a landing goes.
    pub target: Option<String>,
    /// The task's branch.
    pub branch: String,
    /// The tip of that, once something was brought out.
    pub head: Option<String>,
    /// The commit of its newest checkpoint.
    pub newest: Option<String>,
}

/// One of them with what the host has of it.
pub(crate) struct Held {
    /// Which one.
    pub part: Part,
    /// The user's.
    pub repository: Repository,
    /// Offshoot's own.
    pub project: Project,
}

/// The repositories that a task works on.
pub(crate) fn parts(record: &TaskRecord) -> Vec<Part> {
    let several = record.others.iter().any(|other| !other.read_only);
    let main = Part {
        name: if several { record.repository.clone() } else { String::new() },
        main: true,
        project: record.project,
        root: record.root.clone(),
        base: record.base.clone(),
        target: record.target.clone(),
        branch: record.branch.clone(),
        head: record.head.clone(),
        newest: record.checkpoints.last().map(|checkpoint| checkpoint.commit.clone()),
    };
    let others = record.others.iter().filter(|other| !other.read_only).map(|other| Part {
        name: other.name.clone(),
        main: false,
        project: other.project,
        root: other.root.clone(),
        base: other.base.clone(),
        target: other.target.clone(),
        branch: record.branch.clone(),
        head: other.head.clone(),
        newest: other.checkpoints.last().map(|step| step.commit.clone()),
    });
    std::iter::once(main).chain(others).collect()
}

impl Part {
    /// Whether something was committed in it.
    pub fn has_commits(&self) -> bool {
        self.head.as_ref().is_some_and(|head| *head != self.base)
    }

    /// The commit that the next checkpoint is compared with.
    pub fn before(&self) -> &str {
        self.newest.as_ref().unwrap_or(&self.base)
    }

    /// Its commits at the task's checkpoints, oldest first.
    pub fn steps(&self, record: &TaskRecord) -> Vec<String> {
        let other = record.other(&self.name).filter(|_| !self.main);
        match other {
            Some(other) => other.checkpoints.iter().map(|step| step.commit.clone()).collect(),
            None => record.checkpoints.iter().map(|checkpoint| checkpoint.commit.clone()).collect(),
        }
    }

    /// What stands before its paths where those of several are shown together.
    pub fn prefix(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("{}/", self.name) }
    }

    /// A name for a file or process that is about it.
    pub fn file(&self, what: &str) -> String {
        if self.main { what.to_owned() } else { format!("{what}-{}", self.name) }
    }

    /// Where its objects are, inside.
    pub fn objects(&self) -> String {
        if self.main { inside::OBJECTS.to_owned() } else { inside::objects_of(&self.name) }
    }

    /// Its workspace inside, if that is not the one that commands run in anyway.
    pub fn cwd(&self, live: &Live) -> Option<PathBuf> {
        self.other(live).map(|other| other.workspace.clone())
    }

    /// The commit that its workspace began at.
    pub fn start(&self, live: &Live) -> Result<Oid, Problem> {
        let terms = live.lease.terms();
        let base = self.other(live).map_or(&terms.base, |other| &other.base);
        base.parse().map_err(|e| Problem::internal("the environment's base is no commit", &e))
    }

    fn other<'a>(&self, live: &'a Live) -> Option<&'a Other> {
        live.lease.terms().others.iter().find(|other| !self.main && other.name == self.name)
    }
}

impl Engine {
    /// The task's repositories with what the host has of them.
    pub(crate) fn held(&self, record: &TaskRecord) -> Result<Vec<Held>, Problem> {
        parts(record)
            .into_iter()
            .map(|part| {
                let repository = project::repository_of(&part.root)?;
                let project = self.inner.projects.open(part.project, &repository)?;
                Ok(Held { part, repository, project })
            })
            .collect()
    }
}

/// What an agent is told of a task's repositories, and of what runs of others; nothing if there is one.
pub(crate) fn told(record: &TaskRecord, terms: &Terms) -> Option<String> {
    let served: Vec<_> = terms.shared.iter().map(served).collect();
    let served = (!served.is_empty()).then(|| served.join(" "));
    if record.others.is_empty() {
        return served;
    }
    let mut text = format!(
        "This task is about several git repositories. {} is at {}, where you start.",
        record.repository,
        terms.workspace.display()
    );
    for other in &record.others {
        let how = if other.read_only { "for reading only" } else { "to be changed, too" };
        text.push_str(&format!(" {} is at {}, {how}.", other.name, other.root));
    }
    text.push_str(" Commit in each that you change; each is on a branch of its own already.");
    text.extend(served.map(|served| format!(" {served}")));
    Some(text)
}

fn served(shared: &Shared) -> String {
    let Shared { repository, app, port, .. } = shared;
    format!("{app} of {repository} runs at {app}:{port}, shared with others: use it as it is.")
}
