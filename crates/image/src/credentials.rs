//! The user's own credentials for registries, from where Docker and podman keep them: files, and the helpers that those
//! name. They stay on the host: they are put into requests to the registry they belong to, and nowhere else.
//!
//! A registry without an entry is asked anonymously. What is in a file is not cached: `docker login` works at once.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::reference::Remote;

/// Files that may hold credentials, the first that has some for a registry counts.
#[derive(Clone, Debug, Default)]
pub struct CredentialFiles(Vec<PathBuf>);

/// Bytes of such a file. Real ones have a few hundred.
const MAX_FILE: u64 = 1 << 20;
/// Bytes of a helper's answer. Tokens have up to 10,000.
const MAX_ANSWER: u64 = 64 << 10;
/// How long a helper may take: some ask a cloud, none may ask a person.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to show to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// Name and password.
    Basic { user: String, password: String },
    /// A token that others can be had with.
    Refresh(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Why the user's credentials could not be read. Log in again with `docker login` or `podman login`, or take the entry
/// out of the file.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file is not what Docker writes.
    #[error("could not read credentials from {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program that a file names did not do its work.
    #[error("the credential helper {program} did not work: {why}")]
    Helper {
        /// Its name.
        program: String,
        /// What happened.
        why: String,
    },
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl CredentialFiles {
    /// Those of whoever runs this process: podman's first, as it does itself, then Docker's.
    pub fn of_this_user() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let places = [
            variable("REGISTRY_AUTH_FILE"),
            variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            variable("XDG_CONFIG_HOME")
                .map(|dir| dir.join("containers/auth.json"))
                .or_else(|| below_home(".config/containers/auth.json")),
            variable("DOCKER_CONFIG")
                .map(|dir| dir.join("config.json"))
                .or_else(|| below_home(".docker/config.json")),
        ];
        Self(places.into_iter().flatten().collect())
    }

    /// These, and no others.
    pub fn only(files: Vec<PathBuf>) -> Self {
        Self(files)
    }

    /// What there is for the registry of this image.
    pub(crate) fn find(&self, remote: &Remote) -> Result<Option<Credential>, CredentialError> {
        for path in &self.0 {
            let failed = |source| CredentialError::File { path: path.clone(), source };
            let Some(bytes) = read(path).map_err(failed)? else { continue };
            let config: Config = serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
            if let Some(found) = config.find(remote, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Config {
    fn find(&self, remote: &Remote, path: &Path) -> Result<Option<Credential>, CredentialError> {
        let mut keys = Vec::new();
        // podman's entries may name a repository or a part of its path; the longest counts.
        let mut name = format!("{}/{}", remote.host, remote.repository);
        while let Some((shorter, _)) = name.rsplit_once('/') {
            keys.push(name.clone());
            name = shorter.to_owned();
        }
        keys.push(name);
        let server = match remote.host.as_str() {
            "docker.io" => {
                keys.extend(["index.docker.io", "registry-1.docker.io"].map(str::to_owned));
                "https://index.docker.io/v1/"
            }
            host => host,
        };
        if let Some(helper) = keys.iter().find_map(|key| self.helpers.get(key)) {
            return ask(helper, server);
        }
        let entry = keys.iter().find_map(|key| {
            self.auths.iter().find(|(name, _)| bare(name) == key.as_str()).map(|(_, entry)| entry)
        });
        let found =
            entry.map(|entry| entry.credential()).transpose().map_err(|why| CredentialError::File {
                path: path.to_owned(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, why),
            })?;
        if let Some(Some(found)) = found {
            return Ok(Some(found));
        }
        match &self.store {
            Some(store) => ask(store, server),
            None => Ok(None),
        }
    }
}

impl Entry {
    fn credential(&self) -> Result<Option<Credential>, &'static str> {
        if let Some(token) = self.identitytoken.as_ref().filter(|it| !it.is_empty()) {
            return Ok(Some(Credential::Refresh(token.clone())));
        }
        if let Some(auth) = self.auth.as_ref().filter(|it| !it.is_empty()) {
            let wrong = "an entry's auth is not user:password in base64";
            let text = STANDARD.decode(auth).ok().and_then(|it| String::from_utf8(it).ok()).ok_or(wrong)?;
            let (user, password) = text.split_once(':').ok_or(wrong)?;
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Credential::Basic { user: user.to_owned(), password }));
        }
        Ok(match (&self.username, &self.password) {
            (Some(user), Some(password)) => {
                Some(Credential::Basic { user: user.clone(), password: password.clone() })
            }
            _ => None,
        })
    }
}

/// `https://host/v1/` was how Docker once named registries.
fn bare(name: &str) -> &str {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let name = name.strip_suffix('/').unwrap_or(name);
    name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name)
}

fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        // A daemon for one user does not read another's.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound
                    | std::io::ErrorKind::NotADirectory
                    | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Asks `docker-credential-NAME` for what it has for a server.
fn ask(name: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Username")]
        user: String,
        #[serde(rename = "Secret")]
        secret: String,
    }
    let program = format!("docker-credential-{name}");
    let failed = |why: String| CredentialError::Helper { program: program.clone(), why };
    if name.is_empty()
        || !name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'))
    {
        return Err(failed("that is not a name of a program".to_owned()));
    }
    let mut command = Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (send, answer) = mpsc::channel();
    let server = server.to_owned();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let (Some(mut stdin), Some(stdout)) = (stdin, stdout) {
            let _ = stdin.write_all(server.as_bytes());
            drop(stdin);
            let _ = stdout.take(MAX_ANSWER).read_to_end(&mut bytes);
        }
        let _ = send.send(bytes);
    });
    let bytes = answer.recv_timeout(PATIENCE);
    if bytes.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let bytes = bytes.map_err(|_| failed(format!("it took more than {} s", PATIENCE.as_secs())))?;
    if !status.success() {
        // "credentials not found in native keychain", as all of them say it.
        return match String::from_utf8_lossy(&bytes).contains("credentials not found") {
            true => Ok(None),
            false => Err(failed(format!("it ended with {status}"))),
        };
    }
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|_| failed("its answer is no JSON".to_owned()))?;
    Ok(Some(match answer.user.as_str() {
        "<token>" => Credential::Refresh(answer.secret),
        _ => Credential::Basic { user: answer.user, password: answer.secret },
    }))
}
