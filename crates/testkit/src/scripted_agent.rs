//! An ACP agent without a model, made with the agent side of the protocol's own crate, so that our client is tested
//! against somebody else's reading of the protocol.
//!
//! It really edits, runs commands and commits. `sessions` keeps what was said, `turn` does the steps.

mod sessions;
mod turn;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_client_protocol::v1::schema::{
    AgentCapabilities, CancelNotification, ContentBlock, ContentChunk, Implementation, InitializeRequest,
    InitializeResponse, LoadSessionRequest, LoadSessionResponse, NewSessionRequest, NewSessionResponse,
    PromptRequest, SessionId, SessionMode, SessionModeState, SessionNotification, SessionUpdate,
    SetSessionModeRequest, SetSessionModeResponse,
};
use agent_client_protocol::{Agent, Error, Result, Stdio, on_receive_notification, on_receive_request};
use tokio_util::sync::CancellationToken;

use sessions::{Said, Session};

/// Mode in which it asks before every command and edit.
const ASK: &str = "ask";
/// Mode in which it asks nothing.
const ALLOW: &str = "allow";

struct Open {
    session: Session,
    cancel: CancellationToken,
}

#[derive(Clone)]
struct State {
    home: PathBuf,
    open: Arc<Mutex<HashMap<SessionId, Open>>>,
}

impl State {
    fn open(&self) -> MutexGuard<'_, HashMap<SessionId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, session: Session) {
        let id = SessionId::new(session.id.clone());
        self.open().insert(id, Open { session, cancel: CancellationToken::new() });
    }
}

fn modes(current: &str) -> SessionModeState {
    let modes = vec![SessionMode::new(ASK, "Ask first"), SessionMode::new(ALLOW, "Just do it")];
    SessionModeState::new(current.to_owned(), modes)
}

fn unknown(id: &SessionId) -> Error {
    Error::invalid_params().data(format!("unknown session {}", id.0))
}

/// Serves one client on stdin and stdout until stdin is closed.
pub async fn serve(home: PathBuf) -> Result<()> {
    let state = State { home, open: Arc::default() };
    let (for_new, for_load, for_mode, for_cancel, for_prompt) =
        (state.clone(), state.clone(), state.clone(), state.clone(), state);
    Agent
        .v1()
        .name("offshoot-scripted-agent")
        .on_receive_request(
            async move |request: InitializeRequest, responder, _connection| {
                let info = Implementation::new("offshoot-scripted-agent", env!("CARGO_PKG_VERSION"));
                let capabilities = AgentCapabilities::new().load_session(true);
                responder.respond(
                    InitializeResponse::new(request.protocol_version)
                        .agent_capabilities(capabilities)
                        .agent_info(info),
                )
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: NewSessionRequest, responder, _connection| {
                let session = Session::new(&for_new.home, request.cwd.clone());
                let response = NewSessionResponse::new(session.id.clone()).modes(modes(&session.mode));
                for_new.insert(session);
                responder.respond(response)
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: LoadSessionRequest, responder, connection| {
                let Some(mut session) = Session::load(&for_load.home, &request.session_id.0) else {
                    return responder.respond_with_error(unknown(&request.session_id));
                };
                session.cwd.clone_from(&request.cwd);
                for said in &session.history {
                    let (text, update): (_, fn(ContentChunk) -> SessionUpdate) = match said {
                        Said::Person(text) => (text, SessionUpdate::UserMessageChunk),
                        Said::Agent(text) => (text, SessionUpdate::AgentMessageChunk),
                    };
                    let chunk = ContentChunk::new(ContentBlock::from(text.clone()));
                    connection.send_notification(SessionNotification::new(
                        request.session_id.clone(),
                        update(chunk),
                    ))?;
                }
                let response = LoadSessionResponse::new().modes(modes(&session.mode));
                for_load.insert(session);
                responder.respond(response)
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: SetSessionModeRequest, responder, _connection| {
                match for_mode.open().get_mut(&request.session_id) {
                    Some(open) => open.session.mode = request.mode_id.0.to_string(),
                    None => return responder.respond_with_error(unknown(&request.session_id)),
                }
                responder.respond(SetSessionModeResponse::new())
            },
            on_receive_request!(),
        )
        .on_receive_notification(
            async move |request: CancelNotification, _connection| {
                if let Some(open) = for_cancel.open().get(&request.session_id) {
                    open.cancel.cancel();
                }
                Ok(())
            },
            on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: PromptRequest, responder, connection| {
                let (session, cancel) = match for_prompt.open().get_mut(&request.session_id) {
                    Some(open) => {
                        open.cancel = CancellationToken::new();
                        (open.session.clone(), open.cancel.clone())
                    }
                    None => return responder.respond_with_error(unknown(&request.session_id)),
                };
                let state = for_prompt.clone();
                let spawner = connection.clone();
                spawner.spawn(async move {
                    let mut turn = turn::Turn::new(connection, session, cancel);
                    let response = turn.play(&request).await;
                    let session = turn.into_session();
                    session.save(&state.home);
                    if let Some(open) = state.open().get_mut(&request.session_id) {
                        open.session = session;
                    }
                    responder.respond_with_result(response)
                })
            },
            on_receive_request!(),
        )
        .connect_to(Stdio::new())
        .await
}
