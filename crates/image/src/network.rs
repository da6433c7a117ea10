//! HTTP for registries: what is fetched from where, how long it may take, and where an answer may send us.
//!
//! Invariants: TLS, checked against the machine's own roots, except towards this machine itself; no answer leads from
//! the network onto this machine (loopback, link-local addresses, where clouds keep credentials of the machine) or from
//! TLS to plain text; every wait is bounded, and ends when the work is no longer wanted. The machine's proxy variables
//! count, as with every engine.

use std::{
    io::{self, Read},
    net::IpAddr,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ureq::{
    Agent,
    http::Uri,
    tls::{Certificate, RootCerts, TlsConfig},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use crate::limits::Limits;

/// Says that a piece of work is not wanted any more, and ends what it waits for.
#[derive(Clone, Default)]
pub(crate) struct Cancel(Arc<Cancelled>);

#[derive(Default)]
struct Cancelled {
    yes: AtomicBool,
    agents: Mutex<Vec<Agent>>,
    changed: Condvar,
}

impl Cancel {
    pub fn cancelled(&self) -> bool {
        self.0.yes.load(Ordering::Acquire)
    }

    pub fn cancel(&self) {
        self.0.yes.store(true, Ordering::Release);
        let agents = std::mem::take(&mut *self.0.agents.lock().unwrap_or_else(PoisonError::into_inner));
        agents.into_iter().for_each(Agent::shutdown);
        self.0.changed.notify_all();
    }

    /// Waits, unless it is cancelled before.
    pub fn wait(&self, time: Duration) {
        let agents = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.changed.wait_timeout_while(agents, time, |_| !self.cancelled()));
    }

    fn watch(&self, agent: &Agent) {
        let mut agents = self.0.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cancelled() {
            agent.clone().shutdown();
        } else {
            agents.push(agent.clone());
        }
    }
}

/// The machine's certificates, read once: 140 files take 10 ms.
#[derive(Clone, Default)]
pub(crate) struct Roots(Arc<std::sync::OnceLock<TlsConfig>>);

impl Roots {
    fn tls(&self) -> TlsConfig {
        let make = || {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "could not read some of this machine's certificates");
            }
            let roots: Vec<_> =
                found.certs.iter().map(|it| Certificate::from_der(it.as_ref()).to_owned()).collect();
            TlsConfig::builder()
                .root_certs(RootCerts::Specific(Arc::new(roots)))
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .build()
        };
        self.0.get_or_init(make).clone()
    }
}

/// A client for one registry and where it sends us.
pub(crate) fn agent(loopback: bool, roots: &Roots, limits: &Limits, cancel: &Cancel) -> Agent {
    let mut config = Agent::config_builder()
        .tls_config(roots.tls())
        .https_only(!loopback)
        // Each is judged before it is followed.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("offshoot/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_send_request(Some(limits.stall))
        .timeout_recv_response(Some(limits.stall))
        .timeout_per_read(Some(limits.stall));
    if loopback {
        config = config.proxy(None);
    }
    let agent = Agent::with_parts(config.build(), DefaultConnector::new(), Guarded { loopback });
    cancel.watch(&agent);
    agent
}

/// Resolves names, and refuses those of this machine to who is not on this machine.
#[derive(Debug)]
struct Guarded {
    loopback: bool,
}

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        // A proxy of the user's own may be here.
        let proxy = config.proxy().is_some_and(|proxy| proxy.uri().authority() == uri.authority());
        if self.loopback || proxy || !found.iter().any(|address| is_own(address.ip())) {
            return Ok(found);
        }
        Err(ureq::Error::Io(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "its address is one of this machine, which only a registry on this machine may lead to",
        )))
    }
}

fn is_own(address: IpAddr) -> bool {
    let v4 = match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
    };
    match (v4, address) {
        (Some(v4), _) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast(),
        (None, IpAddr::V6(v6)) => v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local(),
        (None, IpAddr::V4(_)) => false,
    }
}

/// Whether an answer from `from` may send us to `to`.
pub(crate) fn may_lead(loopback: bool, to: &Uri) -> Result<(), &'static str> {
    match to.scheme_str() {
        Some("https") => {}
        Some("http") if loopback => {}
        Some("http") => return Err("it leads away from TLS"),
        _ => return Err("it leads to something that is not the web"),
    }
    let Some(host) = to.host() else { return Err("it leads nowhere") };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let own = host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_own);
    if own && !loopback {
        return Err("it leads to an address of this machine");
    }
    // Plain text stays on this machine.
    let loopback = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if to.scheme_str() == Some("http") && !loopback {
        return Err("it leads away from this machine without TLS");
    }
    Ok(())
}

/// Holds a body to a pace: one who sends a byte now and then would hold us for ever.
pub(crate) struct Paced<R> {
    inner: R,
    since: Instant,
    read: u64,
    grace: Duration,
    rate: u64,
    cancel: Cancel,
}

impl<R: Read> Paced<R> {
    pub fn new(inner: R, limits: &Limits, cancel: &Cancel) -> Self {
        let (grace, rate) = (limits.grace, limits.bytes_per_second.max(1));
        Self { inner, since: Instant::now(), read: 0, grace, rate, cancel: cancel.clone() }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancel.cancelled() {
            // Not `Interrupted`, which readers take as an invitation to try again.
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "not wanted any more"));
        }
        let count = self.inner.read(buf)?;
        self.read += count as u64;
        if count > 0 && self.since.elapsed() > self.grace + Duration::from_secs(self.read / self.rate) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it comes too slowly"));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_lead_to_the_network_only() {
        for (loopback, to, may) in [
            (false, "https://cdn.example.org/x", true),
            (false, "http://cdn.example.org/x", false),
            (false, "https://127.0.0.1/x", false),
            (false, "https://localhost/x", false),
            (false, "https://[::1]/x", false),
            (false, "https://[::ffff:127.0.0.1]/x", false),
            (false, "https://169.254.169.254/latest/meta-data", false),
            (false, "file:///etc/passwd", false),
            (true, "file:///etc/passwd", false),
            (true, "ftp://127.0.0.1/", false),
            (true, "http://127.0.0.1:5000/x", true),
            (true, "http://example.org/x", false),
            (true, "http://169.254.169.254/x", false),
            (true, "https://cdn.example.org/x", true),
        ] {
            let may_it = to.parse::<Uri>().map_err(|_| "not parsed").and_then(|to| may_lead(loopback, &to));
            assert_eq!(may_it.is_ok(), may, "{loopback} {to}");
        }
    }
}
