//! `services.json`: the databases, caches, queues and browsers that every environment of a project has for itself.
//!
//! Text in, checked types or an error with its place out; reading files, starting and waiting are the environment's.
//! What is here can be trusted to be consistent: names are unique, dependencies known and without a circle, paths
//! relative and below the repository, numbers bounded.
//!
//! | file | owns |
//! |---|---|
//! | `types` | the services as types; serialised they are `services.json` again |
//! | `parts` | the small texts in them: images, ports, volumes, paths, restart |
//! | `template` | texts such as `postgres://{user}@{host}` |
//! | `preset` | what is known of each well-known service |
//! | `json` | values of a JSON text that know their place in it |
//! | `read` | one service out of JSON |
//! | `check` | what must hold between services, and their order |
//! | `schema` | the keys, for the JSON schema and the reference page |

mod check;
mod json;
pub(crate) mod parts;
mod preset;
mod read;
mod schema;
mod template;
mod types;

#[cfg(test)]
mod tests;

pub use parts::{Image, PartError, Port, RelativePath, Restart, RestartPolicy, Volume, VolumeSource};
pub use preset::{Credentials, Facts, Preset};
pub use schema::{Key, SERVICE_KEYS, json_schema};
pub use template::{Field, Template, TemplateError, Values};
pub use types::{
    Command, Condition, DataIsolation, Dependency, Healthcheck, Program, Seed, Service, Services, Source,
    Test,
};

/// Most services of one environment. Each is at least one process with its memory; past this it is a data centre.
pub const MAX_SERVICES: usize = 32;
/// Longest `services.json` in bytes: the longest real compose files are a tenth of it.
pub const MAX_TEXT: usize = 1 << 20;
/// Most entries of one list or object of a service, the environment's variables apart.
pub const MAX_ITEMS: usize = 64;
/// Most variables of one service.
pub const MAX_VARIABLES: usize = 256;
/// Longest single text in bytes: a command with an inline script fits.
pub const MAX_VALUE: usize = 32 << 10;
