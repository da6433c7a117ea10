//! Connections to apps that serve the requests of one connection from a browser.
//!
//! Nothing is shared between connections from browsers, and a connection to an app carries requests for that app's
//! name only. An HTTP/1 connection is used again for the next request; to an app that speaks HTTP/2 all streams of a
//! client that does go over one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{
    Request, Response, StatusCode, Uri, Version,
    body::{Body as _, Incoming},
    client::conn::{http1, http2},
    header::{self, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};

use super::{
    Shared,
    framing::MOST_HEAD,
    name::PreviewName,
    refusal::{Reason, Refusal, Unavailable},
};
use crate::egress::socket::{Activity, Socket};

/// Of a message on its way: the pages of this proxy, or what the other side sends.
pub(crate) type Body = Either<Full<Bytes>, Incoming>;

/// What a connection to an app may buffer: a head, or a part of a body. Larger is not faster on loopback.
const BUFFER: usize = 256 * 1024;
/// Names that one connection from a browser asks for; browsers ask for one each.
const MOST_NAMES: usize = 32;
/// For an HTTP/1 connection to be free again behind an answer that was passed on whole.
const FREE: Duration = Duration::from_secs(1);
/// For an app to say that it speaks HTTP/2. One that does says so at once.
const PROBE: Duration = Duration::from_secs(2);
/// How HTTP/2 begins: the preface and empty settings (RFC 9113 section 3.4).
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The connections to apps of one connection from a browser.
pub(crate) struct Upstreams {
    shared: Arc<Shared>,
    activity: Arc<Activity>,
    /// Whether each request is over when the next one comes.
    sequential: bool,
    kept: Mutex<Vec<Kept>>,
    spoken: tokio::sync::Mutex<HashMap<PreviewName, Spoken>>,
    names: Mutex<Vec<PreviewName>>,
}

/// An HTTP/1 connection.
struct Kept {
    name: PreviewName,
    sender: http1::SendRequest<Body>,
    _task: AbortOnDrop,
}

/// What an app speaks to a client that speaks HTTP/2.
enum Spoken {
    Http1,
    Http2 { sender: http2::SendRequest<Body>, _task: AbortOnDrop },
}

pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upstreams {
    pub(crate) fn new(shared: Arc<Shared>, activity: Arc<Activity>, sequential: bool) -> Self {
        Self {
            shared,
            activity,
            sequential,
            kept: Mutex::default(),
            spoken: tokio::sync::Mutex::default(),
            names: Mutex::default(),
        }
    }

    pub(crate) fn is_sequential(&self) -> bool {
        self.sequential
    }

    /// The names that were asked for.
    pub(crate) fn names(&self) -> Vec<PreviewName> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a request to an app and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        name: &PreviewName,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Refusal> {
        {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            if !names.contains(name) {
                if names.len() >= MOST_NAMES {
                    names.remove(0);
                }
                names.push(name.clone());
            }
        }
        let sent = async {
            if self.sequential {
                return self.over_http1(name, request).await;
            }
            match self.http2(name, &request).await? {
                Some(sender) => self.over_http2(name, sender, request).await,
                None => self.over_http1(name, request).await,
            }
        };
        tokio::select! {
            sent = sent => sent,
            () = self.activity.idle_for(self.shared.limits.answer) => Err(Refusal::Unavailable(Unavailable::new(
                Reason::TimedOut,
                format!("{name} has not answered for {} s", self.shared.limits.answer.as_secs()),
            ))),
        }
    }

    async fn over_http1(
        &self,
        name: &PreviewName,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Refusal> {
        *request.version_mut() = Version::HTTP_11;
        let again = repeatable(&request);
        if let Some(mut kept) = self.take(name).await {
            self.used(name).await?;
            match kept.sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(kept, &response);
                    return Ok(response);
                }
                // The app closed it meanwhile.
                Err(mut error) => match (error.take_message(), again) {
                    (Some(unsent), _) => request = unsent,
                    (None, Some(copy)) => request = copy,
                    (None, None) => return Err(broken(name, &error.into_error())),
                },
            }
        }
        let socket = self.dial(name).await?;
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .preserve_header_case(true)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| broken(name, &error))?;
        let task = tokio::spawn(async move {
            let _ = driver.with_upgrades().await;
        });
        let mut kept = Kept { name: name.clone(), sender, _task: AbortOnDrop(task.abort_handle()) };
        let response = kept.sender.send_request(request).await.map_err(|error| broken(name, &error))?;
        self.keep(kept, &response);
        Ok(response)
    }

    async fn over_http2(
        &self,
        name: &PreviewName,
        mut sender: http2::SendRequest<Body>,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, Refusal> {
        let host = request.headers_mut().remove(header::HOST);
        let host = host.as_ref().map(HeaderValue::as_bytes).unwrap_or_default();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        if let Ok(uri) = Uri::builder().scheme("http").authority(host).path_and_query(path).build() {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = Version::HTTP_2;
        sender.send_request(request).await.map_err(|error| broken(name, &error))
    }

    /// A connection that is ready for the next request.
    async fn take(&self, name: &PreviewName) -> Option<Kept> {
        let mut kept = {
            let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|kept| !kept.sender.is_closed());
            let at = all
                .iter()
                .position(|kept| kept.name == *name && (self.sequential || kept.sender.is_ready()))?;
            all.swap_remove(at)
        };
        matches!(timeout(FREE, kept.sender.ready()).await, Ok(Ok(()))).then_some(kept)
    }

    /// Until the browser's connection ends, or the next request: the answer's body comes over it.
    fn keep(&self, kept: Kept, response: &Response<Incoming>) {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if self.sequential && all.len() >= MOST_NAMES {
            all.remove(0);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // The connection belongs to what it became, and its task has handed it over.
            all.clear();
        }
        all.push(kept);
    }

    /// A way to an app over HTTP/2, `None` if it speaks HTTP/1.
    async fn http2(
        &self,
        name: &PreviewName,
        request: &Request<Body>,
    ) -> Result<Option<http2::SendRequest<Body>>, Refusal> {
        let mut spoken = self.spoken.lock().await;
        match spoken.get(name) {
            Some(Spoken::Http1) => return Ok(None),
            Some(Spoken::Http2 { sender, .. }) if !sender.is_closed() => {
                let sender = sender.clone();
                drop(spoken);
                self.used(name).await?;
                return Ok(Some(sender));
            }
            _ => {}
        }
        if spoken.len() >= MOST_NAMES {
            spoken.clear();
        }
        let grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if !grpc && !speaks_http2(self.dial(name).await?).await {
            spoken.insert(name.clone(), Spoken::Http1);
            return Ok(None);
        }
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(super::WINDOW)
            .initial_connection_window_size(super::WINDOW * 4)
            .max_header_list_size(MOST_HEAD as u32)
            .handshake(TokioIo::new(self.dial(name).await?))
            .await
            .map_err(|error| broken(name, &error))?;
        let task = tokio::spawn(async move {
            let _ = driver.await;
        });
        spoken.insert(
            name.clone(),
            Spoken::Http2 { sender: sender.clone(), _task: AbortOnDrop(task.abort_handle()) },
        );
        Ok(Some(sender))
    }

    async fn used(&self, name: &PreviewName) -> Result<(), Refusal> {
        match timeout(self.shared.limits.dial, self.shared.destinations.used(name)).await {
            Ok(used) => used.map_err(Refusal::Unavailable),
            Err(_) => Err(late(name)),
        }
    }

    async fn dial(&self, name: &PreviewName) -> Result<Socket, Refusal> {
        let stream: TcpStream =
            match timeout(self.shared.limits.dial, self.shared.destinations.dial(name)).await {
                Ok(dialled) => dialled.map_err(Refusal::Unavailable)?,
                Err(_) => return Err(late(name)),
            };
        let _ = stream.set_nodelay(true);
        Ok(Socket::new(stream, Arc::clone(&self.activity)))
    }
}

/// Whether what listens there answers the beginning of HTTP/2 with its own.
async fn speaks_http2(mut socket: Socket) -> bool {
    let asked = async {
        let mut frame = [0; 9];
        socket.write_all(HELLO).await?;
        socket.read_exact(&mut frame).await?;
        // Settings, on the connection itself.
        Ok::<_, std::io::Error>(frame[3] == 4 && frame[5..] == [0; 4])
    };
    matches!(timeout(PROBE, asked).await, Ok(Ok(true)))
}

/// The same request once more, if it has no body and may be made twice (RFC 9110 section 9.2.2).
fn repeatable(request: &Request<Body>) -> Option<Request<Body>> {
    if !request.method().is_idempotent()
        || !request.body().is_end_stream()
        || request.headers().contains_key(header::UPGRADE)
    {
        return None;
    }
    let mut copy = Request::new(Either::Left(Full::default()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn broken(name: &PreviewName, error: &hyper::Error) -> Refusal {
    let text = format!("{name} closed the connection without an answer: {error}");
    Refusal::Unavailable(Unavailable::new(Reason::Failed, text))
}

fn late(name: &PreviewName) -> Refusal {
    Refusal::Unavailable(Unavailable::new(Reason::TimedOut, format!("{name} could not be reached in time")))
}
