//! The reverse proxy to what runs inside environments: `http://<app>.<task>.localhost:<port>/`.
//!
//! Invariants: a request goes where its own host says and nowhere else; what is reached is only what [`Destinations`]
//! dials; pages of one task cannot use another's (`origin`), nor can a name that was rebound to this machine (`name`);
//! nothing is buffered whole. Called by the engine; knows nothing of sandboxes, and of tasks only their names.

#[cfg(fuzzing)]
pub use framing::heads;

mod framing;
mod head;
mod name;
mod origin;
mod page;
mod refusal;
mod request;
mod upstream;
mod wire;

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet};

pub use self::{
    name::PreviewName,
    refusal::{Reason, Unavailable},
};
use crate::{
    accept::{self, ServeError},
    egress::socket::Activity,
};

/// What an HTTP/2 sender may have on its way in one stream; four times that in a connection.
const WINDOW: u32 = 1 << 20;

/// Sooner or later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send + 'a>>;

/// Where previews lead.
pub trait Destinations: Send + Sync + 'static {
    /// Opens a connection to an app inside its environment, which is woken for that.
    fn dial<'a>(&'a self, name: &'a PreviewName) -> Later<'a, TcpStream>;

    /// A connection that was dialled is about to be used again, or is in use: the environment has to be awake. Called
    /// for every request that does not dial, so it must be cheap when there is nothing to do.
    fn used<'a>(&'a self, name: &'a PreviewName) -> Later<'a, ()>;

    /// What there is, of one task or of all, for the proxy's own pages.
    fn list<'a>(&'a self, task: Option<&'a str>) -> Later<'a, Vec<Listed>>;
}

/// An app in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: PreviewName,
    /// A word on its state, for a person.
    pub state: String,
}

/// Bounds of the proxy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time, of all tasks; more wait in the listener's backlog. A browser opens six a host.
    pub connections: usize,
    /// For the head of a request to arrive, and for the next request on a connection.
    pub head: Duration,
    /// For an environment to be woken and an app to be connected.
    pub dial: Duration,
    /// A request is given up if no byte has moved for so long before its answer has begun: some development servers
    /// build for minutes.
    pub answer: Duration,
    /// A connection in which no byte moves either way for so long is closed. Long: a page left open overnight waits on
    /// its WebSocket for the next change.
    pub idle: Duration,
    /// How often [`Destinations::used`] hears of a connection in which bytes move without requests.
    pub told: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head: Duration::from_secs(60),
            dial: Duration::from_secs(60),
            answer: Duration::from_secs(15 * 60),
            idle: Duration::from_secs(24 * 60 * 60),
            told: Duration::from_secs(10),
        }
    }
}

/// The proxy. Dropping it ends all its connections.
pub struct Preview {
    addresses: Vec<SocketAddr>,
    _accepting: JoinSet<()>,
}

/// What all connections share.
struct Shared {
    destinations: Arc<dyn Destinations>,
    limits: Limits,
}

impl Preview {
    /// Serves listeners, which have to be on loopback addresses. Call it within a Tokio runtime.
    pub fn serve(
        listeners: Vec<TcpListener>,
        destinations: Arc<dyn Destinations>,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let shared = Arc::new(Shared { destinations, limits });
        let permits = Arc::new(Semaphore::new(limits.connections));
        let mut addresses = Vec::new();
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let (listener, address) = accept::prepare(listener)?;
            if !address.ip().is_loopback() {
                return Err(ServeError::Exposed { address });
            }
            addresses.push(address);
            let shared = Arc::clone(&shared);
            accepting.spawn(accept::each(listener, Arc::clone(&permits), move |stream, peer: SocketAddr| {
                let shared = Arc::clone(&shared);
                async move {
                    let activity = Activity::new();
                    tokio::select! {
                        () = request::serve(&shared, stream, peer.ip(), &activity) => {}
                        () = activity.idle_for(shared.limits.idle) => {}
                    }
                }
            }));
        }
        Ok(Self { addresses, _accepting: accepting })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}
