//! What parts of shared servers hold at first: read by the server's own client, or made by the project's command, in a builder
//! sandbox from which no other part can be reached, as its own user. A file of SQL may well tell its client to run
//! a program.
//!
//! A database of PostgreSQL is a copy of a template that was seeded once: named after what it was made of, so a template
//! is never changed. Everything else is seeded each time.

use std::{collections::BTreeMap, io, os::fd::OwnedFd, path::Path, time::Instant};

use offshoot_core::{fault, service::Seed};
use offshoot_git::store::Store;
use offshoot_sandbox::ListenerKind;

use super::{
    address::{Kind, Server},
    part::{Part, named},
    postgres,
    register::{Leased, Register, What},
    servers::{self, ServerError, within},
};
use crate::{
    layers::{CheckoutPlan, LayerError, Layers, Progress, Served, SetupRoom, Stack, end_of, io_error},
    machine::Room,
    remove,
    sandbox::Sandbox,
    service::{
        data::{self, DataError},
        supervise::Failure,
    },
};

/// Changes when templates are made differently.
const TEMPLATE: &str = "template 1";

/// Leads a listener of a sandbox to a part's server, as the part's own user, until what it returns is dropped.
pub type Serve<'a> = &'a (dyn Fn(OwnedFd, &Part) -> io::Result<Served> + Send + Sync);

/// Why a part has not got what it holds at first.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// As with any service.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The server did not do its share.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// It could not be noted what is begun.
    #[error("could not note what is begun on a shared server")]
    Note(#[source] io::Error),
}

/// All that seeding needs around it.
pub struct Seeding<'a> {
    /// The project's objects.
    pub store: &'a Store,
    /// The commit whose files it reads.
    pub from: &'a CheckoutPlan,
    /// Those files.
    pub stack: &'a Stack,
    /// Tools, variables and limits.
    pub room: SetupRoom<'a>,
    /// What was begun on servers.
    pub register: &'a Register,
    /// The way to the server.
    pub serve: Serve<'a>,
    /// Hears what takes so long.
    pub progress: Progress<'a>,
}

impl Layers {
    /// Sees to it that the template of a part is there; its name, if the part is to be a copy of one.
    pub async fn with_template(
        &self,
        server: &Server,
        part: &Part,
        seeding: &Seeding<'_>,
    ) -> Result<Option<String>, SeedError> {
        if !servers::templates_of(part) {
            return Ok(None);
        }
        let content = data::seeded_by(seeding.store, seeding.from, &part.service).await?;
        let words: Vec<&[u8]> =
            std::iter::once(TEMPLATE).chain(content.iter().map(String::as_str)).map(str::as_bytes).collect();
        let name = named('t', &words);
        if self.there(server, seeding.register, &name).await? {
            return Ok(Some(name));
        }
        let _only = self.only(&name).await;
        if self.there(server, seeding.register, &name).await? {
            return Ok(Some(name));
        }
        (seeding.progress)(&format!("preparing {}", part.service.name));
        let began = Instant::now();
        let mut building = part.building().map_err(SeedError::Note)?;
        let _held = seeding.register.hold(&building.user);
        seeding.register.note(&building.user, &[building.leased()]).map_err(SeedError::Note)?;
        fault::point("database.building");
        if let Err(error) = self.template(server, &mut building, &name, seeding).await {
            if servers::remove(server, &building.leased()).await.is_ok() {
                seeding.register.forget(&building.user).map_err(SeedError::Note)?;
            }
            return Err(error);
        }
        fault::point("database.templated");
        seeding.register.forget(&building.user).map_err(SeedError::Note)?;
        tracing::info!(template = name, ms = began.elapsed().as_millis(), "database seeded");
        Ok(Some(name))
    }

    async fn there(&self, server: &Server, register: &Register, name: &str) -> Result<bool, SeedError> {
        let there = within(&server.name, servers::LOOK, postgres::has_template(server, name)).await?;
        if there && register.of(name).is_empty() {
            note_template(server, register, name)?;
        }
        Ok(there)
    }

    async fn template(
        &self,
        server: &Server,
        building: &mut Part,
        name: &str,
        seeding: &Seeding<'_>,
    ) -> Result<(), SeedError> {
        servers::make(server, building, None).await?;
        self.seed(building, seeding).await?;
        fault::point("database.seeded");
        note_template(server, seeding.register, name)?;
        Ok(within(&server.name, servers::MAKE, postgres::seal(server, building, name)).await?)
    }

    /// Gives a part that exists what it holds at first.
    pub async fn seed(&self, part: &Part, seeding: &Seeding<'_>) -> Result<(), SeedError> {
        let Some(seed) = &part.service.seed else { return Ok(()) };
        (seeding.progress)(&format!("seeding {}", part.service.name));
        let dir = self.building_dir(&part.user);
        remove::tree(&dir).map_err(io_error("delete", &dir)).map_err(DataError::from)?;
        let seeded = self.run_seed(part, seed, seeding, &dir).await;
        if let Err(error) = offshoot_sandbox::end(&dir) {
            tracing::warn!(%error, "could not clean up after a seed");
        }
        remove::tree(&dir).map_err(io_error("delete", &dir)).map_err(DataError::from)?;
        seeded
    }

    async fn run_seed(
        &self,
        part: &Part,
        seed: &Seed,
        seeding: &Seeding<'_>,
        dir: &Path,
    ) -> Result<(), SeedError> {
        let made = ["", "workspace", "work", "home", "home-work"].map(|name| dir.join(name));
        for path in &made {
            self.machine().make_dir(path).map_err(io_error("make", path)).map_err(DataError::from)?;
        }
        let [_, upper, work, home_upper, home_work] = made;
        let mut env = seeding.room.env.clone();
        env.extend(part.env());
        let sandbox = self
            .machine()
            .start(Room {
                id: format!("seed-{}", part.user),
                dir: dir.to_owned(),
                hostname: "offshoot".to_owned(),
                lowers: seeding.stack.workspace.clone(),
                upper,
                work,
                home_lowers: seeding.stack.home.clone(),
                home_upper,
                home_work,
                workspace: &seeding.from.workspace,
                objects: &seeding.store.objects_dir(),
                tools: seeding.room.tools,
                binds: Vec::new(),
                monitor: None,
                mounts: Vec::new(),
                hosts: vec![part.host_line()],
                env,
                egress: seeding.room.egress.to_vec(),
                // Nobody waits for a builder who could say why it needs a host.
                others_asked: false,
                served: vec![part.served()],
                limits: seeding.room.limits,
            })
            .await
            .map_err(LayerError::Start)
            .map_err(DataError::from)?;
        let failed = |reason: String| {
            let failure = Failure { reason, log: end_of(&dir.join("seed.log")) };
            SeedError::Data(DataError::Failed { service: part.service.name.to_string(), failure })
        };
        let _way = way(&sandbox, part, seeding).await.map_err(&failed)?;
        let shell = |script: &str, more: &[String]| {
            let mut argv = ["/bin/sh", "-c", script, "seed"].map(str::to_owned).to_vec();
            argv.extend_from_slice(more);
            argv
        };
        match seed {
            Seed::Sql { sql: files } => {
                for (at, file) in files.iter().enumerate() {
                    let path = seeding.from.workspace.join(file.as_str()).to_string_lossy().into_owned();
                    let (argv, env) = (shell(client(part.kind), &[path]), login(part));
                    let ran = data::run(&sandbox, env, None, format!("seed-{at}"), argv, dir).await;
                    ran.map_err(|reason| failed(format!("{file}: {reason}")))?;
                }
            }
            Seed::Command { command: line, .. } => {
                let ran =
                    data::run(&sandbox, BTreeMap::new(), None, "seed".to_owned(), shell(line, &[]), dir);
                ran.await.map_err(failed)?;
            }
            Seed::Directory { .. } => {
                return Err(failed("a directory cannot seed a part of a shared server".to_owned()));
            }
        }
        if let Err(error) = sandbox.down().await {
            tracing::warn!(%error, "the sandbox of a seed did not end by itself");
        }
        Ok(())
    }
}

fn note_template(server: &Server, register: &Register, name: &str) -> Result<(), SeedError> {
    let leased = Leased {
        server: server.name.clone(),
        kind: server.kind,
        what: What::Template,
        name: name.to_owned(),
    };
    register.note(name, &[leased]).map_err(SeedError::Note)
}

async fn way(sandbox: &Sandbox, part: &Part, seeding: &Seeding<'_>) -> Result<[Served; 2], String> {
    let listeners = sandbox.listeners().await.map_err(|error| offshoot_core::problem::chain(&error))?;
    let wanted = ListenerKind::Served { address: part.address, port: part.port };
    let (mut own, rest): (Vec<_>, Vec<_>) = listeners.into_iter().partition(|it| it.kind == wanted);
    let own = own.pop().ok_or("the sandbox has no listener for its server")?;
    let way = (seeding.serve)(own.fd, part).map_err(|error| error.to_string())?;
    let network = (seeding.room.network)(rest, seeding.room.egress).map_err(|error| error.to_string())?;
    Ok([way, network])
}

/// How a server's own client reads a file: `$1`.
fn client(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "exec psql -X -q -v ON_ERROR_STOP=1 -f \"$1\"",
        Kind::Mysql => {
            "exec $(command -v mariadb || command -v mysql) --no-defaults -h \"$H\" -P \"$P\" -u \"$U\" \"$D\" <\"$1\""
        }
        Kind::Redis => "exec $(command -v redis-cli || command -v valkey-cli) -h \"$H\" -p \"$P\" <\"$1\"",
    }
}

/// Whom that client logs in as.
fn login(part: &Part) -> BTreeMap<String, String> {
    let names: &[&str] = match part.kind {
        Kind::Postgres => &["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD"],
        Kind::Mysql | Kind::Redis => &["H", "P", "U", "D", "MYSQL_PWD"],
    };
    let (host, port) = (part.address.to_string(), part.port.to_string());
    // Redis' user logs in on the way there, see `Part::env`.
    let password = if part.kind == Kind::Redis { String::new() } else { part.password.clone() };
    let values = [host, port, part.user.clone(), part.database.clone(), password];
    names.iter().map(|name| (*name).to_owned()).zip(values).collect()
}
