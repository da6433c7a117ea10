//! A scripted, offline stand-in for the model APIs, to test real coding-agent CLIs. It speaks, streaming and not:
//!
//! - `POST …/messages`: Anthropic Messages
//! - `POST …/responses`: OpenAI Responses
//! - `POST …/chat/completions`: OpenAI Chat Completions
//! - `POST …/models/M:generateContent` and `:streamGenerateContent`: Gemini
//!
//! What to answer is in the prompt ([`crate::script`]): one step a model turn, found by counting the tool results after
//! the prompt. So it keeps no state (but how often an `@error` was served), and resumed sessions just work.
//!
//! `read` understands requests, `decide` chooses the step and puts it into the agent's own tools, `write` words the
//! answer.

mod decide;
mod read;
mod write;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use decide::Answer;

/// Largest request that is read; the largest real ones carry images.
const REQUEST: usize = 64 << 20;

/// A request that was answered.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its path.
    pub path: String,
    /// The model it asked for.
    pub model: String,
    /// The prompt it was understood to be about.
    pub prompt: String,
    /// The system prompt.
    pub system: String,
    /// All of the request, as text.
    pub body: String,
    /// What it authenticated itself with: header name and value.
    pub credentials: Vec<(String, String)>,
}

#[derive(Clone, Default)]
struct Shared {
    seen: Arc<(Mutex<Vec<Seen>>, Condvar)>,
    errors: Arc<Mutex<HashMap<(String, usize), u32>>>,
}

/// A scripted model that runs until it is dropped.
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Shared,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ScriptedModel {
    /// Starts one on a free port of the loopback address, on a thread of its own.
    pub fn start() -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Shared::default();
        let stop = CancellationToken::new();
        let (router, stopped) = (router(shared.clone()), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                if let Ok(listener) = TcpListener::from_std(listener) {
                    tokio::select! {
                        () = stopped.cancelled() => {}
                        _ = axum::serve(listener, router).into_future() => {}
                    }
                }
            });
        });
        Ok(Self { address, shared, stop, thread: Some(thread) })
    }

    /// Its address, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a prompt with this text has been asked about; `false` if that did not happen in time.
    #[must_use]
    pub fn wait_for(&self, prompt: &str, patience: Duration) -> bool {
        let (seen, more) = &*self.shared.seen;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let none = |seen: &mut Vec<Seen>| !seen.iter().any(|seen| seen.prompt.contains(prompt));
        let (_seen, waited) =
            more.wait_timeout_while(seen, patience, none).unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves on a listener until the future is dropped.
pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    axum::serve(listener, router(Shared::default())).await
}

fn router(shared: Shared) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if parts.method != Method::POST {
        return get(&path, &parts.headers);
    }
    let Ok(bytes) = to_bytes(body, REQUEST).await else {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "too large");
    };
    let Ok(body) = serde_json::from_slice::<Value>(&bytes) else {
        return error(StatusCode::BAD_REQUEST, "not JSON");
    };
    let Some(api) = read::Api::of(&path) else {
        return match &path {
            path if path.ends_with("count_tokens") => reply(&json!({"input_tokens": 100})),
            path if path.ends_with(":countTokens") => reply(&json!({"totalTokens": 100})),
            _ => error(StatusCode::NOT_FOUND, "not here"),
        };
    };
    let asked = read::read(api, &body);
    let credentials = ["authorization", "x-api-key", "x-goog-api-key"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), parts.headers.get(name)?.to_str().ok()?.to_owned())));
    let model = match body.get("model").and_then(Value::as_str) {
        Some(model) => model.to_owned(),
        None => path.rsplit('/').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned(),
    };
    shared.seen.0.lock().unwrap_or_else(PoisonError::into_inner).push(Seen {
        path: path.clone(),
        model,
        prompt: asked.prompt.clone(),
        system: asked.system.clone(),
        body: body.to_string(),
        credentials: credentials.collect(),
    });
    shared.seen.1.notify_all();
    let answer = decide::decide(&asked, |step| {
        let mut errors = shared.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let served = errors.entry((asked.prompt.clone(), step)).or_default();
        *served += 1;
        *served
    });
    let (text, calls, gap, pause) = match answer {
        Answer::Error(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return error(status, "scripted error");
        }
        Answer::Say { text, calls, gap, pause } => (text, calls, gap, pause),
    };
    tokio::time::sleep(pause).await;
    let streaming =
        body.get("stream") == Some(&Value::Bool(true)) || path.ends_with(":streamGenerateContent");
    let written = write::write(api, &body, &text, &calls, streaming);
    match written {
        write::Written::Whole(value) => reply(&value),
        write::Written::Events(events) => events_of(events, gap),
    }
}

fn events_of(events: Vec<String>, gap: Duration) -> Response {
    let stream = stream::iter(events).then(move |event| async move {
        if !gap.is_zero() {
            tokio::time::sleep(gap).await;
        }
        Ok::<_, std::convert::Infallible>(Bytes::from(event))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(stream)).into_response()
}

fn get(path: &str, headers: &HeaderMap) -> Response {
    if headers.contains_key(header::UPGRADE) {
        // Agents fall back to HTTP.
        return error(StatusCode::UPGRADE_REQUIRED, "no WebSocket here");
    }
    if path.ends_with("/models") {
        let ids = ["fake-model", "gpt-5.5", "claude-sonnet-5", "gemini-3-pro"];
        let data: Vec<Value> = ids
            .iter()
            .map(|id| json!({"id": id, "object": "model", "type": "model", "display_name": id, "created": 1, "owned_by": "fake"}))
            .collect();
        let models: Vec<Value> = ids.iter().map(|id| json!({"name": format!("models/{id}")})).collect();
        return reply(&json!({"object": "list", "data": data, "models": models, "has_more": false}));
    }
    if path == "/" { reply(&json!({"ok": true})) } else { error(StatusCode::NOT_FOUND, "not here") }
}

fn reply(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn error(status: StatusCode, message: &str) -> Response {
    let kind = match status.as_u16() {
        429 => "rate_limit_error",
        529 => "overloaded_error",
        401 => "authentication_error",
        404 => "not_found_error",
        _ => "api_error",
    };
    let body = json!({"type": "error", "error": {"type": kind, "message": message, "code": status.as_u16()}});
    (status, reply(&body)).into_response()
}
