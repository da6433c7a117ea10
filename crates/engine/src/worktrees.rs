//! Tasks in worktrees of the user's repository, without a boundary: when they are, what they are made of, and how their
//! files come to be there. Everything else goes the way of all environments.
//!
//! Never chosen silently: by the caller, by the user's configuration, or by a project that the user lets choose.

mod files;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use offshoot_core::{
    agent::PermissionPolicy,
    config::{ProjectConfig, UserConfig},
    event::{EnvironmentCreating, Event},
    id::EnvironmentId,
    isolation::Isolation,
    lifecycle::EnvironmentState,
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_environment::{
    database::Part,
    layers::SetupRoom,
    lease::{Lease, LeaseError, Terms},
    sandbox::Sandbox,
    service::plan::Plan,
    tools::Tools,
    worktree::{
        EXCLUDE, Place, PlaceError, Runtime, beside,
        place::{self, From},
        variables::{self, Own},
    },
};
use offshoot_git::{oid::Oid, publish::publish, repository::Repository, worktree as git_worktree};
use offshoot_store::TaskFilter;

use crate::{
    clock,
    composition::{Common, Share},
    dispatch::boundary,
    engine::Engine,
    environments::{Live, lease_problem},
    project, services,
};

/// Places tried beside one that is taken.
const PLACES: u32 = 100;

/// What kind of environment a new task gets, by who says what.
pub(crate) fn isolation(
    asked: Option<Isolation>,
    config: &ProjectConfig,
    user: &UserConfig,
) -> Result<Isolation, Problem> {
    if let Some(asked) = asked {
        return Ok(asked);
    }
    match config.environment.isolation {
        Some(Isolation::Sandbox) => Ok(Isolation::Sandbox),
        Some(Isolation::Worktree) if user.worktree.from_project => Ok(Isolation::Worktree),
        Some(Isolation::Worktree) if user.environment.isolation == Some(Isolation::Worktree) => {
            Ok(Isolation::Worktree)
        }
        Some(Isolation::Worktree) => Err(Problem::new(
            ProblemKind::Invalid,
            "isolation_not_confirmed",
            "this project's offshoot.toml asks for worktrees, where an agent and the project's own commands run as you, without isolation; that takes your word",
        )
        .hint(
            "say --isolation worktree (or sandbox), or let projects choose with `[worktree] from-project = true` in your config.toml",
        )),
        None => Ok(user.environment.isolation.unwrap_or_default()),
    }
}

/// What permission requests get. Where nothing contains the agent, a person answers unless the user says otherwise; that
/// they are all said yes to is not the repository's to say there.
pub(crate) fn permission(
    isolation: Isolation,
    asked: Option<PermissionPolicy>,
    config: &ProjectConfig,
    user: &UserConfig,
) -> PermissionPolicy {
    let project = config.agent.permission;
    match isolation {
        Isolation::Sandbox => asked.or(project).or(user.agent.permission).unwrap_or_default(),
        Isolation::Worktree => {
            let project = project.filter(|policy| *policy != PermissionPolicy::Allow);
            asked.or(project).or(user.agent.permission).unwrap_or(PermissionPolicy::Ask)
        }
    }
}

/// Where a task's worktree goes: the user's word, else the project's, else beside the checkout.
pub(crate) fn place(
    repository: &Repository,
    config: &ProjectConfig,
    user: &UserConfig,
    task: &str,
) -> Result<PathBuf, Problem> {
    let root =
        repository.main_root().map_err(|e| project::git_problem("could not find the main checkout", &e))?;
    let (template, from) = match (&user.worktree.path, &config.worktree.path) {
        (Some(template), _) => (template.as_str(), From::User),
        (None, Some(template)) => (template.as_str(), From::Project),
        (None, None) => (place::DEFAULT, From::User),
    };
    place::resolve(template, from, &root, task).map_err(|e| {
        Problem::new(ProblemKind::Invalid, "bad_worktree_path", e.to_string())
            .hint(format!("set `[worktree] path`, for instance to {:?}", place::DEFAULT))
    })
}

/// The tier of isolation, as events tell it.
pub(crate) fn tier(lease: &Lease) -> String {
    match lease.worktree() {
        None => "T1".to_owned(),
        Some(_) => Isolation::Worktree.described().to_owned(),
    }
}

/// What stands in the way of a worktree, in a person's words.
pub(crate) fn place_problem(error: &PlaceError) -> Problem {
    use git_worktree::WorktreeError as W;
    let problem = |code: &str| Problem::new(ProblemKind::Conflict, code, chain(error));
    match error {
        PlaceError::Repository { .. } => problem("repository_unusable").hint(
            "was it moved? move it back, or mend it with `git worktree repair` there; the task's commits are in Offshoot's store",
        ),
        PlaceError::Gone { path } => problem("worktree_gone").hint(format!(
            "{} was taken away by somebody else; what was committed is on its branch",
            path.display()
        )),
        PlaceError::Git(W::CheckedOut { branch, worktree, present: true }) => problem("branch_checked_out").hint(format!(
            "switch {} to another branch, then go on; nothing was changed on {branch}",
            worktree.display()
        )),
        PlaceError::Git(W::CheckedOut { present: false, .. }) => problem("branch_checked_out")
            .hint("if that directory is gone for good, `git worktree prune` forgets it; if its disk is only not mounted, mount it"),
        PlaceError::Git(W::Locked { path, .. }) => problem("worktree_locked")
            .hint(format!("`git worktree unlock {}` takes the lock away; nothing was removed", path.display())),
        PlaceError::Git(W::Nested { within }) => problem("worktree_nested").hint(format!(
            "move or remove that one first (`git worktree remove {}`); nothing was removed",
            within.display()
        )),
        PlaceError::Git(W::Replaced { path }) => problem("worktree_replaced").hint(format!(
            "something else is at {} now; it was not touched. Move it away and try again",
            path.display()
        )),
        PlaceError::Git(W::Occupied { path } | W::Registered { path }) => problem("worktree_occupied")
            .hint(format!("move what is at {} away, or see `git worktree list`", path.display())),
        PlaceError::Git(W::Inside { .. }) => {
            problem("worktree_inside").hint("set `[worktree] path` to a place outside the checkout")
        }
        PlaceError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Problem::new(ProblemKind::Unavailable, "disk_full", "the disk is full")
        }
        PlaceError::Git(_) | PlaceError::Io { .. } => {
            problem("worktree_failed").hint("set `[worktree] path` if that place cannot be written to")
        }
    }
}

impl Engine {
    /// Decides what a new worktree is made of, and records it. Nothing is made in the repository yet.
    pub(crate) async fn make_worktree(&self, record: &TaskRecord) -> Result<EnvironmentId, Problem> {
        let inner = &self.inner;
        let run = record
            .run()
            .ok_or_else(|| Problem::new(ProblemKind::Conflict, "wrong_state", "the task has no run"))?;
        let id = EnvironmentId(clock::id());
        let (tools, _) = self.tools_of(record)?;
        let (told, network, nothing) = (self.telling(record), self.network(record.id), BTreeMap::new());
        let room = SetupRoom {
            tools: &tools,
            env: &nothing,
            limits: run.limits,
            egress: &run.egress,
            network: &network,
        };
        let common = Common { environment: id, room, told: &told, setups: false };
        let declared = services::read(Path::new(&record.root))?;
        let served = !declared.order().is_empty() && record.adopted.is_none() && boundary().is_ok();
        let mut shares: Vec<Share> = match served {
            true => self.services_share(record, &common).await?.into_iter().collect(),
            false => Vec::new(),
        };
        let (engine, of) = (self.clone(), record.clone());
        let (path, commit) = tokio::task::spawn_blocking(move || engine.find_place(&of))
            .await
            .map_err(|e| Problem::internal("making the worktree was interrupted", &e))??;
        let views = |share: &Share| {
            let plans: Vec<_> = share.plans.plans.iter().map(Plan::view).collect();
            plans.into_iter().chain(share.parts.iter().map(Part::view)).collect::<Vec<_>>()
        };
        let created = EnvironmentCreating {
            environment: id,
            base: commit.to_string(),
            setup: None,
            workspace: Some(path.to_string_lossy().into_owned()),
            services: shares.iter().flat_map(views).collect(),
        };
        inner.ledger.append(record.id, Some(run.id), vec![Event::EnvironmentCreating(created)])?;
        if let Err(problem) = self.with_parts(&common, &mut shares).await {
            return Err(self.never_made(record, run.id, id, problem).await?);
        }
        let terms = self.worktree_terms(record, id, &path, shares.pop(), tools.clone());
        let made = terms
            .and_then(|terms| Lease::create(&inner.layout, &inner.machine, terms).map_err(lease_problem));
        match made {
            Ok(_) => Ok(id),
            Err(problem) => Err(self.never_made(record, run.id, id, problem).await?),
        }
    }

    /// Where it goes, and the commit it starts from, which is in the user's repository then.
    fn find_place(&self, record: &TaskRecord) -> Result<(PathBuf, Oid), Problem> {
        let repository = project::repository_of(&record.root)?;
        let project = self.inner.projects.open(record.project, &repository)?;
        let (config, user) = (project::config(Path::new(&record.root))?, self.user_config()?);
        let start = record.head.as_ref().unwrap_or(&record.base);
        let commit: Oid = start.parse().map_err(|e| Problem::internal("the task's commit is not one", &e))?;
        if record.adopted.is_none() && record.head.as_ref().is_some_and(|head| *head != record.base) {
            // The branch may be gone, and the commit with it; the store has it.
            let there = repository.branch_commit(&record.branch);
            if matches!(there, Ok(None)) {
                publish(&project.objects, &repository, &record.branch, &commit, None)
                    .map_err(|e| Problem::new(ProblemKind::Conflict, "branch_not_restored", chain(&e)))?;
            }
        }
        let path = match &record.adopted {
            Some(path) => PathBuf::from(path),
            None => free_place(place(&repository, &config, &user, record.name.as_str())?)?,
        };
        Ok((path, commit))
    }

    fn worktree_terms(
        &self,
        record: &TaskRecord,
        id: EnvironmentId,
        path: &Path,
        share: Option<Share>,
        tools: Tools,
    ) -> Result<Terms, Problem> {
        let inner = &self.inner;
        let (repository, config) =
            (project::repository_of(&record.root)?, project::config(Path::new(&record.root))?);
        let limits = record.run().map_or(offshoot_core::config::DEFAULT_LIMITS, |run| run.limits);
        let (services, parts, layers) =
            share.map_or_else(Default::default, |share| (share.plans.plans, share.parts, share.stack.layers));
        let (port, ports) = self.worktree_ports(id, &config, &services)?;
        let exclude = inner.layout.environment(id).join(EXCLUDE);
        let mut env = beside::env(&services, &ports, &parts);
        env.extend(config.environment.env.clone());
        let own = Own {
            environment: id,
            task: record.name.as_str(),
            port,
            ports: &config.ports,
            env: &env,
            exclude: &exclude,
        };
        let host =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        // The daemon was started by somebody, at some time; who asks for this is asked what his session has.
        let session = inner.secrets.session(record.id).into_iter().map(|own| (own.name, own.value));
        let env = variables::all(host.chain(session), &inner.secrets.path(record.id), &own);
        Ok(Terms {
            environment: id,
            project: record.project,
            hostname: record.name.to_string(),
            workspace: path.to_owned(),
            base: record.head.clone().unwrap_or_else(|| record.base.clone()),
            branch: record.branch.clone(),
            layers,
            tools,
            binds: Vec::new(),
            env,
            egress: Vec::new(),
            others_asked: false,
            limits,
            services,
            ports,
            others: Vec::new(),
            parts,
            names: Vec::new(),
            shared: Vec::new(),
            runtime: Runtime::Worktree(Place {
                common_dir: repository.common_dir().to_owned(),
                path: path.to_owned(),
                adopted: record.adopted.is_some(),
            }),
        })
    }

    /// The sandbox with a worktree's services, if it has some.
    pub(crate) async fn beside(&self, lease: &Lease) -> Result<Option<Sandbox>, Problem> {
        let terms = lease.terms();
        let Some(place) = lease.worktree().filter(|_| !terms.services.is_empty()) else { return Ok(None) };
        let project = self.inner.projects.of_part(terms.project, &place.common_dir.to_string_lossy())?;
        let objects = project.objects.objects_dir();
        lease.up_beside(&self.inner.machine, &project.layers, &objects).await.map_err(lease_problem)
    }

    /// Starts what stands for a worktree's sandbox, checks its files out, and makes it ready to work in.
    pub(crate) async fn bring_up_worktree(&self, record: &TaskRecord, lease: Lease) -> Result<Live, Problem> {
        let (id, run) = (lease.terms().environment, record.run().map(|r| r.id));
        self.write_exclude(record, &lease)?;
        let (sandbox, took_us) = lease.up_in_worktree(&self.inner.machine).await.map_err(lease_problem)?;
        let stats = sandbox.stats().await.unwrap_or_default();
        let percent = lease.terms().limits.cpu_percent;
        let watched = |limit: &str| {
            !stats.hard.iter().any(|hard| hard == limit) && (limit != "cpu" || percent.is_some())
        };
        let mut soft_limits: Vec<String> = ["memory", "processes", "cpu"]
            .into_iter()
            .filter(|limit| watched(limit))
            .map(str::to_owned)
            .collect();
        // Only what differs from the commit is looked at; ignored files are the user's own affair.
        soft_limits.push("disk".to_owned());
        let tier = tier(&lease);
        let live = self.take_up(record.id, lease, sandbox).await?;
        self.files_there(record, &live).await?;
        let up = Event::EnvironmentUp { environment: id, tier, soft_limits, took_us };
        self.inner.ledger.append(record.id, run, vec![up])?;
        self.populated(record, &live).await?;
        Ok(live)
    }

    /// Says what stands against taking a task's environment away, before anything is recorded or deleted.
    pub(crate) fn removable(&self, record: &TaskRecord) -> Result<(), Problem> {
        let Some(environment) = record.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed)
        else {
            return Ok(());
        };
        match Lease::open(&self.inner.layout, environment.id).map(|lease| lease.removable()) {
            Ok(Err(LeaseError::Worktree(PlaceError::Repository { path, .. }))) if !path.exists() => Ok(()),
            Ok(Err(error)) => Err(lease_problem(error)),
            _ => Ok(()),
        }
    }

    /// The collection of garbage that was held back in a repository while worktrees of it were at work, if none is left.
    pub(crate) fn collect_later(&self, record: &TaskRecord) {
        if record.isolation != Isolation::Worktree {
            return;
        }
        let filter = TaskFilter { project: Some(record.project), include_done: true };
        let tasks = self.inner.ledger.store().tasks(&filter, usize::MAX).unwrap_or_default();
        let at_work = tasks.iter().any(|task| {
            let left = task.environment.as_ref().is_some_and(|e| e.state != EnvironmentState::Removed);
            task.id != record.id && task.isolation == Isolation::Worktree && left
        });
        if at_work {
            return;
        }
        let root = record.root.clone();
        tokio::task::spawn_blocking(move || {
            let Ok(repository) = project::repository_of(&root) else { return };
            if let Err(error) = git_worktree::collect(&repository) {
                tracing::info!(error = %chain(&error), "no collection of garbage");
            }
        });
    }
}

/// The place, or one beside it if that is taken.
fn free_place(wanted: PathBuf) -> Result<PathBuf, Problem> {
    let parent = wanted.parent().unwrap_or(Path::new("/"));
    let name = wanted.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |e: std::io::Error| {
        Problem::new(
            ProblemKind::Unavailable,
            "worktree_failed",
            format!("worktrees cannot be made in {}: {e}", parent.display()),
        )
        .hint("set `[worktree] path` to a place that you may write to")
    };
    fs::create_dir_all(parent).map_err(failed)?;
    // As git will write it down.
    let parent = fs::canonicalize(parent).map_err(failed)?;
    let numbered = (2..PLACES).map(|n| format!("{name}-{n}"));
    let mut places = std::iter::once(name.clone()).chain(numbered).map(|name| parent.join(name));
    places.find(|path| fs::symlink_metadata(path).is_err()).ok_or_else(|| {
        Problem::new(
            ProblemKind::Conflict,
            "worktree_occupied",
            format!("{} and {PLACES} more places beside it exist already", parent.join(&name).display()),
        )
    })
}
