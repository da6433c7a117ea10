//! Where a shared server is and who may make databases on it: the `url` of a `[servers.NAME]`. Pure.

use offshoot_core::service::Preset;
use serde::{Deserialize, Serialize};

/// What speaks at a server's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
    /// Redis or Valkey.
    Redis,
}

impl Kind {
    /// Of a preset that can be shared.
    pub fn of(preset: Preset) -> Option<Self> {
        match preset {
            Preset::Postgres => Some(Self::Postgres),
            Preset::Mysql | Preset::Mariadb => Some(Self::Mysql),
            Preset::Redis | Preset::Valkey => Some(Self::Redis),
            Preset::Rabbitmq | Preset::Nats | Preset::Memcached | Preset::Chromium => None,
        }
    }

    fn port(self) -> u16 {
        let preset = match self {
            Self::Postgres => Preset::Postgres,
            Self::Mysql => Preset::Mysql,
            Self::Redis => Preset::Redis,
        };
        preset.facts().port
    }
}

/// A server, with the login of somebody who may make users and databases on it.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name in the user's configuration.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who logs in; empty for Redis' default user.
    pub user: String,
    /// The password.
    pub password: String,
    /// The database that is logged in to, in which schemas are made.
    pub database: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({} at {}:{})", self.name, self.host, self.port)
    }
}

/// Why a URL does not say where a server is. Never holds a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not of the form.
    #[error("it is not of the form postgres://user:password@host:port/database")]
    Form,
    /// A path instead of a host.
    #[error("it names no host; a server is reached over TCP, not by a socket in a directory")]
    Host,
    /// Nobody to log in as.
    #[error("it does not say who logs in")]
    User,
    /// Encryption is asked for.
    #[error(
        "it asks for TLS, which is not spoken here; only servers that can be reached without it can be shared"
    )]
    Tls,
}

impl Server {
    /// The server that a name and its URL mean.
    pub fn parse(name: &str, url: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Form)?;
        let kind = match scheme {
            "postgres" | "postgresql" => Kind::Postgres,
            "mysql" | "mariadb" => Kind::Mysql,
            "redis" | "valkey" => Kind::Redis,
            _ => return Err(UrlError::Form),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        for option in query.split('&') {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "host" => return Err(UrlError::Host),
                "sslmode" | "ssl-mode" | "ssl_mode" | "ssl" | "tls"
                    if !["disable", "disabled", "allow", "prefer", "preferred", "false", "0"]
                        .contains(&value.to_ascii_lowercase().as_str()) =>
                {
                    return Err(UrlError::Tls);
                }
                _ => {}
            }
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(UrlError::Form)?,
            None => place.find(':').map_or((place, ""), |at| place.split_at(at)),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| UrlError::Form)?,
            None => kind.port(),
        };
        if host.is_empty() || host.starts_with('%') {
            return Err(UrlError::Host);
        }
        let [user, password, database] = [user, password, database].map(unescaped);
        let (user, password, database) =
            (user.ok_or(UrlError::Form)?, password.ok_or(UrlError::Form)?, database.ok_or(UrlError::Form)?);
        if user.is_empty() && kind != Kind::Redis {
            return Err(UrlError::User);
        }
        let database = match kind {
            Kind::Postgres if database.is_empty() => "postgres".to_owned(),
            _ => database,
        };
        Ok(Self { name: name.to_owned(), kind, host: host.to_owned(), port, user, password, database })
    }
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            after
        } else {
            bytes.push(*first);
            after
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let s =
            Server::parse("dev", "postgres://ad%40min:s%3Acret@db.example:6543/all?sslmode=prefer").unwrap();
        assert_eq!((s.user.as_str(), s.password.as_str()), ("ad@min", "s:cret"));
        assert_eq!((s.host.as_str(), s.port, s.database.as_str()), ("db.example", 6543, "all"));
        let s = Server::parse("dev", "redis://:pw@[::1]").unwrap();
        assert_eq!((s.user.as_str(), s.password.as_str(), s.host.as_str(), s.port), ("", "pw", "::1", 6379));
        assert_eq!(Server::parse("dev", "postgres://a@localhost").unwrap().database, "postgres");
        let error = |url| Server::parse("dev", url).unwrap_err();
        assert_eq!(error("postgres://a@/db?host=/run/postgresql"), UrlError::Host);
        assert_eq!(error("postgres://a@%2Frun%2Fpostgresql/db"), UrlError::Host);
        assert_eq!(error("mysql://localhost/db"), UrlError::User);
        assert_eq!(error("postgres://a@h/db?sslmode=require"), UrlError::Tls);
        assert_eq!(error("http://a@h"), UrlError::Form);
        assert_eq!(error("mysql://a@h:port"), UrlError::Form);
    }
}
