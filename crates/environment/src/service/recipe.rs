//! How the programs of this machine are run as services: where they are, their command lines, where they keep data, how
//! they show that they are ready. One entry for each preset, and the project's own commands.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use offshoot_core::service::{Command, Preset, Service};
use offshoot_sandbox::ExecRoot;

use super::{
    plan::{Place, PlanError},
    probe::Probe,
};
use crate::tools::Tools;

/// What a service's program needs; the fields are those of [`super::plan::Plan`].
pub(super) struct Recipe {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: Option<String>,
    pub ports: Vec<u16>,
    pub root: Option<ExecRoot>,
    pub root_layers: Vec<PathBuf>,
    pub image: Option<String>,
    pub data: Vec<PathBuf>,
    pub probe: Probe,
    pub stop: i32,
    pub load: Option<String>,
    /// The program's file or the image, so that another version gets other data.
    pub fingerprint: String,
}

impl Recipe {
    fn of_program(
        service: &Service,
        argv: Vec<String>,
        data: PathBuf,
        probe: Probe,
        fingerprint: String,
    ) -> Self {
        Self {
            argv,
            env: service.environment(),
            cwd: service.working_dir.clone(),
            ports: service.listens().into_iter().collect(),
            root: None,
            root_layers: Vec::new(),
            image: None,
            data: vec![data],
            probe,
            stop: SIGTERM,
            load: None,
            fingerprint,
        }
    }
}

pub(super) const SIGINT: i32 = 2;
pub(super) const SIGTERM: i32 = 15;

/// Where servers are that distributions keep off PATH.
const BESIDES: [&str; 5] =
    ["/usr/sbin", "/usr/local/sbin", "/usr/lib/rabbitmq/bin", "/usr/libexec", "/usr/lib/chromium"];

/// The recipe for a program of this machine.
pub(super) fn of_host(at: &Place<'_>, tools: &Tools) -> Result<Recipe, PlanError> {
    let service = at.service;
    if let Some(command) = &service.command {
        let argv = match command {
            Command::List(argv) => argv.clone(),
            Command::Shell(line) => shell(line, []),
        };
        let probe = if service.port().is_some() { Probe::Port } else { Probe::Started };
        let fingerprint = argv.join("\0");
        let data = at.dir.join("data");
        let mut recipe = Recipe::of_program(service, argv, data.clone(), probe, fingerprint);
        recipe.env.insert("DATA_DIR".to_owned(), data.to_string_lossy().into_owned());
        return Ok(recipe);
    }
    let Some(preset) = service.preset else {
        return Err(PlanError::NoProgram { service: service.name.to_string(), program: String::new() });
    };
    of_preset(preset, at, tools)
}

fn of_preset(preset: Preset, at: &Place<'_>, tools: &Tools) -> Result<Recipe, PlanError> {
    let service = at.service;
    let find = |names: &[&str]| {
        names.iter().find_map(|name| locate(name, tools)).ok_or_else(|| PlanError::NoProgram {
            service: service.name.to_string(),
            program: names.join(" or "),
        })
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let beside = |program: &Path| text(program.parent().unwrap_or(Path::new("/")));
    let (data, sockets) = (text(&at.dir.join("data")), text(&at.dir.join("run")));
    let port = service.port().unwrap_or(preset.facts().port).to_string();
    let login = service.credentials();
    let (addresses, own) = (at.addresses(), at.address.to_string());
    let probe = usual_probe(preset, service);
    let recipe = |argv: Vec<String>, program: &Path| Recipe {
        load: loader(preset, service, &own, &beside(program)),
        ..Recipe::of_program(service, argv, PathBuf::from(&data), probe.clone(), fingerprint(program))
    };
    Ok(match preset {
        Preset::Postgres => {
            let program = find(&["postgres"])?;
            let arguments = [
                beside(&program),
                data.clone(),
                addresses.join(","),
                port,
                sockets,
                login.user.clone(),
                login.database.clone(),
            ];
            // "Fast": ends sessions and leaves a clean data directory.
            Recipe { stop: SIGINT, ..recipe(shell(include_str!("start/postgres.sh"), arguments), &program) }
        }
        Preset::Mysql | Preset::Mariadb => {
            let program = match preset {
                Preset::Mysql => find(&["mysqld", "mariadbd"])?,
                _ => find(&["mariadbd", "mysqld"])?,
            };
            let arguments = [
                beside(&program),
                data.clone(),
                addresses.join(","),
                port,
                sockets,
                login.user.clone(),
                login.password.clone(),
                login.database.clone(),
            ];
            recipe(shell(include_str!("start/mariadb.sh"), arguments), &program)
        }
        Preset::Redis | Preset::Valkey => {
            let program = match preset {
                Preset::Redis => find(&["redis-server", "valkey-server"])?,
                _ => find(&["valkey-server", "redis-server"])?,
            };
            let arguments = [text(&program), data.clone(), addresses.join(" "), port];
            recipe(shell(include_str!("start/redis.sh"), arguments), &program)
        }
        Preset::Rabbitmq => {
            let program = find(&["rabbitmq-server"])?;
            let all = if at.local { "0.0.0.0" } else { &own };
            let arguments = [beside(&program), data.clone(), all.to_owned(), port];
            recipe(shell(include_str!("start/rabbitmq.sh"), arguments), &program)
        }
        Preset::Nats => {
            let program = find(&["nats-server"])?;
            let all = if at.local { "0.0.0.0" } else { &own };
            let argv = [&text(&program), "-a", all, "-p", &port, "-js", "-sd", &data].map(str::to_owned);
            recipe(argv.to_vec(), &program)
        }
        Preset::Memcached => {
            let program = find(&["memcached"])?;
            let megabytes = (service.memory().map_or(128 << 20, |m| m.0) >> 21).max(8).to_string();
            let listen = addresses.join(",");
            let argv = [&text(&program), "-l", &listen, "-p", &port, "-m", &megabytes].map(str::to_owned);
            Recipe { data: Vec::new(), ..recipe(argv.to_vec(), &program) }
        }
        Preset::Chromium => {
            let program = find(&["chromium", "chromium-browser", "google-chrome"])?;
            let arguments = [text(&program), data.clone(), own.clone(), port];
            recipe(shell(include_str!("start/chromium.sh"), arguments), &program)
        }
    })
}

/// How a service of this kind shows that it is ready.
pub(super) fn usual_probe(preset: Preset, service: &Service) -> Probe {
    let login = service.credentials();
    match preset {
        Preset::Postgres => Probe::postgres(&login.user, &login.database),
        // Its greeting: a length of three bytes, packet 0, protocol 10; an error has 255 there.
        Preset::Mysql | Preset::Mariadb => Probe::Answer { say: Vec::new(), skip: 3, hear: vec![0, 10] },
        Preset::Redis | Preset::Valkey => Probe::line("PING\r\n", "+PONG"),
        // A client of its protocol is answered with a frame of method Start.
        Preset::Rabbitmq => Probe::Answer { say: b"AMQP\0\0\x09\x01".to_vec(), skip: 0, hear: vec![1, 0, 0] },
        Preset::Nats => Probe::line("", "INFO "),
        Preset::Memcached => Probe::line("version\r\n", "VERSION "),
        Preset::Chromium => Probe::line("GET /json/version HTTP/1.0\r\nHost: localhost\r\n\r\n", "HTTP/1."),
    }
}

/// How a file is read into a service of this kind, by its own client: `$1` is the file.
pub(super) fn loader(preset: Preset, service: &Service, host: &str, programs: &str) -> Option<String> {
    let login = service.credentials();
    let port = service.port()?;
    let (user, password, database) = (&login.user, &login.password, &login.database);
    let path = if programs.is_empty() { String::new() } else { format!("PATH={programs}:$PATH\n") };
    let client = match preset {
        Preset::Postgres => format!(
            "PGPASSWORD='{password}' exec psql -X -q -v ON_ERROR_STOP=1 -h {host} -p {port} -U '{user}' -d '{database}' -f \"$1\""
        ),
        Preset::Mysql | Preset::Mariadb => format!(
            "exec $(command -v mariadb || command -v mysql) --no-defaults -h {host} -P {port} -u '{user}' -p'{password}' '{database}' <\"$1\""
        ),
        Preset::Redis | Preset::Valkey => {
            format!("exec $(command -v redis-cli || command -v valkey-cli) -h {host} -p {port} <\"$1\"")
        }
        Preset::Rabbitmq | Preset::Nats | Preset::Memcached | Preset::Chromium => return None,
    };
    Some(path + &client)
}

fn shell<const N: usize>(script: &str, arguments: [String; N]) -> Vec<String> {
    let mut argv = ["/bin/sh", "-c", script, "service"].map(str::to_owned).to_vec();
    argv.extend(arguments);
    argv
}

/// The program, followed to where it is: on the person's PATH, else where distributions keep servers; the newest of
/// several versions.
fn locate(name: &str, tools: &Tools) -> Option<PathBuf> {
    let versions = versions("/usr/lib/postgresql").into_iter().chain(versions("/usr/pgsql"));
    let places = tools.path.iter().cloned().chain(BESIDES.iter().map(PathBuf::from)).chain(versions);
    places
        .map(|dir| dir.join(name))
        .find(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0))
        // A server's other programs are beside the real one; but some are what they are called by (redis-server).
        .map(|path| fs::canonicalize(&path).ok().filter(|real| real.ends_with(name)).unwrap_or(path))
}

/// `<root>/<version>/bin`, newest version first.
fn versions(root: &str) -> Vec<PathBuf> {
    let number = |name: &OsStr| name.to_str().and_then(|n| n.parse::<f32>().ok()).unwrap_or_default();
    let mut found: Vec<_> =
        fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    found.sort_by(|a, b| number(b).total_cmp(&number(a)));
    found.into_iter().map(|version| Path::new(root).join(version).join("bin")).collect()
}

fn fingerprint(program: &Path) -> String {
    let (size, changed) = fs::metadata(program).map_or((0, 0), |meta| (meta.len(), meta.mtime()));
    format!("{} {size} {changed}", program.display())
}
