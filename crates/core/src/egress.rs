//! Host names and the allow-list: the one canonical form in which every part of Offshoot compares them.
//!
//! Parsed once, at the edge; whoever dials uses the very value that was compared. Used by the DNS stub
//! (sandbox) and the egress proxy (gateway). Does not resolve and does not dial.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name under which a run reaches a port on the host's own loopback, if the user allowed that port.
pub const HOST_ALIAS: &str = "host.internal";

/// A host name in canonical form: lower-case letters, digits and hyphens in labels of 1 to 63 bytes, at most
/// 253 bytes (RFC 1123), no trailing dot, not an IP address in any spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Why a text is not a host name or not an allow-list entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The text is empty or longer than 253 bytes.
    #[error("a host name has 1 to 253 characters")]
    Length,
    /// A label is empty, too long, or has a character other than a letter, a digit or an inner hyphen.
    #[error("{0:?} is not a host name")]
    Label(String),
    /// The text is an IP address; only names are allowed.
    #[error("{0:?} is an address; name the host instead")]
    Address(String),
    /// The port is not a number from 1 to 65535.
    #[error("{0:?} is not a port")]
    Port(String),
    /// `host:PORT` without its port.
    #[error("the host's own loopback needs a port, as in host:8080")]
    HostPort,
}

impl HostName {
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it may be a name of the public Internet: it has several labels, and does not end in one that is set aside for
    /// other uses (RFC 6761, 6762, 7686, 8375; ICANN's `internal`), among them the names of clouds' metadata services.
    pub fn may_be_public(&self) -> bool {
        const SET_ASIDE: [&str; 6] = ["localhost", "local", "internal", "home.arpa", "invalid", "onion"];
        let within =
            |zone: &&str| self.0 == **zone || self.0.strip_suffix(zone).is_some_and(|r| r.ends_with('.'));
        self.0.contains('.') && !SET_ASIDE.iter().any(within)
    }
}

impl FromStr for HostName {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.len() > 253 {
            return Err(HostError::Length);
        }
        let valid = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if !text.split('.').all(valid) {
            return Err(HostError::Label(text.to_owned()));
        }
        // Every address spelling that inet_aton takes ends in a label that starts with a digit
        // (1.2.3.4, 0x7f.1, 2130706433); no public top-level domain does.
        if text.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit())) {
            return Err(HostError::Address(text.to_owned()));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for HostName {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One entry of the allow-list.
///
/// | text | allows |
/// |---|---|
/// | `example.org` | that host, ports 80 and 443 |
/// | `example.org:8443` | that host, that port only |
/// | `*.example.org` | every host below it (not itself), ports 80 and 443 |
/// | `host:11434` | port 11434 on the host's own loopback, reached inside as `host.internal:11434` |
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EgressRule {
    /// One name; `None` stands for ports 80 and 443.
    Name(HostName, Option<u16>),
    /// All names below one; `None` stands for ports 80 and 443.
    Below(HostName, Option<u16>),
    /// A port on the host's loopback.
    Host(u16),
}

impl EgressRule {
    /// Whether this rule allows `host` at `port`.
    pub fn allows(&self, host: &HostName, port: u16) -> bool {
        let port_fits = |rule: &Option<u16>| rule.map_or(port == 80 || port == 443, |p| p == port);
        match self {
            Self::Name(name, p) => name == host && port_fits(p),
            Self::Below(name, p) => below(host, name) && port_fits(p),
            Self::Host(p) => host.as_str() == HOST_ALIAS && *p == port,
        }
    }

    /// Whether this rule makes `host` known at all, at whatever port (what the DNS stub asks).
    pub fn names(&self, host: &HostName) -> bool {
        match self {
            Self::Name(name, _) => name == host,
            Self::Below(name, _) => below(host, name),
            Self::Host(_) => host.as_str() == HOST_ALIAS,
        }
    }

    /// The port the rule names, if it names one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Name(_, port) | Self::Below(_, port) => *port,
            Self::Host(port) => Some(*port),
        }
    }
}

fn below(host: &HostName, parent: &HostName) -> bool {
    host.0.strip_suffix(&parent.0).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl FromStr for EgressRule {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|p| digits && *p != 0);
                (name, Some(port.ok_or_else(|| HostError::Port(text.to_owned()))?))
            }
            None => (text, None),
        };
        if let Some(parent) = name.strip_prefix("*.") {
            return Ok(Self::Below(parent.parse()?, port));
        }
        // Compared in its one spelling: what is written is read again, and has to mean the same then.
        let name: HostName = name.parse()?;
        if name.0 == "host" || name.0 == HOST_ALIAS {
            return port.map(Self::Host).ok_or(HostError::HostPort);
        }
        Ok(Self::Name(name, port))
    }
}

impl TryFrom<String> for EgressRule {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        text.parse()
    }
}

impl From<EgressRule> for String {
    fn from(rule: EgressRule) -> Self {
        rule.to_string()
    }
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, None) => write!(f, "{name}"),
            Self::Name(name, Some(port)) => write!(f, "{name}:{port}"),
            Self::Below(name, None) => write!(f, "*.{name}"),
            Self::Below(name, Some(port)) => write!(f, "*.{name}:{port}"),
            Self::Host(port) => write!(f, "host:{port}"),
        }
    }
}

/// The range that synthetic addresses are taken from, and its prefix length (RFC 2544: never on the Internet).
pub const SYNTHETIC: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);

/// Where apps of other environments are found, from the first: the last addresses of the range but for some that are taken.
pub const SHARED: Ipv4Addr = Ipv4Addr::new(198, 19, 254, 0);

/// The synthetic address that all names allowed only by a wildcard share.
pub const WILDCARD: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 254);

/// The distinct exact names of an allow-list with the addresses they have inside a sandbox: the i-th (from 0) has
/// 198.18.0.0 + 1 + i. Appending rules never changes an address that was given before.
pub fn synthetic_addresses(rules: &[EgressRule]) -> Vec<(HostName, Ipv4Addr)> {
    let mut names: Vec<HostName> = Vec::new();
    for rule in rules {
        let name = match rule {
            EgressRule::Name(name, _) => name.clone(),
            EgressRule::Host(_) => HostName(HOST_ALIAS.to_owned()),
            EgressRule::Below(..) => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let first = u32::from(SYNTHETIC.0) + 1;
    // The last are taken: those of shared apps, the wildcard's, and the environment's own.
    let last = u32::from(SHARED) - 1;
    names.into_iter().zip(first..=last).map(|(name, n)| (name, Ipv4Addr::from(n))).collect()
}

/// The address that a name has inside a sandbox, `None` when no rule names it.
pub fn synthetic_address(rules: &[EgressRule], name: &HostName) -> Option<Ipv4Addr> {
    if !rules.iter().any(|rule| rule.names(name)) {
        return None;
    }
    Some(
        synthetic_addresses(rules)
            .into_iter()
            .find(|(n, _)| n == name)
            .map_or(WILDCARD, |(_, address)| address),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: another spelling was taken for a name, and read again from the log as this machine's loopback,
    /// or not at all.
    #[test]
    fn this_machine_is_known_in_every_spelling() {
        for text in ["host:5432", "HOST:5432", "Host.:5432", "host.internal:5432", "Host.Internal.:5432"] {
            assert_eq!(text.parse(), Ok(EgressRule::Host(5432)), "{text}");
        }
        for text in ["host", "HOST", "host.", "Host.Internal", "host.internal."] {
            assert_eq!(text.parse::<EgressRule>(), Err(HostError::HostPort), "{text}");
        }
    }

    #[test]
    fn names_have_one_spelling() {
        for (text, want) in [
            ("Example.ORG", Some("example.org")),
            ("example.org.", Some("example.org")),
            ("a-b.c", Some("a-b.c")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("", None),
            (".", None),
            ("a..b", None),
            ("example.org..", None),
            ("-a.b", None),
            ("a_b.c", None),
            ("evil.com\0.example.org", None),
            ("user@example.org", None),
            ("bücher.example", None),
            ("exa mple.org", None),
            ("127.0.0.1", None),
            ("127.1", None),
            ("2130706433", None),
            ("0x7f.0x1", None),
            ("017700000001", None),
            ("::1", None),
            ("[::1]", None),
            ("example.org/", None),
            ("example.org%00", None),
        ] {
            assert_eq!(text.parse::<HostName>().ok().as_ref().map(HostName::as_str), want, "{text:?}");
        }
    }

    #[test]
    fn names_that_cannot_be_public_are_known() {
        for (name, want) in [
            ("example.org", true),
            ("a.b.example", true),
            ("internal.example.org", true),
            ("notlocal.example", true),
            ("db", false),
            ("localhost", false),
            ("a.localhost", false),
            ("printer.local", false),
            ("host.internal", false),
            ("metadata.google.internal", false),
            ("nas.home.arpa", false),
            ("home.arpa", false),
            ("x.onion", false),
        ] {
            assert_eq!(name.parse::<HostName>().unwrap().may_be_public(), want, "{name}");
        }
    }

    #[test]
    fn rules_allow_what_they_say() {
        for (rule, host, port, want) in [
            ("example.org", "example.org", 443, true),
            ("example.org", "example.org", 80, true),
            ("example.org", "example.org", 22, false),
            ("example.org", "www.example.org", 443, false),
            ("example.org:22", "example.org", 22, true),
            ("example.org:22", "example.org", 443, false),
            ("*.example.org", "www.example.org", 443, true),
            ("*.example.org", "a.b.example.org", 443, true),
            ("*.example.org", "example.org", 443, false),
            ("*.example.org", "badexample.org", 443, false),
            ("host:8080", "host.internal", 8080, true),
            ("host:8080", "host.internal", 8081, false),
        ] {
            let rule: EgressRule = rule.parse().unwrap();
            assert_eq!(rule.allows(&host.parse().unwrap(), port), want, "{rule} {host}:{port}");
            assert_eq!(rule.to_string().parse::<EgressRule>().unwrap(), rule);
        }
        for bad in ["host", "a:0", "a:65536", "a:+1", "a:", "*.", "*", "1.2.3.4:80", "a:1:2", "**.a"] {
            assert!(bad.parse::<EgressRule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn synthetic_addresses_follow_the_order_of_distinct_names() {
        let texts = ["a.org", "*.b.org", "a.org:22", "c.org:5000", "host:8080", "host:9090"];
        let rules: Vec<EgressRule> = texts.iter().map(|t| t.parse().unwrap()).collect();
        let at = |n: &str| synthetic_address(&rules, &n.parse().unwrap()).map(|a| a.to_string());
        assert_eq!(at("a.org").as_deref(), Some("198.18.0.1"));
        assert_eq!(at("c.org").as_deref(), Some("198.18.0.2"));
        assert_eq!(at("host.internal").as_deref(), Some("198.18.0.3"));
        assert_eq!(at("x.b.org").as_deref(), Some("198.19.255.254"));
        assert_eq!(at("b.org"), None);
    }

    proptest::proptest! {
        #[test]
        fn parsing_is_idempotent(text in "[ -~]{0,40}") {
            if let Ok(name) = text.parse::<HostName>() {
                proptest::prop_assert_eq!(name.as_str().parse::<HostName>().unwrap(), name);
            }
        }
    }
}
