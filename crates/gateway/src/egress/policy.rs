//! Which host and port a connection may go to. Pure.
//!
//! Invariant: a host is compared in the one canonical form that `core::egress` makes of it, and what was compared is
//! what is dialled.

use std::{collections::HashMap, net::Ipv4Addr};

use offshoot_core::egress::{EgressRule, HOST_ALIAS, HostError, HostName, WILDCARD, synthetic_addresses};

use super::refusal::Refusal;

/// An allow-list with its synthetic addresses.
#[derive(Debug)]
pub(crate) struct Policy {
    rules: Vec<EgressRule>,
    addresses: HashMap<Ipv4Addr, HostName>,
}

/// What a synthetic address stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One name.
    Exact(HostName),
    /// Any name that a wildcard allows: the connection has to say which.
    Wildcard,
    /// Nothing: it was made up.
    Nothing,
}

/// Where an allowed connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) name: HostName,
    pub(crate) port: u16,
    /// The host's own loopback, rather than what the name resolves to.
    pub(crate) host: bool,
}

impl Policy {
    pub(crate) fn new(rules: Vec<EgressRule>) -> Self {
        let addresses =
            synthetic_addresses(&rules).into_iter().map(|(name, address)| (address, name)).collect();
        Self { rules, addresses }
    }

    pub(crate) fn target(&self, address: Ipv4Addr) -> Target {
        match self.addresses.get(&address) {
            Some(name) => Target::Exact(name.clone()),
            None if address == WILDCARD => Target::Wildcard,
            None => Target::Nothing,
        }
    }

    /// Allows or refuses. The host's alias is never resolved, whatever other rules say of it.
    pub(crate) fn decide(&self, name: &HostName, port: u16) -> Result<Destination, Refusal> {
        let host = name.as_str() == HOST_ALIAS;
        let fits = |rule: &&EgressRule| matches!(rule, EgressRule::Host(_)) == host;
        if self.rules.iter().filter(fits).any(|rule| rule.allows(name, port)) {
            Ok(Destination { name: name.clone(), port, host })
        } else if self.rules.iter().filter(fits).any(|rule| rule.names(name)) {
            Err(Refusal::Port { host: name.clone(), port })
        } else {
            Err(Refusal::NotListed { host: name.clone(), port })
        }
    }
}

/// Reads `host` or `host:port`. Nothing else is one: no user, no address, no escape, no empty port.
pub(crate) fn authority(text: &str, default_port: Option<u16>) -> Result<(HostName, u16), Refusal> {
    let invalid = |what| Refusal::Invalid { what, text: text.to_owned() };
    if text.starts_with('[') {
        return Err(Refusal::Address { text: text.to_owned() });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => {
            let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
            let port = port.parse().ok().filter(|port: &u16| digits && *port != 0);
            (host, port.ok_or_else(|| invalid("port"))?)
        }
        None => (text, default_port.ok_or_else(|| invalid("host and port"))?),
    };
    match host.parse() {
        Ok(name) => Ok((name, port)),
        Err(HostError::Address(_)) => Err(Refusal::Address { text: host.to_owned() }),
        Err(_) => Err(invalid("host name")),
    }
}
