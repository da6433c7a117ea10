//! Plain forwarding of a port of this machine into an environment: for what is no HTTP, or no browser.
//!
//! Called by the engine with listeners on loopback addresses. Knows nothing of where it leads.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use offshoot_core::egress::SYNTHETIC;
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet, time::timeout};

use crate::{
    accept::{self, ServeError},
    egress::socket::{Activity, Socket},
    pass,
    preview::Later,
};

/// Where a port leads.
pub trait Dial: Send + Sync + 'static {
    /// Opens a connection inside the environment, which is woken for that.
    fn dial(&self) -> Later<'_, TcpStream>;

    /// A connection is in use: the environment has to be awake.
    fn used(&self) -> Later<'_, ()>;
}

/// Bounds of a port.
#[derive(Clone, Copy, Debug)]
pub struct ForwardLimits {
    /// Connections at a time; more wait in the listener's backlog.
    pub connections: usize,
    /// For an environment to be woken and its port to be connected.
    pub dial: Duration,
    /// A connection in which no byte moves either way for so long is closed: a prompt left open overnight is not.
    pub idle: Duration,
    /// How often [`Dial::used`] hears of a connection in which bytes move.
    pub told: Duration,
}

impl Default for ForwardLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            dial: Duration::from_secs(60),
            idle: Duration::from_secs(24 * 60 * 60),
            told: Duration::from_secs(10),
        }
    }
}

/// A port that leads inside. Dropping it ends its connections.
pub struct Forward {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Forward {
    /// Serves a listener, which has to be on a loopback address or, in a sandbox's network, on a synthetic one. Call it within
    /// a Tokio runtime.
    pub fn serve(
        listener: TcpListener,
        dial: Arc<dyn Dial>,
        limits: ForwardLimits,
    ) -> Result<Self, ServeError> {
        let (listener, address) = accept::prepare(listener)?;
        if !address.ip().is_loopback() && !is_of_sandbox(address) {
            return Err(ServeError::Exposed { address });
        }
        let permits = Arc::new(Semaphore::new(limits.connections));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept::each(listener, permits, move |stream, _| {
            let dial = Arc::clone(&dial);
            async move {
                let activity = Activity::new();
                tokio::select! {
                    () = connection(&*dial, stream, limits, &activity) => {}
                    () = activity.idle_for(limits.idle) => {}
                    () = keep_awake(&*dial, limits.told, &activity) => {}
                }
            }
        }));
        Ok(Self { address, _accepting: accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Whether an address is of the range that only sandboxes have.
fn is_of_sandbox(address: SocketAddr) -> bool {
    let (first, length) = SYNTHETIC;
    let mask = u32::MAX << (32 - length);
    matches!(address, SocketAddr::V4(v4) if u32::from(*v4.ip()) & mask == u32::from(first))
}

async fn connection(dial: &dyn Dial, client: TcpStream, limits: ForwardLimits, activity: &Arc<Activity>) {
    let server = match timeout(limits.dial, dial.dial()).await {
        Ok(Ok(server)) => server,
        Ok(Err(unavailable)) => {
            tracing::info!(%unavailable, "a connection to a forwarded port was not made");
            return reset(&client);
        }
        Err(_) => return reset(&client),
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let sides = [client, server].map(|stream| Socket::new(stream, Arc::clone(activity)));
    let [client, server] = sides;
    pass::both_ways(client, server).await;
}

/// There is no language to say no in; an end would look like an answer.
fn reset(client: &TcpStream) {
    let _ = client.set_zero_linger();
}

/// Tells of use as long as bytes move. Never ends.
async fn keep_awake(dial: &dyn Dial, told: Duration, activity: &Activity) {
    let mut last = activity.last();
    loop {
        tokio::time::sleep(told).await;
        let now = activity.last();
        if now != last {
            last = now;
            let _ = dial.used().await;
        }
    }
}
