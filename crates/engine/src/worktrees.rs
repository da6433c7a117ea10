//! Tasks in worktrees of the user's repository, without a boundary: when they are, what they are made of, and how their
//! files come to be there. Everything else goes the way of all environments.
//!
//! Never chosen silently: by the caller, by the user's configuration, or by a project that the user lets choose.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use offshoot_core::{
    agent::PermissionPolicy,
    config::{ProjectConfig, UserConfig},
    event::{EnvironmentCreating, Event},
    fault,
    id::EnvironmentId,
    isolation::Isolation,
    lifecycle::EnvironmentState,
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_environment::{
    lease::{Lease, LeaseError, Terms},
    machine::{self, Command},
    tools::Tools,
    worktree::{
        EXCLUDE, Place, PlaceError, Runtime, copy,
        place::{self, From},
        variables::{self, Own},
    },
};
use offshoot_git::{inside, oid::Oid, publish::publish, repository::Repository, worktree as git_worktree};
use offshoot_sandbox::Exit;
use offshoot_store::TaskFilter;

use crate::{
    clock,
    engine::Engine,
    environments::{Live, lease_problem},
    project,
};

/// How long git may take to check out a large tree.
const CHECKOUT: u64 = 1800;
/// How long one setup command may take.
const SETUP: u64 = 3600;
/// The file for variables if nobody says otherwise: the one that most tools read last, and most projects ignore.
const ENV_FILE: &str = ".env.local";
/// A file of patterns: which ignored files of the main checkout a worktree needs.
const INCLUDE: &str = ".worktreeinclude";
/// File in a lease's directory that says that a worktree is ready to work in.
const POPULATED: &str = "populated";
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
        let (engine, record) = (self.clone(), record.clone());
        tokio::task::spawn_blocking(move || engine.describe_worktree(&record))
            .await
            .map_err(|e| Problem::internal("making the worktree was interrupted", &e))?
    }

    fn describe_worktree(&self, record: &TaskRecord) -> Result<EnvironmentId, Problem> {
        let inner = &self.inner;
        let run = record
            .run()
            .ok_or_else(|| Problem::new(ProblemKind::Conflict, "wrong_state", "the task has no run"))?;
        let repository = project::repository_of(&record.root)?;
        let project = inner.projects.open(record.project, &repository)?;
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
        let id = EnvironmentId(clock::id());
        let created = EnvironmentCreating {
            environment: id,
            base: commit.to_string(),
            setup: None,
            workspace: Some(path.to_string_lossy().into_owned()),
            services: Vec::new(),
        };
        inner.ledger.append(record.id, Some(run.id), vec![Event::EnvironmentCreating(created)])?;
        let terms = self.worktree_terms(record, id, &path, &repository, &config);
        let made = terms
            .and_then(|terms| Lease::create(&inner.layout, &inner.machine, terms).map_err(lease_problem));
        if let Err(problem) = made {
            let reason = format!("it could not be made: {}", problem.message);
            let removed = Event::EnvironmentRemoved { environment: id, reason };
            inner.ledger.append(record.id, Some(run.id), vec![removed])?;
            if let Err(error) = offshoot_environment::lease::discard_dir(&inner.layout, id) {
                tracing::warn!(%error, environment = %id, "could not delete a half-made environment");
            }
            return Err(problem);
        }
        Ok(id)
    }

    fn worktree_terms(
        &self,
        record: &TaskRecord,
        id: EnvironmentId,
        path: &Path,
        repository: &Repository,
        config: &ProjectConfig,
    ) -> Result<Terms, Problem> {
        let inner = &self.inner;
        let limits = record.run().map_or(offshoot_core::config::DEFAULT_LIMITS, |run| run.limits);
        let (port, ports) = self.worktree_ports(id, config)?;
        let exclude = inner.layout.environment(id).join(EXCLUDE);
        let own = Own {
            environment: id,
            task: record.name.as_str(),
            port,
            ports: &config.ports,
            env: &config.environment.env,
            exclude: &exclude,
        };
        let host =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Ok(Terms {
            environment: id,
            project: record.project,
            hostname: record.name.to_string(),
            workspace: path.to_owned(),
            base: record.head.clone().unwrap_or_else(|| record.base.clone()),
            branch: record.branch.clone(),
            layers: Vec::new(),
            tools: Tools::default(),
            binds: Vec::new(),
            env: variables::all(host, &inner.secrets.path(record.id), &own),
            egress: Vec::new(),
            limits,
            services: Vec::new(),
            ports,
            others: Vec::new(),
            parts: Vec::new(),
            names: Vec::new(),
            shared: Vec::new(),
            runtime: Runtime::Worktree(Place {
                common_dir: repository.common_dir().to_owned(),
                path: path.to_owned(),
                adopted: record.adopted.is_some(),
            }),
        })
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

    /// What git in the worktree ignores besides what the project says: as the user has it, and what is generated.
    fn write_exclude(&self, record: &TaskRecord, lease: &Lease) -> Result<(), Problem> {
        let repository = project::repository_of(&record.root)?;
        let own = repository.user_ignore_file().and_then(|file| fs::read(file).ok()).unwrap_or_default();
        let mut text = own;
        text.extend_from_slice(b"\n# offshoot\n");
        if let Some(file) = self.env_file(record)? {
            text.extend_from_slice(format!("/{}\n", file.display()).as_bytes());
        }
        let definition = record.agent.as_deref().and_then(|agent| self.inner.catalog.get(agent));
        for pattern in definition.map(|d| d.git_exclude.clone()).unwrap_or_default() {
            text.extend_from_slice(format!("{pattern}\n").as_bytes());
        }
        fs::write(lease.dir().join(EXCLUDE), text)
            .map_err(|e| Problem::internal("could not write the list of ignored files", &e))
    }

    /// The file for variables, if there is to be one.
    fn env_file(&self, record: &TaskRecord) -> Result<Option<PathBuf>, Problem> {
        let (config, user) = (project::config(Path::new(&record.root))?, self.user_config()?);
        let wanted =
            user.worktree.env_file.or(config.worktree.env_file).unwrap_or_else(|| ENV_FILE.to_owned());
        if wanted.is_empty() || record.adopted.is_some() {
            return Ok(None);
        }
        variables::file_name(&wanted).map(Some).ok_or_else(|| {
            Problem::new(
                ProblemKind::Invalid,
                "bad_env_file",
                format!("{wanted:?} cannot be the file for variables: it has to be within the worktree"),
            )
        })
    }

    /// Sees to it that the commit's files are in the worktree; a sandbox has them by its layers.
    pub(crate) async fn files_there(&self, record: &TaskRecord, live: &Live) -> Result<(), Problem> {
        if live.lease.is_checked_out() {
            return Ok(());
        }
        self.tell(record, format!("checking out {}", short(&live.lease.terms().base)));
        self.report(live, "checkout", inside::worktree_checkout(), CHECKOUT).await?;
        fault::point("worktree.files");
        live.lease.checked_out().map_err(|e| Problem::internal("could not note the checkout", &e))
    }

    /// Brings in what a fresh checkout lacks: ignored files of the main checkout, variables, what the setup commands make.
    pub(crate) async fn populated(&self, record: &TaskRecord, live: &Live) -> Result<(), Problem> {
        let Some(place) = live.lease.worktree() else { return Ok(()) };
        let marker = live.lease.dir().join(POPULATED);
        if place.adopted || marker.exists() {
            return Ok(());
        }
        let (engine, of, path, lease) =
            (self.clone(), record.clone(), place.path.clone(), live.lease.clone());
        let told = tokio::task::spawn_blocking(move || {
            let told = copy_included(&of, &path)?;
            engine.write_env_file(&of, &path, &lease)?;
            Ok::<_, Problem>(told)
        })
        .await
        .map_err(|e| Problem::internal("preparing the worktree was interrupted", &e))??;
        if let Some(told) = told {
            self.tell(record, told);
        }
        for setup in project::config(Path::new(&record.root))?.setup.into_values() {
            for command in setup.commands {
                self.tell(record, command.clone());
                self.set_up(live, &command).await?;
            }
        }
        fs::write(&marker, "").map_err(|e| Problem::internal("could not note that the worktree is ready", &e))
    }

    async fn set_up(&self, live: &Live, command: &str) -> Result<(), Problem> {
        let path = live.lease.dir().join("setup.log");
        let failed = |e: std::io::Error| Problem::internal("could not keep the setup's output", &e);
        let file = fs::File::create(&path).map_err(failed)?;
        let both = file.try_clone().map_err(failed)?;
        let argv = ["sh", "-c", command].map(str::to_owned).to_vec();
        let id = format!("setup-{}", clock::id());
        let ran = Command { id, argv, env: BTreeMap::new(), seconds: SETUP };
        let said = match machine::run_inside(&live.sandbox, ran, file, both).await {
            Ok(Exit::Code(0)) => return Ok(()),
            Ok(exit) => format!("{command:?} ended with {exit:?}"),
            Err(error) => chain(&error),
        };
        let end = crate::run::tail(&path, 4000).unwrap_or_default();
        Err(Problem::new(ProblemKind::Failed, "setup_failed", format!("the setup could not be made: {said}"))
            .hint("run the command yourself to see more, or change [setup] in offshoot.toml")
            .detail(String::from_utf8_lossy(&end)))
    }

    fn write_env_file(&self, record: &TaskRecord, path: &Path, lease: &Lease) -> Result<(), Problem> {
        let Some(name) = self.env_file(record)? else { return Ok(()) };
        let file = path.join(&name);
        let failed = |e: std::io::Error| Problem::internal("could not write the file for variables", &e);
        let there = match fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(failed)?,
        };
        if !there.is_empty() && is_tracked(lease, path, &name) {
            self.tell(
                record,
                format!("{} is committed, so PORT and the like are not written there", name.display()),
            );
            return Ok(());
        }
        let config = project::config(Path::new(&record.root))?;
        let terms = lease.terms();
        let own = Own {
            environment: terms.environment,
            task: record.name.as_str(),
            port: terms.env.get("PORT").and_then(|port| port.parse().ok()),
            ports: &config.ports,
            env: &config.environment.env,
            exclude: Path::new(""),
        };
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(&file, variables::file_text(&there, &variables::in_file(&own))).map_err(failed)?;
        if !git_worktree::is_ignored(path, &name).unwrap_or(true) {
            self.tell(
                record,
                format!("{0} is kept out of commits made here; add it to .gitignore, so that tools started elsewhere do not offer to commit it", name.display()),
            );
        }
        Ok(())
    }

    fn tell(&self, record: &TaskRecord, step: String) {
        let run = record.run().map(|r| r.id);
        if let Err(problem) = self.inner.ledger.append(record.id, run, vec![Event::Preparing { step }]) {
            tracing::warn!(%problem, "could not record progress");
        }
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

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
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

/// Copies what `.worktreeinclude` of the main checkout names. What was done, in words, if anything was.
fn copy_included(record: &TaskRecord, path: &Path) -> Result<Option<String>, Problem> {
    let git = |e| project::git_problem("the files to copy could not be listed", &e);
    let repository = project::repository_of(&record.root)?;
    let root = repository.main_root().map_err(git)?;
    let list = root.join(INCLUDE);
    if repository.is_bare() || !list.is_file() {
        return Ok(None);
    }
    let main = project::discover(&root)?;
    let (paths, more) = git_worktree::included(&main, &list).map_err(git)?;
    let copied = copy::files(&root, path, &paths)
        .map_err(|e| Problem::internal("could not copy ignored files of the checkout", &e))?;
    let mut told = format!("copied {} files named in {INCLUDE}", copied.files);
    if copied.shared > 0 {
        told.push_str(&format!(", {} KiB by reflink (no space taken)", copied.shared >> 10));
    }
    if copied.bytes > 0 {
        told.push_str(&format!(", {} KiB as bytes", copied.bytes >> 10));
    }
    if copied.too_much > 0 || more {
        told.push_str(&format!(
            "; {} left out: more than {} MiB, and this file system has no reflinks",
            copied.too_much,
            copy::MAX_BYTES >> 20
        ));
    }
    Ok(Some(told))
}

/// Whether git has the file in its index.
fn is_tracked(lease: &Lease, path: &Path, name: &Path) -> bool {
    let git_dir = lease.git_variables().remove(inside::GIT_DIR_VARIABLE);
    git_dir.is_some_and(|git_dir| git_worktree::is_tracked(path, Path::new(&git_dir), name).unwrap_or(true))
}
