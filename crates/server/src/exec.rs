//! Commands and terminals in environments. A command is started by POST, its bytes come and go over a WebSocket that may
//! come late, go away and come back: what was written stands in the journal.

use std::path::PathBuf;

use axum::{
    extract::{
        Path, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    response::Response,
};
use bytes::{BufMut, Bytes, BytesMut};
use offshoot_core::api::{ExecParams, ExecView, StreamNotice, StreamRequest, TerminalSize};
use offshoot_engine::{Engine, ExecStream, StreamInput, StreamItem, TaskRef};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use crate::{
    answer::{Answer, Body, Params, Refusal, to_its_end},
    routes::App,
    tasks::{Scope, reference},
};

/// Longest message from a client: a pasted file comes in pieces of this.
const MAX_INPUT: usize = 256 << 10;

/// Starts a command in the task's environment, waking it if need be.
#[utoipa::path(post, path = "/v1/tasks/{task}/exec", operation_id = "exec_start", tag = "exec",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    request_body = ExecParams, responses((status = 200, body = ExecView)))]
pub(crate) async fn start(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
    Body(params): Body<ExecParams>,
) -> Answer<ExecView> {
    to_its_end(async move { engine.exec(&reference(task, scope), params).await }).await
}

/// The agent's own terminal: the one it works in, or its session resumed in the finished environment.
#[utoipa::path(post, path = "/v1/tasks/{task}/attach", operation_id = "attach", tag = "exec",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    request_body = TerminalSize, responses((status = 200, body = ExecView)))]
pub(crate) async fn attach(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
    Body(size): Body<TerminalSize>,
) -> Answer<ExecView> {
    to_its_end(async move { engine.attach(&reference(task, scope), size).await }).await
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamQuery {
    /// Any directory of a repository: of two tasks with one name, the one of this project is meant.
    #[param(value_type = Option<String>)]
    path: Option<PathBuf>,
    /// Where to begin, as `next` of an app's log tells; the beginning if not named.
    #[serde(default)]
    from: u64,
}

/// The bytes of a command, from its beginning and then live, as a WebSocket. Binary frames to the client: one byte (1
/// standard output or the terminal, 2 standard error), then what was written. Text frames to the client:
/// StreamNotice; the last. Binary frames from the client are input; text frames are StreamRequest.
#[utoipa::path(get, path = "/v1/tasks/{task}/exec/{exec}/stream", operation_id = "exec_stream", tag = "exec",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"),
        ("exec" = String, Path, description = "Id of the command"), StreamQuery),
    responses((status = 101, description = "A WebSocket")))]
pub(crate) async fn stream(
    State(app): State<App>,
    Path((task, exec)): Path<(String, String)>,
    Params(query): Params<StreamQuery>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade =
        upgrade.map_err(|e| Refusal::new(e.status(), "websocket_required", "this path is a WebSocket"))?;
    let task = TaskRef { task, path: query.path };
    let stream = app.engine.exec_stream(&task, &exec, query.from).await?;
    let upgrade = upgrade.max_message_size(MAX_INPUT).max_frame_size(MAX_INPUT);
    Ok(upgrade.on_upgrade(move |socket| converse(socket, stream, app.stopping)))
}

/// Carries bytes both ways until the command is over, the client goes or the daemon stops. A client that does not read
/// holds up only itself: the journal goes on growing without it.
async fn converse(mut socket: WebSocket, mut stream: ExecStream, stopping: CancellationToken) {
    let mut input = Some(stream.input);
    loop {
        tokio::select! {
            () = stopping.cancelled() => {
                let away = CloseFrame { code: close_code::RESTART, reason: "the daemon stops".into() };
                let _ = socket.send(Message::Close(Some(away))).await;
                return;
            }
            item = stream.output.recv() => {
                let last = matches!(item, None | Some(StreamItem::Notice(_)));
                if let Some(item) = item && socket.send(message(item)).await.is_err() {
                    return;
                }
                if last {
                    let _ = socket.send(Message::Close(None)).await;
                    return;
                }
            }
            received = socket.recv() => match received {
                Some(Ok(Message::Binary(bytes))) => hand_in(&mut input, StreamInput::Bytes(bytes.into())).await,
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(StreamRequest::Resize(size)) => hand_in(&mut input, StreamInput::Resize(size)).await,
                    Ok(StreamRequest::CloseInput) => hand_in(&mut input, StreamInput::Close).await,
                    Ok(StreamRequest::Signal { number }) => hand_in(&mut input, StreamInput::Signal(number)).await,
                    Err(error) => {
                        let reason = format!("not a StreamRequest: {error}");
                        let reason = reason.chars().take(100).collect::<String>().into();
                        let _ = socket.send(Message::Close(Some(CloseFrame { code: close_code::INVALID, reason }))).await;
                        return;
                    }
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            },
        }
    }
}

/// Hands input to the engine; once nobody takes it any more, the rest is dropped and only output goes on.
async fn hand_in(input: &mut Option<tokio::sync::mpsc::Sender<StreamInput>>, what: StreamInput) {
    if let Some(sender) = input
        && sender.send(what).await.is_err()
    {
        *input = None;
    }
}

fn message(item: StreamItem) -> Message {
    let tagged = |tag: u8, bytes: Vec<u8>| {
        let mut frame = BytesMut::with_capacity(bytes.len() + 1);
        frame.put_u8(tag);
        frame.put_slice(&bytes);
        Message::Binary(frame.freeze())
    };
    match item {
        StreamItem::Stdout(bytes) => tagged(1, bytes),
        StreamItem::Stderr(bytes) => tagged(2, bytes),
        StreamItem::Notice(notice) => text(&notice).unwrap_or(Message::Binary(Bytes::new())),
    }
}

fn text(notice: &StreamNotice) -> Option<Message> {
    serde_json::to_string(notice).ok().map(|text| Message::Text(text.into()))
}
