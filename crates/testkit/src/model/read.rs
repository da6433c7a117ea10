//! Requests of the four APIs, reduced to what a script needs: the tools, the prompt, how many tools have answered
//! since.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Which API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Anthropic,
    Responses,
    Chat,
    Gemini,
}

impl Api {
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path {
            _ if path.ends_with("/messages") => Self::Anthropic,
            _ if path.ends_with("/responses") => Self::Responses,
            _ if path.ends_with("/chat/completions") => Self::Chat,
            _ if path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent") => {
                Self::Gemini
            }
            _ => return None,
        })
    }
}

/// A tool the agent offers.
#[derive(Debug, Clone, Default)]
pub(super) struct Tool {
    /// The JSON schema of its arguments.
    pub(super) schema: Value,
    /// It takes text instead of arguments.
    pub(super) freeform: bool,
    /// It is called by a program given to the tool `exec` (Codex's "code mode").
    pub(super) via_exec: bool,
}

/// What is asked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) tools: BTreeMap<String, Tool>,
    /// Tool results after the prompt.
    pub(super) results: usize,
    pub(super) prompt: String,
    pub(super) system: String,
    /// The schema the answer has to have.
    pub(super) schema: Option<Value>,
    /// The agent's working directory, as far as the request tells it.
    pub(super) cwd: String,
}

pub(super) fn read(api: Api, body: &Value) -> Asked {
    let mut asked = match api {
        Api::Anthropic => anthropic(body),
        Api::Responses => responses(body),
        Api::Chat => chat(body),
        Api::Gemini => gemini(body),
    };
    asked.cwd = cwd(&body.to_string().replace("\\n", "\n"));
    asked
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().map(|part| string(part, "text")).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// Agents inject context as user messages (`<system-reminder>`, `<environment_context>` …).
fn is_prompt(text: &str) -> bool {
    !crate::script::parse(text).is_empty() || !text.trim_start().starts_with('<')
}

fn tool(schema: Option<&Value>) -> Tool {
    Tool { schema: schema.cloned().unwrap_or(Value::Object(Map::new())), ..Tool::default() }
}

fn anthropic(body: &Value) -> Asked {
    let mut asked = Asked { system: text_of(body.get("system")), ..Asked::default() };
    for one in list(body, "tools") {
        asked.tools.insert(string(one, "name").to_owned(), tool(one.get("input_schema")));
    }
    for message in list(body, "messages").iter().rev().filter(|message| string(message, "role") == "user") {
        let parts = list(message, "content");
        let is_result = |part: &Value| string(part, "type") == "tool_result";
        if let Some(last) = parts.iter().rposition(is_result) {
            // After an interruption the next prompt is in the same message as the results before it.
            let after = text_of(Some(&Value::Array(parts[last + 1..].to_vec())));
            if crate::script::parse(&after).is_empty() {
                asked.results += parts.iter().filter(|part| is_result(part)).count();
                continue;
            }
            asked.prompt = after;
            break;
        }
        asked.prompt = text_of(message.get("content"));
        if is_prompt(&asked.prompt) {
            break;
        }
    }
    let format = body.pointer("/output_config/format").or_else(|| body.get("output_format"));
    asked.schema = format.and_then(|format| format.get("schema")).cloned();
    asked
}

fn chat(body: &Value) -> Asked {
    let mut asked = Asked::default();
    for function in list(body, "tools").iter().filter_map(|one| one.get("function")) {
        asked.tools.insert(string(function, "name").to_owned(), tool(function.get("parameters")));
    }
    let messages = list(body, "messages");
    for message in messages.iter().rev() {
        match string(message, "role") {
            "tool" => asked.results += 1,
            "user" => {
                asked.prompt = text_of(message.get("content"));
                if is_prompt(&asked.prompt) {
                    break;
                }
            }
            _ => {}
        }
    }
    let system = messages.iter().filter(|message| matches!(string(message, "role"), "system" | "developer"));
    asked.system = system.map(|message| text_of(message.get("content"))).collect::<Vec<_>>().join("\n");
    asked.schema = body.pointer("/response_format/json_schema/schema").cloned();
    asked
}

fn responses(body: &Value) -> Asked {
    let mut asked = Asked { system: string(body, "instructions").to_owned(), ..Asked::default() };
    for one in list(body, "tools") {
        let name = string(one, "name").to_owned();
        match string(one, "type") {
            "namespace" => {
                for inner in list(one, "tools") {
                    asked.tools.insert(string(inner, "name").to_owned(), tool(inner.get("parameters")));
                }
            }
            "custom" => {
                asked.tools.insert(name, Tool { freeform: true, ..tool(None) });
            }
            _ if !name.is_empty() => {
                asked.tools.insert(name, tool(one.get("parameters")));
            }
            _ => {}
        }
    }
    let as_text = [serde_json::json!({"role": "user", "content": body.get("input")})];
    let items = body.get("input").and_then(Value::as_array).map_or(&as_text[..], Vec::as_slice);
    for item in items.iter().filter(|item| string(item, "type") == "additional_tools") {
        for outer in list(item, "tools") {
            let inner = list(outer, "tools");
            for one in if inner.is_empty() { std::slice::from_ref(outer) } else { inner } {
                additional(one, &mut asked.tools);
            }
        }
    }
    for item in items.iter().rev() {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or("message");
        if kind.ends_with("_call_output") {
            asked.results += 1;
        } else if kind == "message" && string(item, "role") == "user" {
            asked.prompt = text_of(item.get("content"));
            if is_prompt(&asked.prompt) {
                break;
            }
        }
    }
    asked.schema = body.pointer("/text/format/schema").cloned();
    asked
}

/// The tools Codex names in the description of its tool `exec`, which runs programs that call them.
fn additional(one: &Value, tools: &mut BTreeMap<String, Tool>) {
    let name = string(one, "name");
    if string(one, "type") != "custom" || name != "exec" {
        if !name.is_empty() {
            tools.entry(name.to_owned()).or_insert_with(|| tool(one.get("parameters")));
        }
        return;
    }
    for line in string(one, "description").lines() {
        let Some(inner) = line.strip_prefix("### `").and_then(|rest| rest.split('`').next()) else {
            continue;
        };
        let schema = serde_json::json!({"properties": {"cmd": {}}});
        let freeform = inner == "apply_patch";
        tools.insert(inner.to_owned(), Tool { schema, freeform, via_exec: true });
    }
}

fn gemini(body: &Value) -> Asked {
    let mut asked = Asked::default();
    for function in list(body, "tools").iter().flat_map(|one| list(one, "functionDeclarations")) {
        let schema = function.get("parametersJsonSchema").or_else(|| function.get("parameters"));
        asked.tools.insert(string(function, "name").to_owned(), tool(schema));
    }
    for message in list(body, "contents").iter().rev().filter(|message| string(message, "role") == "user") {
        let results =
            list(message, "parts").iter().filter(|part| part.get("functionResponse").is_some()).count();
        if results > 0 {
            asked.results += results;
            continue;
        }
        asked.prompt = text_of(message.get("parts"));
        if is_prompt(&asked.prompt) {
            break;
        }
    }
    asked.system = text_of(body.pointer("/systemInstruction/parts"));
    let config = body.get("generationConfig").unwrap_or(&Value::Null);
    asked.schema = config.get("responseJsonSchema").or_else(|| config.get("responseSchema")).cloned();
    asked
}

/// The directory that follows one of the words by which agents tell it to their model.
fn cwd(text: &str) -> String {
    let markers = [
        "<cwd>",
        "orking directory:",
        "orking directory is",
        "orkspace Directories:",
        "working in the directory",
        "working in",
        "cwd:",
    ];
    for marker in markers {
        for (start, _) in text.match_indices(marker) {
            let rest = &text[start + marker.len()..];
            let before = rest.find('/').unwrap_or(usize::MAX);
            if before <= 12 && rest[..before].chars().all(|c| " \n`*:-".contains(c)) {
                let path = &rest[before..];
                let end =
                    path.find(|c: char| c.is_whitespace() || "`<\"\\".contains(c)).unwrap_or(path.len());
                let path = path[..end].trim_end_matches(['.', ',']);
                if path.len() > 1 {
                    return path.to_owned();
                }
            }
        }
    }
    String::new()
}
