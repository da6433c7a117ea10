//! What one environment has on a shared server, worked out before anything exists there. Stored with the lease, so the way
//! to it is the same for as long as the environment lives. Holds the login of that part, never the server's own.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddrV4},
};

use offshoot_core::{
    event::ServiceView,
    id::EnvironmentId,
    service::{DataIsolation, Seed, Service, Values},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    address::{Kind, Server},
    register::{Leased, What},
};

/// One part.
#[derive(Clone, Serialize, Deserialize)]
pub struct Part {
    /// What was written.
    pub service: Service,
    /// Its own loopback address inside; its name leads there.
    pub address: Ipv4Addr,
    /// Its port inside: the usual one.
    pub port: u16,
    /// The name of the server.
    pub server: String,
    /// What that is.
    pub kind: Kind,
    /// Where it is.
    pub host: String,
    /// Its port there.
    pub host_port: u16,
    /// The only user that is let in from inside.
    pub user: String,
    /// That one's password.
    pub password: String,
    /// The database; of Redis, its number.
    pub database: String,
    /// The schema in it, or empty.
    pub schema: String,
    /// What it is a copy of.
    pub template: Option<String>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({} of {})", self.user, self.server)
    }
}

/// Why a service cannot be a part of the server it names.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// The server is of another kind.
    #[error("the service {service} is a part of {server}, which is a server of another kind")]
    Kind {
        /// The service.
        service: String,
        /// The server.
        server: String,
    },
    /// A directory cannot seed it.
    #[error("the service {0} is a part of a shared server, which cannot be seeded by a directory")]
    Directory(String),
    /// There is no randomness.
    #[error("could not make a password")]
    Random(#[source] io::Error),
}

impl Part {
    /// The part of `server` that `service` is in an environment; `at` is its place among all services there.
    pub fn new(
        service: &Service,
        environment: EnvironmentId,
        server: &Server,
        at: usize,
    ) -> Result<Self, PartError> {
        let called = service.name.to_string();
        if service.preset.and_then(Kind::of) != Some(server.kind) {
            return Err(PartError::Kind { service: called, server: server.name.clone() });
        }
        if matches!(service.seed, Some(Seed::Directory { .. })) {
            return Err(PartError::Directory(called));
        }
        let name = named('e', &[environment.to_string().as_bytes(), called.as_bytes()]);
        let schema = service.isolation == DataIsolation::Schema;
        Ok(Self {
            address: Ipv4Addr::new(127, 0, 1, u8::try_from(at + 2).unwrap_or(u8::MAX)),
            port: service.port().unwrap_or_default(),
            server: server.name.clone(),
            kind: server.kind,
            host: server.host.clone(),
            host_port: server.port,
            password: random().map_err(PartError::Random)?,
            database: if schema { server.database.clone() } else { name.clone() },
            schema: if schema { name.clone() } else { String::new() },
            user: name,
            template: None,
            service: service.clone(),
        })
    }

    /// A part that becomes a template: this one, under names of its own.
    pub(super) fn building(&self) -> io::Result<Self> {
        let name = named('b', &[random()?.as_bytes()]);
        let database = name.clone();
        Ok(Self { user: name, database, password: random()?, ..self.clone() })
    }

    /// What is noted of it before it is made.
    pub fn leased(&self) -> Leased {
        let schema = !self.schema.is_empty();
        Leased {
            server: self.server.clone(),
            kind: self.kind,
            what: if schema { What::Schema } else { What::Database },
            name: self.user.clone(),
        }
    }

    /// Where its listener is inside.
    pub fn served(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.port)
    }

    /// The line for `/etc/hosts`.
    pub fn host_line(&self) -> String {
        format!("{} {}", self.address, self.service.name)
    }

    /// What every process of the environment is told of it.
    pub fn env(&self) -> BTreeMap<String, String> {
        // At Redis the way there logs in. Nobody can leave the database with a login that he does not know: RESET, which no
        // rule can forbid, leads to database 0, but only as nobody.
        let login = |text: &String| if self.kind == Kind::Redis { String::new() } else { text.clone() };
        let values = Values {
            host: self.service.name.to_string(),
            address: self.address.to_string(),
            port: self.port,
            user: login(&self.user),
            password: login(&self.password),
            database: self.database.clone(),
            schema: self.schema.clone(),
        };
        let injected = self.service.injected();
        injected.iter().map(|(name, template)| (name.clone(), template.render(&values))).collect()
    }

    /// The same for processes without a boundary, who go to the server themselves.
    pub fn env_outside(&self) -> BTreeMap<String, String> {
        let values = Values {
            host: self.host.clone(),
            address: self.host.clone(),
            port: self.host_port,
            user: self.user.clone(),
            password: self.password.clone(),
            database: self.database.clone(),
            schema: self.schema.clone(),
        };
        let injected = self.service.injected();
        injected.iter().map(|(name, template)| (name.clone(), template.render(&values))).collect()
    }

    /// What is told of it.
    pub fn view(&self) -> ServiceView {
        let what = if self.schema.is_empty() { "database" } else { "schema" };
        ServiceView {
            name: self.service.name.to_string(),
            address: self.address.to_string(),
            ports: vec![self.port],
            runs: format!("a {what} on {}", self.server),
        }
    }
}

/// `offshoot_<letter>_` and 80 bits of a hash: 31 characters, as MySQL takes 32.
pub(super) fn named(letter: char, of: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in of {
        hash.update(part);
        hash.update([0]);
    }
    let hex: String = hash.finalize().iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("offshoot_{letter}_{hex}")
}

/// 192 bits from the system, in letters that need no quotes anywhere.
pub(super) fn random() -> io::Result<String> {
    let mut bytes = [0_u8; 24];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_everywhere_and_follow_from_what_they_are_of() {
        let name = named('e', &[b"id", b"db"]);
        assert_eq!(name.len(), 31);
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        assert_eq!(name, named('e', &[b"id", b"db"]));
        assert_ne!(name, named('e', &[b"idd", b"b"]));
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
