//! A task's other repositories: which are meant, and what would go wrong with them.
//!
//! They are named in `[[repos]]` of the main repository's `offshoot.toml`, and a task is about those that the person names;
//! a repository alone cannot have others shown to an agent.

use offshoot_core::{
    api::TaskParams,
    config::{ProjectConfig, RepoConfig},
    isolation::Isolation,
    name::{Label, TaskName},
    part::PartCreated,
    problem::{Problem, ProblemKind},
};
use offshoot_environment::{lease::Lease, other::Source};
use offshoot_git::{oid::Oid, repository::Repository};

use crate::{
    declared::{self, Declared},
    dispatch::{base, exported},
    engine::Engine,
    project,
};

/// The repositories that a new task is about.
#[derive(Default)]
pub(crate) struct Asked {
    /// What the main one starts from.
    pub from: Option<String>,
    /// What the main one is called; empty if it is the only one.
    pub name: String,
    /// The others, in the order of `offshoot.toml`.
    pub others: Vec<AskedOther>,
    /// What a person should know of them.
    pub notices: Vec<String>,
}

/// One of the others.
pub(crate) struct AskedOther {
    /// As it is recorded.
    pub part: PartCreated,
    /// The user's repository.
    pub repository: Repository,
    /// Its base.
    pub base: Oid,
    /// Its own `offshoot.toml`.
    pub config: ProjectConfig,
}

impl Engine {
    /// Finds out which repositories are meant, and refuses what cannot be.
    pub(crate) fn asked(
        &self,
        params: &TaskParams,
        main: &Repository,
        config: &ProjectConfig,
        isolation: Isolation,
    ) -> Result<Asked, Problem> {
        let show = isolation == Isolation::Sandbox && self.user_config()?.repositories.show;
        if params.repositories.is_empty() && (!show || config.repos.is_empty()) {
            return Ok(Asked { from: params.from.clone(), ..Asked::default() });
        }
        let name = own_name(main, config);
        let mut named = params.repositories.clone();
        let from = match (named.remove(&name), &params.from) {
            (Some(_), Some(_)) => {
                return Err(invalid("two_bases", format!("{name} is this repository: it has two bases now"))
                    .hint("say --from once for each repository"));
            }
            (given, from) => given.or_else(|| from.clone()),
        };
        let mut asked = Asked { from, name, ..Asked::default() };
        for repo in &config.repos {
            let from = named.remove(repo.name.as_str());
            if from.is_none() && !show {
                continue;
            }
            let found = self.asked_other(main, repo, from.as_deref()).and_then(|other| {
                self.refuse_place(main, &asked.others, &other.repository)?;
                Ok(other)
            });
            match found {
                Ok(other) => asked.others.push(other),
                // Nobody asked for this one in particular.
                Err(problem) if from.is_none() => {
                    asked.notices.push(format!("{} is not shown: {}", repo.name.as_str(), problem.message));
                }
                Err(problem) => return Err(problem),
            }
        }
        if let Some(unknown) = named.keys().next() {
            return Err(unknown_repository(unknown, &asked.name, config));
        }
        if asked.others.is_empty() {
            asked.name.clear();
            return Ok(asked);
        }
        if isolation == Isolation::Worktree {
            return Err(invalid(
                "repositories_need_sandbox",
                "a worktree is of one repository only".to_owned(),
            )
            .hint("take the sandbox for a task over several: --isolation sandbox"));
        }
        if asked.others.iter().any(|other| other.part.name == asked.name) {
            let text = format!("this repository is called {}, too", asked.name);
            return Err(invalid("two_repositories", text)
                .hint("give it another name: [project] name = \"…\" in offshoot.toml"));
        }
        for other in asked.others.iter().filter(|other| other.part.read_only) {
            let PartCreated { name, root, .. } = &other.part;
            asked.notices.push(format!("{name} is shown for reading only, at {root}"));
        }
        Ok(asked)
    }

    /// Refuses services and apps that would be found under one name. What a person should know of those that are not
    /// there, though the project counts on them.
    pub(crate) fn unnamed(
        &self,
        main: &Repository,
        config: &ProjectConfig,
        asked: &Asked,
    ) -> Result<Vec<String>, Problem> {
        let about = || asked.others.iter().filter(|other| !other.part.read_only);
        let others = about().map(|other| Declared::read(&other.part.name, other.repository.root()));
        let all: Vec<_> =
            std::iter::once(Declared::read("", main.root())).chain(others).collect::<Result<_, _>>()?;
        let names: Vec<_> = about().map(|other| other.part.name.as_str()).collect();
        Ok(self.shared_beside(main.root(), config, &names, &declared::names(&all)?)?.1)
    }

    fn asked_other(
        &self,
        main: &Repository,
        repo: &RepoConfig,
        from: Option<&str>,
    ) -> Result<AskedOther, Problem> {
        let name = repo.name.as_str();
        let path = main.root().join(&repo.path);
        let missing = |why: String| {
            Problem::new(ProblemKind::NotFound, "repository_missing", format!("{name} is not there: {why}"))
                .hint(format!("[[repos]] in offshoot.toml says that {name} is at {}", repo.path))
        };
        let path = std::fs::canonicalize(&path).map_err(|e| missing(format!("{}: {e}", path.display())))?;
        let repository = project::discover(&path)?;
        if repository.root() != path {
            return Err(missing(format!("{} is not the root of a repository", path.display())));
        }
        let (base, target) = base(&repository, from).map_err(|problem| about(name, problem))?;
        let project = self.inner.projects.of(&repository, self.inner.ledger.store())?;
        exported(&project, &repository, &base).map_err(|problem| about(name, problem))?;
        let part = PartCreated {
            name: name.to_owned(),
            project: project.id,
            root: repository.root().to_string_lossy().into_owned(),
            base: base.to_string(),
            target,
            read_only: from.is_none(),
        };
        Ok(AskedOther { part, config: project::config(repository.root())?, repository, base })
    }

    /// Each workspace appears at its own path, so none may lie in another or hold the home directory.
    fn refuse_place(
        &self,
        main: &Repository,
        others: &[AskedOther],
        new: &Repository,
    ) -> Result<(), Problem> {
        let a = new.root();
        for one in std::iter::once(main).chain(others.iter().map(|other| &other.repository)) {
            let b = one.root();
            if one.common_dir() == new.common_dir() {
                let text = format!("{} and {} are the same repository", b.display(), a.display());
                return Err(invalid("same_repository", text));
            }
            if a.starts_with(b) || b.starts_with(a) {
                let text = format!("{} and {}: one lies in the other", b.display(), a.display());
                return Err(
                    invalid("nested_repositories", text).hint("a task is about repositories side by side")
                );
            }
        }
        if self.inner.machine.home.starts_with(a) {
            let text = format!("your home directory is in {}", a.display());
            return Err(invalid("nested_repositories", text)
                .hint("run the task in that repository, with the others beside it"));
        }
        Ok(())
    }

    /// Whether a task of this name would find its branch taken in one of the repositories.
    pub(crate) fn is_taken(&self, main: &Repository, asked: &Asked, name: &TaskName) -> bool {
        let taken = |repository: &Repository| {
            repository.branch_commit(&name.branch()).is_ok_and(|commit| commit.is_some())
        };
        if taken(main) {
            return true;
        }
        if asked.others.is_empty() {
            return false;
        }
        let others = || asked.others.iter().filter(|other| !other.part.read_only);
        // A task of another main repository has a branch here, too, as soon as it has commits.
        let wanted: Vec<_> = others().map(|other| other.part.project).collect();
        let filter = offshoot_store::TaskFilter { project: None, include_done: false };
        let tasks = self.inner.ledger.store().tasks(&filter, usize::MAX).unwrap_or_default();
        others().any(|other| taken(&other.repository))
            || tasks.iter().filter(|task| task.name == *name).any(|task| {
                let own = std::iter::once(task.project).chain(task.others.iter().map(|o| o.project));
                own.into_iter().any(|project| wanted.contains(&project))
            })
    }

    /// Where the layers and objects of a lease's other workspaces are.
    pub(crate) fn sources(&self, lease: &Lease) -> Result<Vec<Source>, Problem> {
        let all = lease.terms().others.iter().map(|other| {
            let project = self.inner.projects.of_part(other.project, &other.workspace.to_string_lossy())?;
            Ok(Source { objects: project.objects.objects_dir(), layers: project.layers })
        });
        all.collect()
    }
}

/// What this repository is called beside others.
pub(crate) fn own_name(main: &Repository, config: &ProjectConfig) -> String {
    let made = || Label::from_foreign(&main.root().file_name()?.to_string_lossy());
    let name = config.project.name.clone().or_else(made);
    name.map_or_else(|| "main".to_owned(), |name| name.as_str().to_owned())
}

fn unknown_repository(name: &str, own: &str, config: &ProjectConfig) -> Problem {
    let known: Vec<_> = config.repos.iter().map(|repo| repo.name.as_str()).collect();
    let problem = Problem::new(
        ProblemKind::NotFound,
        "unknown_repository",
        format!("offshoot.toml knows no repository {name:?}"),
    );
    if known.is_empty() {
        return problem.hint(format!(
            "it has no [[repos]]; to start {own} from a branch with a = in its name, say --from {own}=BRANCH"
        ));
    }
    problem.hint(format!("it knows {own} (this one) and {}", known.join(", ")))
}

fn invalid(code: &str, message: String) -> Problem {
    Problem::new(ProblemKind::Invalid, code, message)
}

/// The same problem, with the repository that it is about.
pub(crate) fn about(name: &str, problem: Problem) -> Problem {
    if name.is_empty() {
        return problem;
    }
    Problem { message: format!("{name}: {}", problem.message), ..problem }
}
