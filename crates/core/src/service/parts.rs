//! The small texts in a service: image, port, volume, path, restart. Each is read once, is then known to be sound, and is
//! written as it is read. What they mean is the environment's.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that is none of what it should be. One sentence; what follows the semicolon says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PartError(String);

fn wrong<T>(message: impl Into<String>) -> Result<T, PartError> {
    Err(PartError(message.into()))
}

/// Serde by way of the text.
macro_rules! by_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = PartError;
            fn try_from(text: String) -> Result<Self, PartError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(part: $type) -> Self {
                part.to_string()
            }
        }
    )*};
}

by_text!(Image, Port, Volume, RelativePath, Restart);

/// A path below the repository, with `/` between its names and no `.` or `..`; empty for the repository itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

impl RelativePath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RelativePath {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        if text.starts_with('/') || text.starts_with('~') {
            return wrong(format!(
                "{text:?} is a place on this machine; name one relative to the repository, which is all that others have too"
            ));
        }
        if text.len() > 1024 || text.contains(['\0', '\\', '\n']) {
            return wrong(format!("{text:?} is not a path"));
        }
        let names: Vec<&str> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        if names.contains(&"..") {
            return wrong(format!("{text:?} leads out of the repository"));
        }
        Ok(Self(names.join("/")))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

/// Where a service's image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Image {
    /// A registry, as `docker pull` takes it: `postgres:16`, `registry.example:5000/team/db@sha256:…`.
    Registry(String),
    /// A directory in OCI image layout.
    Layout(RelativePath),
    /// What `docker save` writes.
    Archive(RelativePath),
}

impl Image {
    /// The repository's last name without tag and digest, if it is a registry's: `postgres`.
    pub fn repository_name(&self) -> Option<&str> {
        let Self::Registry(text) = self else { return None };
        let text = text.split('@').next()?;
        text.rsplit('/').next()?.split(':').next()
    }

    /// Whether it is one of Docker's own: `postgres`, `library/postgres`, `docker.io/library/postgres`.
    pub fn is_official(&self) -> bool {
        let Self::Registry(text) = self else { return false };
        let text = text.strip_prefix("docker.io/").unwrap_or(text);
        !text.strip_prefix("library/").unwrap_or(text).contains('/')
    }
}

impl FromStr for Image {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let below = |path: &str| match path.parse::<RelativePath>()? {
            path if path.0.is_empty() => wrong(format!("{text:?} names no file")),
            path => Ok(path),
        };
        if let Some(path) = text.strip_prefix("oci:") {
            return below(path).map(Self::Layout);
        }
        if let Some(path) = text.strip_prefix("archive:") {
            return below(path).map(Self::Archive);
        }
        let no = || wrong(format!("{text:?} is not an image; write it as in postgres:16"));
        if text.is_empty() || text.len() > 512 || text.contains("${") {
            return no();
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|d| {
            d.strip_prefix("sha256:")
                .is_none_or(|h| h.len() != 64 || !h.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        }) {
            return no();
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
            _ => (None, name),
        };
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        let word = |t: &str, extra: &[u8]| {
            !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
        };
        let names = path.split('/').all(|part| {
            word(part, b"._-") && !part.starts_with(['.', '-']) && !part.contains(|c: char| c.is_uppercase())
        });
        let tag = tag.is_none_or(|t| t.len() <= 128 && word(t, b"._-") && !t.starts_with(['.', '-']));
        let registry = registry.is_none_or(|r| {
            let (host, port) = r.split_once(':').map_or((r, None), |(h, p)| (h, Some(p)));
            word(host, b".-") && port.is_none_or(|p| p.parse::<u16>().is_ok())
        });
        if names && tag && registry { Ok(Self::Registry(text.to_owned())) } else { no() }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(text) => f.write_str(text),
            Self::Layout(path) => write!(f, "oci:{path}"),
            Self::Archive(path) => write!(f, "archive:{path}"),
        }
    }
}

/// A port a service listens at, and under which it is also found on the environment's `localhost`, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Port {
    /// What the service listens at.
    pub container: u16,
    /// Where it is found on `localhost` inside.
    pub local: Option<u16>,
}

impl FromStr for Port {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let port = part.parse::<u16>().ok().filter(|p| digits && *p != 0);
            port.ok_or_else(|| match part {
                p if p.contains('-') => PartError(format!("{text:?} is a range; list the ports one by one")),
                _ => PartError(format!("{text:?} is not a port; write 5432 or \"5433:5432\"")),
            })
        };
        let ports = text.strip_suffix("/tcp").unwrap_or(text);
        if ports.ends_with("/udp") {
            return wrong(format!(
                "{text:?}: only TCP ports are listed; UDP is reached by the service's name"
            ));
        }
        let parts: Vec<&str> = ports.split(':').collect();
        match parts[..] {
            [container] => Ok(Self { container: number(container)?, local: None }),
            [local, container] => Ok(Self { container: number(container)?, local: Some(number(local)?) }),
            _ => wrong(format!(
                "{text:?} names an address; nothing of an environment is opened on this machine, so write \"5433:5432\""
            )),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.local {
            Some(local) => write!(f, "{local}:{}", self.container),
            None => write!(f, "{}", self.container),
        }
    }
}

/// What a service is shown at a path of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Volume {
    /// What is shown.
    pub source: VolumeSource,
    /// Where: an absolute path inside the service, without `.` and `..`, never `/`.
    pub target: String,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// What a volume shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VolumeSource {
    /// A directory of the environment's own, empty at first, kept as long as the environment. Two services that name the
    /// same share it.
    Named(String),
    /// A file or directory of the workspace.
    Workspace(RelativePath),
}

/// An absolute path inside a service, in its one spelling.
pub(super) fn inside(text: &str) -> Result<String, PartError> {
    let names: Vec<&str> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if !text.starts_with('/') || names.is_empty() || names.contains(&"..") || text.len() > 1024 {
        return wrong(format!("{text:?} is not a place inside a service; write an absolute path"));
    }
    if text.contains(['\0', '\n', ':']) {
        return wrong(format!("{text:?} is not a path"));
    }
    Ok(format!("/{}", names.join("/")))
}

impl FromStr for Volume {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let mut parts = text.split(':');
        let (source, target, mode, more) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(source), Some(target), None) = (source, target, more) else {
            return wrong(format!(
                "{text:?} is not a volume; write \"name:/path\" or \"./directory:/path:ro\" (what a service writes elsewhere is its own anyway)"
            ));
        };
        let read_only = match mode {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(other) => return wrong(format!("{other:?} is not a way to show a volume; write ro or rw")),
        };
        let source = if source.starts_with(['.', '/', '~']) {
            VolumeSource::Workspace(source.parse()?)
        } else {
            let name = (1..=63).contains(&source.len())
                && source.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            if !name {
                return wrong(format!(
                    "{source:?} is not a volume's name; a path of the repository begins with ./"
                ));
            }
            VolumeSource::Named(source.to_owned())
        };
        Ok(Self { source, target: inside(target)?, read_only })
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            VolumeSource::Named(name) => f.write_str(name)?,
            VolumeSource::Workspace(path) => write!(f, "./{}", path.as_str())?,
        }
        write!(f, ":{}{}", self.target, if self.read_only { ":ro" } else { "" })
    }
}

/// When a service is started again after it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    No,
    /// If it ended with another code than 0.
    OnFailure,
    /// Always.
    Always,
}

/// When, and how often at most, a service is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Restart {
    /// When.
    pub policy: RestartPolicy,
    /// How often in the life of the environment; 0 for [`RestartPolicy::No`].
    pub attempts: u32,
}

impl Restart {
    /// How often if nothing is said: a start that failed five times fails the sixth time too.
    pub const ATTEMPTS: u32 = 5;
    /// How often at most.
    pub const MOST: u32 = 100;

    pub(super) fn is_never(&self) -> bool {
        self.policy == RestartPolicy::No
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self { policy: RestartPolicy::No, attempts: 0 }
    }
}

impl FromStr for Restart {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let (word, attempts) = match text.split_once(':') {
            None => (text, Self::ATTEMPTS),
            Some((word, number)) => match number.parse() {
                Ok(attempts) if (1..=Self::MOST).contains(&attempts) => (word, attempts),
                _ => {
                    return wrong(format!("{number:?} is not a number of attempts from 1 to {}", Self::MOST));
                }
            },
        };
        match (word, text.contains(':')) {
            ("no", false) => Ok(Self::default()),
            ("on-failure", _) => Ok(Self { policy: RestartPolicy::OnFailure, attempts }),
            ("always", _) => Ok(Self { policy: RestartPolicy::Always, attempts }),
            ("unless-stopped", _) => wrong("an environment stops its services itself; write \"always\""),
            _ => wrong(format!("{text:?} is not known; write \"no\", \"on-failure\" or \"always\"")),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.policy {
            RestartPolicy::No => f.write_str("no"),
            RestartPolicy::OnFailure => write!(f, "on-failure:{}", self.attempts),
            RestartPolicy::Always => write!(f, "always:{}", self.attempts),
        }
    }
}

/// Whether a text can be the name of an environment variable.
pub(crate) fn is_variable(name: &str) -> bool {
    (1..=256).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
