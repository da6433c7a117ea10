//! Taking a task or a follow-up in: everything that can be wrong is said before anything is recorded.

use std::path::PathBuf;

use offshoot_agents::AgentDefinition;
use offshoot_core::{
    agent::PermissionPolicy,
    api::{FollowUpParams, TaskParams, TaskView, Variable},
    config::{self, ProjectConfig},
    event::{Event, RunQueued, TaskCreated},
    id::{RunId, TaskId},
    isolation::Isolation,
    name::TaskName,
    problem::{Problem, ProblemKind},
    record::TaskRecord,
    scope::Scope,
};
use offshoot_git::{
    oid::Oid,
    repository::{Repository, ResolveError},
    store::ExportError,
};

use crate::{
    clock,
    engine::{Engine, TaskRef},
    others::Asked,
    project::{self, Project},
    restore::refuse_restoring,
    worktrees,
};

/// Longest prompt, in bytes: what an agent is started with must fit in one argument (128 KiB) for those that take
/// it there.
const MAX_PROMPT: usize = 120 * 1024;
/// Names tried for a task whose name is made from its prompt.
const MAX_NUMBER: u32 = 1000;

/// A task that nothing speaks against and that is not recorded.
pub(crate) struct Draft {
    /// Whether the name in `created` was asked for; else it is where the search for a free one begins.
    pub named: bool,
    pub created: TaskCreated,
    pub queued: RunQueued,
    pub repository: Repository,
    pub config: ProjectConfig,
    pub asked: Asked,
    pub base: Oid,
    pub project: Project,
}

impl Engine {
    /// A new task with its first run.
    pub async fn create_task(&self, params: TaskParams) -> Result<TaskView, Problem> {
        let engine = self.clone();
        let id = tokio::task::spawn_blocking(move || engine.take_in(&params))
            .await
            .map_err(|e| Problem::internal("taking the task in was interrupted", &e))??;
        self.inner.wake.notify_one();
        self.view(id).await
    }

    /// Another run of a task.
    pub async fn follow_up(&self, task: &TaskRef, params: FollowUpParams) -> Result<TaskView, Problem> {
        let record = self.find(task)?;
        self.queue(&record, params, Vec::new()).await
    }

    /// The same with what is recorded in one step with it.
    pub(crate) async fn queue(
        &self,
        record: &TaskRecord,
        params: FollowUpParams,
        also: Vec<Event>,
    ) -> Result<TaskView, Problem> {
        refuse_restoring(record)?;
        if record.agent.is_none() {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "by_hand",
                format!("{} has no agent", record.name),
            )
            .hint(format!("use `offshoot shell {}`, or start a task with `offshoot run`", record.name)));
        }
        if record.state.is_active() {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "still_active",
                format!(
                    "{} is {}; it takes a follow-up when its run is over",
                    record.name,
                    record.state.word()
                ),
            )
            .hint(format!("wait for it, or stop it with `offshoot stop {}`", record.name)));
        }
        check_prompt(&params.prompt)?;
        let Some(last) = record.run() else {
            return Err(Problem::new(
                ProblemKind::Conflict,
                "wrong_state",
                "the task has no run to follow up",
            ));
        };
        let queued = RunQueued {
            number: last.number + 1,
            prompt: params.prompt,
            model: params.model.or_else(|| last.model.clone()),
            check: params.check.or_else(|| last.check.clone()),
            pass_env: if params.env.is_empty() { last.pass_env.clone() } else { names(&params.env) },
            permission: last.permission,
            instructions: last.instructions.clone(),
            egress: last.egress.clone(),
            limits: last.limits,
        };
        if !params.env.is_empty() {
            self.inner.secrets.put(record.id, params.env);
        }
        self.inner.secrets.put_path(record.id, params.search_path);
        let events = [vec![Event::RunQueued(queued)], also].concat();
        self.inner.ledger.append(record.id, Some(RunId(clock::id())), events)?;
        self.inner.wake.notify_one();
        self.view(record.id).await
    }

    /// Says anew which paths a task is to touch. Its agent is told with the next run.
    pub async fn set_scope(&self, task: &TaskRef, scope: Vec<String>) -> Result<TaskView, Problem> {
        let record = self.find(task)?;
        check_scope(&scope)?;
        if record.scope != scope {
            self.inner.ledger.append(record.id, None, vec![Event::ScopeChanged { scope }])?;
        }
        self.view(record.id).await
    }

    fn take_in(&self, params: &TaskParams) -> Result<TaskId, Problem> {
        let draft = self.draft(params)?;
        exported(&draft.project, &draft.repository, &draft.base)?;
        let task = TaskId(clock::id());
        self.inner.secrets.put(task, params.env.clone());
        self.inner.secrets.put_path(task, params.search_path.clone());
        if draft.created.isolation == Isolation::Worktree {
            self.inner.secrets.put_session(task, &params.session);
        }
        let run = RunId(clock::id());
        let mut names = self.names(&draft);
        loop {
            let name = names.next().ok_or_else(|| branch_exists(&draft.created.name))?;
            let created = TaskCreated { branch: name.branch(), name, ..draft.created.clone() };
            let events = vec![Event::TaskCreated(created), Event::RunQueued(draft.queued.clone())];
            match self.inner.ledger.append(task, Some(run), events) {
                Err(problem) if problem.code == "name_taken" && !draft.named => {}
                result => break result?,
            }
        }
        drop(names);
        self.look_around(task, run, around(draft));
        Ok(task)
    }

    /// Everything that can be wrong with a new task is found here.
    pub(crate) fn draft(&self, params: &TaskParams) -> Result<Draft, Problem> {
        check_scope(&params.scope)?;
        if !params.by_hand {
            check_prompt(&params.prompt)?;
        }
        let repository = project::discover(&PathBuf::from(&params.path))?;
        let config = project::config(repository.root())?;
        let user = self.user_config()?;
        let agent = if params.by_hand { None } else { Some(self.choose_agent(params, &config)?) };
        let isolation = worktrees::isolation(params.isolation, &config, &user)?;
        if isolation == Isolation::Sandbox {
            boundary()?;
        }
        let asked = self.asked(params, &repository, &config, isolation)?;
        let unnamed = if isolation == Isolation::Sandbox {
            self.unnamed(&repository, &config, &asked)?
        } else {
            Vec::new()
        };
        let (base, target) = base(&repository, asked.from.as_deref())?;
        let project = self.inner.projects.of(&repository, self.inner.ledger.store())?;
        let mut egress = config.egress.allow.clone();
        for other in asked.others.iter().filter(|other| !other.part.read_only) {
            egress.extend(other.config.egress.allow.iter().cloned());
        }
        egress.extend(user.egress.allow.iter().cloned());
        if let Some(definition) = agent.as_deref().and_then(|a| self.inner.catalog.get(a)) {
            egress.extend(definition.egress.iter().filter_map(|rule| rule.parse().ok()));
        }
        egress.extend(params.allow.iter().cloned());
        let mut seen = std::collections::BTreeSet::new();
        egress.retain(|rule| seen.insert(rule.clone()));

        let permission = worktrees::permission(isolation, params.permission, &config, &user);
        if let Some(definition) = agent.as_deref().and_then(|a| self.inner.catalog.get(a)) {
            self.check_permission(definition, permission, isolation)?;
        }
        let queued = RunQueued {
            number: 1,
            prompt: params.prompt.clone(),
            model: params.model.clone().or(config.agent.model.clone()).or(user.agent.model.clone()),
            check: params.check.clone().or(config.check.command.clone()),
            pass_env: names(&params.env),
            permission,
            instructions: params.instructions.clone(),
            // Without a boundary there is nothing that holds anybody up.
            egress: if isolation == Isolation::Sandbox { egress } else { Vec::new() },
            limits: config::limits(&config.limits, &user.limits),
        };
        let mut notices = notices(&repository, params, &config);
        notices.extend(asked.notices.iter().cloned());
        notices.extend(unnamed);
        let mut root = repository.root().to_owned();
        if isolation == Isolation::Worktree {
            notices.extend(self.check_worktree(&repository, params, &config)?);
            // Worktrees come and go; the main checkout stays.
            root = repository
                .main_root()
                .map_err(|e| project::git_problem("could not find the main checkout", &e))?;
        }
        let name = match &params.name {
            Some(name) => name.parse().map_err(|e: offshoot_core::name::NameError| {
                Problem::new(ProblemKind::Invalid, "bad_name", e.to_string())
            })?,
            None => TaskName::from_prompt(if params.by_hand { "environment" } else { &params.prompt }),
        };
        let created = TaskCreated {
            branch: name.branch(),
            name,
            project: project.id,
            root: root.to_string_lossy().into_owned(),
            base: base.to_string(),
            target,
            agent,
            isolation,
            adopted: None,
            repository: asked.name.clone(),
            others: asked.others.iter().map(|other| other.part.clone()).collect(),
            scope: params.scope.clone(),
            shared: None,
            notices,
        };
        Ok(Draft { named: params.name.is_some(), created, queued, repository, config, asked, base, project })
    }

    /// The names that a draft may get, as far as the repositories' branches tell.
    pub(crate) fn names(&self, draft: &Draft) -> impl Iterator<Item = TaskName> {
        let stem = draft.created.name.clone();
        let most = if draft.named { 2 } else { MAX_NUMBER };
        std::iter::once(stem.clone())
            .chain((2..most).map(move |n| stem.numbered(n)))
            .filter(|name| !self.is_taken(&draft.repository, &draft.asked, name))
    }

    /// Refuses a policy that the agent has no way to follow, rather than let it work in another.
    fn check_permission(
        &self,
        definition: &AgentDefinition,
        permission: PermissionPolicy,
        isolation: Isolation,
    ) -> Result<(), Problem> {
        let can = match permission {
            PermissionPolicy::Allow => true,
            PermissionPolicy::Ask => definition.can_ask(),
            PermissionPolicy::Deny => definition.permission.mode(permission).is_some(),
        };
        if can {
            return Ok(());
        }
        let able = self.inner.catalog.iter().filter(|d| d.can_ask()).map(|d| d.name.as_str());
        Err(Problem::new(
            ProblemKind::Invalid,
            "agent_cannot_ask",
            format!(
                "{} cannot be asked about from outside: it never puts its questions to us",
                definition.title
            ),
        )
        .hint(format!(
            "{}; these can ask: {}",
            match isolation {
                Isolation::Sandbox => "leave `permission` at \"allow\": the sandbox is the boundary",
                Isolation::Worktree =>
                    "--permission allow lets it do whatever you may do, or take the sandbox",
            },
            able.collect::<Vec<_>>().join(", ")
        )))
    }

    /// What would go wrong in a worktree is said now; the answer is what a person should know of it.
    fn check_worktree(
        &self,
        repository: &Repository,
        params: &TaskParams,
        config: &ProjectConfig,
    ) -> Result<Vec<String>, Problem> {
        worktrees::place(repository, config, &self.user_config()?, "task")?;
        let mut notices = vec![
            "worktree, no process isolation: what runs in it runs as you, with all that you may do"
                .to_owned(),
        ];
        if !params.allow.is_empty() || !config.egress.allow.is_empty() {
            notices.push("rules for hosts have no effect in a worktree: it has your own network".to_owned());
        }
        let declared = crate::services::read(repository.root())?;
        if let Err(problem) = boundary()
            && !declared.order().is_empty()
        {
            notices.push(format!("services.json is not started: {}", problem.message));
        }
        Ok(notices)
    }

    fn choose_agent(&self, params: &TaskParams, config: &ProjectConfig) -> Result<String, Problem> {
        let user = self.user_config()?;
        let path = params.search_path.clone().or_else(|| std::env::var("PATH").ok()).unwrap_or_default();
        let installed =
            |name: &str| self.inner.catalog.get(name).is_some_and(|d| self.located(d, &path).is_ok());
        let named = params.agent.clone().or(config.agent.default.clone()).or(user.agent.default.clone());
        let Some(name) = named else {
            let found = self.inner.catalog.iter().map(|d| d.name.clone()).find(|name| installed(name));
            return found.ok_or_else(|| {
                Problem::new(
                    ProblemKind::Unavailable,
                    "no_agent",
                    "no coding agent is installed on your PATH",
                )
                .hint("`offshoot agents` lists those that work and how to install them")
            });
        };
        let Some(definition) = self.inner.catalog.get(&name) else {
            let known = self.inner.catalog.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Problem::new(
                ProblemKind::NotFound,
                "unknown_agent",
                format!("there is no agent named {name:?}"),
            )
            .hint(format!("known are {known}; more can be defined in your config.toml")));
        };
        if !installed(&name) {
            return Err(Problem::new(
                ProblemKind::Unavailable,
                "agent_not_installed",
                format!("{} is not on your PATH", definition.title),
            )
            .hint(format!("install it with: {}", definition.install)));
        }
        Ok(name)
    }
}

/// A machine that cannot make environments is told so before a task is recorded that could only fail.
pub(crate) fn boundary() -> Result<(), Problem> {
    offshoot_sandbox::doctor::obstacle().map_err(|check| {
        let message = format!("no environment can be made on this machine: {}: {}", check.name, check.found);
        Problem::new(ProblemKind::Unavailable, "isolation_unavailable", message)
            .hint(format!("{}; `offshoot doctor` looks at everything", check.remedy.unwrap_or_default()))
    })
}

fn check_prompt(prompt: &str) -> Result<(), Problem> {
    if prompt.trim().is_empty() {
        return Err(Problem::new(ProblemKind::Invalid, "empty_prompt", "the prompt is empty")
            .hint("say what is to be done, as in: offshoot run \"add a date filter\""));
    }
    if prompt.len() > MAX_PROMPT {
        return Err(Problem::new(
            ProblemKind::Invalid,
            "prompt_too_long",
            format!(
                "the prompt has {} bytes; at most {MAX_PROMPT} can be handed to every agent",
                prompt.len()
            ),
        )
        .hint("put the long part into a file of the repository and name it in the prompt"));
    }
    Ok(())
}

/// The repositories that a draft is about, with their bases; each with what stands before what is said of it.
pub(crate) fn around(draft: Draft) -> Vec<(String, Repository, Oid)> {
    let mut all = vec![(String::new(), draft.repository, draft.base)];
    let worked_on = draft.asked.others.into_iter().filter(|other| !other.part.read_only);
    all.extend(worked_on.map(|o| (format!("{}: ", o.part.name), o.repository, o.base)));
    all
}

fn check_scope(scope: &[String]) -> Result<(), Problem> {
    Scope::new(scope).map(drop).map_err(|e| {
        Problem::new(ProblemKind::Invalid, "bad_scope", format!("the scope cannot be read: {e}"))
            .hint("patterns are as in .gitignore: 'src/api/**', 'docs', '*.md'")
    })
}

fn names(env: &[Variable]) -> Vec<String> {
    env.iter().map(|v| v.name.clone()).collect()
}

pub(crate) fn branch_exists(name: &TaskName) -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "branch_exists",
        format!("your repository has a branch {} already", name.branch()),
    )
    .hint("choose another name with --name, or delete that branch")
}

/// Brings the base of a task into the project's own objects.
pub(crate) fn exported(project: &Project, repository: &Repository, base: &Oid) -> Result<(), Problem> {
    project.objects.export(repository, base).map(drop).map_err(|e| match e {
        ExportError::PartialClone => Problem::new(
            ProblemKind::Unavailable,
            "partial_clone",
            "this is a partial clone: files may be missing that an environment needs",
        )
        .hint("fetch everything with `git fetch --refetch --no-filter`"),
        e => Problem::new(ProblemKind::Unavailable, "repository_unusable", offshoot_core::problem::chain(&e)),
    })
}

/// The commit to start from and the branch a landing goes to.
pub(crate) fn base(repository: &Repository, from: Option<&str>) -> Result<(Oid, Option<String>), Problem> {
    let head = repository.head();
    let unusable = |e: &dyn std::error::Error| {
        Problem::new(ProblemKind::Unavailable, "repository_unusable", offshoot_core::problem::chain(e))
    };
    let head = head.map_err(|e| unusable(&e))?;
    match from {
        None => {
            let commit = head.commit.ok_or_else(|| {
                Problem::new(ProblemKind::Conflict, "no_commit", "this repository has no commit yet")
                    .hint("a task starts from a commit: make a first one")
            })?;
            Ok((commit, head.branch))
        }
        Some(rev) => {
            let commit = repository.resolve(rev).map_err(|error| match error {
                ResolveError::UnknownRevision { rev, near } => {
                    let problem = Problem::new(
                        ProblemKind::NotFound,
                        "unknown_base",
                        format!("there is no branch, tag or commit {rev:?}"),
                    );
                    if near.is_empty() {
                        problem.hint("`git branch --all` lists what there is")
                    } else {
                        problem.hint(format!("did you mean {}?", near.join(" or ")))
                    }
                }
                error => unusable(&error),
            })?;
            let is_branch = repository.branch_commit(rev).is_ok_and(|commit| commit.is_some());
            Ok((commit, if is_branch { Some(rev.to_owned()) } else { head.branch }))
        }
    }
}

/// What the person should know about what the task starts from, as far as it is known at once.
fn notices(repository: &Repository, params: &TaskParams, config: &ProjectConfig) -> Vec<String> {
    let mut notices = Vec::new();
    if repository.is_shallow() {
        notices.push("your clone is shallow; the agent sees the same shortened history".to_owned());
    }
    if let Some(rule) = params.allow.iter().find(|r| matches!(r, offshoot_core::egress::EgressRule::Host(_)))
    {
        notices.push(format!("{rule}: the agent can reach that port of your machine"));
    }
    for (name, setup) in &config.setup {
        if setup.commands.is_empty() && !setup.key.is_empty() {
            notices.push(format!("[setup.{name}] names key files but no commands"));
        }
    }
    notices
}

impl TaskRef {
    /// Whether a record is meant.
    pub fn means(&self, record: &TaskRecord) -> bool {
        record.name.as_str() == self.task || record.id.to_string().starts_with(&self.task)
    }
}
