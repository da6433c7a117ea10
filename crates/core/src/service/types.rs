//! The services as types. Serialised they are `services.json` again, so what is stored with an environment and sent by the
//! API reads like what the project wrote. `read` makes them out of what a person wrote; deserialising them is for what was
//! stored, and checks less.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    parts::{Image, Port, RelativePath, Restart, Volume},
    preset::{Credentials, Preset},
    template::{Field, Template},
};
use crate::{
    name::Label,
    time::{Bytes, Span},
};

/// `services.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// In the order of the file.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// The name, under which it is found inside.
    pub name: Label,
    /// What runs; `None` if the service is a part of a shared server ([`DataIsolation`]).
    #[serde(flatten)]
    pub source: Option<Source>,
    /// What kind of service it is, if it is a known one: as written, or by its image, its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// What is run, instead of the image's or the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// What the command is given to, instead of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Command>,
    /// Its variables, as written; [`Service::environment`] has the preset's too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The ports it listens at, as written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["5432", "5433:5432"]))]
    pub ports: Vec<Port>,
    /// What it is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["./db/init:/docker-entrypoint-initdb.d:ro"]))]
    pub volumes: Vec<Volume>,
    /// What must have happened to others before it is started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<Label, Dependency>,
    /// How it is found to be ready; without, by the image's or the preset's own way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Memory of its processes, out of the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "512m")]
    pub memory: Option<Bytes>,
    /// The user it runs as, instead of the image's: a name or number, with `:group` if need be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The directory it starts in, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// When it is started again.
    #[serde(default, skip_serializing_if = "Restart::is_never")]
    #[schema(value_type = Option<String>, example = "on-failure:3")]
    pub restart: Restart,
    /// What it holds at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// What the environment has for itself.
    #[serde(default)]
    pub isolation: DataIsolation,
    /// With an isolation other than a server of its own: which of the user's `[servers]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Label>,
    /// Variables that every process of the environment is given, as written; [`Service::injected`] has the preset's if
    /// nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<BTreeMap<String, Template>>,
    /// Whether setups and agents wait until it is ready.
    #[serde(default = "yes")]
    pub wait: bool,
}

fn yes() -> bool {
    true
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A container image.
    #[schema(value_type = String)]
    Image(Image),
    /// A program of this machine.
    Use(Program),
}

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// The one found on the host's PATH.
    Host,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Command {
    /// Given to `sh -c`.
    Shell(String),
    /// A program and its arguments; not empty.
    List(Vec<String>),
}

/// What must have happened to another service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// What.
    #[serde(default)]
    pub condition: Condition,
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Its process was started.
    #[default]
    ServiceStarted,
    /// Its health check passed.
    ServiceHealthy,
    /// It ended with code 0.
    ServiceCompletedSuccessfully,
}

/// How a service is found to be ready, and still well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Healthcheck {
    /// What is run in the service; `None` keeps the image's or the preset's, with the times below.
    #[schema(value_type = Option<Vec<String>>, example = json!(["CMD", "pg_isready"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
    /// From the end of one test to the next, once it is ready.
    #[schema(value_type = Option<String>, example = "10s")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// How long one test may take.
    #[schema(value_type = Option<String>, example = "5s")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How many tests in a row must fail, after the start period, for it to be unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// How long failures do not count.
    #[schema(value_type = Option<String>, example = "1m")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Span>,
    /// From one test to the next until it is ready.
    #[schema(value_type = Option<String>, example = "200ms")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Span>,
}

impl Healthcheck {
    /// See the field. 10 s: soon enough for a person to hear of it, and no load.
    pub fn interval(&self) -> Duration {
        self.interval.map_or(Duration::from_secs(10), |s| s.0)
    }

    /// See the field. 5 s: what answers later is not ready.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(5), |s| s.0)
    }

    /// See the field. 3, as Docker has it.
    pub fn retries(&self) -> u32 {
        self.retries.unwrap_or(3)
    }

    /// See the field. 60 s: the slowest of the presets to make its first database, MySQL, takes 10 to 20 s on a busy
    /// machine. It costs nothing where a service is ready sooner.
    pub fn start_period(&self) -> Duration {
        self.start_period.map_or(Duration::from_secs(60), |s| s.0)
    }

    /// See the field. 200 ms: an agent should not wait for a clock.
    pub fn start_interval(&self) -> Duration {
        self.start_interval.map_or(Duration::from_millis(200), |s| s.0)
    }
}

/// A health check's test. Written as in compose files: `["CMD", …]`, `["CMD-SHELL", "…"]`, `["NONE"]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub enum Test {
    /// A program and its arguments; not empty.
    Command(Vec<String>),
    /// Given to the service's `sh -c`.
    Shell(String),
    /// It counts as ready as soon as it was started.
    None,
}

impl TryFrom<Vec<String>> for Test {
    type Error = &'static str;
    fn try_from(words: Vec<String>) -> Result<Self, &'static str> {
        match words.split_first() {
            Some((kind, [])) if kind == "NONE" => Ok(Self::None),
            Some((kind, [line])) if kind == "CMD-SHELL" => Ok(Self::Shell(line.clone())),
            Some((kind, rest)) if kind == "CMD" && !rest.is_empty() => Ok(Self::Command(rest.to_vec())),
            _ => Err("a test is [\"CMD\", program, …], [\"CMD-SHELL\", line] or [\"NONE\"]"),
        }
    }
}

impl From<Test> for Vec<String> {
    fn from(test: Test) -> Self {
        match test {
            Test::Command(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            Test::Shell(line) => vec!["CMD-SHELL".to_owned(), line],
            Test::None => vec!["NONE".to_owned()],
        }
    }
}

/// What a service holds at first. Run or copied once per content, then shared by all environments copy-on-write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Seed {
    /// Files of SQL.
    Sql {
        /// In this order.
        #[schema(value_type = Vec<String>)]
        sql: Vec<RelativePath>,
    },
    /// A directory that becomes its data directory.
    Directory {
        /// In the repository.
        #[schema(value_type = String)]
        directory: RelativePath,
    },
    /// A command, given to `sh -c` in the workspace once the service is ready, with its variables.
    Command {
        /// The command.
        command: String,
        /// What it reads: as long as that is the same it is not run again. If nothing is named it is run once for each
        /// commit.
        #[schema(value_type = Vec<String>)]
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        key: Vec<RelativePath>,
    },
}

/// What the environment has for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataIsolation {
    /// The server.
    #[default]
    Server,
    /// A database on a shared server.
    Database,
    /// A schema in a database on a shared server.
    Schema,
}

impl Service {
    /// The port that [`Field::Port`] stands for: the first one listed, else the preset's.
    pub fn port(&self) -> Option<u16> {
        self.ports.first().map(|p| p.container).or(self.preset.map(|p| p.facts().port))
    }

    /// Every port it listens at, each once.
    pub fn listens(&self) -> BTreeSet<u16> {
        let mut ports: BTreeSet<u16> = self.ports.iter().map(|p| p.container).collect();
        if ports.is_empty() {
            ports.extend(self.preset.map(|p| p.facts().port));
        }
        ports
    }

    /// Memory of its processes: as written, else the preset's.
    pub fn memory(&self) -> Option<Bytes> {
        self.memory.or(self.preset.map(|p| p.facts().memory))
    }

    /// Whom to log in as: what its variables say, else what the preset has.
    pub fn credentials(&self) -> Credentials {
        self.preset.map(|p| p.credentials(&self.env)).unwrap_or_default()
    }

    /// Its variables with those of the preset that are not written.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut env = self.preset.map(|p| p.environment(&self.env)).unwrap_or_default();
        env.extend(self.env.clone());
        env
    }

    /// The variables that every process of the environment is given: as written, else the preset's. `{}` is none.
    pub fn injected(&self) -> BTreeMap<String, Template> {
        match (&self.inject, self.preset) {
            (Some(written), _) => written.clone(),
            (None, Some(preset)) => preset.injected(self.isolation),
            (None, None) => BTreeMap::new(),
        }
    }

    /// Whether a variable it injects says this field.
    pub fn tells(&self, field: Field) -> bool {
        self.injected().values().any(|template| template.fields().contains(&field))
    }
}
