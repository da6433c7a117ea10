//! Environments' parts of shared servers: which server is meant, making a part and leading there, dropping it with the
//! environment, or later where the server is away.
//!
//! Invariants: what is about to be made is in the register first; what is in the register and belongs to no environment
//! that is there is dropped, again and again until the server has said so; nobody waits for that. The servers' own logins
//! are read from the user's configuration when they are needed and kept nowhere.

use std::{collections::BTreeSet, io, net::TcpListener, os::fd::OwnedFd, time::Duration};

use offshoot_core::{
    api::Reasoned,
    config::UserConfig,
    fault,
    id::{EnvironmentId, TaskId},
    lifecycle::{EnvironmentState, ServiceState},
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
    service::{DataIsolation, Services},
};
use offshoot_environment::{
    database::{self, Fault, Kind, Leased, Part, PartError, SeedError, Seeding, Server, ServerError, What},
    layers::{Layers, Served},
    lease::Lease,
    service::supervise::{Failure, Told},
};
use offshoot_gateway::{Door, Guest};
use offshoot_sandbox::{Listener, ListenerKind};
use offshoot_store::TaskFilter;
use tokio::{sync::watch, task::AbortHandle};

use crate::{engine::Engine, services};

/// How often it is tried to drop what is left on servers that were away.
const AGAIN: Duration = Duration::from_secs(60);
/// How long a server may be away when an environment's processes come up: it may be starting, too.
const UP: Duration = Duration::from_secs(10);
/// Pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// The ways to an environment's parts. Dropping it closes them.
pub struct Parts {
    _doors: Vec<Door>,
    /// The first that cannot be used and is waited for, once all were looked at.
    looked: watch::Receiver<Option<Result<(), Problem>>>,
    looking: AbortHandle,
}

/// The parts that one repository asks for, and what seeding them needs.
pub(crate) struct Group<'a> {
    pub parts: &'a mut Vec<Part>,
    pub layers: &'a Layers,
    pub seeding: Seeding<'a>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl Parts {
    /// Waits until every part was logged in to; the problem of the first that is waited for and cannot be.
    pub async fn ready(&self) -> Result<(), Problem> {
        let mut looked = self.looked.clone();
        let found = looked.wait_for(Option::is_some).await.ok().and_then(|found| found.clone());
        found.unwrap_or(Ok(()))
    }
}

/// Leads a listener of a sandbox to a part.
pub(crate) fn door(listener: OwnedFd, part: &Part) -> io::Result<Served> {
    Ok(Box::new(lead(listener, part)?))
}

fn lead(listener: OwnedFd, part: &Part) -> io::Result<Door> {
    let guest = match part.kind {
        Kind::Postgres => Guest::Postgres { user: part.user.clone(), database: part.database.clone() },
        Kind::Mysql => Guest::Mysql,
        Kind::Redis => Guest::Redis {
            user: part.user.clone(),
            password: part.password.clone(),
            number: part.database.parse().map_err(io::Error::other)?,
        },
    };
    Door::serve(TcpListener::from(listener), &part.host, part.host_port, guest).map_err(io::Error::other)
}

impl Engine {
    fn server(&self, user: &UserConfig, name: &str) -> Result<Server, Problem> {
        let file = self.inner.options.user_config.display().to_string();
        let Some((_, config)) = user.servers.iter().find(|(known, _)| known.as_str() == name) else {
            return Err(Problem::new(
                ProblemKind::Invalid,
                "server_unknown",
                format!("no shared server is called {name:?}"),
            )
            .hint(format!("say where it is: [servers.{name}] with its url, in {file}")));
        };
        Server::parse(name, &config.url).map_err(|error| {
            let message = format!("the url of the shared server {name} cannot be used: {error}");
            Problem::new(ProblemKind::Invalid, "bad_server", message)
                .hint(format!("mend [servers.{name}] in {file}"))
        })
    }

    /// What a new environment has on shared servers. Nothing exists by that yet.
    /// `before` services of other repositories come first there.
    pub(crate) fn parts(
        &self,
        services: &Services,
        id: EnvironmentId,
        before: usize,
    ) -> Result<Vec<Part>, Problem> {
        let (own, shared): (Vec<_>, Vec<_>) =
            services.order().into_iter().partition(|service| service.isolation == DataIsolation::Server);
        if shared.is_empty() {
            return Ok(Vec::new());
        }
        let user = self.user_config()?;
        let numbered = shared.into_iter().zip(before + own.len()..);
        numbered
            .map(|(service, at)| {
                let name = service.server.as_ref().map(ToString::to_string).unwrap_or_default();
                let server = self.server(&user, &name)?;
                Part::new(service, id, &server, at).map_err(|error| part_problem(&error))
            })
            .collect()
    }

    /// Sees to it that the templates of parts are there.
    pub(crate) async fn with_templates(
        &self,
        layers: &Layers,
        parts: &mut [Part],
        seeding: &Seeding<'_>,
    ) -> Result<(), Problem> {
        let user = self.user_config()?;
        for part in parts {
            let server = self.server(&user, &part.server)?;
            part.template = layers.with_template(&server, part, seeding).await.map_err(seed_problem)?;
        }
        Ok(())
    }

    /// Makes an environment's parts, which the log has as being made.
    pub(crate) async fn make_parts(&self, id: EnvironmentId, groups: Vec<Group<'_>>) -> Result<(), Problem> {
        let leased: Vec<Leased> = groups.iter().flat_map(|group| &*group.parts).map(Part::leased).collect();
        if leased.is_empty() {
            return Ok(());
        }
        let noted = self.inner.databases.note(&id.to_string(), &leased);
        noted.map_err(|e| Problem::internal("could not note what is begun on a shared server", &e))?;
        fault::point("database.noted");
        let user = self.user_config()?;
        for Group { parts, layers, seeding } in groups {
            for part in parts {
                let server = self.server(&user, &part.server)?;
                let template = part.template.clone();
                database::make(&server, part, template.as_deref()).await.map_err(|e| server_problem(&e))?;
                if template.is_none() {
                    layers.seed(part, &seeding).await.map_err(seed_problem)?;
                }
            }
        }
        fault::point("database.ready");
        Ok(())
    }

    /// Opens the ways to an environment's parts and has each looked at; hands the other listeners back.
    pub(crate) fn lead_to_parts(
        &self,
        task: TaskId,
        lease: &Lease,
        listeners: Vec<Listener>,
    ) -> Result<(std::sync::Arc<Parts>, Vec<Listener>), Problem> {
        let (served, others): (Vec<_>, Vec<_>) =
            listeners.into_iter().partition(|listener| matches!(listener.kind, ListenerKind::Served { .. }));
        let terms = lease.terms();
        let mut doors = Vec::new();
        for listener in served {
            let part = terms.parts.iter().find(|part| {
                listener.kind == ListenerKind::Served { address: part.address, port: part.port }
            });
            let Some(part) = part else { continue };
            let door = lead(listener.fd, part);
            doors.push(door.map_err(|e| Problem::internal("could not lead to a shared server", &e))?);
        }
        let (sender, looked) = watch::channel(None);
        let (engine, parts, environment) = (self.clone(), terms.parts.clone(), terms.environment);
        let looking = tokio::spawn(async move {
            let mut all = Ok(());
            for part in &parts {
                let looked = engine.look_at(task, environment, part).await;
                if part.service.wait {
                    all = all.and(looked);
                }
            }
            sender.send_replace(Some(all));
        });
        let parts = Parts { _doors: doors, looked, looking: looking.abort_handle() };
        Ok((std::sync::Arc::new(parts), others))
    }

    /// Whether a part can be used, recorded as of any service.
    async fn look_at(&self, task: TaskId, environment: EnvironmentId, part: &Part) -> Result<(), Problem> {
        let name = part.service.name.as_str();
        let record = self.inner.ledger.task(task)?;
        let known = record.environment.filter(|known| known.id == environment);
        let state = known.and_then(|known| known.services.into_iter().find(|s| s.service.name == name));
        let fresh = state.is_none_or(|service| service.state != ServiceState::Ready);
        let told = |told| services::record(&self.inner.ledger, task, environment, name, told);
        if fresh {
            told(Told::Starting(None));
        }
        let began = std::time::Instant::now();
        let found = loop {
            let found = self.usable(part).await;
            let away = matches!(&found, Err(ServerError { fault: Fault::Away(_), .. }));
            if !away || began.elapsed() >= UP {
                break found;
            }
            tokio::time::sleep(PAUSE).await;
        };
        match found {
            Ok(()) if fresh => told(Told::Ready(began.elapsed())),
            Ok(()) => {}
            Err(error) => {
                told(Told::Failed(Failure { reason: error.to_string(), log: String::new() }));
                return Err(server_problem(&error));
            }
        }
        Ok(())
    }

    async fn usable(&self, part: &Part) -> Result<(), ServerError> {
        let found = database::check(part).await;
        // Redis forgets users that were not written to its file when it is started anew; what they had is there.
        if part.kind == Kind::Redis
            && matches!(&found, Err(ServerError { fault: Fault::Login(_), .. }))
            && let Some(server) =
                self.user_config().ok().and_then(|user| self.server(&user, &part.server).ok())
        {
            let mut again = part.clone();
            database::make(&server, &mut again, None).await?;
            if again.database == part.database {
                return database::check(part).await;
            }
        }
        found
    }

    /// Drops what `owner` has on servers, as far as those answer.
    pub(crate) async fn drop_parts(&self, owner: &str) -> Vec<Reasoned> {
        let (mut dropped, mut left, mut errors) = (Vec::new(), Vec::new(), 0);
        if self.inner.databases.of(owner).is_empty() {
            return dropped;
        }
        let _lock = self.inner.dropping.lock().await;
        let leased = self.inner.databases.of(owner);
        fault::point("database.drop");
        for part in leased {
            let server = self.user_config().and_then(|user| self.server(&user, &part.server));
            let gone = match server {
                Ok(server) => database::remove(&server, &part).await.map_err(|error| error.to_string()),
                Err(problem) => Err(problem.message),
            };
            match gone {
                Ok(()) => dropped.push(Reasoned { what: part.to_string(), reason: String::new() }),
                Err(reason) => {
                    tracing::warn!(part = %part, reason, "could not be dropped; it is tried again");
                    errors += 1;
                    left.push(part);
                }
            }
        }
        fault::point("database.dropped");
        let noted = match errors {
            0 => self.inner.databases.forget(owner),
            _ => self.inner.databases.note(owner, &left),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "could not note what was dropped");
        }
        dropped
    }

    /// What an environment that is gone still has on servers.
    pub(crate) fn parts_left(&self, id: EnvironmentId) -> Vec<Reasoned> {
        let left = self.inner.databases.of(&id.to_string());
        let reason = "its server did not drop it; that is tried again every minute, and by `offshoot prune`";
        left.iter().map(|part| Reasoned { what: part.to_string(), reason: reason.to_owned() }).collect()
    }

    /// Owners that are no environment any more, nor a template.
    fn orphans(&self, tasks: &[TaskRecord]) -> Vec<String> {
        let there = |owner: &str| {
            tasks.iter().filter_map(|task| task.environment.as_ref()).any(|environment| {
                environment.state != EnvironmentState::Removed && environment.id.to_string() == owner
            })
        };
        let all = self.inner.databases.all().into_iter();
        all.filter(|(owner, leased)| {
            let template = leased.iter().any(|part| part.what == What::Template);
            !template && !self.inner.databases.is_held(owner) && !there(owner)
        })
        .map(|(owner, _)| owner)
        .collect()
    }

    /// Drops what was left behind: by a process that was killed, on a server that was away. For as long as the engine
    /// lives.
    pub(crate) async fn keep_dropping(&self) {
        let mut tick = tokio::time::interval(AGAIN);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.inner.databases.all().is_empty() {
                continue;
            }
            let filter = TaskFilter { project: None, include_done: true };
            let Ok(tasks) = self.inner.ledger.store().tasks(&filter, usize::MAX) else { continue };
            for owner in self.orphans(&tasks) {
                self.drop_parts(&owner).await;
            }
        }
    }

    /// Drops what nobody has any more, templates too, and says what could not be.
    pub(crate) async fn prune_databases(
        &self,
        tasks: &[TaskRecord],
        view: &mut offshoot_core::api::PruneView,
    ) {
        let mut used = BTreeSet::new();
        for task in tasks {
            let Some(environment) = task.environment.as_ref() else { continue };
            if let Ok(lease) = Lease::open(&self.inner.layout, environment.id) {
                used.extend(lease.terms().parts.iter().filter_map(|part| part.template.clone()));
            }
        }
        let templates = self.inner.databases.all().into_iter().filter(|(owner, leased)| {
            leased.iter().any(|part| part.what == What::Template) && !used.contains(owner)
        });
        let templates: Vec<String> = templates.map(|(owner, _)| owner).collect();
        let orphans = self.orphans(tasks).into_iter().map(|owner| (owner, "its environment is gone"));
        let unused = templates.into_iter().map(|owner| (owner, "no environment is a copy of it"));
        for (owner, reason) in orphans.chain(unused).collect::<Vec<_>>() {
            let dropped = self.drop_parts(&owner).await;
            let named = dropped.into_iter().map(|it| Reasoned { what: it.what, reason: reason.to_owned() });
            view.removed.extend(named);
            let left = self.inner.databases.of(&owner);
            view.kept.extend(left.iter().map(|part| Reasoned {
                what: part.to_string(),
                reason: "its server did not drop it; the daemon's log says why".to_owned(),
            }));
        }
    }
}

fn part_problem(error: &PartError) -> Problem {
    match error {
        PartError::Kind { .. } => Problem::new(ProblemKind::Invalid, "bad_server", chain(error))
            .hint("name another \"server\" in services.json, or another \"preset\""),
        PartError::Directory(_) => Problem::new(ProblemKind::Invalid, "bad_seed", chain(error))
            .hint("seed it with \"sql\" or a \"command\" in services.json"),
        PartError::Random(_) => Problem::internal("a password could not be made", error),
    }
}

fn seed_problem(error: SeedError) -> Problem {
    match error {
        SeedError::Data(error) => services::data_problem(error),
        SeedError::Server(error) => server_problem(&error),
        error @ SeedError::Note(_) => {
            Problem::internal("could not note what is begun on a shared server", &error)
        }
    }
}

/// What it means to a person that a server did not do its share.
fn server_problem(error: &ServerError) -> Problem {
    let name = &error.server;
    let (code, hint) = match &error.fault {
        Fault::Away(_) => {
            ("server_unreachable", format!("start it, or mend the url of [servers.{name}] in your config.toml"))
        }
        Fault::Login(_) => {
            ("server_login_refused", format!("mend the user and password in the url of [servers.{name}] in your config.toml"))
        }
        Fault::Right(_) => (
            "server_no_rights",
            "its login has to be allowed to make users and databases: CREATEROLE and CREATEDB (PostgreSQL), CREATE USER and \
             ALL with GRANT OPTION (MySQL), ACL (Redis)"
                .to_owned(),
        ),
        Fault::InUse(_) => {
            ("template_in_use", "end the sessions in it, or drop it: it is made anew when it is needed".to_owned())
        }
        Fault::Open(_) => (
            "server_open",
            "set passwords on the server, or give each environment a server of its own in services.json".to_owned(),
        ),
        Fault::Unfit(_) => {
            ("server_unfit", "give each environment a server of its own in services.json".to_owned())
        }
        Fault::Other(_) => ("server_refused", "docs/services.md says what a shared server has to allow".to_owned()),
    };
    Problem::new(ProblemKind::Unavailable, code, error.to_string()).hint(hint)
}
