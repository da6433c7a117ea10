//! What a person writes to name an image, and what it means when half of it is left out.
//!
//! | written | means |
//! |---|---|
//! | `postgres` | `docker.io/library/postgres:latest` |
//! | `bitnami/redis:7` | `docker.io/bitnami/redis:7` |
//! | `localhost:5000/x/y:tag` | from the registry there |
//! | `postgres:16@sha256:…` | what has that digest, whatever the tag says today |
//! | `oci:PATH`, `oci:PATH:NAME` | an OCI image layout, as a directory or as a tar |
//! | `archive:PATH`, `archive:PATH:NAME` | what `docker save` or `podman save` wrote |
//!
//! Pure: nothing is looked up here.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A name of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Reference {
    /// In a registry.
    Registry(Remote),
    /// In an OCI image layout: a directory, or a tar of one.
    Layout {
        /// Where.
        path: PathBuf,
        /// Which, if there are several: its `org.opencontainers.image.ref.name`.
        name: Option<String>,
    },
    /// In a tar that `docker save` wrote.
    Archive {
        /// Where.
        path: PathBuf,
        /// Which, if there are several: one of its tags.
        name: Option<String>,
    },
}

/// A name in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// Host, with its port if one was given; `docker.io` where none was written.
    pub host: String,
    /// Path of the repository, `library/` included.
    pub repository: String,
    /// What to look up.
    pub tag: Option<String>,
    /// What it has to be.
    pub digest: Option<Digest>,
}

/// What was written names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Something is there that a name cannot have. Names are lower case; a tag has letters, digits, `.`, `_`, `-`.
    #[error("{text:?} names no image: {why}")]
    Wrong {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The host that names without a host are from.
const DEFAULT_HOST: &str = "docker.io";
/// The longest name; the distribution specification's clients stop at 255 for host and repository.
const MAX_NAME: usize = 255;

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why| ReferenceError::Wrong { text: text.chars().take(300).collect(), why };
        for (scheme, layout) in [("oci:", true), ("archive:", false)] {
            // `oci:16` would be an image called "oci"; a path says that it is one.
            let Some(rest) = text.strip_prefix(scheme).filter(|rest| layout || !rest.is_empty()) else {
                continue;
            };
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(name.to_owned())),
                None => (rest, None),
            };
            if path.is_empty() || path.contains('\0') || name.as_deref() == Some("") {
                return Err(wrong("a path has to follow"));
            }
            let path = PathBuf::from(path);
            return Ok(if layout { Self::Layout { path, name } } else { Self::Archive { path, name } });
        }
        Remote::parse(text).map(Self::Registry).map_err(wrong)
    }
}

impl Reference {
    /// The same, with a path that was relative taken as below `dir`.
    #[must_use]
    pub fn below(self, dir: &Path) -> Self {
        match self {
            Self::Registry(_) => self,
            Self::Layout { path, name } => Self::Layout { path: dir.join(path), name },
            Self::Archive { path, name } => Self::Archive { path: dir.join(path), name },
        }
    }
}

impl Remote {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(digest.parse().map_err(|_| "what follows @ is not sha256: and 64 hexadecimal digits")?),
            ),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before the last slash is that of a port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err("a tag has letters, digits, `.`, `_` and `-`, 128 at most");
        }
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':', '[']) || first == "localhost" => (first, rest),
            _ => (DEFAULT_HOST, name),
        };
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        if !is_host(host) {
            return Err("the part before the first slash is not a host");
        }
        let library = host == DEFAULT_HOST && !path.contains('/');
        let repository = if library { format!("library/{path}") } else { path.to_owned() };
        if !repository.split('/').all(is_component) || path.is_empty() {
            return Err("a name has lower-case letters and digits, separated by `.`, `_`, `-` or `/`");
        }
        if host.len() + repository.len() > MAX_NAME {
            return Err("it is too long");
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }

    /// Host without the port.
    pub(crate) fn host_name(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.host,
        }
    }

    /// Whether the registry is on this machine: it is then spoken to without TLS.
    pub(crate) fn is_loopback(&self) -> bool {
        let name = self.host_name().trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

fn is_tag(tag: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&tag.len()) && tag.bytes().all(rest) && !tag.starts_with(['.', '-'])
}

fn is_component(part: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    edge(part.bytes().next()) && edge(part.bytes().last()) && part.bytes().all(inner) && !part.contains("..")
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return port && address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    port && name.split('.').all(label)
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, path, name) = match self {
            Self::Registry(remote) => return remote.fmt(f),
            Self::Layout { path, name } => ("oci", path, name),
            Self::Archive { path, name } => ("archive", path, name),
        };
        write!(f, "{scheme}:{}", path.display())?;
        name.iter().try_for_each(|name| write!(f, ":{name}"))
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// A name as a person would write it, for messages: what is understood anyway is left out.
pub(crate) fn short(reference: &Reference) -> String {
    let text = match reference {
        Reference::Registry(Remote { tag: Some(_), digest: Some(_), .. }) => {
            reference.to_string().split('@').next().unwrap_or_default().to_owned()
        }
        _ => reference.to_string(),
    };
    let text = text.strip_prefix("docker.io/").unwrap_or(&text);
    text.strip_prefix("library/").unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_filled_in() {
        let digest = Digest::of(b"x");
        for (written, meant) in [
            ("postgres", "docker.io/library/postgres:latest".to_owned()),
            ("postgres:16", "docker.io/library/postgres:16".to_owned()),
            ("bitnami/redis", "docker.io/bitnami/redis:latest".to_owned()),
            ("docker.io/redis", "docker.io/library/redis:latest".to_owned()),
            ("index.docker.io/library/redis:7", "docker.io/library/redis:7".to_owned()),
            ("localhost:5000/x/y:tag", "localhost:5000/x/y:tag".to_owned()),
            ("localhost:5000/x", "localhost:5000/x:latest".to_owned()),
            ("localhost/x", "localhost/x:latest".to_owned()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".to_owned()),
            ("ghcr.io/a/b/c-d_e.f:V1.2_3", "ghcr.io/a/b/c-d_e.f:V1.2_3".to_owned()),
            (&format!("x@{digest}"), format!("docker.io/library/x@{digest}")),
            (&format!("x:1@{digest}"), format!("docker.io/library/x:1@{digest}")),
            ("oci:/a/b", "oci:/a/b".to_owned()),
            ("oci:a/b.tar:x:1", "oci:a/b.tar:x:1".to_owned()),
            ("archive:/a/b.tar", "archive:/a/b.tar".to_owned()),
        ] {
            let reference: Reference = written.parse().unwrap();
            assert_eq!(reference.to_string(), meant);
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in [
            "",
            ":",
            "/",
            "@",
            "a//b",
            "../etc",
            "a/../b",
            "A",
            "a:",
            "a:-x",
            "a b",
            "a\nb",
            "x@sha256:1",
            "-h.io/x",
            "h.io:0/x",
            "h.io:99999/x",
            "h.io:5000/",
            "[::1/x",
            "user@host.io/x",
            "h.io/x?y",
            "a..b/c:1",
            "http://h.io/x",
            "oci:",
            "archive:",
            "oci:a:",
            "ß",
            "h.io/%2e%2e/x",
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong:?}");
        }
        assert!("a".repeat(300).parse::<Reference>().is_err());
    }

    #[test]
    fn loopback_is_this_machine_only() {
        let loopback = |text: &str| match text.parse().unwrap() {
            Reference::Registry(remote) => remote.is_loopback(),
            _ => false,
        };
        assert!(loopback("localhost:5000/x") && loopback("127.0.0.1:5000/x") && loopback("127.1.2.3/x"));
        assert!(loopback("[::1]:1/x") && loopback("localhost/x"));
        assert!(!loopback("x") && !loopback("localhost.example.org/x") && !loopback("10.0.0.1/x"));
    }

    #[test]
    fn short_names_are_as_written() {
        for name in ["postgres:16", "bitnami/redis:7", "localhost:5000/x/y:tag", "oci:/a/b:c"] {
            assert_eq!(short(&name.parse().unwrap()), name);
        }
    }
}
