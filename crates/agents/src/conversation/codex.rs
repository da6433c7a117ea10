//! `codex app-server`: JSON-RPC without its version field, one message a line. Shapes as seen with 0.169.0; its
//! whole schema is printed by `codex app-server generate-json-schema`.
//!
//! Codex's own sandbox is always told to stay off (`danger-full-access`): it nests bubblewrap, which a sandbox like
//! ours does not permit, and ours is the boundary. Approvals are independent of it.

use offshoot_core::{
    agent::{AgentEvent, AskOption, AskOptionKind, PermissionPolicy, Role, ToolKind, ToolStatus, TurnEnd},
    approval::Subject,
};
use serde_json::{Value, json};

use super::lines::{Line, Lines};
use super::questions::{Asking, Question, Questions, Verdict};
use super::setup::{Direction, Send, SessionWish, Setup, Wants};
use super::tell::{say, too_long};
use super::tools::{Call, Tools};
use super::turns::{Request, Turns};
use super::{ConversationState, bound, json, subject};

const INITIALIZE: u64 = 1;
const OPEN: u64 = 2;
const OPEN_NEW: u64 = 3;
/// Request id of the prompt of turn 0.
const PROMPT: u64 = 100;
/// Request id of the interruption of turn 0; far beyond the prompts of any conversation.
const INTERRUPT: u64 = 1 << 32;

const ACCEPT: &str = "accept";
const ALWAYS: &str = "acceptForSession";
const DECLINE: &str = "decline";

#[derive(Debug)]
pub(super) struct Codex {
    setup: Setup,
    sent: Lines,
    received: Lines,
    initialize: Request,
    initialized_sent: bool,
    open: Request,
    open_new: Request,
    session: Option<String>,
    failed: bool,
    /// Codex's id of the turn under way, to interrupt it by.
    turn_id: Option<String>,
    turns: Turns,
    tools: Tools,
    questions: Questions,
    refusals: Vec<Value>,
    /// Of the message that streams in: whether anything came as a delta, so that its whole text is not told again.
    streamed: Option<String>,
}

impl Codex {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            sent: Lines::default(),
            received: Lines::default(),
            initialize: Request::Unsent,
            initialized_sent: false,
            open: Request::Unsent,
            open_new: Request::Unsent,
            session: None,
            failed: false,
            turn_id: None,
            turns: Turns::default(),
            tools: Tools::default(),
            questions: Questions::default(),
            refusals: Vec::new(),
            streamed: None,
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
            "" => {
                let Some(id) = message.get("id") else { return };
                let decision = match json::text(message, "/result/decision") {
                    "" => first_answer(message.pointer("/result/answers")).unwrap_or_default(),
                    decision => decision,
                };
                if !self.questions.answered(id, decision, events) {
                    self.refusals.retain(|refused| refused != id);
                }
            }
            "initialize" => self.initialize = Request::Sent,
            "initialized" => self.initialized_sent = true,
            "thread/start" if id == Some(OPEN_NEW) => self.open_new = Request::Sent,
            "thread/start" | "thread/resume" => self.open = Request::Sent,
            "turn/interrupt" => self.turns.cancel_sent(),
            "turn/start" => {
                self.turn_id = None;
                let prompt =
                    json::list(message, "/params/input").last().map(|block| json::text(block, "/text"));
                self.turns.start(prompt.unwrap_or_default(), events);
            }
            _ => {}
        }
    }

    fn was_received(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        let method = json::text(message, "/method");
        let params = message.get("params").unwrap_or(&Value::Null);
        match (method, message.get("id")) {
            ("", Some(id)) => self.answer(id, message, events),
            ("", None) => {}
            (method, Some(id)) => {
                if id.to_string().len() <= bound::ID
                    && !self.request(method, id, params, events)
                    && self.refusals.len() < bound::QUESTIONS
                {
                    self.refusals.push(id.clone());
                }
            }
            (method, None) => {
                // Subagents are threads of their own; only their tool calls are of interest.
                let thread = json::text(params, "/threadId");
                let own = thread.is_empty() || self.session.as_deref() == Some(thread);
                self.notification(method, params, own, events);
            }
        }
    }

    fn answer(&mut self, id: &Value, message: &Value, events: &mut Vec<AgentEvent>) {
        let result = match message.get("error") {
            Some(error) if !error.is_null() => Err(json::error_text(error)),
            _ => Ok(message.get("result").unwrap_or(&Value::Null)),
        };
        match id.as_u64() {
            Some(INITIALIZE) if self.initialize == Request::Sent => {
                self.initialize = Request::Done;
                if let Err(error) = result {
                    self.fail(&format!("the agent did not start a conversation: {error}"), events);
                }
            }
            Some(OPEN) if self.open == Request::Sent => {
                self.open = Request::Done;
                match (result, &self.setup.session) {
                    (Ok(result), _) => self.opened(result, events),
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
                    Ok(result) => self.opened(result, events),
                    Err(error) => self.fail(&format!("the agent did not open a session: {error}"), events),
                }
            }
            Some(id) if self.turns.current().is_some_and(|turn| id == PROMPT + u64::from(turn)) => {
                match result {
                    Ok(result) => self.turn_id = json::id(result, "/turn/id"),
                    Err(error) => self.turns.end(TurnEnd::Failed, Some(&error), events),
                }
            }
            _ => {}
        }
    }

    fn opened(&mut self, result: &Value, events: &mut Vec<AgentEvent>) {
        match json::id(result, "/thread/id") {
            Some(session) => {
                self.session = Some(session.clone());
                events.push(AgentEvent::SessionOpened { session });
            }
            None => self.fail("the agent opened a session without an id", events),
        }
    }

    fn fail(&mut self, text: &str, events: &mut Vec<AgentEvent>) {
        self.failed = true;
        let text = bound::shorten(text, bound::DETAIL);
        events.push(AgentEvent::Trouble { text: text.clone(), retrying: false });
        events.push(AgentEvent::TurnEnded { turn: 0, reason: TurnEnd::Failed, text: Some(text) });
    }

    fn request(&mut self, method: &str, id: &Value, params: &Value, events: &mut Vec<AgentEvent>) -> bool {
        let asks = self.setup.permission == PermissionPolicy::Ask;
        match method {
            "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
                let command = json::text(params, "/command");
                let known = self.tools.get(json::text(params, "/itemId")).and_then(|call| call.title.clone());
                let title = if command.is_empty() { known.unwrap_or_default() } else { shell_words(command) };
                let option =
                    |id: &str, label: &str, kind| AskOption { id: id.into(), label: label.into(), kind };
                let options = vec![
                    option(ACCEPT, "Allow", AskOptionKind::AllowOnce),
                    option(ALWAYS, "Allow for this session", AskOptionKind::AllowAlways),
                    option(DECLINE, "Deny", AskOptionKind::RejectOnce),
                ];
                let known = self.tools.get(json::text(params, "/itemId")).cloned().unwrap_or_default();
                let subject = if method == "item/fileChange/requestApproval" {
                    subject::files(ToolKind::Edit, &known.locations, &self.setup.cwd)
                } else if command.is_empty() {
                    Subject::Unclear
                } else {
                    Subject::Command { command: shell_words(command) }
                };
                let reason = json::text(params, "/reason");
                let shown = known.detail.filter(|detail| !detail.is_empty());
                let shown = subject::shown(&subject).filter(|_| !command.is_empty()).or(shown);
                let parts = [reason, shown.as_deref().unwrap_or_default()];
                let detail: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                let asking = Asking {
                    wire_id: id.clone(),
                    title,
                    detail: detail.join("\n"),
                    subject,
                    options,
                    data: Value::Null,
                    waits: asks,
                };
                self.questions.ask(asking, events)
            }
            "item/tool/requestUserInput" => {
                let questions = json::list(params, "/questions");
                let Some(first) = questions.first() else { return false };
                let mut options: Vec<AskOption> = json::list(first, "/options")
                    .iter()
                    .filter_map(|option| json::id(option, "/label"))
                    .take(bound::OPTIONS)
                    .map(|label| AskOption { id: label.clone(), label, kind: AskOptionKind::Other })
                    .collect();
                options.push(AskOption {
                    id: DECLINE.into(),
                    label: "No answer: decide yourself".into(),
                    kind: AskOptionKind::RejectOnce,
                });
                let ids: Vec<&str> = questions.iter().map(|question| json::text(question, "/id")).collect();
                let all: Vec<_> = questions.iter().map(|one| json::text(one, "/question")).collect();
                let asking = Asking {
                    wire_id: id.clone(),
                    title: json::text(first, "/question").to_owned(),
                    detail: all.join("\n"),
                    subject: Subject::Question,
                    options,
                    data: json!({"ids": ids}),
                    waits: self.setup.permission != PermissionPolicy::Deny,
                };
                self.questions.ask(asking, events)
            }
            _ => false,
        }
    }

    fn notification(&mut self, method: &str, params: &Value, own: bool, events: &mut Vec<AgentEvent>) {
        let item = params.get("item").unwrap_or(&Value::Null);
        match method {
            "item/started" | "item/completed" => match json::text(item, "/type") {
                "agentMessage" if own && method == "item/completed" => {
                    let streamed = self.streamed.take();
                    if streamed.as_deref() != Some(json::text(item, "/id")) {
                        say(Role::Assistant, json::text(item, "/text"), events);
                    }
                }
                "reasoning" if own && method == "item/completed" => {
                    let texts = json::list(item, "/summary").iter().filter_map(Value::as_str);
                    say(Role::Thought, &texts.collect::<Vec<_>>().join("\n"), events);
                }
                _ => self.tools.upsert(tool(item), events),
            },
            "item/agentMessage/delta" if own => {
                self.streamed = json::id(params, "/itemId");
                say(Role::Assistant, json::text(params, "/delta"), events);
            }
            "thread/tokenUsage/updated" if own => {
                let total =
                    |name| json::number(params, &format!("/tokenUsage/total/{name}")).unwrap_or_default();
                events.push(AgentEvent::Usage {
                    input_tokens: total("inputTokens"),
                    output_tokens: total("outputTokens"),
                    cost_usd: None,
                });
            }
            "error" => {
                let text = bound::shorten(json::text(params, "/error/message"), bound::DETAIL);
                let retrying = params.get("willRetry") == Some(&Value::Bool(true));
                events.push(AgentEvent::Trouble { text, retrying });
            }
            "serverRequest/resolved" => {
                self.questions.withdraw(params.get("requestId"), false, events);
            }
            "turn/started" if own && self.turns.current().is_some() => {
                self.turn_id = json::id(params, "/turn/id");
            }
            "turn/completed" if own => {
                self.questions.withdraw(None, false, events);
                let reason = match json::text(params, "/turn/status") {
                    "interrupted" => TurnEnd::Cancelled,
                    "failed" => TurnEnd::Failed,
                    _ => TurnEnd::Completed,
                };
                self.turns.end(reason, Some(json::text(params, "/turn/error/message")), events);
            }
            _ => {}
        }
    }

    pub(super) fn next(&self, wants: &Wants) -> Option<Send> {
        if let Some(bytes) = self.sent.resume(self.candidates(wants)) {
            return Some(Send::Bytes(bytes));
        }
        (self.failed || self.turns.all_done(wants)).then_some(Send::CloseInput)
    }

    fn candidates(&self, wants: &Wants) -> Vec<Vec<u8>> {
        let mut messages: Vec<Value> = Vec::new();
        for id in &self.refusals {
            messages.push(
                json!({"id": id, "error": {"code": -32601, "message": "not supported by this client"}}),
            );
        }
        let cancelled = self.turns.is_cancelled() && self.turns.current().is_some();
        for (question, verdict) in self.questions.due(self.setup.permission, cancelled, wants) {
            messages.push(json!({"id": question.wire_id, "result": decision(question, verdict)}));
        }
        if !self.failed {
            match &self.session {
                None => messages.extend(self.opening()),
                Some(session) => {
                    if let (true, Some(turn)) = (self.turns.to_cancel(wants), &self.turn_id) {
                        let id = INTERRUPT + u64::from(self.turns.started());
                        let params = json!({"threadId": session, "turnId": turn});
                        messages.push(json!({"id": id, "method": "turn/interrupt", "params": params}));
                    }
                    messages.extend(self.prompt(session, wants));
                }
            }
        }
        messages.iter().map(json::line).collect()
    }

    fn opening(&self) -> Option<Value> {
        if self.initialize == Request::Unsent {
            let client =
                json!({"name": "offshoot", "title": "Offshoot", "version": env!("CARGO_PKG_VERSION")});
            return Some(json!({"id": INITIALIZE, "method": "initialize", "params": {"clientInfo": client}}));
        }
        if self.initialize != Request::Done {
            return None;
        }
        if !self.initialized_sent {
            return Some(json!({"method": "initialized"}));
        }
        // `untrusted` asks before everything but harmless reading, and is the only policy that asks without a
        // sandbox of Codex's own.
        let default = if self.setup.permission == PermissionPolicy::Allow { "never" } else { "untrusted" };
        let approval = self.setup.approval.as_deref().unwrap_or(default);
        let mut params = json!({
            "cwd": self.setup.cwd, "approvalPolicy": approval, "sandbox": "danger-full-access",
        });
        if let Some(model) = &self.setup.model {
            params["model"] = Value::from(model.as_str());
        }
        match (self.open, self.open_new, &self.setup.session) {
            (Request::Unsent, _, SessionWish::New) => {
                Some(json!({"id": OPEN, "method": "thread/start", "params": params}))
            }
            (Request::Unsent, _, SessionWish::Resume(session)) => {
                params["threadId"] = Value::from(session.as_str());
                params["excludeTurns"] = Value::Bool(true);
                Some(json!({"id": OPEN, "method": "thread/resume", "params": params}))
            }
            (Request::Done, Request::Unsent, SessionWish::Resume(_)) => {
                Some(json!({"id": OPEN_NEW, "method": "thread/start", "params": params}))
            }
            _ => None,
        }
    }

    fn prompt(&self, session: &str, wants: &Wants) -> Option<Value> {
        let text = self.turns.next_prompt(wants)?;
        let fresh = self.setup.session == SessionWish::New || self.open_new == Request::Done;
        let preamble = self.setup.preamble.as_deref().filter(|_| fresh && self.turns.started() == 0);
        let input: Vec<Value> =
            preamble.into_iter().chain([text]).map(|text| json!({"type": "text", "text": text})).collect();
        let id = PROMPT + u64::from(self.turns.started());
        Some(json!({"id": id, "method": "turn/start", "params": {"threadId": session, "input": input}}))
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
        } else if self.session.is_none() {
            ConversationState::Starting
        } else {
            self.turns.state()
        }
    }

    pub(super) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }
}

/// The answer to an approval or to a question.
fn decision(question: &Question, verdict: Verdict) -> Value {
    let is_question = !question.data.is_null();
    let (option, text) = match verdict {
        Verdict::Chosen(answer) => (answer.option, answer.text),
        Verdict::Cancelled => (DECLINE.to_owned(), None),
    };
    let known = question.options.iter().any(|one| one.id == option);
    if !is_question {
        return json!({"decision": if known { option.as_str() } else { DECLINE }});
    }
    let mut answers = serde_json::Map::new();
    for (index, id) in json::list(&question.data, "/ids").iter().filter_map(Value::as_str).enumerate() {
        let chosen = (index == 0 && known && option != DECLINE).then_some(option.as_str());
        let words = chosen.or(text.as_deref()).unwrap_or("Nobody is there to answer. Decide yourself.");
        answers.insert(id.to_owned(), json!({"answers": [words]}));
    }
    json!({"answers": answers})
}

fn first_answer(answers: Option<&Value>) -> Option<&str> {
    json::list(answers?.as_object()?.values().next()?, "/answers").first()?.as_str()
}

/// `/bin/bash -lc 'echo hi'` is how Codex runs `echo hi`, and `/bin/bash -lc ls` how it runs `ls`. What is quoted in
/// another way stays as it is: taken apart wrongly it would be another command.
fn shell_words(command: &str) -> String {
    let inner = ["/bin/bash -lc ", "bash -lc ", "/bin/sh -lc ", "sh -lc "];
    let inner = inner.iter().find_map(|shell| command.strip_prefix(shell));
    let plain = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
    let quoted = |inner: &'_ str| {
        let text = inner.strip_prefix('\'')?.strip_suffix('\'')?;
        (!text.contains('\'')).then(|| text.to_owned())
    };
    let inner =
        inner.and_then(|inner| quoted(inner).or_else(|| Some(inner).filter(plain).map(str::to_owned)));
    inner.unwrap_or_else(|| command.to_owned())
}

/// What Codex calls an item; those that are not tool calls come out without an id and are passed over.
fn tool(item: &Value) -> Call {
    let status = match json::text(item, "/status") {
        "completed" => ToolStatus::Completed,
        "failed" | "declined" => ToolStatus::Failed,
        _ => ToolStatus::Running,
    };
    let changes = json::list(item, "/changes");
    let mut change = None;
    let (kind, title, detail) = match json::text(item, "/type") {
        "commandExecution" => {
            let output = json::text(item, "/aggregatedOutput");
            let command = shell_words(json::text(item, "/command"));
            let detail = if output.is_empty() { command.clone() } else { output.to_owned() };
            (ToolKind::Execute, command, detail)
        }
        "fileChange" => {
            let first = changes.first().map(|change| json::text(change, "/path")).unwrap_or_default();
            let more = changes.len().saturating_sub(1);
            let title =
                if more > 0 { format!("Edit {first} (and {more} more)") } else { format!("Edit {first}") };
            let changed = changes
                .iter()
                .map(|one| format!("{}\n{}", json::text(one, "/path"), json::text(one, "/diff")));
            let changed = changed.collect::<Vec<_>>().join("\n");
            change = Some(changed.clone());
            (ToolKind::Edit, title, changed)
        }
        "mcpToolCall" | "dynamicToolCall" => {
            let error = json::text(item, "/error/message");
            (ToolKind::Other, json::text(item, "/tool").to_owned(), error.to_owned())
        }
        "webSearch" => (ToolKind::Fetch, format!("Search: {}", json::text(item, "/query")), String::new()),
        "imageView" => (ToolKind::Read, format!("View {}", json::text(item, "/path")), String::new()),
        "collabAgentToolCall" => (ToolKind::Think, json::text(item, "/tool").to_owned(), String::new()),
        _ => return Call::default(),
    };
    Call {
        id: json::text(item, "/id").to_owned(),
        title: Some(bound::title(&title)),
        kind: Some(kind),
        status: Some(status),
        locations: changes
            .iter()
            .map(|change| json::text(change, "/path").to_owned())
            .filter(|path| !path.is_empty())
            .take(bound::LOCATIONS)
            .collect(),
        detail: Some(bound::shorten(&detail, bound::DETAIL)),
        change,
    }
}
