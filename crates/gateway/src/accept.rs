//! Accepting connections, a bounded number at a time. All of them end when the future is dropped.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

/// Why a listener cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It cannot be accepted on.
    #[error("cannot accept on a listener")]
    Listener {
        /// Why.
        source: io::Error,
    },
    /// It can be reached by other machines.
    #[error("{address} is not a loopback address")]
    Exposed {
        /// Where it listens.
        address: SocketAddr,
    },
}

/// A listener for Tokio, and where it listens.
pub(crate) fn prepare(listener: std::net::TcpListener) -> Result<(TcpListener, SocketAddr), ServeError> {
    let prepared = || {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    prepared().map_err(|source| ServeError::Listener { source })
}

/// Serves each connection; never ends.
pub(crate) async fn each<F, S>(listener: TcpListener, permits: Arc<Semaphore>, serve: F)
where
    F: Fn(TcpStream, SocketAddr) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        // Before accepting: what waits in the backlog is refused by the kernel when that is full.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory: connections that end give some back.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let served = serve(stream, peer);
        connections.spawn(async move {
            let _permit = permit;
            served.await;
        });
    }
}
