//! One connection from a browser: each of its requests is routed by its own host, and by nothing else.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::{Bytes, BytesMut};
use http_body_util::{Either, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use super::{
    Shared,
    framing::{self, Fault, MOST_HEAD},
    head,
    name::{Asked, Place, PreviewName},
    origin, page,
    refusal::Refusal,
    upstream::{Body, Upstreams},
    wire::{Inspected, REFUSED},
};
use crate::{
    egress::socket::{Activity, Socket},
    pass,
};

/// How HTTP/2 with prior knowledge begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a connection may buffer of a body.
const BUFFER: usize = 512 * 1024;
/// Streams of one HTTP/2 connection at a time.
const MOST_STREAMS: u32 = 256;

struct Connection {
    shared: Arc<Shared>,
    peer: IpAddr,
    upstreams: Upstreams,
    fault: Arc<OnceLock<Fault>>,
    /// What the connection becomes when HTTP is over: the two sides of an upgrade.
    next: Mutex<Option<(OnUpgrade, OnUpgrade)>>,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(shared: &Arc<Shared>, stream: TcpStream, peer: IpAddr, activity: &Arc<Activity>) {
    let _ = stream.set_nodelay(true);
    let socket = Socket::new(stream, Arc::clone(activity));
    let Ok(Some((socket, is_http2))) = timeout(shared.limits.head, beginning(socket)).await else { return };
    let connection = Arc::new(Connection {
        shared: Arc::clone(shared),
        peer,
        upstreams: Upstreams::new(Arc::clone(shared), Arc::clone(activity), !is_http2),
        fault: Arc::default(),
        next: Mutex::default(),
    });
    let served = async {
        if is_http2 { over_http2(&connection, socket).await } else { over_http1(&connection, socket).await }
    };
    tokio::select! {
        () = served => {}
        () = connection.keep_awake(activity) => {}
    }
}

/// Reads until it is clear whether this is HTTP/2; what was read is put back.
async fn beginning(mut socket: Socket) -> Option<(Socket, bool)> {
    let mut bytes = BytesMut::with_capacity(PREFACE.len());
    loop {
        let is_http2 = bytes == PREFACE;
        if is_http2 || !PREFACE.starts_with(&bytes) {
            return Some((socket.put_back(bytes.freeze()), is_http2));
        }
        let mut rest = [0; PREFACE.len()];
        let length = socket.read(&mut rest[..PREFACE.len() - bytes.len()]).await.ok()?;
        if length == 0 {
            return None;
        }
        bytes.extend_from_slice(&rest[..length]);
    }
}

async fn over_http1(connection: &Arc<Connection>, socket: Socket) {
    let service = service_fn(|request| {
        let connection = Arc::clone(connection);
        async move { Ok::<_, Infallible>(connection.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(connection.shared.limits.head)
        .max_buf_size(BUFFER)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(Inspected::new(socket, Arc::clone(&connection.fault))), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection from a browser ended badly");
    }
    let next = connection.next.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((client, server)) = next else { return };
    let (Ok(client), Ok(server)) = (client.await, server.await) else { return };
    let (Ok(client), Ok(server)) =
        (client.downcast::<TokioIo<Inspected>>(), server.downcast::<TokioIo<Socket>>())
    else {
        return;
    };
    let client = client.io.into_inner().into_socket().put_back(client.read_buf);
    let server = server.io.into_inner().put_back(server.read_buf);
    pass::both_ways(client, server).await;
}

async fn over_http2(connection: &Arc<Connection>, socket: Socket) {
    let service = {
        let connection = Arc::clone(connection);
        service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(connection.answer(request).await) }
        })
    };
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(super::WINDOW)
        .initial_connection_window_size(super::WINDOW * 4)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_HEAD as u32)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP/2 connection ended badly");
    }
}

impl Connection {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let for_page = request.headers().clone();
        let answered = self.routed(request).await;
        answered.unwrap_or_else(|refusal| {
            let mut response = page::refused(&refusal, &for_page);
            // What follows may be the body of a request that was not read.
            if self.upstreams.is_sequential() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response.map(|page| Either::Left(Full::new(page)))
        })
    }

    async fn routed(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        if let Some(fault) = self.fault.get()
            && request.headers().get(header::HOST).is_some_and(|host| host == REFUSED)
        {
            return Err(match fault {
                Fault::TooLarge => Refusal::TooLarge,
                Fault::Malformed(what) => Refusal::Malformed { what },
            });
        }
        if request.method() == Method::CONNECT {
            return Err(Refusal::NotAProxy { text: request.uri().to_string() });
        }
        let asked = Asked::of(request.uri(), request.headers())?;
        origin::check(request.method(), request.headers(), &asked)?;
        match &asked.place {
            Place::App(name) => self.forward(request, &asked, name).await,
            Place::Task(task) => self.own(&request, &asked, Some(task)).await,
            Place::Index => self.own(&request, &asked, None).await,
        }
    }

    /// A page of the proxy itself.
    async fn own(
        &self,
        request: &Request<Incoming>,
        asked: &Asked,
        task: Option<&str>,
    ) -> Result<Response<Body>, Refusal> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Refusal::Method);
        }
        if request.uri().path() != "/" {
            return Err(Refusal::NoPage);
        }
        let mut listed = self.shared.destinations.list(task).await.map_err(Refusal::Unavailable)?;
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        let page = page::index(task, &listed, asked.port, request.headers());
        Ok(page.map(|bytes: Bytes| Either::Left(Full::new(bytes))))
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        asked: &Asked,
        name: &PreviewName,
    ) -> Result<Response<Body>, Refusal> {
        let version = request.version();
        let protocol = head::upgrade(version, request.headers());
        let not_looked_at = request
            .headers()
            .get_all(header::UPGRADE)
            .iter()
            .any(|value| framing::is_upgrade(value.as_bytes()));
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::try_from(if path.is_empty() { "/" } else { path })
            .map_err(|_| Refusal::Malformed { what: "its path cannot be read" })?;
        head::request(request.headers_mut(), asked, self.peer);
        let client = protocol.map(|protocol| {
            head::mark_upgrade(request.headers_mut(), protocol);
            hyper::upgrade::on(&mut request)
        });
        let mut response = self.upstreams.send(name, request.map(Either::Right)).await?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = response.headers().get(header::UPGRADE).cloned();
        let server = hyper::upgrade::on(&mut response);
        // The version is each connection's own: an app that speaks HTTP/1.0 does not end the browser's.
        *response.version_mut() = version;
        head::response(response.headers_mut(), asked);
        match (client, protocol) {
            (Some(client), Some(protocol)) if switched => {
                head::mark_upgrade(response.headers_mut(), protocol);
                *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some((client, server));
                return Ok(response.map(|_| Either::Left(Full::default())));
            }
            _ if switched => {
                let what = "the app switched protocols without being asked to";
                return Err(Refusal::Malformed { what });
            }
            _ => {}
        }
        if not_looked_at && self.upstreams.is_sequential() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(Either::Right))
    }

    /// Tells of use as long as bytes move: streams and WebSockets make no requests. Never ends.
    async fn keep_awake(&self, activity: &Activity) {
        let mut last = activity.last();
        loop {
            tokio::time::sleep(self.shared.limits.told).await;
            let now = activity.last();
            if now == last {
                continue;
            }
            last = now;
            for name in self.upstreams.names() {
                let _ = self.shared.destinations.used(&name).await;
            }
        }
    }
}
