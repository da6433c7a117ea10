//! The client side of the Agent Client Protocol, version 1 (JSON-RPC, one message a line).
//!
//! What is sent is made with the types of the protocol's own crate. What is received is read without them, field by
//! field: real agents send unknown variants, private methods and null where there should be none, and none of that
//! may end a run. The file system and terminals are not offered: the agent has its own, inside.
//!
//! Ids of requests are fixed numbers, so that the state can be rebuilt from a journal.

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema as acp;
use offshoot_core::agent::{
    AgentEvent, AskOption, AskOptionKind, PermissionPolicy, Role, ToolKind, ToolStatus, TurnEnd,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::lines::{Line, Lines};
use super::questions::{Asking, Questions, Verdict};
use super::setup::{Direction, Send, SessionWish, Setup, Wants};
use super::tell::{say, too_long};
use super::tools::{Call, Tools};
use super::turns::{Request, Turns};
use super::{ConversationState, bound, json, subject};

const INITIALIZE: u64 = 1;
const OPEN: u64 = 2;
const OPEN_NEW: u64 = 3;
const SET_MODE: u64 = 4;
const SET_MODEL: u64 = 5;
/// Request id of the prompt of turn 0.
const PROMPT: u64 = 100;

/// JSON-RPC's "method not found".
const METHOD_NOT_FOUND: i64 = -32601;

/// How the agent gets a session of an earlier run back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reopen {
    /// `session/resume`: without replaying the history.
    Resume,
    /// `session/load`: the history is replayed as updates, before the answer.
    Load,
}

#[derive(Debug)]
pub(super) struct Acp {
    setup: Setup,
    sent: Lines,
    received: Lines,
    initialize: Request,
    reopen: Option<Reopen>,
    open: Request,
    open_new: Request,
    set_mode: Request,
    wanted_mode: Option<String>,
    set_model: Request,
    /// The option that chooses the model, if it is not the one that was asked for: a session that is resumed keeps its
    /// own, whatever the arguments say.
    model_option: Option<String>,
    session: Option<String>,
    failed: bool,
    turns: Turns,
    tools: Tools,
    questions: Questions,
    /// Ids of requests that were not understood and are to be answered so.
    refusals: Vec<Value>,
    usage: Usage,
}

#[derive(Debug, Default)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    cost_usd: Option<f64>,
}

impl Acp {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            sent: Lines::default(),
            received: Lines::default(),
            initialize: Request::Unsent,
            reopen: None,
            open: Request::Unsent,
            open_new: Request::Unsent,
            set_mode: Request::Unsent,
            wanted_mode: None,
            set_model: Request::Unsent,
            model_option: None,
            session: None,
            failed: false,
            turns: Turns::default(),
            tools: Tools::default(),
            questions: Questions::default(),
            refusals: Vec::new(),
            usage: Usage::default(),
        }
    }

    pub(super) fn observe(&mut self, direction: Direction, bytes: &[u8], events: &mut Vec<AgentEvent>) {
        let lines = match direction {
            Direction::Sent => self.sent.push(bytes),
            Direction::Received => self.received.push(bytes),
        };
        for line in lines {
            match line {
                Line::Whole(line) => {
                    // Not everything on stdout is the protocol: banners and warnings are passed over.
                    let Ok(message) = serde_json::from_slice::<Value>(&line) else { continue };
                    match direction {
                        Direction::Sent => self.was_sent(&message, events),
                        Direction::Received => self.was_received(&message, events),
                    }
                }
                Line::TooLong => events.push(too_long()),
            }
        }
    }

    fn was_sent(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        let id = json::number(message, "/id");
        match json::text(message, "/method") {
            "" => self.answer_was_sent(message, events),
            "initialize" => self.initialize = Request::Sent,
            "session/new" if id == Some(OPEN_NEW) => self.open_new = Request::Sent,
            "session/new" | "session/load" | "session/resume" => self.open = Request::Sent,
            "session/set_mode" => self.set_mode = Request::Sent,
            "session/set_config_option" => self.set_model = Request::Sent,
            "session/cancel" => self.turns.cancel_sent(),
            "session/prompt" => {
                let prompt =
                    json::list(message, "/params/prompt").last().map(|block| json::text(block, "/text"));
                self.turns.start(prompt.unwrap_or_default(), events);
            }
            _ => {}
        }
    }

    fn answer_was_sent(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        let Some(id) = message.get("id") else { return };
        let option = json::text(message, "/result/outcome/optionId");
        if !self.questions.answered(id, option, events) {
            self.refusals.retain(|refused| refused != id);
        }
    }

    fn was_received(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        let method = json::text(message, "/method");
        match (method, message.get("id")) {
            ("session/update", None) => self.update(message.pointer("/params/update"), events),
            ("session/request_permission", Some(id)) => self.permission(id, message, events),
            ("", Some(id)) => self.answer(id, message, events),
            (_, Some(id)) => self.refuse(id),
            (_, None) => {}
        }
    }

    fn refuse(&mut self, id: &Value) {
        if self.refusals.len() < bound::QUESTIONS && id.to_string().len() <= bound::ID {
            self.refusals.push(id.clone());
        }
    }

    /// The agent's answer to a request of ours.
    fn answer(&mut self, id: &Value, message: &Value, events: &mut Vec<AgentEvent>) {
        let result = match message.get("error") {
            Some(error) if !error.is_null() => Err(json::error_text(error)),
            _ => Ok(message.get("result").unwrap_or(&Value::Null)),
        };
        match id.as_u64() {
            Some(INITIALIZE) if self.initialize == Request::Sent => {
                self.initialize = Request::Done;
                match result {
                    Ok(result) => self.initialized(result, events),
                    Err(error) => {
                        self.fail(&format!("the agent did not start a conversation: {error}"), events)
                    }
                }
            }
            Some(OPEN) if self.open == Request::Sent => {
                self.open = Request::Done;
                match (result, &self.setup.session) {
                    (Ok(result), SessionWish::Resume(session)) => {
                        let session = json::id(result, "/sessionId").unwrap_or_else(|| session.clone());
                        self.opened(session, result, events);
                    }
                    (Ok(result), SessionWish::New) => self.opened_new(result, events),
                    (Err(error), SessionWish::Resume(_)) => events.push(AgentEvent::Trouble {
                        text: format!("the session could not be resumed, a new one is begun: {error}"),
                        retrying: true,
                    }),
                    (Err(error), SessionWish::New) => {
                        self.fail(&format!("the agent did not open a session: {error}"), events);
                    }
                }
            }
            Some(OPEN_NEW) if self.open_new == Request::Sent => {
                self.open_new = Request::Done;
                match result {
                    Ok(result) => self.opened_new(result, events),
                    Err(error) => self.fail(&format!("the agent did not open a session: {error}"), events),
                }
            }
            Some(SET_MODE) if self.set_mode == Request::Sent => {
                self.set_mode = Request::Done;
                if let Err(error) = result {
                    let text = format!("the agent did not take its mode: {error}");
                    events.push(AgentEvent::Trouble { text, retrying: false });
                }
            }
            Some(SET_MODEL) if self.set_model == Request::Sent => {
                self.set_model = Request::Done;
                if let Err(error) = result {
                    self.fail(&format!("the agent did not take its model: {error}"), events);
                }
            }
            Some(id) if self.turns.current().is_some_and(|turn| id == PROMPT + u64::from(turn)) => {
                self.turn_ended(result, events);
            }
            _ => {}
        }
    }

    fn initialized(&mut self, result: &Value, events: &mut Vec<AgentEvent>) {
        let capability = |pointer: &str| result.pointer(pointer).is_some_and(|value| !value.is_null());
        if capability("/agentCapabilities/sessionCapabilities/resume") {
            self.reopen = Some(Reopen::Resume);
        } else if result.pointer("/agentCapabilities/loadSession") == Some(&Value::Bool(true)) {
            self.reopen = Some(Reopen::Load);
        } else if matches!(self.setup.session, SessionWish::Resume(_)) {
            self.open = Request::Done;
            let text = "the agent cannot resume sessions, a new one is begun".to_owned();
            events.push(AgentEvent::Trouble { text, retrying: true });
        }
    }

    fn opened_new(&mut self, result: &Value, events: &mut Vec<AgentEvent>) {
        match json::id(result, "/sessionId") {
            Some(session) => self.opened(session, result, events),
            None => self.fail("the agent opened a session without an id", events),
        }
    }

    fn opened(&mut self, session: String, result: &Value, events: &mut Vec<AgentEvent>) {
        self.wanted_mode = self.setup.mode.clone().filter(|mode| {
            json::text(result, "/modes/currentModeId") != mode.as_str()
                && json::list(result, "/modes/availableModes")
                    .iter()
                    .any(|one| json::text(one, "/id") == mode.as_str())
        });
        self.session = Some(session.clone());
        events.push(AgentEvent::SessionOpened { session });
        self.look_at_model(result, events);
    }

    /// Whether the session has the model that was asked for, where the agent says so.
    fn look_at_model(&mut self, result: &Value, events: &mut Vec<AgentEvent>) {
        let Some(wanted) = &self.setup.model else { return };
        let mut options = json::list(result, "/configOptions").iter();
        let Some(option) = options.find(|one| json::text(one, "/category") == "model") else { return };
        let current = json::text(option, "/currentValue");
        if current == wanted {
            return;
        }
        let is_wanted = |one: &Value| json::text(one, "/value") == wanted;
        let listed = json::list(option, "/options");
        // Some are in groups.
        if listed.iter().any(|one| is_wanted(one) || json::list(one, "/options").iter().any(is_wanted)) {
            self.model_option = json::id(option, "/id");
        } else {
            let text = format!("the agent does not list the model {wanted}; it says that it uses {current}");
            events.push(AgentEvent::Trouble { text: bound::shorten(&text, bound::DETAIL), retrying: true });
        }
    }

    fn fail(&mut self, text: &str, events: &mut Vec<AgentEvent>) {
        self.failed = true;
        let text = bound::shorten(text, bound::DETAIL);
        events.push(AgentEvent::Trouble { text: text.clone(), retrying: false });
        events.push(AgentEvent::TurnEnded { turn: 0, reason: TurnEnd::Failed, text: Some(text) });
    }

    fn turn_ended(&mut self, result: Result<&Value, String>, events: &mut Vec<AgentEvent>) {
        self.questions.withdraw(None, true, events);
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                let reason = if self.turns.is_cancelled() { TurnEnd::Cancelled } else { TurnEnd::Failed };
                self.turns.end(reason, Some(&error), events);
                return;
            }
        };
        let tokens =
            |ours: &str, geminis: &str| json::number(result, ours).or_else(|| json::number(result, geminis));
        if let (Some(input), Some(output)) = (
            tokens("/usage/inputTokens", "/_meta/quota/token_count/input_tokens"),
            tokens("/usage/outputTokens", "/_meta/quota/token_count/output_tokens"),
        ) {
            // They are reported by turn.
            self.usage.input_tokens = self.usage.input_tokens.saturating_add(input);
            self.usage.output_tokens = self.usage.output_tokens.saturating_add(output);
            self.tell_usage(events);
        }
        let reason = match json::text(result, "/stopReason") {
            "max_tokens" | "max_turn_requests" => TurnEnd::Limit,
            "refusal" => TurnEnd::Refused,
            "cancelled" => TurnEnd::Cancelled,
            _ => TurnEnd::Completed,
        };
        self.turns.end(reason, None, events);
    }

    fn tell_usage(&self, events: &mut Vec<AgentEvent>) {
        events.push(AgentEvent::Usage {
            input_tokens: self.usage.input_tokens,
            output_tokens: self.usage.output_tokens,
            cost_usd: self.usage.cost_usd,
        });
    }

    fn update(&mut self, update: Option<&Value>, events: &mut Vec<AgentEvent>) {
        // Before the session is open updates are the replay of an old one.
        let (Some(update), Some(_)) = (update, &self.session) else { return };
        match json::text(update, "/sessionUpdate") {
            // Banners, and Gemini's echo of its mode.
            "agent_message_chunk" if self.turns.started() == 0 => {}
            "agent_message_chunk" => say(Role::Assistant, json::text(update, "/content/text"), events),
            "agent_thought_chunk" => say(Role::Thought, json::text(update, "/content/text"), events),
            "tool_call" | "tool_call_update" => self.tools.upsert(tool_call(update), events),
            "usage_update" => {
                let cost = update.pointer("/cost/amount").and_then(Value::as_f64);
                if cost.is_some()
                    && json::text(update, "/cost/currency") == "USD"
                    && cost != self.usage.cost_usd
                {
                    self.usage.cost_usd = cost;
                    self.tell_usage(events);
                }
            }
            _ => {}
        }
    }

    fn permission(&mut self, id: &Value, message: &Value, events: &mut Vec<AgentEvent>) {
        let call = message.pointer("/params/toolCall").unwrap_or(&Value::Null);
        let options: Vec<AskOption> =
            json::list(message, "/params/options").iter().filter_map(option).take(bound::OPTIONS).collect();
        let news = tool_call(call);
        let call_id = news.id.clone();
        self.tools.upsert(news, events);
        let known = self.tools.get(&call_id).cloned().unwrap_or_default();
        let kind = known.kind.unwrap_or_default();
        let subject = subject::of_acp(call, kind, &known.locations, &self.setup.cwd);
        let shown = subject::change(call).or_else(|| subject::shown(&subject)).or(known.detail);
        let asking = Asking {
            wire_id: id.clone(),
            title: known.title.unwrap_or_default(),
            detail: shown.unwrap_or_default(),
            subject,
            options,
            data: Value::Null,
            waits: self.setup.permission == PermissionPolicy::Ask,
        };
        if id.to_string().len() > bound::ID || !self.questions.ask(asking, events) {
            self.refuse(id);
        }
    }

    pub(super) fn next(&self, wants: &Wants) -> Option<Send> {
        if let Some(bytes) = self.sent.resume(self.candidates(wants)) {
            return Some(Send::Bytes(bytes));
        }
        (self.failed || self.turns.all_done(wants)).then_some(Send::CloseInput)
    }

    /// Everything that may be sent now, the most urgent first.
    fn candidates(&self, wants: &Wants) -> Vec<Vec<u8>> {
        let mut messages: Vec<Value> = Vec::new();
        for id in &self.refusals {
            let error = json!({"code": METHOD_NOT_FOUND, "message": "not supported by this client"});
            messages.push(json!({"jsonrpc": "2.0", "id": id, "error": error}));
        }
        let cancelled = self.turns.is_cancelled() && self.turns.current().is_some();
        for (question, verdict) in self.questions.due(self.setup.permission, cancelled, wants) {
            let outcome = match verdict {
                Verdict::Chosen(answer)
                    if question.options.iter().any(|option| option.id == answer.option) =>
                {
                    json!({"outcome": "selected", "optionId": answer.option})
                }
                _ => json!({"outcome": "cancelled"}),
            };
            messages.push(json!({"jsonrpc": "2.0", "id": question.wire_id, "result": {"outcome": outcome}}));
        }
        if self.failed {
            return messages.iter().map(json::line).collect();
        }
        match &self.session {
            None => messages.extend(self.opening()),
            Some(session) => {
                if self.turns.to_cancel(wants) {
                    let params = acp::CancelNotification::new(session.clone());
                    messages.push(json!({
                        "jsonrpc": "2.0", "method": "session/cancel", "params": value(&params),
                    }));
                }
                messages.extend(if self.settled() {
                    self.prompt(session, wants)
                } else {
                    self.setting(session)
                });
            }
        }
        messages.iter().map(json::line).collect()
    }

    /// What is to be said before the first prompt was said and answered.
    fn settled(&self) -> bool {
        (self.wanted_mode.is_none() || self.set_mode == Request::Done)
            && (self.model_option.is_none() || self.set_model == Request::Done)
    }

    fn setting(&self, session: &str) -> Option<Value> {
        match (&self.wanted_mode, self.set_mode) {
            (Some(mode), Request::Unsent) => {
                let params = acp::SetSessionModeRequest::new(session.to_owned(), mode.clone());
                return Some(request(SET_MODE, "session/set_mode", &params));
            }
            (Some(_), Request::Sent) => return None,
            _ => {}
        }
        let (option, model) = (self.model_option.as_ref()?, self.setup.model.as_ref()?);
        let params = json!({"sessionId": session, "configId": option, "value": model});
        (self.set_model == Request::Unsent).then(|| request(SET_MODEL, "session/set_config_option", &params))
    }

    fn opening(&self) -> Option<Value> {
        let new = |id| request(id, "session/new", &acp::NewSessionRequest::new(self.setup.cwd.as_str()));
        if self.initialize == Request::Unsent {
            let client = acp::Implementation::new("offshoot", env!("CARGO_PKG_VERSION"));
            let params = acp::InitializeRequest::new(ProtocolVersion::V1).client_info(client);
            return Some(request(INITIALIZE, "initialize", &params));
        }
        if self.initialize != Request::Done {
            return None;
        }
        match (self.open, self.open_new, &self.setup.session, self.reopen) {
            (Request::Unsent, _, SessionWish::New, _) => Some(new(OPEN)),
            (Request::Unsent, _, SessionWish::Resume(session), Some(reopen)) => Some(match reopen {
                Reopen::Resume => {
                    let params = acp::ResumeSessionRequest::new(session.clone(), self.setup.cwd.as_str());
                    request(OPEN, "session/resume", &params)
                }
                Reopen::Load => {
                    let params = acp::LoadSessionRequest::new(session.clone(), self.setup.cwd.as_str());
                    request(OPEN, "session/load", &params)
                }
            }),
            (Request::Done, Request::Unsent, SessionWish::Resume(_), _) => Some(new(OPEN_NEW)),
            _ => None,
        }
    }

    fn prompt(&self, session: &str, wants: &Wants) -> Option<Value> {
        let text = self.turns.next_prompt(wants)?;
        let fresh = self.setup.session == SessionWish::New || self.open_new == Request::Done;
        let preamble = self.setup.preamble.as_deref().filter(|_| fresh && self.turns.started() == 0);
        let blocks: Vec<acp::ContentBlock> =
            preamble.into_iter().chain([text]).map(|text| acp::ContentBlock::from(text.to_owned())).collect();
        let params = acp::PromptRequest::new(session.to_owned(), blocks);
        Some(request(PROMPT + u64::from(self.turns.started()), "session/prompt", &params))
    }

    pub(super) fn quiet(&mut self, seconds: u64, events: &mut Vec<AgentEvent>) {
        if !self.questions.waiting() {
            self.turns.quiet(seconds, self.setup.silence_s, events);
        }
    }

    pub(super) fn exited(&mut self, code: Option<i32>, events: &mut Vec<AgentEvent>) {
        self.questions.withdraw(None, false, events);
        self.turns.exited(code, events);
    }

    pub(super) fn state(&self) -> ConversationState {
        if self.failed {
            ConversationState::Ended
        } else if self.questions.waiting() {
            ConversationState::Asking
        } else if self.session.is_none() || !self.settled() {
            ConversationState::Starting
        } else {
            self.turns.state()
        }
    }

    pub(super) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }
}

fn request(id: u64, method: &str, params: &impl Serialize) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": value(params)})
}

/// The protocol's own types always have a JSON form.
fn value(params: &impl Serialize) -> Value {
    serde_json::to_value(params).unwrap_or_default()
}

fn option(option: &Value) -> Option<AskOption> {
    let kind = match json::text(option, "/kind") {
        "allow_once" => AskOptionKind::AllowOnce,
        "allow_always" => AskOptionKind::AllowAlways,
        "reject_once" => AskOptionKind::RejectOnce,
        "reject_always" => AskOptionKind::RejectAlways,
        _ => AskOptionKind::Other,
    };
    Some(AskOption {
        id: json::id(option, "/optionId")?,
        label: bound::title(json::text(option, "/name")),
        kind,
    })
}

fn tool_call(update: &Value) -> Call {
    let kind = match json::text(update, "/kind") {
        "" => None,
        "read" => Some(ToolKind::Read),
        "edit" => Some(ToolKind::Edit),
        "delete" => Some(ToolKind::Delete),
        "move" => Some(ToolKind::Move),
        "search" => Some(ToolKind::Search),
        "execute" => Some(ToolKind::Execute),
        "think" => Some(ToolKind::Think),
        "fetch" => Some(ToolKind::Fetch),
        _ => Some(ToolKind::Other),
    };
    let status = match json::text(update, "/status") {
        "pending" => Some(ToolStatus::Pending),
        "in_progress" => Some(ToolStatus::Running),
        "completed" => Some(ToolStatus::Completed),
        "failed" => Some(ToolStatus::Failed),
        _ => None,
    };
    let content = json::list(update, "/content");
    let locations = json::list(update, "/locations").iter().chain(content);
    let texts: Vec<&str> = content
        .iter()
        .map(|block| json::text(block, "/content/text"))
        .filter(|text| !text.is_empty())
        .collect();
    let command = json::text(update, "/rawInput/command");
    let output = update.pointer("/rawOutput").and_then(Value::as_str).unwrap_or_default();
    let detail = if !texts.is_empty() {
        bound::shorten(&texts.join("\n"), bound::DETAIL)
    } else if !output.is_empty() {
        output.to_owned()
    } else {
        command.to_owned()
    };
    Call {
        id: json::text(update, "/toolCallId").to_owned(),
        title: update.get("title").and_then(Value::as_str).map(bound::title),
        kind,
        status,
        locations: locations
            .map(|one| json::text(one, "/path"))
            .filter(|path| !path.is_empty())
            .take(bound::LOCATIONS)
            .map(str::to_owned)
            .collect(),
        detail: Some(detail),
        change: subject::change(update),
    }
}
