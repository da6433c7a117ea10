//! What is known of each well-known service: its port, its memory, whom to log in as, what an environment is told of it.
//! How its program is started is the environment's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{template::Template, types::DataIsolation};
use crate::time::Bytes;

/// The well-known services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    Mysql,
    /// MariaDB.
    Mariadb,
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
    /// RabbitMQ.
    Rabbitmq,
    /// NATS.
    Nats,
    /// memcached.
    Memcached,
    /// A headless Chromium with its debugging port.
    Chromium,
}

/// What is known of one.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Its name, as in `preset`, and of its official image.
    pub name: &'static str,
    /// Its port.
    pub port: u16,
    /// Memory that is enough for a developer's data: what each holds by its own defaults, doubled.
    pub memory: Bytes,
    /// What every process of the environment is told of it: variable and template.
    pub inject: &'static [(&'static str, &'static str)],
    /// Where the official image reads user, password and database from; the first variable of each is the one that is set.
    logins: Logins,
    /// What the official image wants besides.
    besides: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, Debug)]
struct Logins {
    user: Login,
    password: Login,
    database: Login,
}

/// The variables that say it, and what it is if none does.
#[derive(Clone, Copy, Debug)]
struct Login(&'static [&'static str], &'static str);

const NOBODY: Logins = Logins { user: Login(&[], ""), password: Login(&[], ""), database: Login(&[], "") };

/// Whom to log in as. Empty where the service asks for nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// The database.
    pub database: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({} at {:?})", self.user, self.database)
    }
}

const MB: u64 = 1 << 20;

const POSTGRES: Facts = Facts {
    name: "postgres",
    port: 5432,
    memory: Bytes(512 * MB),
    inject: &[
        ("DATABASE_URL", "postgres://{user}:{password}@{host}:{port}/{database}"),
        ("PGHOST", "{host}"),
        ("PGPORT", "{port}"),
        ("PGUSER", "{user}"),
        ("PGPASSWORD", "{password}"),
        ("PGDATABASE", "{database}"),
    ],
    logins: Logins {
        user: Login(&["POSTGRES_USER"], "postgres"),
        password: Login(&["POSTGRES_PASSWORD"], "postgres"),
        database: Login(&["POSTGRES_DB"], "app"),
    },
    besides: &[],
};

const MYSQL: Facts = Facts {
    name: "mysql",
    port: 3306,
    memory: Bytes(1024 * MB),
    inject: &[("DATABASE_URL", "mysql://{user}:{password}@{host}:{port}/{database}")],
    logins: Logins {
        user: Login(&["MYSQL_USER"], "app"),
        password: Login(&["MYSQL_PASSWORD"], "app"),
        database: Login(&["MYSQL_DATABASE"], "app"),
    },
    besides: &[("MYSQL_ROOT_PASSWORD", "root")],
};

const MARIADB: Facts = Facts {
    name: "mariadb",
    memory: Bytes(512 * MB),
    logins: Logins {
        user: Login(&["MARIADB_USER", "MYSQL_USER"], "app"),
        password: Login(&["MARIADB_PASSWORD", "MYSQL_PASSWORD"], "app"),
        database: Login(&["MARIADB_DATABASE", "MYSQL_DATABASE"], "app"),
    },
    besides: &[("MARIADB_ROOT_PASSWORD", "root")],
    ..MYSQL
};

const REDIS: Facts = Facts {
    name: "redis",
    port: 6379,
    memory: Bytes(256 * MB),
    inject: &[("REDIS_URL", "redis://{host}:{port}")],
    logins: NOBODY,
    besides: &[],
};

/// With the number of the database that is the environment's. Whoever connects is logged in already.
const SHARED_REDIS: &str = "redis://{host}:{port}/{database}";

const VALKEY: Facts = Facts {
    name: "valkey",
    inject: &[("VALKEY_URL", "redis://{host}:{port}"), ("REDIS_URL", "redis://{host}:{port}")],
    ..REDIS
};

const RABBITMQ: Facts = Facts {
    name: "rabbitmq",
    port: 5672,
    memory: Bytes(512 * MB),
    inject: &[
        ("AMQP_URL", "amqp://{user}:{password}@{host}:{port}"),
        ("RABBITMQ_URL", "amqp://{user}:{password}@{host}:{port}"),
    ],
    logins: Logins {
        user: Login(&["RABBITMQ_DEFAULT_USER"], "guest"),
        password: Login(&["RABBITMQ_DEFAULT_PASS"], "guest"),
        ..NOBODY
    },
    besides: &[],
};

const NATS: Facts = Facts {
    name: "nats",
    port: 4222,
    memory: Bytes(128 * MB),
    inject: &[("NATS_URL", "nats://{host}:{port}")],
    ..REDIS
};

const MEMCACHED: Facts = Facts {
    name: "memcached",
    port: 11211,
    memory: Bytes(128 * MB),
    inject: &[("MEMCACHE_SERVERS", "{host}:{port}")],
    ..REDIS
};

const CHROMIUM: Facts = Facts {
    name: "chromium",
    port: 9222,
    memory: Bytes(1024 * MB),
    // Its debugging port answers to addresses and `localhost` only, against rebinding.
    inject: &[("CHROMIUM_URL", "http://{address}:{port}")],
    ..REDIS
};

impl Preset {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Postgres,
        Self::Mysql,
        Self::Mariadb,
        Self::Redis,
        Self::Valkey,
        Self::Rabbitmq,
        Self::Nats,
        Self::Memcached,
        Self::Chromium,
    ];

    /// What is known of it.
    pub fn facts(self) -> &'static Facts {
        match self {
            Self::Postgres => &POSTGRES,
            Self::Mysql => &MYSQL,
            Self::Mariadb => &MARIADB,
            Self::Redis => &REDIS,
            Self::Valkey => &VALKEY,
            Self::Rabbitmq => &RABBITMQ,
            Self::Nats => &NATS,
            Self::Memcached => &MEMCACHED,
            Self::Chromium => &CHROMIUM,
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.facts().name == name)
    }

    /// Whether a shared server of this kind can give each environment its own part.
    pub fn supports(self, isolation: DataIsolation) -> bool {
        match isolation {
            DataIsolation::Server => true,
            DataIsolation::Database => {
                matches!(self, Self::Postgres | Self::Mysql | Self::Mariadb | Self::Redis | Self::Valkey)
            }
            DataIsolation::Schema => self == Self::Postgres,
        }
    }

    /// Whom to log in as, with the service's variables as written.
    pub fn credentials(self, env: &BTreeMap<String, String>) -> Credentials {
        let Logins { user, password, database } = self.facts().logins;
        let user = user.of(env).to_owned();
        // The official image of PostgreSQL calls the database after a user that is named.
        let database = match (self, database.written(env)) {
            (Self::Postgres, None) if env.contains_key("POSTGRES_USER") => user.clone(),
            (_, written) => written.unwrap_or(database.1).to_owned(),
        };
        Credentials { password: password.of(env).to_owned(), database, user }
    }

    /// The variables that its official image gets unless something is written, so that it starts and is found as
    /// [`Preset::credentials`] says.
    pub(super) fn environment(self, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let Facts { logins, besides, .. } = self.facts();
        let credentials = self.credentials(env);
        let mut variables: BTreeMap<String, String> = besides
            .iter()
            .filter(|(name, _)| !says_about_root(env, name))
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        for (login, value) in [
            (logins.user, credentials.user),
            (logins.password, credentials.password),
            (logins.database, credentials.database),
        ] {
            if let (None, Some(name)) = (login.written(env), login.0.first()) {
                variables.insert((*name).to_owned(), value);
            }
        }
        variables
    }

    pub(super) fn injected(self, isolation: DataIsolation) -> BTreeMap<String, Template> {
        let parsed = |text: &str| text.parse::<Template>().ok();
        let shared = isolation != DataIsolation::Server && matches!(self, Self::Redis | Self::Valkey);
        let mut templates: BTreeMap<String, Template> = self
            .facts()
            .inject
            .iter()
            .map(|(name, text)| (*name, if shared { SHARED_REDIS } else { text }))
            .filter_map(|(name, text)| Some((name.to_owned(), parsed(text)?)))
            .collect();
        if isolation == DataIsolation::Schema {
            // The server itself looks into this schema first for the user that every environment gets; told all the same.
            templates.extend(parsed("{schema}").map(|t| ("DATABASE_SCHEMA".to_owned(), t)));
        }
        templates
    }
}

/// Whether something is written about root's password under another of the names it has.
fn says_about_root(env: &BTreeMap<String, String>, name: &str) -> bool {
    name.ends_with("_ROOT_PASSWORD")
        && env.keys().any(|k| k.contains("ROOT_PASSWORD") || k.contains("ALLOW_EMPTY"))
}

impl Login {
    fn written(self, env: &BTreeMap<String, String>) -> Option<&str> {
        self.0.iter().find_map(|name| env.get(*name)).map(String::as_str)
    }

    fn of(self, env: &BTreeMap<String, String>) -> &str {
        self.written(env).unwrap_or(self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_sound() {
        for preset in Preset::ALL {
            let facts = preset.facts();
            assert_eq!(Preset::named(facts.name), Some(preset));
            assert_eq!(serde_json::to_value(preset).unwrap(), facts.name);
            assert_eq!(preset.injected(DataIsolation::Server).len(), facts.inject.len(), "{}", facts.name);
        }
    }

    #[test]
    fn logins_are_what_is_written_else_the_usual() {
        let env = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let at = |preset: Preset, pairs: &[(&str, &str)]| {
            let c = preset.credentials(&env(pairs));
            (c.user, c.password, c.database)
        };
        let three = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(at(Preset::Postgres, &[]), three("postgres", "postgres", "app"));
        assert_eq!(at(Preset::Postgres, &[("POSTGRES_USER", "me")]), three("me", "postgres", "me"));
        assert_eq!(at(Preset::Mariadb, &[("MYSQL_DATABASE", "shop")]), three("app", "app", "shop"));
        assert_eq!(at(Preset::Redis, &[]), three("", "", ""));
        let set =
            Preset::Mysql.environment(&env(&[("MYSQL_ALLOW_EMPTY_PASSWORD", "1"), ("MYSQL_USER", "me")]));
        assert_eq!(set, env(&[("MYSQL_PASSWORD", "app"), ("MYSQL_DATABASE", "app")]));
    }
}
