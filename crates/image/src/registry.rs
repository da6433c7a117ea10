//! The pulling half of the OCI distribution protocol, against hostile registries: every answer is limited in size and
//! time, and none leads where it should not (`network`).
//!
//! Credentials go to the registry that they are for, and to the token server that it names, over TLS; never on to where
//! it redirects. What fails for now is tried again a few times; a blob that broke off is gone on with where it broke.

use std::{
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, Uri, header},
};

use crate::{
    credentials::{Credential, CredentialError, CredentialFiles},
    digest::Digest,
    document::ACCEPT,
    limits::Limits,
    network::{Cancel, Paced, may_lead},
    reference::Remote,
};

/// Redirections of one request. Registries use one, to where they keep blobs.
const MAX_HOPS: usize = 5;
/// Bytes of a token server's answer. Tokens have up to 10,000.
const MAX_TOKEN: u64 = 1 << 20;
/// Bytes of an error's text that are read.
const MAX_ERROR: u64 = 16 << 10;
/// Before the second try; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// A blob that got this much further may break off again without counting as a failure.
const PROGRESS: u64 = 256 << 10;

/// Why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The user's credentials are not to be had.
    #[error("could not read the credentials for {0}")]
    Credentials(String, #[source] CredentialError),
    /// No connection, or it broke or fell silent, several times. Is the network there? Is the name right? Behind a
    /// proxy, `HTTPS_PROXY` has to be set for the daemon.
    #[error("{0} could not be reached")]
    Unreachable(String, #[source] Box<ureq::Error>),
    /// Not shown to who we are: log in with `docker login` or `podman login`, or the name is wrong (registries
    /// do not tell these apart).
    #[error("{host} does not show {repository} to us")]
    Denied {
        /// The registry.
        host: String,
        /// What was asked for.
        repository: String,
    },
    /// It is not there: look at the name and the tag.
    #[error("{host} has no {what}")]
    Missing {
        /// The registry.
        host: String,
        /// Tag or digest.
        what: String,
    },
    /// Too many requests from here: wait, or log in, which raises the limit on Docker Hub.
    #[error("{0} wants fewer requests from here")]
    Busy(String),
    /// Another answer than there should be. Often passing: try again.
    #[error("{host} answered with {status}{message}")]
    Status {
        /// The registry.
        host: String,
        /// HTTP status.
        status: u16,
        /// What it said, escaped; with a colon before it.
        message: String,
    },
    /// It sent us where we do not go. The registry is hostile or set up wrongly.
    #[error("{host} leads to {to:?}, which is refused: {why}")]
    Leads {
        /// The registry.
        host: String,
        /// Where to.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// It goes on longer than [`Limits`] allow.
    #[error("{host} sends too much: more than {limit} bytes of {what}")]
    TooLong {
        /// The registry.
        host: String,
        /// Of what.
        what: &'static str,
        /// Bytes.
        limit: u64,
    },
    /// What came is not what was asked for. The registry is broken or hostile: try another, pin a digest.
    #[error("{what} is not {wanted} but {found}")]
    Digest {
        /// What came.
        what: &'static str,
        /// The digest asked for.
        wanted: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The answer broke off or came too slowly. Try again.
    #[error("the answer of {0} broke off")]
    Broken(String, #[source] io::Error),
    /// A token server's answer is none.
    #[error("{0} sent no token that can be used")]
    Token(String),
    /// Not wanted any more.
    #[error("the work was interrupted")]
    Interrupted,
}

/// One repository of one registry.
pub(crate) struct Registry {
    remote: Remote,
    base: String,
    loopback: bool,
    agent: Agent,
    limits: Limits,
    cancel: Cancel,
    credentials: CredentialFiles,
    authorization: Mutex<Option<String>>,
}

/// A manifest or index as it came.
pub(crate) struct Manifest {
    pub bytes: Vec<u8>,
    pub media_type: Option<String>,
    pub digest: Digest,
}

impl Registry {
    pub fn new(
        remote: Remote,
        agent: Agent,
        credentials: CredentialFiles,
        limits: &Limits,
        cancel: &Cancel,
    ) -> Self {
        let loopback = remote.is_loopback();
        let host = if remote.host == "docker.io" { "registry-1.docker.io" } else { &remote.host };
        let scheme = if loopback { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{}", remote.repository);
        let authorization = Mutex::new(None);
        let (limits, cancel) = (*limits, cancel.clone());
        Self { remote, base, loopback, agent, limits, cancel, credentials, authorization }
    }

    /// By tag or digest; what is asked for by digest has it.
    pub fn manifest(&self, name: &str) -> Result<Manifest, RegistryError> {
        let url = format!("{}/manifests/{name}", self.base);
        let response = self.get(&url, Some(ACCEPT), 0, name)?;
        let text = |name| response.headers().get(name).and_then(|it: &header::HeaderValue| it.to_str().ok());
        let media_type = text("content-type").map(str::to_owned);
        let told = text("docker-content-digest").and_then(|it| it.parse::<Digest>().ok());
        let bytes = self.whole(response, self.limits.manifest_bytes, "manifest")?;
        let found = Digest::of(&bytes);
        match name.parse().ok().or(told) {
            Some(wanted) if wanted != found => {
                Err(RegistryError::Digest { what: "the manifest", wanted, found })
            }
            _ => Ok(Manifest { bytes, media_type, digest: found }),
        }
    }

    /// A blob's bytes, unchecked; gone on with where it breaks off. Errors hold a [`RegistryError`].
    pub fn blob(self: &Arc<Self>, digest: Digest, size: u64) -> impl Read + use<> {
        let url = format!("{}/blobs/{digest}", self.base);
        let blob =
            Blob { registry: self.clone(), url, digest, at: 0, size, body: None, failures: 0, failed_at: 0 };
        Paced::new(blob, &self.limits, &self.cancel)
    }

    fn get(
        &self,
        url: &str,
        accept: Option<&str>,
        from: u64,
        what: &str,
    ) -> Result<Response<Body>, RegistryError> {
        let mut pause = FIRST_PAUSE;
        let mut authenticated = false;
        let mut tried = 1;
        loop {
            if self.cancel.cancelled() {
                return Err(RegistryError::Interrupted);
            }
            let again = tried < self.limits.tries;
            let response = match self.follow(url, accept, from) {
                Ok(response) => response,
                Err(RegistryError::Unreachable(..)) if again && !self.cancel.cancelled() => {
                    self.cancel.wait(pause);
                    (pause, tried) = (pause * 2, tried + 1);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let host = || self.remote.host.clone();
            match response.status().as_u16() {
                200 | 206 => return Ok(response),
                401 if !authenticated => {
                    // A token that was good for the last request may be too old for this one.
                    authenticated = true;
                    let token = self.authenticate(response.headers())?;
                    *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                }
                401 | 403 => {
                    return Err(RegistryError::Denied {
                        host: host(),
                        repository: self.remote.repository.clone(),
                    });
                }
                404 => {
                    let what = format!("{}:{what}", self.remote.repository).replace(":sha256:", "@sha256:");
                    return Err(RegistryError::Missing { host: host(), what });
                }
                429 | 500..=599 if again => {
                    self.cancel.wait(pause);
                    (pause, tried) = (pause * 2, tried + 1);
                }
                429 => return Err(RegistryError::Busy(host())),
                status => {
                    return Err(RegistryError::Status { host: host(), status, message: self.said(response) });
                }
            }
        }
    }

    /// One request, to where it leads in the end.
    fn follow(&self, url: &str, accept: Option<&str>, from: u64) -> Result<Response<Body>, RegistryError> {
        let mut url = url.to_owned();
        for hop in 0..=MAX_HOPS {
            let mut request = self.agent.get(&url);
            if let Some(accept) = accept {
                request = request.header("accept", accept);
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(authorization) = authorization.filter(|_| hop == 0) {
                request = request.header("authorization", authorization);
            }
            let response = request.call().map_err(|error| self.unreachable(error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let to = response.headers().get(header::LOCATION).and_then(|it| it.to_str().ok());
            url = self.next(&url, to.unwrap_or_default())?;
        }
        Err(self.leads(&url, "it leads on and on"))
    }

    /// Where a `Location` means, if we go there.
    fn next(&self, at: &str, to: &str) -> Result<String, RegistryError> {
        let wrong = |why| self.leads(to, why);
        let target = match to.strip_prefix('/') {
            Some(_) if to.starts_with("//") => return Err(wrong("it names no scheme")),
            // The same host, spoken to in the same way.
            Some(_) => {
                let base: Uri = at.parse().map_err(|_| wrong("it leads nowhere"))?;
                let scheme = base.scheme_str().unwrap_or("https");
                format!("{scheme}://{}{to}", base.authority().map_or("", |it| it.as_str()))
            }
            None => to.to_owned(),
        };
        let uri: Uri = target.parse().map_err(|_| wrong("it is no address"))?;
        may_lead(self.loopback, &uri).map_err(wrong)?;
        Ok(target)
    }

    fn leads(&self, to: &str, why: &'static str) -> RegistryError {
        RegistryError::Leads { host: self.remote.host.clone(), to: to.chars().take(300).collect(), why }
    }

    fn unreachable(&self, error: ureq::Error) -> RegistryError {
        match self.cancel.cancelled() {
            true => RegistryError::Interrupted,
            false => RegistryError::Unreachable(self.remote.host.clone(), Box::new(error)),
        }
    }

    fn whole(
        &self,
        response: Response<Body>,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, RegistryError> {
        let host = || self.remote.host.clone();
        let mut bytes = Vec::new();
        let reader = Paced::new(
            response.into_body().into_with_config().limit(u64::MAX).reader(),
            &self.limits,
            &self.cancel,
        );
        let read = reader.take(limit + 1).read_to_end(&mut bytes);
        if self.cancel.cancelled() {
            return Err(RegistryError::Interrupted);
        }
        read.map_err(|source| RegistryError::Broken(host(), source))?;
        if bytes.len() as u64 > limit {
            return Err(RegistryError::TooLong { host: host(), what, limit });
        }
        Ok(bytes)
    }

    /// What an error answer says, for a person, with a colon before it.
    fn said(&self, response: Response<Body>) -> String {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<Said>,
        }
        #[derive(Deserialize)]
        struct Said {
            #[serde(default)]
            message: String,
        }
        let Ok(bytes) = self.whole(response, MAX_ERROR, "an error") else { return String::new() };
        let said = serde_json::from_slice::<Errors>(&bytes).ok().and_then(|it| it.errors.into_iter().next());
        match said.filter(|it| !it.message.is_empty()) {
            Some(said) => format!(": {}", said.message.escape_debug().take(300).collect::<String>()),
            None => String::new(),
        }
    }

    /// What to put into the `Authorization` of the requests that follow.
    fn authenticate(&self, headers: &HeaderMap) -> Result<String, RegistryError> {
        let host = || self.remote.host.clone();
        let denied = || RegistryError::Denied { host: host(), repository: self.remote.repository.clone() };
        let found =
            self.credentials.find(&self.remote).map_err(|it| RegistryError::Credentials(host(), it))?;
        let challenges = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|it| it.to_str().ok());
        let challenges: Vec<_> = challenges.collect();
        let basic =
            |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let bearer = challenges.iter().find_map(|it| parameters(it, "bearer"));
        let Some(challenge) = bearer else {
            return match found {
                Some(Credential::Basic { user, password })
                    if challenges
                        .iter()
                        .any(|it| it.get(..5).is_some_and(|it| it.eq_ignore_ascii_case("basic"))) =>
                {
                    Ok(basic(&user, &password))
                }
                _ => Err(denied()),
            };
        };
        let get = |name: &str| challenge.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let realm = get("realm").unwrap_or_default();
        let uri: Uri = realm.parse().map_err(|_| self.leads(realm, "it is no address"))?;
        may_lead(self.loopback, &uri).map_err(|why| self.leads(realm, why))?;
        let scope = format!("repository:{}:pull", self.remote.repository);
        let service = get("service").unwrap_or_default();
        let response = match found {
            Some(Credential::Refresh(token)) => self.agent.post(realm).send_form([
                ("grant_type", "refresh_token"),
                ("service", service),
                ("client_id", "offshoot"),
                ("scope", &scope),
                ("refresh_token", &token),
            ]),
            found => {
                let mut request = self.agent.get(realm).query("scope", &scope);
                if !service.is_empty() {
                    request = request.query("service", service);
                }
                if let Some(Credential::Basic { user, password }) = &found {
                    request = request.header("authorization", basic(user, password));
                }
                request.call()
            }
        };
        let response = response.map_err(|error| self.unreachable(error))?;
        match response.status().as_u16() {
            200 => {}
            429 => return Err(RegistryError::Busy(host())),
            500..=599 => {
                let status = response.status().as_u16();
                return Err(RegistryError::Status { host: host(), status, message: self.said(response) });
            }
            _ => return Err(denied()),
        }
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let bytes = self.whole(response, MAX_TOKEN, "token")?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        let token = token.and_then(|it| it.token.or(it.access_token));
        // Put into a header, so it is looked at first.
        let token = token.filter(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_graphic()));
        Ok(format!("Bearer {}", token.ok_or_else(|| RegistryError::Token(host()))?))
    }
}

/// A blob on its way.
struct Blob {
    registry: Arc<Registry>,
    url: String,
    digest: Digest,
    at: u64,
    size: u64,
    body: Option<Box<dyn Read + Send>>,
    failures: u32,
    failed_at: u64,
}

impl Blob {
    fn open(&mut self) -> Result<Box<dyn Read + Send>, RegistryError> {
        let response = self.registry.get(&self.url, None, self.at, &self.digest.to_string())?;
        let skip = if response.status() == 206 { 0 } else { self.at };
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let (limits, cancel) = (&self.registry.limits, &self.registry.cancel);
        let passed = io::copy(&mut Paced::new(&mut reader, limits, cancel).take(skip), &mut io::sink());
        match passed {
            Ok(passed) if passed == skip => Ok(Box::new(reader)),
            Ok(_) => Err(self.broken(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn broken(&self, source: io::Error) -> RegistryError {
        RegistryError::Broken(self.registry.remote.host.clone(), source)
    }
}

impl Read for Blob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let body = match &mut self.body {
                Some(body) => body,
                None => {
                    let body = self.open().map_err(io::Error::other)?;
                    self.body.insert(body)
                }
            };
            let error = match body.read(buf) {
                Ok(0) if self.at < self.size => io::ErrorKind::UnexpectedEof.into(),
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                Err(error) => error,
            };
            self.body = None;
            if self.registry.cancel.cancelled() {
                return Err(io::Error::other(RegistryError::Interrupted));
            }
            self.failures = if self.at >= self.failed_at + PROGRESS { 1 } else { self.failures + 1 };
            self.failed_at = self.at;
            if self.failures >= self.registry.limits.tries {
                return Err(io::Error::other(self.broken(error)));
            }
            self.registry.cancel.wait(FIRST_PAUSE * self.failures);
        }
    }
}

/// `Bearer realm="…",service="…"`: names in lower case, and values.
fn parameters(challenge: &str, scheme: &str) -> Option<Vec<(String, String)>> {
    let (found, mut rest) = challenge.split_once(' ')?;
    if !found.eq_ignore_ascii_case(scheme) {
        return None;
    }
    let mut all = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        all.push((name.trim_matches([' ', ',']).to_ascii_lowercase(), value.to_owned()));
        rest = after.trim_start_matches([' ', ',']);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let get = |text: &str| parameters(text, "bearer");
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            get(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:pull,push""#
            ),
            Some(vec![
                pair("realm", "https://auth.docker.io/token"),
                pair("service", "registry.docker.io"),
                pair("scope", "a:b:pull,push")
            ])
        );
        assert_eq!(get("BEARER Realm=x, service=y"), Some(vec![pair("realm", "x"), pair("service", "y")]));
        assert_eq!(get("Basic realm=x"), None);
        assert_eq!(get(r#"Bearer realm="x"#), None);
        assert_eq!(get("Bearer"), None);
    }
}
