//! HTTP requests, by the proxy's port or transparently: parsed, decided on one by one, written anew to the outside.
//!
//! Every request of a connection is looked at. The host is taken from one place, must be the same in every place that
//! names it, and the request is sent on with that one name. hyper parses and frames both sides.

use std::{
    convert::Infallible,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::Incoming,
    client::conn::http1::SendRequest,
    header::{self, HeaderValue},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use offshoot_core::egress::HostName;
use tokio::task::AbortHandle;

use super::{
    Shared, dial, header as head,
    policy::{Destination, authority},
    refusal::Refusal,
    socket::{Activity, Socket},
    stream,
};

/// Of a connection's read buffer, and so of a message's head.
const MOST_HEAD: usize = 64 * 1024;

/// Where the requests of a connection may go.
#[derive(Debug)]
pub(crate) enum Route {
    /// Wherever they say, as to an HTTP proxy.
    Proxy,
    /// To one host, whose synthetic address was dialled.
    To(HostName, u16),
    /// To the host they name, at the port that was dialled.
    Any(u16),
    /// Nowhere; each is told why.
    Nowhere(Refusal),
}

type Body = Either<Full<Bytes>, Incoming>;

/// A connection from inside.
struct Connection {
    shared: Arc<Shared>,
    activity: Arc<Activity>,
    /// Another descriptor of it, for as long as HTTP is spoken: while a request is held nothing is read, and its end would
    /// not be seen.
    client: Mutex<Option<Arc<OwnedFd>>>,
    route: Route,
    /// To the host of the request before.
    kept: Mutex<Option<Kept>>,
    /// What the connection becomes when HTTP is over.
    next: Mutex<Option<Next>>,
}

/// A connection to the outside, ready for the next request.
struct Kept {
    destination: Destination,
    sender: SendRequest<Incoming>,
    _task: AbortOnDrop,
}

enum Next {
    /// A tunnel: CONNECT was allowed.
    Tunnel { client: OnUpgrade, server: Socket, destination: Destination },
    /// A WebSocket.
    Splice { client: OnUpgrade, server: OnUpgrade },
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves a connection until it ends.
pub(crate) async fn serve(shared: &Arc<Shared>, socket: Socket, route: Route) {
    let connection = Arc::new(Connection {
        shared: Arc::clone(shared),
        activity: Arc::clone(socket.activity()),
        client: Mutex::new(
            shared.options.ask.as_ref().and_then(|_| socket.as_fd().try_clone_to_owned().ok()).map(Arc::new),
        ),
        route,
        kept: Mutex::default(),
        next: Mutex::default(),
    });
    let service = service_fn(|request| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(connection.answer(request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.options.limits.head)
        .max_buf_size(MOST_HEAD)
        .half_close(true)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection out of a sandbox ended badly");
    }
    connection.client.lock().unwrap_or_else(PoisonError::into_inner).take();
    let next = connection.next.lock().unwrap_or_else(PoisonError::into_inner).take();
    match next {
        Some(Next::Tunnel { client, server, destination }) => {
            let Some(client) = client.await.ok().and_then(|upgraded| {
                let parts = upgraded.downcast::<TokioIo<Socket>>().ok()?;
                Some(parts.io.into_inner().put_back(parts.read_buf))
            }) else {
                return;
            };
            stream::checked(shared, client, server, destination.name, destination.port).await;
        }
        Some(Next::Splice { client, server }) => {
            let (Ok(client), Ok(server)) = (client.await, server.await) else { return };
            let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
        None => {}
    }
}

impl Connection {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let answered = if request.method() == Method::CONNECT {
            self.connect(request).await
        } else {
            self.forward(request).await
        };
        answered.unwrap_or_else(|refusal| {
            if !matches!(self.route, Route::Nowhere(_)) {
                self.shared.reporter.refused(&refusal);
            }
            refused(&refusal)
        })
    }

    async fn connect(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        if !matches!(self.route, Route::Proxy) {
            return Err(Refusal::Invalid { what: "request to a web server", text: "CONNECT".to_owned() });
        }
        let text = request.uri().authority().map_or("", |authority| authority.as_str());
        let (name, port) = authority(text, None)?;
        // Some clients leave the port out here.
        if let Some((host, host_port)) = head::host(request.headers(), port)?
            && (&host, host_port) != (&name, port)
        {
            return Err(Refusal::Mismatch { asked: name, found: format!("{host}:{host_port}") });
        }
        let destination = self.admit(&name, port).await?;
        let server = dial::dial(&self.shared, &destination, &self.activity).await?;
        let client = hyper::upgrade::on(&mut request);
        self.becomes(Next::Tunnel { client, server, destination });
        Ok(Response::new(Either::Left(Full::default())))
    }

    /// Where a request may go, perhaps after somebody was asked.
    async fn admit(&self, name: &HostName, port: u16) -> Result<Destination, Refusal> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let client = client.as_ref().map(|client| client.as_fd());
        self.shared.admit(name, port, client, &self.activity).await
    }

    /// The one host and port that a request names.
    fn named<B>(&self, request: &Request<B>) -> Result<(HostName, u16), Refusal> {
        head::check_framing(request)?;
        let uri = request.uri();
        let invalid = |what, text: &str| Refusal::Invalid { what, text: text.to_owned() };
        let port = match &self.route {
            Route::Nowhere(refusal) => return Err(refusal.clone()),
            Route::Proxy => 80,
            Route::To(_, port) | Route::Any(port) => *port,
        };
        if let Some(scheme) = uri.scheme_str().filter(|scheme| *scheme != "http") {
            return Err(invalid("request to a proxy; use CONNECT for https", scheme));
        }
        let by_uri = match uri.authority() {
            // In an absolute URI no port means 80, whatever port was dialled.
            Some(text) => Some(authority(text.as_str(), Some(80))?),
            None => None,
        };
        let by_host = head::host(request.headers(), if by_uri.is_some() { 80 } else { port })?;
        let by_route = match &self.route {
            Route::To(name, port) => Some((name.clone(), *port)),
            _ => None,
        };
        if matches!(self.route, Route::Proxy) && by_uri.is_none() {
            return Err(invalid("request to a proxy", uri.path()));
        }
        let mut named = [by_route, by_uri, by_host].into_iter().flatten();
        let (name, named_port) = named.next().ok_or(Refusal::Nameless { port })?;
        if !matches!(self.route, Route::Proxy) && named_port != port {
            return Err(Refusal::Mismatch { found: format!("{name}:{named_port}"), asked: name });
        }
        if let Some((other, other_port)) = named.find(|other| *other != (name.clone(), named_port)) {
            return Err(Refusal::Mismatch { asked: name, found: format!("{other}:{other_port}") });
        }
        Ok((name, named_port))
    }

    async fn forward(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (name, port) = self.named(&request)?;
        let destination = self.admit(&name, port).await?;
        let websocket = head::asks_for_websocket(request.headers());
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::try_from(if path.is_empty() { "/" } else { path })
            .map_err(|_| Refusal::Invalid { what: "path", text: path.to_owned() })?;
        *request.uri_mut() = uri;
        *request.version_mut() = hyper::Version::HTTP_11;
        let host = head::host_value(&destination.name, destination.port)?;
        let headers = request.headers_mut();
        head::strip(headers);
        // Answered by us already.
        headers.remove(header::EXPECT);
        headers.insert(header::HOST, host);
        if websocket {
            head::mark_websocket(headers);
        }
        let client = websocket.then(|| hyper::upgrade::on(&mut request));
        let mut response = self.send(&destination, request).await?;
        let server = hyper::upgrade::on(&mut response);
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        head::strip(response.headers_mut());
        match client {
            Some(client) if switched => {
                head::mark_websocket(response.headers_mut());
                self.becomes(Next::Splice { client, server });
                let (parts, _) = response.into_parts();
                Ok(Response::from_parts(parts, Either::Left(Full::default())))
            }
            _ if switched => Err(Refusal::Unreachable {
                host: destination.name,
                port: destination.port,
                error: "it switched protocols without being asked to".to_owned(),
            }),
            _ => Ok(response.map(Either::Right)),
        }
    }

    /// Sends a request, over the connection of the one before if that was to the same host.
    async fn send(
        &self,
        destination: &Destination,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Refusal> {
        let unreachable = |error: hyper::Error| Refusal::Unreachable {
            host: destination.name.clone(),
            port: destination.port,
            error: error.to_string(),
        };
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut kept) = kept.filter(|kept| kept.destination == *destination)
            && kept.sender.ready().await.is_ok()
        {
            match kept.sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(kept);
                    return Ok(response);
                }
                // The host closed it meanwhile, and nothing of the request was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(unreachable(error.into_error())),
                },
            }
        }
        let socket = dial::dial(&self.shared, destination, &self.activity).await?;
        let (sender, driver) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MOST_HEAD)
            .preserve_header_case(true)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(unreachable)?;
        let task = tokio::spawn(async move {
            let _ = driver.with_upgrades().await;
        });
        let mut kept =
            Kept { destination: destination.clone(), sender, _task: AbortOnDrop(task.abort_handle()) };
        let response = kept.sender.send_request(request).await.map_err(unreachable)?;
        self.keep(kept);
        Ok(response)
    }

    fn keep(&self, kept: Kept) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }

    fn becomes(&self, next: Next) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
    }
}

/// The answer to a request that goes nowhere.
fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(format!("offshoot: {refusal}\n"))));
    *response.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::FORBIDDEN);
    let headers = response.headers_mut();
    headers.insert("x-offshoot-refused", HeaderValue::from_static(refusal.code()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // What follows may be the body of a request that was not read.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
