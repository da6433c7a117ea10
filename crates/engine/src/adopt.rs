//! Worktrees that people and other tools made: found, and taken up as tasks by hand. What is adopted stays its owner's:
//! nothing is committed in it, and it is let go but never deleted.

use std::path::{Path, PathBuf};

use offshoot_core::{
    api::{AdoptParams, TaskView, WorktreeView},
    config,
    event::{Event, RunQueued, TaskCreated},
    id::{RunId, TaskId},
    isolation::Isolation,
    lifecycle::{EnvironmentState, TaskState},
    name::TaskName,
    problem::{Problem, ProblemKind},
    record::TaskRecord,
};
use offshoot_git::{
    repository::Repository,
    worktree::{self, Linked},
};
use offshoot_store::TaskFilter;

use crate::{clock, engine::Engine, ledger::store_problem, project, worktrees};

/// Names tried for a task whose name is made from its branch.
const MAX_NUMBER: u32 = 100;

impl Engine {
    /// The worktrees of a repository, whoever made them.
    pub async fn worktrees(&self, path: &Path) -> Result<Vec<WorktreeView>, Problem> {
        let (engine, path) = (self.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || engine.list_worktrees(&path))
            .await
            .map_err(|e| Problem::internal("looking for worktrees was interrupted", &e))?
    }

    fn list_worktrees(&self, path: &Path) -> Result<Vec<WorktreeView>, Problem> {
        let repository = project::discover(path)?;
        let tasks = self.tasks_of(&repository)?;
        let all =
            repository.linked().map_err(|e| project::git_problem("the worktrees could not be listed", &e))?;
        let ignore = repository.user_ignore_file().map(PathBuf::from).unwrap_or_default();
        let changed = |tree: &Linked| {
            let git_dir = match tree.main {
                true => repository.common_dir().to_owned(),
                false => worktree::git_dir_of(&tree.path)?,
            };
            let held = worktree::held(&tree.path, &git_dir, &ignore).ok()?;
            Some(held.changed.len() as u64)
        };
        Ok(all
            .into_iter()
            .map(|tree| WorktreeView {
                changed: if tree.present && !tree.bare { changed(&tree) } else { None },
                task: owner(&tasks, &tree.path).map(|task| task.name.to_string()),
                path: tree.path.to_string_lossy().into_owned(),
                main: tree.main,
                branch: tree.branch,
                commit: tree.head.map(|oid| oid.to_string()),
                present: tree.present,
                locked: tree.locked,
            })
            .collect())
    }

    fn tasks_of(&self, repository: &Repository) -> Result<Vec<TaskRecord>, Problem> {
        let store = self.inner.ledger.store();
        let project = self.inner.projects.of(repository, store)?.id;
        let filter = TaskFilter { project: Some(project), include_done: true };
        store.tasks(&filter, usize::MAX).map_err(|e| store_problem(&e))
    }

    /// Makes a task by hand of a worktree.
    pub async fn adopt_worktree(&self, params: AdoptParams) -> Result<TaskView, Problem> {
        let engine = self.clone();
        let id = tokio::task::spawn_blocking(move || engine.take_up_worktree(&params))
            .await
            .map_err(|e| Problem::internal("adopting was interrupted", &e))??;
        self.inner.wake.notify_one();
        self.view(id).await
    }

    fn take_up_worktree(&self, params: &AdoptParams) -> Result<TaskId, Problem> {
        let refuse = |code: &str, text: String| Problem::new(ProblemKind::Conflict, code, text);
        let git = |e| project::git_problem("the worktree could not be looked at", &e);
        let repository = project::discover(Path::new(&params.path))?;
        if !repository.is_linked_worktree() {
            return Err(refuse(
                "not_a_worktree",
                format!("{} is the checkout itself, not a worktree of it", repository.root().display()),
            )
            .hint("`offshoot worktree ls` lists the worktrees; `offshoot run` works beside your checkout"));
        }
        let all = repository.linked().map_err(git)?;
        let own = worktree::git_dir_of(repository.root());
        let tree = all
            .iter()
            .find(|tree| own.is_some() && worktree::git_dir_of(&tree.path) == own)
            .ok_or_else(|| {
                refuse("not_a_worktree", format!("git does not list {}", repository.root().display()))
                    .hint("`git worktree repair` mends a worktree that was moved")
            })?;
        if let Some(task) = owner(&self.tasks_of(&repository)?, &tree.path) {
            return Err(refuse(
                "already_a_task",
                format!("{} belongs to {} already", tree.path.display(), task.name),
            ));
        }
        let (Some(branch), Some(head)) = (&tree.branch, &tree.head) else {
            return Err(refuse("no_branch", format!("{} is not on a branch", tree.path.display()))
                .hint("give it one with `git switch -c NAME` there"));
        };
        let target = params.target.clone().or_else(|| all.first().and_then(|main| main.branch.clone()));
        let tip = target.as_deref().and_then(|target| repository.branch_commit(target).ok()?);
        let base =
            tip.and_then(|tip| repository.merge_base(&tip, head).ok()?).unwrap_or_else(|| head.clone());
        let project = self.inner.projects.of(&repository, self.inner.ledger.store())?;
        project
            .objects
            .export(&repository, &base)
            .map_err(|e| project::git_problem("the base is not usable", &e))?;
        let (config, user) = (project::config(&tree.path)?, self.user_config()?);
        let root = repository.main_root().map_err(git)?;
        let queued = RunQueued {
            number: 1,
            prompt: String::new(),
            model: None,
            check: None,
            pass_env: Vec::new(),
            permission: worktrees::permission(Isolation::Worktree, None, &config, &user),
            instructions: None,
            egress: Vec::new(),
            limits: config::limits(&config.limits, &user.limits),
        };
        let created = |name: TaskName| TaskCreated {
            name,
            project: project.id,
            root: root.to_string_lossy().into_owned(),
            base: base.to_string(),
            target: target.clone(),
            branch: branch.clone(),
            agent: None,
            isolation: Isolation::Worktree,
            adopted: Some(tree.path.to_string_lossy().into_owned()),
            repository: String::new(),
            others: Vec::new(),
            scope: Vec::new(),
            shared: None,
            notices: vec![
                "adopted: nothing is committed in it, and neither it nor its branch is ever deleted"
                    .to_owned(),
            ],
        };
        let task = TaskId(clock::id());
        self.inner.secrets.put_path(task, params.search_path.clone());
        self.inner.secrets.put_session(task, &params.session);
        let append = |name: TaskName| {
            let events = vec![Event::TaskCreated(created(name)), Event::RunQueued(queued.clone())];
            self.inner.ledger.append(task, Some(RunId(clock::id())), events)
        };
        if let Some(name) = &params.name {
            let name: TaskName = name.parse().map_err(|e: offshoot_core::name::NameError| {
                Problem::new(ProblemKind::Invalid, "bad_name", e.to_string())
            })?;
            return append(name).map(|()| task);
        }
        let stem = TaskName::from_prompt(branch.rsplit('/').next().unwrap_or(branch));
        let mut names = std::iter::once(stem.clone()).chain((2..MAX_NUMBER).map(|n| stem.numbered(n)));
        loop {
            let Some(name) = names.next() else {
                return Err(refuse("name_taken", format!("there are many tasks called {stem}"))
                    .hint("name it with --name"));
            };
            match append(name) {
                Err(problem) if problem.code == "name_taken" => {}
                result => return result.map(|()| task),
            }
        }
    }
}

/// The task whose worktree this is.
fn owner<'a>(tasks: &'a [TaskRecord], path: &Path) -> Option<&'a TaskRecord> {
    tasks.iter().find(|task| {
        let lives = task.environment.as_ref().is_none_or(|e| e.state != EnvironmentState::Removed);
        let workspace =
            task.environment.as_ref().and_then(|e| e.workspace.as_deref()).or(task.adopted.as_deref());
        let done = matches!(task.state, TaskState::Landed | TaskState::Discarded);
        lives && !(done && task.environment.is_none()) && workspace == path.to_str()
    })
}
