//! Why a connection is not made, in words that a model can act on.
//!
//! Texts that came from inside are bounded and escaped here, once.

use std::fmt;

use offshoot_core::egress::{HOST_ALIAS, HostName};

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No rule names the host.
    NotListed { host: HostName, port: u16 },
    /// A rule names the host, but not this port.
    Port { host: HostName, port: u16 },
    /// The host was given as an address.
    Address { text: String },
    /// The request cannot be read as one that has a single meaning.
    Invalid { what: &'static str, text: String },
    /// The names that a connection carries differ.
    Mismatch { asked: HostName, found: String },
    /// The connection does not tell which of a wildcard's hosts it is for.
    Nameless { port: u16 },
    /// The host resolves to private addresses only.
    Private { host: HostName },
    /// Somebody was asked, and it may not be reached.
    Denied { host: HostName, port: u16, code: &'static str, why: String },
    /// Whoever wanted it did not wait for the answer.
    HungUp { host: HostName, port: u16 },
    /// The host does not resolve.
    Unresolved { host: HostName },
    /// The host does not answer.
    Unreachable { host: HostName, port: u16, error: String },
}

impl Refusal {
    /// The status of an HTTP answer that says so.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Invalid { .. } | Self::Nameless { .. } => 400,
            Self::Unresolved { .. } | Self::Unreachable { .. } => 502,
            _ => 403,
        }
    }

    /// Stable and searchable.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotListed { .. } => "not-listed",
            Self::Port { .. } => "port-not-listed",
            Self::Address { .. } => "address",
            Self::Invalid { .. } => "invalid",
            Self::Mismatch { .. } => "names-differ",
            Self::Nameless { .. } => "no-name",
            Self::Private { .. } => "private-address",
            Self::Denied { code, .. } => code,
            Self::HungUp { .. } => "hung-up",
            Self::Unresolved { .. } => "unresolved",
            Self::Unreachable { .. } => "unreachable",
        }
    }

    /// The host it is about, as far as it is known, and the port.
    pub(crate) fn about(&self) -> (String, Option<u16>) {
        match self {
            Self::NotListed { host, port }
            | Self::Port { host, port }
            | Self::Denied { host, port, .. }
            | Self::HungUp { host, port }
            | Self::Unreachable { host, port, .. } => (host.to_string(), Some(*port)),
            Self::Private { host } | Self::Unresolved { host } => (host.to_string(), None),
            Self::Mismatch { found, .. } => (shown(found), None),
            Self::Address { text } | Self::Invalid { text, .. } => (shown(text), None),
            Self::Nameless { port } => (String::new(), Some(*port)),
        }
    }

    /// Whether whoever was asked knows of it already, so that nobody else need be told.
    pub(crate) fn is_known(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::HungUp { .. })
    }

    /// Whether the allow-list, and not the network, is the reason.
    pub(crate) fn is_policy(&self) -> bool {
        !matches!(self, Self::Unresolved { .. } | Self::Unreachable { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = |host: &HostName, port: u16| match (host.as_str(), port) {
            (HOST_ALIAS, port) => format!("host:{port}"),
            (host, 80 | 443) => host.to_owned(),
            (host, port) => format!("{host}:{port}"),
        };
        match self {
            Self::NotListed { host, port } => write!(
                f,
                "host {host} is not on the allow-list; ask the person to allow it: offshoot run --allow {}",
                rule(host, *port)
            ),
            Self::Port { host, port } => write!(
                f,
                "host {host} is on the allow-list, but not its port {port}; ask the person to allow it: \
                 offshoot run --allow {}",
                rule(host, *port)
            ),
            Self::Address { text } => {
                write!(f, "{} is an address; only host names on the allow-list can be reached", shown(text))
            }
            Self::Invalid { what, text } => write!(f, "{:?} is not a valid {what}", shown(text)),
            Self::Mismatch { asked, found } => write!(
                f,
                "the connection is for host {asked}, but names {:?}; both must be the same",
                shown(found)
            ),
            Self::Nameless { port } => write!(
                f,
                "the connection to port {port} does not name its host (no TLS server name, no HTTP Host)"
            ),
            Self::Private { host } => write!(
                f,
                "host {host} has only private addresses, which a run cannot reach; a port of this machine is \
                 allowed with offshoot run --allow host:PORT and reached as {HOST_ALIAS}:PORT"
            ),
            Self::Denied { why, .. } => f.write_str(&why.replace(char::is_control, " ")),
            Self::HungUp { host, port } => write!(f, "nobody waits for host {host}, port {port}, any more"),
            Self::Unresolved { host } => write!(f, "host {host} is allowed, but does not resolve"),
            Self::Unreachable { host, port, error } => {
                write!(f, "host {host} is allowed, but port {port} cannot be reached: {error}")
            }
        }
    }
}

/// A text from inside, bounded and escaped.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_default).collect()
}
