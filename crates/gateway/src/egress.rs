//! A run's egress proxy: accepts on listeners that were made inside the run's network namespace, lets through what the
//! allow-list allows, and tells of both. Who is calling is known by the listener: there is no token to steal.
//!
//! Dropping an [`Egress`] closes its listeners and ends every connection. Called by the engine; knows nothing of
//! sandboxes, tasks or agents.

pub(crate) mod address;
pub(crate) mod dial;
pub(crate) mod header;
pub mod hello;
pub(crate) mod hold;
pub(crate) mod http;
pub(crate) mod policy;
pub(crate) mod refusal;
pub(crate) mod report;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod upstream;

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use offshoot_core::egress::EgressRule;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};

use self::{
    dial::{Resolve, SystemResolver},
    hold::Ask,
    policy::{Policy, Target},
    refusal::Refusal,
    report::{Reporter, Sink},
    socket::{Activity, Socket},
    upstream::UpstreamProxy,
};

/// What a run may reach.
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    /// The allow-list, in the order that the sandbox knows: the synthetic addresses follow from it.
    pub rules: Vec<EgressRule>,
}

/// What a connection to a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// A request to an HTTP proxy: CONNECT, or an absolute URI.
    Proxy,
    /// A connection to a synthetic address; the listener's port is the port that was meant.
    Transparent,
}

/// A listener handed out of a sandbox.
#[derive(Debug)]
pub struct Listener {
    /// What a connection to it is.
    pub kind: ListenerKind,
    /// The socket.
    pub socket: std::net::TcpListener,
}

/// Bounds of one run's proxy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait in the listener's backlog. One takes at most some 300 KiB.
    pub connections: usize,
    /// Connections that are held at a time until somebody says whether they may go on; far fewer than `connections`, so
    /// that those of allowed hosts find their place.
    pub held: usize,
    /// For the head of a request or a ClientHello to arrive.
    pub head: Duration,
    /// For resolving a name, and again for reaching one address.
    pub connect: Duration,
    /// A connection in which no byte moves either way for so long is closed. Longer than any model provider lets a
    /// request that is not streamed take (ten minutes).
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            held: 64,
            head: Duration::from_secs(15),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(15 * 60),
        }
    }
}

/// How a proxy is run, beyond its policy.
#[derive(Clone)]
pub struct Options {
    /// Bounds.
    pub limits: Limits,
    /// Who hears what was allowed and refused; must not block.
    pub sink: Sink,
    /// Who is asked about hosts that no rule names; nobody: those are refused.
    pub ask: Option<Arc<dyn Ask>>,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolve>,
    /// The proxy that this machine itself has to use.
    pub upstream: Option<UpstreamProxy>,
}

impl Default for Options {
    /// Default bounds, nobody listening or asked, the machine's resolver, and the proxy that the daemon's environment names.
    fn default() -> Self {
        let upstream = UpstreamProxy::from_env(|name| std::env::var(name).ok()).unwrap_or_else(|error| {
            tracing::warn!(%error, "the proxy named by the environment is not used");
            None
        });
        Self {
            limits: Limits::default(),
            sink: Arc::new(|_| {}),
            ask: None,
            resolver: Arc::new(SystemResolver),
            upstream,
        }
    }
}

/// Why a listener cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot accept on a listener of the sandbox")]
pub struct ServeError {
    source: io::Error,
}

/// The proxy of one run. Dropping it ends all its connections.
pub struct Egress {
    shared: Arc<Shared>,
    accepting: Mutex<Vec<AbortHandle>>,
}

/// What all connections of a run share.
pub(crate) struct Shared {
    policy: RwLock<Arc<Policy>>,
    pub(crate) options: Options,
    pub(crate) reporter: Arc<Reporter>,
    pub(crate) totals: Arc<Totals>,
    permits: Arc<Semaphore>,
    held: Semaphore,
}

/// Bytes of all connections of a run.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) up: AtomicU64,
    pub(crate) down: AtomicU64,
}

impl Egress {
    /// Serves listeners under a policy with default options. Call it within a Tokio runtime.
    pub fn serve(listeners: Vec<Listener>, policy: EgressPolicy) -> Result<Self, ServeError> {
        Self::serve_with(listeners, policy, Options::default())
    }

    /// Serves listeners under a policy. Call it within a Tokio runtime.
    pub fn serve_with(
        listeners: Vec<Listener>,
        policy: EgressPolicy,
        options: Options,
    ) -> Result<Self, ServeError> {
        let shared = Shared {
            policy: RwLock::new(Arc::new(Policy::new(policy.rules))),
            reporter: Arc::new(Reporter::new(options.sink.clone())),
            totals: Arc::default(),
            permits: Arc::new(Semaphore::new(options.limits.connections)),
            held: Semaphore::new(options.limits.held),
            options,
        };
        let egress = Self { shared: Arc::new(shared), accepting: Mutex::default() };
        egress.add(listeners)?;
        Ok(egress)
    }

    /// Serves more listeners: those of rules that came later.
    pub fn add(&self, listeners: Vec<Listener>) -> Result<(), ServeError> {
        let mut accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners {
            let socket = listener
                .socket
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(listener.socket))
                .map_err(|source| ServeError { source })?;
            let task = tokio::spawn(accept(Arc::clone(&self.shared), listener.kind, socket));
            accepting.push(task.abort_handle());
        }
        Ok(())
    }

    /// Replaces the allow-list for connections and requests from now on; tunnels that are open stay.
    pub fn set_policy(&self, policy: EgressPolicy) {
        let policy = Arc::new(Policy::new(policy.rules));
        *self.shared.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Bytes sent to and received from the outside so far.
    pub fn traffic(&self) -> (u64, u64) {
        let totals = &self.shared.totals;
        (totals.up.load(Ordering::Relaxed), totals.down.load(Ordering::Relaxed))
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        // Each of these tasks owns its connections' tasks.
        for task in self.accepting.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl Shared {
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes a refusal and hands it back.
    pub(crate) fn refused(&self, refusal: Refusal) -> Refusal {
        self.reporter.refused(&refusal);
        refusal
    }
}

async fn accept(shared: Arc<Shared>, kind: ListenerKind, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of descriptors or memory: connections that end give some back.
                tracing::warn!(%error, "could not accept a connection out of a sandbox");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&shared.permits).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _permit = permit;
            let activity = Activity::new();
            tokio::select! {
                () = connection(&shared, kind, socket, &activity) => {}
                () = activity.idle_for(shared.options.limits.idle) => {}
            }
        });
    }
}

/// One connection from its first byte to its last.
async fn connection(shared: &Arc<Shared>, kind: ListenerKind, socket: TcpStream, activity: &Arc<Activity>) {
    let local = socket.local_addr();
    let _ = socket.set_nodelay(true);
    let socket = Socket::new(socket, Arc::clone(activity));
    if kind == ListenerKind::Proxy {
        return http::serve(shared, socket, http::Route::Proxy).await;
    }
    let Ok(local) = local else { return };
    let target = match local.ip() {
        IpAddr::V4(address) => shared.policy().target(address),
        IpAddr::V6(_) => Target::Nothing,
    };
    match (target, local.port()) {
        (Target::Exact(name), 80) => http::serve(shared, socket, http::Route::To(name, 80)).await,
        (Target::Exact(name), port) => stream::to(shared, socket, name, port).await,
        (Target::Wildcard, 80) => http::serve(shared, socket, http::Route::Any(80)).await,
        (Target::Wildcard, port) => stream::by_visible_name(shared, socket, port).await,
        (Target::Nothing, port) => {
            let _ = shared.refused(Refusal::Address { text: format!("{}:{port}", local.ip()) });
        }
    }
}
