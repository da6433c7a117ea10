//! Connections. Over the Unix socket the kernel tells who is at the other end and only the daemon's own user is
//! served; over TCP the [`Guard`] decides request by request.
//!
//! Bounded: [`MAX_CONNECTIONS`] at a time, [`HEADER_TIME`] to send a request's head.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::process::geteuid;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::guard::Guard;

/// Connections at a time: every terminal, dashboard and follower of fifty tasks has one and there is room left; the
/// descriptors they take stay far below the limit of a process.
const MAX_CONNECTIONS: u32 = 512;
/// Time to send the head of a request, also the time a connection may stay idle between two.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// How long a stop waits for answers that are being sent.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after the system refused to accept (no descriptors left), so that the loop does not spin.
const BREATH: Duration = Duration::from_millis(100);

/// Serves the daemon's own user over a Unix socket until told to stop.
pub async fn serve_unix(listener: UnixListener, router: Router, stopping: CancellationToken) {
    serve(listener, router, stopping).await;
}

/// Serves whoever has the token over TCP until told to stop.
pub async fn serve_tcp(listener: TcpListener, router: Router, guard: Guard, stopping: CancellationToken) {
    let guarded = router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let verdict = guard.admit(request.headers());
        async move {
            match verdict {
                Ok(()) => next.run(request).await,
                Err(refusal) => refusal.into_response(),
            }
        }
    }));
    serve(listener, guarded, stopping).await;
}

/// What connections come from.
trait Door: Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection; `None` if its other end is nobody to be served.
    fn next(&self) -> impl Future<Output = io::Result<Option<Self::Stream>>> + Send;
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.accept().await?;
        let peer = stream.peer_cred()?.uid();
        Ok((peer == geteuid().as_raw()).then_some(stream))
    }
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<Option<TcpStream>> {
        let (stream, peer) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(peer.ip().is_loopback().then_some(stream))
    }
}

async fn serve(door: impl Door, router: Router, stopping: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let router = router.layer(middleware::from_fn(no_store));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = door.next() => accepted,
        };
        let stream = match accepted {
            Ok(Some(stream)) => stream,
            Ok(None) => {
                tracing::warn!("a connection of somebody else was refused");
                continue;
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()))
            .with_upgrades();
        let stopping = stopping.clone();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!("a connection ended: {error}");
            }
            drop(slot);
        });
    }
    // Every slot free again: every connection is over.
    if tokio::time::timeout(GRACE, slots.acquire_many(MAX_CONNECTIONS)).await.is_err() {
        tracing::info!("some connections did not end in time");
    }
}

/// Nothing of the API is to be kept by a cache or guessed at by a browser.
async fn no_store(request: Request, next: Next) -> Response {
    use axum::http::{HeaderValue, header};
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
