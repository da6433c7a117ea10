//! What a new environment is made of: the files of each of its repositories with their setups, the services that those say
//! they need, and what it shares with others. Worked out and recorded before anything of it exists.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use offshoot_core::{
    config::ProjectConfig,
    egress::EgressRule,
    event::{EnvironmentCreating, Event},
    id::{EnvironmentId, ProjectId, RunId, TaskId},
    isolation::Isolation,
    lifecycle::TaskState,
    problem::{Problem, ProblemKind},
    record::TaskRecord,
    service::Services,
};
use offshoot_environment::{
    database::{Part, Seeding},
    layers::{Author, CheckoutPlan, Progress, Served, Setup, SetupRoom, Stack},
    lease::{self, Lease, Terms},
    other::Other,
    service::plan::{Plan, Plans},
    tools::Tools,
    worktree::Runtime,
};
use offshoot_git::oid::Oid;
use offshoot_sandbox::Listener;

use crate::{
    clock,
    databases::{self, Group},
    declared::{self, Declared},
    engine::Engine,
    environments::{layer_problem, lease_problem},
    others::about,
    project::{self, Project},
    proxy, services,
};

/// One of a task's repositories, as its record has it.
struct Of<'a> {
    /// What it is called beside the others; empty for the main one.
    name: &'a str,
    id: ProjectId,
    root: &'a str,
    base: &'a str,
    head: Option<&'a String>,
    target: Option<&'a String>,
    read_only: bool,
}

/// One of a new environment's repositories: its files, and what runs beside them.
pub(crate) struct Share {
    name: String,
    id: ProjectId,
    project: Project,
    from: CheckoutPlan,
    pub stack: Stack,
    /// What it is for: looked at only?
    read_only: bool,
    pub plans: Plans,
    pub parts: Vec<Part>,
    config: ProjectConfig,
}

impl Share {
    /// Variables that its own setups have, and its services' seeds.
    fn room_env(&self) -> BTreeMap<String, String> {
        // What the project says itself wins over what its services say.
        let mut env = self.plans.env.clone();
        env.extend(self.config.environment.env.clone());
        env
    }

    /// Variables of its own apps.
    fn env(&self) -> BTreeMap<String, String> {
        let mut env: BTreeMap<_, _> = self.parts.iter().flat_map(Part::env).collect();
        env.extend(self.room_env());
        env
    }
}

/// The repositories of a task, the main one first, then the others in their order.
fn repositories(record: &TaskRecord) -> impl Iterator<Item = Of<'_>> {
    let main = Of {
        name: "",
        id: record.project,
        root: &record.root,
        base: &record.base,
        head: record.head.as_ref(),
        target: record.target.as_ref(),
        read_only: false,
    };
    let others = record.others.iter().map(|other| Of {
        name: &other.name,
        id: other.project,
        root: &other.root,
        base: &other.base,
        head: other.head.as_ref(),
        target: other.target.as_ref(),
        read_only: other.read_only,
    });
    std::iter::once(main).chain(others)
}

/// What the shares of one environment have in common.
pub(crate) struct Common<'a> {
    pub environment: EnvironmentId,
    pub room: SetupRoom<'a>,
    pub told: Progress<'a>,
    /// Whether setups are layers, as they are where a workspace stands on layers.
    pub setups: bool,
}

impl Engine {
    /// Decides what a new environment is made of, records it, and makes its directory.
    pub(crate) async fn make(&self, record: &TaskRecord) -> Result<EnvironmentId, Problem> {
        let inner = &self.inner;
        if record.isolation == Isolation::Worktree {
            return self.make_worktree(record).await;
        }
        let run = record
            .run()
            .ok_or_else(|| Problem::new(ProblemKind::Conflict, "wrong_state", "the task has no run"))?;
        let (tools, binds) = self.tools_of(record)?;
        let id = EnvironmentId(clock::id());
        let told = self.telling(record);
        let network = self.network(record.id);
        let nothing = BTreeMap::new();
        let room = SetupRoom {
            tools: &tools,
            env: &nothing,
            limits: run.limits,
            egress: &run.egress,
            network: &network,
        };
        let common = Common { environment: id, room, told: &told, setups: true };
        let mut shares: Vec<Share> = Vec::new();
        for of in repositories(record) {
            let name = of.name;
            let share = self.share(&of, &common, &shares).await.map_err(|problem| about(name, problem))?;
            shares.push(share);
        }
        let now = inner.ledger.task(record.id)?.state;
        if matches!(now, TaskState::Landed | TaskState::Discarded) {
            // While that was under way, for which nobody waits any more.
            let gone = format!("{} is {}", record.name, now.word());
            return Err(Problem::new(ProblemKind::Conflict, "environment_gone", gone));
        }
        let plans: Vec<Plan> = shares.iter().flat_map(|share| share.plans.plans.clone()).collect();
        let Some(main) = shares.first() else {
            return Err(Problem::new(ProblemKind::Failed, "wrong_state", "the task has no repository"));
        };
        let apps = declared::apps(record)?;
        let listening: Vec<_> =
            apps.iter().filter_map(|(name, app)| Some((name.clone(), app.config.port?))).collect();
        let mut own = main.room_env();
        let ports = self.reserve_ports(id, &main.config.ports, &listening, &plans, &mut own)?;
        let shared = self.shared_of(record, &main.config, &declared::names(&declared::of(record)?)?)?;
        let views = plans.iter().map(Plan::view).chain(shares.iter().flat_map(|s| &s.parts).map(Part::view));
        inner.ledger.append(
            record.id,
            Some(run.id),
            vec![Event::EnvironmentCreating(EnvironmentCreating {
                environment: id,
                base: main.from.commit.to_string(),
                setup: main.stack.setup(),
                workspace: None,
                services: views.collect(),
            })],
        )?;
        if let Err(problem) = self.with_parts(&common, &mut shares).await {
            return Err(self.never_made(record, run.id, id, problem).await?);
        }
        // The main repository's word is the last for what every process inside has.
        let mut env = BTreeMap::new();
        shares.iter().skip(1).rev().for_each(|share| env.extend(share.env()));
        env.extend(shares.iter().take(1).flat_map(Share::env));
        env.extend(own);
        let parts = shares.iter().flat_map(|share| share.parts.clone()).collect();
        let mut shares = shares.into_iter();
        let main = shares
            .next()
            .ok_or_else(|| Problem::new(ProblemKind::Failed, "wrong_state", "the task has no repository"))?;
        let others = shares.map(|share| Other {
            env: share.env(),
            name: share.name,
            project: share.id,
            base: share.from.commit.to_string(),
            workspace: share.from.workspace,
            branch: (!share.read_only).then(|| record.branch.clone()),
            layers: share.stack.layers,
        });
        let terms = Terms {
            environment: id,
            project: record.project,
            hostname: record.name.to_string(),
            workspace: main.from.workspace.clone(),
            base: main.from.commit.to_string(),
            branch: record.branch.clone(),
            layers: main.stack.layers.clone(),
            tools,
            binds,
            env,
            egress: run.egress.clone(),
            others_asked: self.others_asked(record)?,
            limits: run.limits,
            runtime: Runtime::Sandbox,
            services: plans,
            ports,
            others: others.collect(),
            parts,
            names: listening.into_iter().map(|(name, _)| name).collect(),
            shared,
        };
        if let Err(error) = Lease::create(&inner.layout, &inner.machine, terms) {
            return Err(self.never_made(record, run.id, id, lease_problem(error)).await?);
        }
        Ok(id)
    }

    /// The network of builders' sandboxes.
    pub(crate) fn network(
        &self,
        task: TaskId,
    ) -> impl Fn(Vec<Listener>, &[EgressRule]) -> std::io::Result<Served> + Send + Sync + use<> {
        let ledger = self.inner.ledger.clone();
        move |listeners, rules| {
            let served =
                proxy::serve(ledger.clone(), task, listeners, rules, None).map_err(std::io::Error::other)?;
            Ok(Box::new(served))
        }
    }

    /// The main repository of a task, whose files are in a worktree: its services and what they stand on.
    pub(crate) async fn services_share(
        &self,
        record: &TaskRecord,
        common: &Common<'_>,
    ) -> Result<Option<Share>, Problem> {
        match repositories(record).next() {
            Some(of) => self.share(&of, common, &[]).await.map(Some),
            None => Ok(None),
        }
    }

    /// The person's tools, and the agent's own directories.
    pub(crate) fn tools_of(&self, record: &TaskRecord) -> Result<(Tools, Vec<PathBuf>), Problem> {
        let inner = &self.inner;
        let user = self.user_config()?;
        let named: Vec<_> = user.tools.directories.iter().map(PathBuf::from).collect();
        let path = inner.secrets.path(record.id);
        let mut tools = Tools::find(&path, &inner.machine.home, &named);
        let mut binds = Vec::new();
        if let Some(definition) = record.agent.as_deref().and_then(|a| inner.catalog.get(a))
            && let Ok(located) = self.located(definition, &path)
        {
            binds = located.binds;
            for dir in located
                .path_dirs
                .into_iter()
                .rev()
                .filter(|dir| !tools.path.contains(dir))
                .collect::<Vec<_>>()
            {
                tools.path.insert(0, dir);
            }
        }
        Ok((tools, binds))
    }

    /// One repository's files with its setup, and its services with their first data, all of them made if missing.
    async fn share(&self, of: &Of<'_>, common: &Common<'_>, before: &[Share]) -> Result<Share, Problem> {
        let project = self.inner.projects.of_part(of.id, of.root)?;
        let start = of.head.map_or(of.base, String::as_str);
        let commit: Oid = start.parse().map_err(|e| Problem::internal("the task's commit is not one", &e))?;
        if of.head.is_some() {
            // What a run left is not shown to other runs, unless one starts from it.
            let (objects, commit) = (project.objects.clone(), commit.clone());
            tokio::task::spawn_blocking(move || objects.offer(&commit))
                .await
                .map_err(|e| Problem::internal("preparing the commit was interrupted", &e))?
                .map_err(|e| project::git_problem("the task's commit could not be prepared", &e))?;
        }
        let root = Path::new(of.root);
        let declared = match of.read_only {
            false => Declared::read("", root)?,
            true => Declared {
                root: root.to_owned(),
                config: project::config(root)?,
                services: Services::default(),
            },
        };
        let config = declared.config;
        let author = of.root.to_owned();
        let from = CheckoutPlan {
            commit,
            workspace: PathBuf::from(of.root),
            branch: of.target.cloned(),
            author: Author::new(move || project::author(&author)),
            of_run: project::is_of_run(of.head.map(String::as_str), of.target.map(String::as_str)),
        };
        let setups = Setup::all(config.setup.iter().filter(|_| common.setups));
        let prefix = if of.name.is_empty() { String::new() } else { format!("{}: ", of.name) };
        let told = |step: &str| (common.told)(&format!("{prefix}{step}"));
        let count = before.iter().map(|share| share.plans.plans.len() + share.parts.len()).sum();
        let taken: Vec<u16> = before
            .iter()
            .flat_map(|share| &share.plans.plans)
            .flat_map(|plan| plan.service.listens())
            .collect();
        let mut parts = self.parts(&declared.services, common.environment, count)?;
        let place = services::Beside {
            before: count,
            taken: &taken,
            workspace: Some(root).filter(|_| !of.name.is_empty()),
        };
        let tools = common.room.tools;
        let mut plans =
            services::plans(&declared.services, root, tools, &self.inner.images, &place, &told).await?;
        let mut env = plans.env.clone();
        env.extend(config.environment.env.clone());
        let room = SetupRoom { env: &env, ..common.room };
        let layers = &project.layers;
        let stack = layers
            .with_setups(&project.objects, &from, &setups, &room, &told)
            .await
            .map_err(layer_problem)?;
        layers
            .with_data(&project.objects, &from, &stack, &mut plans, &room, &told)
            .await
            .map_err(services::data_problem)?;
        if !parts.is_empty() {
            let seeding = Seeding {
                store: &project.objects,
                from: &from,
                stack: &stack,
                room,
                register: &self.inner.databases,
                serve: &databases::door,
                progress: &told,
            };
            self.with_templates(layers, &mut parts, &seeding).await?;
        }
        let (name, id, read_only) = (of.name.to_owned(), of.id, of.read_only);
        Ok(Share { name, id, project, from, stack, read_only, plans, parts, config })
    }

    /// Makes what a recorded environment has on shared servers.
    pub(crate) async fn with_parts(&self, common: &Common<'_>, shares: &mut [Share]) -> Result<(), Problem> {
        let envs: Vec<_> = shares.iter().map(Share::room_env).collect();
        let groups = shares.iter_mut().zip(&envs).map(|(share, env)| Group {
            parts: &mut share.parts,
            layers: &share.project.layers,
            seeding: Seeding {
                store: &share.project.objects,
                from: &share.from,
                stack: &share.stack,
                room: SetupRoom { env, ..common.room },
                register: &self.inner.databases,
                serve: &databases::door,
                progress: common.told,
            },
        });
        self.make_parts(common.environment, groups.collect()).await
    }

    /// Records what takes a while, as a run's own preparation.
    pub(crate) fn telling(&self, record: &TaskRecord) -> impl Fn(&str) + Send + Sync + use<> {
        let (ledger, task, run) = (self.inner.ledger.clone(), record.id, record.run().map(|run| run.id));
        move |step: &str| {
            let event = Event::Preparing { step: step.to_owned() };
            if let Err(problem) = ledger.append(task, run, vec![event]) {
                tracing::warn!(%problem, "could not record progress");
            }
        }
    }

    /// Takes away what was begun of an environment that could not be made; hands the problem back.
    pub(crate) async fn never_made(
        &self,
        record: &TaskRecord,
        run: RunId,
        id: EnvironmentId,
        problem: Problem,
    ) -> Result<Problem, Problem> {
        let reason = format!("it could not be made: {}", problem.message);
        let removed = Event::EnvironmentRemoved { environment: id, reason };
        self.inner.ledger.append(record.id, Some(run), vec![removed])?;
        if let Err(error) = lease::discard_dir(&self.inner.layout, id) {
            tracing::warn!(%error, environment = %id, "could not delete a half-made environment");
        }
        self.drop_parts(&id.to_string()).await;
        Ok(problem)
    }
}
