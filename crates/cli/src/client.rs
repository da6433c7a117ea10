//! The daemon's API as the CLI uses it: HTTP/1.1 over the Unix socket, one connection a request (they cost microseconds
//! there), server-sent events, WebSockets. Starts a daemon if none answers.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use offshoot_core::{
    event::Entry,
    problem::{Problem, ProblemKind},
};
use offshoot_server::{
    StartOptions, VERSION_HEADER, ensure,
    place::{Place, short_address},
    version_tag,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, client::IntoClientRequest, http::HeaderValue},
};

use crate::{failure::Failure, screen::Screen};

/// Longest answer read into memory: a diff of many megabytes is cut by the daemon long before.
const MAX_ANSWER: usize = 256 << 20;
/// Longest single server-sent event: an event holds at most what an agent said at once.
const MAX_EVENT: usize = 16 << 20;

/// Asks the daemon.
pub(crate) struct Client {
    place: Place,
    screen: Screen,
}

impl Client {
    /// For the daemon of this place.
    pub(crate) fn new(place: Place, screen: Screen) -> Self {
        Self { place, screen }
    }

    /// `GET`, and the answer's JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        decode(self.send(Method::GET, path, Vec::new(), "application/json", &[]).await?).await
    }

    /// `POST` of JSON, and the answer's JSON.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|e| Problem::internal("cannot write a request", &e))?;
        decode(self.send(Method::POST, path, body, "application/json", &[]).await?).await
    }

    /// The log's entries after `after`, as they come.
    pub(crate) async fn follow(&self, path: &str, after: u64) -> Result<EntryStream, Failure> {
        let id = after.to_string();
        let response =
            self.send(Method::GET, path, Vec::new(), "text/event-stream", &[("last-event-id", &id)]).await?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response).await);
        }
        Ok(EntryStream { body: response.into_body(), buffer: Vec::new() })
    }

    /// A WebSocket.
    pub(crate) async fn socket(&self, path: &str) -> Result<WebSocketStream<UnixStream>, Failure> {
        let stream = self.connect().await?;
        let lost = |error: tungstenite::Error| Failure::from(lost(&error));
        let mut request = format!("ws://localhost{path}").into_client_request().map_err(lost)?;
        if let Ok(tag) = HeaderValue::from_str(&version_tag()) {
            request.headers_mut().insert(VERSION_HEADER, tag);
        }
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                Err(problem_of(response.status().as_u16(), body).into())
            }
            Err(error) => Err(lost(error)),
        }
    }

    /// A connection; starts the daemon if there is none.
    async fn connect(&self) -> Result<UnixStream, Failure> {
        if let Some(stream) = self.try_connect().await? {
            return Ok(stream);
        }
        let place = self.place.clone();
        let starting = tokio::task::spawn_blocking(move || ensure(&place, &StartOptions::default()));
        let mut starting = std::pin::pin!(starting);
        let started = tokio::select! {
            started = starting.as_mut() => started,
            () = tokio::time::sleep(crate::watching::PATIENCE) => {
                self.screen.progress("starting the daemon");
                starting.await
            }
        };
        started.map_err(|e| Problem::internal("cannot start the daemon", &e))??;
        self.screen.end_progress();
        let unreachable = || {
            Problem::new(ProblemKind::Unavailable, "daemon_unreachable", "the daemon does not answer")
                .hint(format!("see {}", self.place.log().display()))
        };
        self.try_connect().await?.ok_or_else(|| unreachable().into())
    }

    /// A connection, if a daemon answers.
    async fn try_connect(&self) -> Result<Option<UnixStream>, Failure> {
        let attempt = async {
            let (_dir, address) = short_address(&self.place.socket())?;
            UnixStream::connect(address).await
        };
        match attempt.await {
            Ok(stream) => Ok(Some(stream)),
            Err(e) if is_absence(e.kind()) => Ok(None),
            Err(error) => Err(Problem::new(
                ProblemKind::Unavailable,
                "daemon_unreachable",
                format!("cannot reach the daemon at {}: {error}", self.place.socket().display()),
            )
            .hint("it serves only the user who started it")
            .into()),
        }
    }

    /// Whether a daemon answers; never starts one.
    pub(crate) async fn is_up(&self) -> Result<bool, Failure> {
        Ok(self.try_connect().await?.is_some())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        accept: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, Failure> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| Failure::from(lost(&e)))?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, "application/json")
            .header(VERSION_HEADER, version_tag());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| Problem::internal("cannot make a request", &e))?;
        let response = sender.send_request(request).await.map_err(|e| Failure::from(lost(&e)))?;
        let version = response.headers().get(VERSION_HEADER).and_then(|v| v.to_str().ok());
        if version != Some(&version_tag()) && !path.starts_with("/v1/daemon") {
            return Err(Problem::new(
                ProblemKind::Incompatible,
                "version_differs",
                format!(
                    "the daemon is {}, this is {}",
                    version.unwrap_or("of no known version"),
                    version_tag()
                ),
            )
            .hint("offshoot daemon stop, then go on; runs are not disturbed")
            .into());
        }
        Ok(response)
    }
}

/// Whether a failed connection means that there is no daemon.
fn is_absence(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::ConnectionRefused)
}

fn lost(error: &dyn std::error::Error) -> Problem {
    Problem::new(
        ProblemKind::Unavailable,
        "daemon_lost",
        format!("the connection to the daemon broke: {}", offshoot_core::problem::chain(error)),
    )
    .hint("runs are not disturbed; try again")
}

async fn bytes(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    Ok(body.map_err(|e| Failure::from(lost(e.as_ref())))?.to_bytes())
}

async fn decode<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Failure> {
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    let bytes = bytes(response).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Problem::new(
            ProblemKind::Incompatible,
            "answer_unreadable",
            format!("the daemon's answer makes no sense: {error}"),
        )
        .hint("offshoot daemon stop, then go on; runs are not disturbed")
        .into()
    })
}

async fn refusal(response: Response<Incoming>) -> Failure {
    let status = response.status().as_u16();
    match bytes(response).await {
        Ok(body) => problem_of(status, &body).into(),
        Err(failure) => failure,
    }
}

fn problem_of(status: u16, body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        Problem::new(ProblemKind::Internal, "internal", format!("the daemon answered with status {status}"))
    })
}

/// Entries of the log, as server-sent events bring them.
pub(crate) struct EntryStream {
    body: Incoming,
    buffer: Vec<u8>,
}

impl EntryStream {
    /// The next entry; `None` when the daemon ends the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Entry>, Failure> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(data) = data_of(&block) {
                    let entry = serde_json::from_slice(&data)
                        .map_err(|e| Problem::internal("cannot read an event", &e))?;
                    return Ok(Some(entry));
                }
            }
            if self.buffer.len() > MAX_EVENT {
                return Err(
                    Problem::new(ProblemKind::Internal, "event_too_long", "an event is too long").into()
                );
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(lost(&error).into()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// The data of one block of an event stream; `None` for a mere comment.
fn data_of(block: &[u8]) -> Option<Vec<u8>> {
    let mut data: Option<Vec<u8>> = None;
    for line in block.split(|b| *b == b'\n') {
        if let Some(rest) = line.strip_prefix(b"data:") {
            let rest = rest.strip_prefix(b" ").unwrap_or(rest);
            let data = data.get_or_insert_default();
            if !data.is_empty() {
                data.push(b'\n');
            }
            data.extend_from_slice(rest);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_give_their_data() {
        assert_eq!(data_of(b"id: 4\ndata: {\"a\":1}\n\n").as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(data_of(b": keep-alive\n\n"), None);
        assert_eq!(data_of(b"data:x\ndata: y\n\n").as_deref(), Some(&b"x\ny"[..]));
    }
}
