//! Connections. Over the Unix socket the kernel tells who is at the other end and only the daemon's own user is
//! served; over TCP, with TLS or without, the [`Guard`] decides request by request.
//!
//! Bounded: [`MAX_CONNECTIONS`] of a listener at a time, [`HEADER_TIME`] to send a request's head, as much for TLS to begin.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::geteuid;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tower::ServiceExt;

use crate::{
    dashboard::{
        access::Access,
        page::{self, Asset},
        peer,
    },
    guard::{Caller, Guard},
};

/// Connections at a time: every terminal, dashboard and follower of fifty tasks has one and there is room left; the
/// descriptors they take stay far below the limit of a process.
const MAX_CONNECTIONS: u32 = 512;
/// Time to send the head of a request, also the time a connection may stay idle between two.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// How long a stop waits for answers that are being sent.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after the system refused to accept (no descriptors left), so that the loop does not spin.
const BREATH: Duration = Duration::from_millis(100);

/// What is known of a connection besides what its requests say.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Known>);

#[derive(Debug)]
struct Known {
    /// The other end and this one, over TCP.
    ends: Option<(SocketAddr, SocketAddr)>,
    own: OnceLock<bool>,
    /// Ends the connection, and what it was upgraded to.
    cut: CancellationToken,
    /// The device that it was found to be of last.
    device: Mutex<Option<String>>,
}

impl Connection {
    fn new(ends: Option<(SocketAddr, SocketAddr)>) -> Self {
        let (own, device) = Default::default();
        Self(Arc::new(Known { ends, own, cut: CancellationToken::new(), device }))
    }

    /// Whether a process of this user's, or of root's, which may do everything anyway, is at the other end. Asks the kernel
    /// once.
    pub(crate) fn is_own(&self) -> bool {
        *self.0.own.get_or_init(|| {
            let Some((peer, own)) = self.0.ends else { return true };
            peer::owner(peer, own).is_some_and(|user| user == 0 || user == geteuid().as_raw())
        })
    }

    /// Has it cut when this device is sent away; `false` if that has happened.
    pub(crate) fn belongs_to(&self, access: &Access, device: &str) -> bool {
        let mut known = self.0.device.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(device) {
            if !access.bind(device, self) {
                return false;
            }
            *known = Some(device.to_owned());
        }
        true
    }

    /// Ends it, and what it was upgraded to.
    pub(crate) fn cut(&self) {
        self.0.cut.cancel();
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.0.cut.is_cancelled()
    }

    /// Whether both are one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The address at the other end.
    pub(crate) fn address(&self) -> IpAddr {
        self.0.ends.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |(peer, _)| peer.ip().to_canonical())
    }
}

/// Serves the daemon's own user over a Unix socket until told to stop.
pub async fn serve_unix(listener: UnixListener, router: Router, stopping: CancellationToken) {
    let router = router.layer(middleware::from_fn(async |mut request: Request, next: Next| {
        request.extensions_mut().insert(Caller::Owner);
        next.run(request).await
    }));
    serve(listener, router, stopping).await;
}

/// Serves whoever the guard admits over loopback TCP until told to stop: the API, and the dashboard's pages.
pub async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    guard: Guard,
    assets: &'static [Asset],
    stopping: CancellationToken,
) {
    serve(listener, guarded(router, guard, assets), stopping).await;
}

/// The same over TLS, for other machines.
pub async fn serve_tls(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    router: Router,
    guard: Guard,
    assets: &'static [Asset],
    stopping: CancellationToken,
) {
    serve(Tls { listener, acceptor }, guarded(router, guard, assets), stopping).await;
}

fn guarded(router: Router, guard: Guard, assets: &'static [Asset]) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let guard = guard.clone();
        async move {
            let (mut parts, body) = request.into_parts();
            let api = page::is_api(parts.uri.path());
            let admitted = match parts.extensions.get::<Connection>() {
                Some(connection) => guard.admit(&parts, connection),
                None => guard.admit(&parts, &Connection::new(None)),
            };
            let mut response = match admitted {
                Err(refusal) => refusal.into_response(),
                Ok((caller, site)) if api => {
                    parts.extensions.insert(caller);
                    parts.extensions.insert(site);
                    next.run(Request::from_parts(parts, body)).await
                }
                Ok(_) => page::answer(assets, &parts.method, parts.uri.path(), &parts.headers),
            };
            page::secure(api, response.headers_mut());
            response
        }
    }))
}

/// What connections come from.
trait Door: Sync {
    type Accepted: Send + 'static;
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection; `None` if its other end is nobody to be served.
    fn next(&self) -> impl Future<Output = io::Result<Option<(Self::Accepted, Connection)>>> + Send;

    /// Makes it one that HTTP is spoken over. Takes its time, so others are accepted meanwhile.
    fn begin(
        &self,
        accepted: Self::Accepted,
    ) -> impl Future<Output = io::Result<Self::Stream>> + Send + 'static;
}

impl Door for UnixListener {
    type Accepted = UnixStream;
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<Option<(UnixStream, Connection)>> {
        let (stream, _) = self.accept().await?;
        let peer = stream.peer_cred()?.uid();
        Ok((peer == geteuid().as_raw()).then_some((stream, Connection::new(None))))
    }

    fn begin(&self, accepted: UnixStream) -> impl Future<Output = io::Result<UnixStream>> + Send + 'static {
        std::future::ready(Ok(accepted))
    }
}

impl Door for TcpListener {
    type Accepted = TcpStream;
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<Option<(TcpStream, Connection)>> {
        let (stream, connection) = accept(self).await?;
        Ok(connection.address().is_loopback().then_some((stream, connection)))
    }

    fn begin(&self, accepted: TcpStream) -> impl Future<Output = io::Result<TcpStream>> + Send + 'static {
        std::future::ready(Ok(accepted))
    }
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Door for Tls {
    type Accepted = TcpStream;
    type Stream = TlsStream<TcpStream>;

    async fn next(&self) -> io::Result<Option<(TcpStream, Connection)>> {
        accept(&self.listener).await.map(Some)
    }

    fn begin(&self, accepted: TcpStream) -> impl Future<Output = io::Result<Self::Stream>> + Send + 'static {
        let accepting = self.acceptor.accept(accepted);
        async { timeout(HEADER_TIME, accepting).await? }
    }
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Connection)> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let own = stream.local_addr()?;
    Ok((stream, Connection::new(Some((peer, own)))))
}

async fn serve(door: impl Door, router: Router, stopping: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let router = router.layer(middleware::from_fn(no_store));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let next = tokio::select! {
            () = stopping.cancelled() => break,
            next = door.next() => next,
        };
        let (accepted, known) = match next {
            Ok(Some(accepted)) => accepted,
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
        let beginning = door.begin(accepted);
        let (router, stopping) = (router.clone(), stopping.clone());
        tokio::spawn(async move {
            let begun = tokio::select! {
                begun = beginning => begun,
                () = stopping.cancelled() => return,
            };
            match begun {
                Ok(stream) => converse(Severable::new(stream, &known), router, known, stopping).await,
                Err(error) => tracing::debug!("a connection did not begin: {error}"),
            }
            drop(slot);
        });
    }
    // Every slot free again: every connection is over.
    if timeout(GRACE, slots.acquire_many(MAX_CONNECTIONS)).await.is_err() {
        tracing::info!("some connections did not end in time");
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    known: Connection,
    stopping: CancellationToken,
) {
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(known.clone());
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
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
}

/// A stream that ends when its connection is cut, whatever is spoken over it by then.
struct Severable<S> {
    stream: S,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Nobody has to cut what is over.
    _over: DropGuard,
}

impl<S> Severable<S> {
    fn new(stream: S, known: &Connection) -> Self {
        let cut = &known.0.cut;
        Self { stream, cut: Box::pin(cut.clone().cancelled_owned()), _over: cut.clone().drop_guard() }
    }

    fn is_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Severable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_cut(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Severable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_cut(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_cut(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Nothing of the API is to be kept by a cache or guessed at by a browser. Pages say themselves what may be kept.
async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
