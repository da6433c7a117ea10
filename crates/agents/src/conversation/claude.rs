//! Claude Code's `--input-format stream-json --output-format stream-json`: one JSON object a line, prompts and
//! answers to permission questions in, everything that happens out. Shapes as seen with 2.1.329.
//!
//! The session is opened by the command line (`--session-id`, `--resume`), so there is nothing to send before the
//! first prompt. A `--resume` of an unknown session ends the process; the caller sees a failed turn and may start
//! anew.

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
use super::turns::Turns;
use super::{ConversationState, bound, json, subject};

const ALLOW: &str = "allow";
const DENY: &str = "deny";
const DENIED: &str = "Not permitted here. Go on without it.";
const NOBODY: &str = "Nobody is there to answer. Decide yourself and say what you decided.";

#[derive(Debug)]
pub(super) struct Claude {
    setup: Setup,
    sent: Lines,
    received: Lines,
    session: Option<String>,
    turns: Turns,
    tools: Tools,
    questions: Questions,
    /// Ids of control requests that were not understood and are to be answered so.
    refusals: Vec<Value>,
}

impl Claude {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            sent: Lines::default(),
            received: Lines::default(),
            session: None,
            turns: Turns::default(),
            tools: Tools::default(),
            questions: Questions::default(),
            refusals: Vec::new(),
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
        match json::text(message, "/type") {
            "user" => self.turns.start(json::text(message, "/message/content"), events),
            "control_request" if json::text(message, "/request/subtype") == "interrupt" => {
                self.turns.cancel_sent()
            }
            "control_response" => {
                let Some(id) = message.pointer("/response/request_id") else { return };
                let response = message.pointer("/response/response").unwrap_or(&Value::Null);
                let answers = response.pointer("/updatedInput/answers").and_then(Value::as_object);
                let chosen = match answers.and_then(|answers| answers.values().next()).and_then(Value::as_str)
                {
                    Some(answer) => answer,
                    None => json::text(response, "/behavior"),
                };
                if !self.questions.answered(id, chosen, events) {
                    self.refusals.retain(|refused| refused != id);
                }
            }
            _ => {}
        }
    }

    fn was_received(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        match json::text(message, "/type") {
            "system" => self.system(message, events),
            "assistant" => self.assistant(message, events),
            "user" => self.tool_results(message, events),
            "control_request" => self.control_request(message, events),
            "control_cancel_request" => {
                self.questions.withdraw(message.get("request_id"), false, events);
            }
            "result" => self.result(message, events),
            _ => {}
        }
    }

    fn system(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        match json::text(message, "/subtype") {
            // Said anew at the beginning of each turn.
            "init" => {
                if let Some(session) = json::id(message, "/session_id")
                    && self.session.as_ref() != Some(&session)
                {
                    self.session = Some(session.clone());
                    events.push(AgentEvent::SessionOpened { session });
                }
            }
            "api_retry" => {
                let text = format!(
                    "the model did not answer (HTTP {}), attempt {} of {}, next in {} ms",
                    json::number(message, "/error_status")
                        .map_or("-".to_owned(), |status| status.to_string()),
                    json::number(message, "/attempt").unwrap_or_default(),
                    json::number(message, "/max_retries").unwrap_or_default(),
                    json::number(message, "/retry_delay_ms").unwrap_or_default(),
                );
                events.push(AgentEvent::Trouble { text, retrying: true });
            }
            _ => {}
        }
    }

    fn assistant(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        // What a subagent says is for its parent; what it does is of interest.
        let own = message.get("parent_tool_use_id").is_none_or(Value::is_null);
        for block in json::list(message, "/message/content") {
            match json::text(block, "/type") {
                "text" if own => say(Role::Assistant, json::text(block, "/text"), events),
                "thinking" if own => say(Role::Thought, json::text(block, "/thinking"), events),
                "tool_use" => self.tools.upsert(tool_use(block), events),
                _ => {}
            }
        }
    }

    fn tool_results(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        for block in json::list(message, "/message/content") {
            let id = json::text(block, "/tool_use_id");
            if json::text(block, "/type") != "tool_result" || self.tools.get(id).is_none() {
                continue;
            }
            let failed = block.get("is_error") == Some(&Value::Bool(true));
            let detail = match block.get("content") {
                Some(Value::String(text)) => bound::shorten(text, bound::DETAIL),
                _ => {
                    let texts = json::list(block, "/content").iter().map(|part| json::text(part, "/text"));
                    bound::shorten(&texts.collect::<Vec<_>>().join("\n"), bound::DETAIL)
                }
            };
            let status = if failed { ToolStatus::Failed } else { ToolStatus::Completed };
            let call =
                Call { id: id.to_owned(), status: Some(status), detail: Some(detail), ..Call::default() };
            self.tools.upsert(call, events);
        }
    }

    fn control_request(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        let Some(id) = message.get("request_id").filter(|id| id.to_string().len() <= bound::ID) else {
            return;
        };
        let request = message.get("request").unwrap_or(&Value::Null);
        let understood = json::text(request, "/subtype") == "can_use_tool" && {
            if json::text(request, "/tool_name") == "AskUserQuestion" {
                self.question(id, request, events)
            } else {
                self.permission(id, request, events)
            }
        };
        if !understood && self.refusals.len() < bound::QUESTIONS {
            self.refusals.push(id.clone());
        }
    }

    fn permission(&mut self, id: &Value, request: &Value, events: &mut Vec<AgentEvent>) -> bool {
        let name = json::text(request, "/tool_name");
        let description = json::text(request, "/description");
        let title = if description.is_empty() {
            name.to_owned()
        } else {
            format!("{name}: {}", bound::title(description))
        };
        let options = vec![
            AskOption { id: ALLOW.into(), label: "Allow".into(), kind: AskOptionKind::AllowOnce },
            AskOption { id: DENY.into(), label: "Deny".into(), kind: AskOptionKind::RejectOnce },
        ];
        let input = request.get("input").unwrap_or(&Value::Null);
        let subject = subject::of_claude(name, input, tool_kind(name), &self.setup.cwd);
        let asking = Asking {
            wire_id: id.clone(),
            title,
            detail: subject::edit(input).or_else(|| subject::shown(&subject)).unwrap_or_default(),
            subject,
            options,
            data: Value::Null,
            waits: self.setup.permission == PermissionPolicy::Ask,
        };
        self.questions.ask(asking, events)
    }

    /// A question to the person, not for permission: no policy can answer it, but it can be turned away.
    fn question(&mut self, id: &Value, request: &Value, events: &mut Vec<AgentEvent>) -> bool {
        let questions = json::list(request, "/input/questions");
        let Some(first) = questions.first() else { return false };
        let more = questions.len() - 1;
        let mut title = bound::title(json::text(first, "/question"));
        if more > 0 {
            title.push_str(&format!(" (and {more} more)"));
        }
        let mut options: Vec<AskOption> = json::list(first, "/options")
            .iter()
            .filter_map(|option| json::id(option, "/label"))
            .take(bound::OPTIONS)
            .map(|label| AskOption { id: label.clone(), label, kind: AskOptionKind::Other })
            .collect();
        options.push(AskOption {
            id: DENY.into(),
            label: "No answer: decide yourself".into(),
            kind: AskOptionKind::RejectOnce,
        });
        let all: Vec<_> = questions.iter().map(|one| json::text(one, "/question")).collect();
        let asking = Asking {
            wire_id: id.clone(),
            title,
            detail: all.join("\n"),
            subject: Subject::Question,
            options,
            data: json!({"questions": questions}),
            waits: self.setup.permission != PermissionPolicy::Deny,
        };
        self.questions.ask(asking, events)
    }

    fn result(&mut self, message: &Value, events: &mut Vec<AgentEvent>) {
        self.questions.withdraw(None, false, events);
        let (mut input_tokens, mut output_tokens) = (0u64, 0u64);
        if let Some(models) = message.pointer("/modelUsage").and_then(Value::as_object) {
            for model in models.values() {
                input_tokens =
                    input_tokens.saturating_add(json::number(model, "/inputTokens").unwrap_or_default());
                output_tokens =
                    output_tokens.saturating_add(json::number(model, "/outputTokens").unwrap_or_default());
            }
        }
        let cost_usd = message.pointer("/total_cost_usd").and_then(Value::as_f64);
        if input_tokens + output_tokens > 0 || cost_usd.is_some() {
            events.push(AgentEvent::Usage { input_tokens, output_tokens, cost_usd });
        }
        let failed = message.get("is_error") == Some(&Value::Bool(true));
        let reason = match json::text(message, "/subtype") {
            _ if self.turns.is_cancelled() => TurnEnd::Cancelled,
            "success" if json::text(message, "/stop_reason") == "refusal" => TurnEnd::Refused,
            "success" if !failed => TurnEnd::Completed,
            "error_max_turns" | "error_max_budget_usd" => TurnEnd::Limit,
            _ => TurnEnd::Failed,
        };
        let text = match json::text(message, "/result") {
            "" => {
                json::list(message, "/errors").iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
            }
            text => text.to_owned(),
        };
        self.turns.end(reason, Some(&text), events);
    }

    pub(super) fn next(&self, wants: &Wants) -> Option<Send> {
        if let Some(bytes) = self.sent.resume(self.candidates(wants)) {
            return Some(Send::Bytes(bytes));
        }
        self.turns.all_done(wants).then_some(Send::CloseInput)
    }

    fn candidates(&self, wants: &Wants) -> Vec<Vec<u8>> {
        let mut messages: Vec<Value> = Vec::new();
        for id in &self.refusals {
            messages.push(json!({"type": "control_response", "response": {
                "subtype": "error", "request_id": id, "error": "not supported by this client",
            }}));
        }
        for (question, verdict) in self.questions.due(self.setup.permission, self.turns.is_cancelled(), wants)
        {
            messages.push(json!({"type": "control_response", "response": {
                "subtype": "success", "request_id": question.wire_id, "response": answer(question, verdict),
            }}));
        }
        if self.turns.to_cancel(wants) {
            let id = format!("interrupt-{}", self.turns.started());
            messages.push(
                json!({"type": "control_request", "request_id": id, "request": {"subtype": "interrupt"}}),
            );
        }
        if let Some(text) = self.turns.next_prompt(wants) {
            let fresh = self.setup.session == SessionWish::New;
            let preamble = self.setup.preamble.as_deref().filter(|_| fresh && self.turns.started() == 0);
            let content =
                preamble.map_or_else(|| text.to_owned(), |preamble| format!("{preamble}\n\n{text}"));
            messages.push(json!({"type": "user", "message": {"role": "user", "content": content}}));
        }
        messages.iter().map(json::line).collect()
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
        if self.questions.waiting() { ConversationState::Asking } else { self.turns.state() }
    }

    pub(super) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }
}

fn answer(question: &Question, verdict: Verdict) -> Value {
    let deny = |text: &str| json!({"behavior": "deny", "message": text, "interrupt": false});
    let is_question = !question.data.is_null();
    let Verdict::Chosen(answer) = verdict else { return deny(DENIED) };
    let text = answer.text.filter(|text| !text.trim().is_empty());
    if answer.option == ALLOW && !is_question {
        return json!({"behavior": "allow"});
    }
    let known = question.options.iter().any(|option| option.id == answer.option);
    let first = if known && answer.option != DENY { Some(answer.option) } else { text.clone() };
    match first {
        Some(first) if is_question => {
            let mut answers = serde_json::Map::new();
            for (index, one) in json::list(&question.data, "/questions").iter().enumerate() {
                let rest = text.as_deref().unwrap_or(NOBODY);
                let words = if index == 0 { first.as_str() } else { rest };
                answers.insert(json::text(one, "/question").to_owned(), Value::from(words));
            }
            json!({"behavior": "allow", "updatedInput": {
                "questions": question.data["questions"], "answers": answers,
            }})
        }
        _ if is_question => deny(NOBODY),
        _ => deny(text.as_deref().unwrap_or(DENIED)),
    }
}

fn tool_kind(name: &str) -> ToolKind {
    match name {
        "Read" | "NotebookRead" => ToolKind::Read,
        "Write" | "Edit" | "MultiEdit" | "NotebookEdit" => ToolKind::Edit,
        "Grep" | "Glob" | "LS" | "ToolSearch" => ToolKind::Search,
        "Bash" | "Monitor" => ToolKind::Execute,
        "Task" | "TodoWrite" | "EnterPlanMode" | "ExitPlanMode" => ToolKind::Think,
        "WebFetch" | "WebSearch" => ToolKind::Fetch,
        _ => ToolKind::Other,
    }
}

fn tool_use(block: &Value) -> Call {
    let name = json::text(block, "/name");
    let field =
        |name: &str| block.pointer("/input").and_then(|input| input.get(name)).and_then(Value::as_str);
    let path = field("file_path").or_else(|| field("notebook_path")).or_else(|| field("path"));
    let subject = ["command", "file_path", "notebook_path", "pattern", "url", "query", "description", "path"];
    let subject = subject.iter().find_map(|name| field(name)).unwrap_or_default();
    let title =
        if subject.is_empty() { name.to_owned() } else { format!("{name}: {}", bound::title(subject)) };
    Call {
        id: json::text(block, "/id").to_owned(),
        title: Some(title),
        kind: Some(tool_kind(name)),
        status: Some(ToolStatus::Running),
        locations: path.map(str::to_owned).into_iter().collect(),
        detail: field("command").map(str::to_owned),
        change: block.pointer("/input").and_then(subject::edit),
    }
}
