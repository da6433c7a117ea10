//! The step that is due, put into the tools the agent has.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::read::{Asked, Tool};
use crate::script::{Step, parse};

const SHELL: [&str; 14] = [
    "Bash",
    "bash",
    "shell",
    "exec_command",
    "shell_command",
    "local_shell",
    "run_shell_command",
    "execute_command",
    "run_commands",
    "run_command",
    "developer__shell",
    "terminal",
    "run_in_terminal",
    "execute",
];
const WRITE: [&str; 8] =
    ["Write", "write", "write_file", "create", "create_file", "write_to_file", "editor", "developer__write"];
const EDIT: [&str; 8] = [
    "Edit",
    "edit",
    "replace",
    "str_replace",
    "edit_file",
    "replace_in_file",
    "str_replace_editor",
    "developer__edit",
];
const READ: [&str; 7] = ["Read", "read", "read_file", "view", "cat", "view_file", "read_files"];
const PLAN: [&str; 7] =
    ["TodoWrite", "update_plan", "todowrite", "write_todos", "todo_write", "update_todo", "todo"];
const ASK: [&str; 6] =
    ["AskUserQuestion", "request_user_input", "question", "ask_user", "ask_user_question", "ask_question"];

/// Names that agents give to what we want to say.
const ALIASES: [(&str, &[&str]); 5] = [
    ("path", &["file_path", "filePath", "path", "absolute_path", "file", "filename", "target_file"]),
    ("text", &["content", "contents", "file_text", "text", "new_text"]),
    ("old", &["old_string", "oldString", "old_str", "oldText", "search"]),
    ("new", &["new_string", "newString", "new_str", "newText", "replace"]),
    ("cmd", &["command", "cmd", "script"]),
];

/// A tool call: name and arguments (a string for tools that take text).
pub(super) type Call = (String, Value);

pub(super) enum Answer {
    Error(u16),
    Say { text: String, calls: Vec<Call>, gap: Duration, pause: Duration },
}

fn say(text: String) -> Answer {
    Answer::Say { text, calls: Vec::new(), gap: Duration::ZERO, pause: Duration::ZERO }
}

/// For agents that have no tools: everything at once, after all the pauses.
fn say_all(text: String, steps: &[Step]) -> Answer {
    let pauses = steps.iter().filter_map(|step| match step {
        Step::Sleep(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        _ => None,
    });
    Answer::Say { text, calls: Vec::new(), gap: Duration::ZERO, pause: pauses.sum() }
}

/// What to answer. `served` counts how often the error of a step was served, this time included.
pub(super) fn decide(asked: &Asked, served: impl Fn(usize) -> u32) -> Answer {
    let steps = parse(&asked.prompt);
    if asked.tools.is_empty() {
        if let Some(schema) = &asked.schema {
            return say(minimal(schema).to_string());
        }
        if asked.system.contains("SEARCH/REPLACE") {
            return say_all(text_edit(&steps), &steps);
        }
        if asked.system.contains("file listing") {
            return say_all(whole_files(&steps), &steps);
        }
        return say("Scripted title".to_owned());
    }
    let mut turn = 0;
    let mut pause = Duration::ZERO;
    for (index, step) in steps.iter().enumerate() {
        let due = turn == asked.results;
        match step {
            Step::Sleep(seconds) if due => pause += Duration::try_from_secs_f64(*seconds).unwrap_or_default(),
            Step::Error(status, times) if due => {
                if times.is_none_or(|times| served(index) <= times) {
                    return Answer::Error(*status);
                }
            }
            Step::Say(text) if due => {
                return Answer::Say { text: text.clone(), calls: Vec::new(), gap: Duration::ZERO, pause };
            }
            Step::Tokens(count, gap) if due => {
                let words: Vec<String> = (0..*count).map(|number| format!("word{number}")).collect();
                let gap = Duration::from_millis(*gap);
                return Answer::Say { text: words.join(" "), calls: Vec::new(), gap, pause };
            }
            Step::Sleep(_) | Step::Error(..) | Step::Say(_) | Step::Tokens(..) => {}
            step => {
                let calls = calls(step, asked);
                if calls.is_empty() {
                    continue;
                }
                if due {
                    return Answer::Say {
                        text: String::new(),
                        calls: via_exec(calls, asked),
                        gap: Duration::ZERO,
                        pause,
                    };
                }
                turn += calls.len();
            }
        }
    }
    Answer::Say { text: format!("DONE {}", asked.results), calls: Vec::new(), gap: Duration::ZERO, pause }
}

fn pick<'a>(asked: &'a Asked, names: &[&str]) -> Option<(&'a String, &'a Tool)> {
    names.iter().find_map(|name| asked.tools.get_key_value(*name)).or_else(|| {
        names.iter().find_map(|name| {
            let suffix = format!("__{}", name.to_lowercase());
            asked.tools.iter().find(|(tool, _)| tool.to_lowercase().ends_with(&suffix))
        })
    })
}

fn properties(tool: &Tool) -> Option<&Map<String, Value>> {
    tool.schema.get("properties").and_then(Value::as_object)
}

fn has(tool: &Tool, property: &str) -> bool {
    properties(tool).is_some_and(|properties| properties.contains_key(property))
}

/// Arguments for a tool, by the names and types its schema has; other required ones get a harmless value.
fn fill(tool: &Tool, wanted: &[(&str, &str)]) -> Map<String, Value> {
    let mut filled = Map::new();
    let empty = Map::new();
    let properties = properties(tool).unwrap_or(&empty);
    for (key, value) in wanted {
        let alone = [*key];
        let names = ALIASES.iter().find(|(name, _)| name == key).map_or(&alone[..], |(_, names)| names);
        let Some(name) = names.iter().find(|name| properties.contains_key(**name)) else { continue };
        let is_list = properties[*name].get("type") == Some(&json!("array"));
        let value = match (is_list, *key) {
            (true, "path") => json!([value]),
            (true, _) => json!(["bash", "-lc", value]),
            (false, _) => json!(value),
        };
        filled.insert((*name).to_owned(), value);
    }
    for name in
        tool.schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        if filled.contains_key(name) {
            continue;
        }
        let property = properties.get(name).unwrap_or(&Value::Null);
        let value = match property.get("type").and_then(Value::as_str) {
            _ if property.get("enum").is_some() => property["enum"][0].clone(),
            Some("number" | "integer") => json!(1),
            Some("boolean") => json!(false),
            Some("array") => json!([]),
            Some("object") => json!({}),
            _ => json!("scripted step"),
        };
        filled.insert(name.to_owned(), value);
    }
    filled
}

fn absolute(asked: &Asked, path: &str) -> String {
    if path.starts_with('/') || asked.cwd.is_empty() {
        path.to_owned()
    } else {
        format!("{}/{path}", asked.cwd.trim_end_matches('/'))
    }
}

fn shell(asked: &Asked, command: &str) -> Vec<Call> {
    let Some((name, tool)) = pick(asked, &SHELL) else { return Vec::new() };
    let mut arguments = fill(tool, &[("cmd", command)]);
    if has(tool, "commands") {
        arguments.insert("commands".into(), json!([command]));
    }
    vec![(name.clone(), Value::Object(arguments))]
}

fn patch(tool: &Tool, patch: String) -> Value {
    if tool.freeform {
        return Value::from(patch);
    }
    let mut arguments = fill(tool, &[]);
    arguments.insert(if has(tool, "input") { "input" } else { "patchText" }.into(), Value::from(patch));
    Value::Object(arguments)
}

fn calls(step: &Step, asked: &Asked) -> Vec<Call> {
    match step {
        Step::Shell(command) => shell(asked, command),
        Step::Commit(message) => shell(asked, &format!("git add -A && git commit -q -m '{message}'")),
        Step::Both(commands) => commands.iter().flat_map(|command| shell(asked, command)).collect(),
        Step::Tool(name, arguments) => {
            let arguments =
                serde_json::from_str(arguments).unwrap_or_else(|_| Value::from(arguments.as_str()));
            vec![(name.clone(), arguments)]
        }
        Step::Write(path, text) => {
            if let Some((name, tool)) = pick(asked, &WRITE) {
                let mut arguments = fill(tool, &[("path", &absolute(asked, path)), ("text", text)]);
                if has(tool, "command") {
                    arguments.insert("command".into(), json!("create"));
                }
                vec![(name.clone(), Value::Object(arguments))]
            } else if let Some(tool) = asked.tools.get("apply_patch") {
                let lines: String = text.lines().map(|line| format!("+{line}\n")).collect();
                let text = format!("*** Begin Patch\n*** Add File: {path}\n{lines}*** End Patch\n");
                vec![("apply_patch".into(), patch(tool, text))]
            } else {
                shell(asked, &format!("cat > {path} <<'EOF'\n{text}EOF"))
            }
        }
        Step::Edit(path, old, new) => {
            if let Some((name, tool)) = pick(asked, &EDIT) {
                let mut arguments =
                    fill(tool, &[("path", &absolute(asked, path)), ("old", old), ("new", new)]);
                if has(tool, "edits") {
                    arguments.insert("edits".into(), json!([{"oldText": old, "newText": new}]));
                }
                vec![(name.clone(), Value::Object(arguments))]
            } else if let Some(tool) = asked.tools.get("apply_patch") {
                let text =
                    format!("*** Begin Patch\n*** Update File: {path}\n@@\n-{old}\n+{new}\n*** End Patch\n");
                vec![("apply_patch".into(), patch(tool, text))]
            } else {
                shell(asked, &format!("sed -i 's/{old}/{new}/' {path}"))
            }
        }
        Step::Read(path) => match pick(asked, &READ) {
            Some((name, tool)) => {
                vec![(name.clone(), Value::Object(fill(tool, &[("path", &absolute(asked, path))])))]
            }
            None => shell(asked, &format!("cat {path}")),
        },
        Step::Plan(parts) => plan(parts, asked),
        Step::Ask(question, options) => {
            let Some((name, tool)) = pick(asked, &ASK) else { return Vec::new() };
            if !has(tool, "questions") {
                return vec![(name.clone(), Value::Object(fill(tool, &[("question", question)])))];
            }
            let options: Vec<Value> =
                options.iter().map(|option| json!({"label": option, "description": option})).collect();
            vec![(
                name.clone(),
                json!({"questions": [{
                    "question": question, "header": "Choice", "id": "q1", "multiSelect": false, "isOther": false,
                    "type": "choice", "options": options,
                }]}),
            )]
        }
        _ => Vec::new(),
    }
}

fn plan(parts: &[String], asked: &Asked) -> Vec<Call> {
    let Some((name, tool)) = pick(asked, &PLAN) else { return Vec::new() };
    let status = |index: usize| if index == 0 { "in_progress" } else { "pending" };
    if has(tool, "plan") {
        let steps =
            parts.iter().enumerate().map(|(index, part)| json!({"step": part, "status": status(index)}));
        return vec![(name.clone(), json!({"plan": steps.collect::<Vec<_>>()}))];
    }
    let item = tool.schema.pointer("/properties/todos/items/properties").and_then(Value::as_object);
    let todos = parts.iter().enumerate().map(|(index, part)| {
        let all = json!({
            "content": part, "description": part, "text": part, "id": (index + 1).to_string(), "activeForm": part,
            "priority": "medium", "status": status(index),
        });
        let Value::Object(mut all) = all else { return Value::Null };
        match item {
            Some(item) => all.retain(|key, _| item.contains_key(key)),
            None => all.retain(|key, _| key == "content" || key == "status"),
        }
        Value::Object(all)
    });
    vec![(name.clone(), json!({"todos": todos.collect::<Vec<_>>()}))]
}

/// Codex's "code mode": nested tool calls as a program for its tool `exec`.
fn via_exec(calls: Vec<Call>, asked: &Asked) -> Vec<Call> {
    let wrap = |(name, arguments): Call| {
        if asked.tools.get(&name).is_some_and(|tool| tool.via_exec) {
            ("exec".to_owned(), Value::from(format!("text(await tools.{name}({arguments}))")))
        } else {
            (name, arguments)
        }
    };
    calls.into_iter().map(wrap).collect()
}

/// For agents that have no tools but read the text (Aider): all edits at once.
fn text_edit(steps: &[Step]) -> String {
    let mut text = String::new();
    let mut last = "DONE";
    for step in steps {
        match step {
            Step::Write(path, new) => {
                text.push_str(&format!(
                    "{path}\n```\n<<<<<<< SEARCH\n=======\n{new}>>>>>>> REPLACE\n```\n\n"
                ));
            }
            Step::Edit(path, old, new) => {
                text.push_str(&format!(
                    "{path}\n```\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n```\n\n"
                ));
            }
            Step::Shell(command) => text.push_str(&format!("```bash\n{command}\n```\n\n")),
            Step::Say(words) => last = words,
            _ => {}
        }
    }
    text + last
}

/// For agents that want whole files (Aider with models it does not know); there an `@edit` cannot be made.
fn whole_files(steps: &[Step]) -> String {
    let mut text = String::new();
    let mut last = "DONE";
    for step in steps {
        match step {
            Step::Write(path, new) => text.push_str(&format!("{path}\n```\n{new}```\n\n")),
            Step::Say(words) => last = words,
            _ => {}
        }
    }
    text + last
}

/// The smallest value of a schema.
fn minimal(schema: &Value) -> Value {
    if let Some(first) = schema.pointer("/enum/0") {
        return first.clone();
    }
    let kind = schema.get("type").and_then(|kind| kind.as_str().or_else(|| kind.get(0)?.as_str()));
    let kind =
        kind.unwrap_or(if schema.get("properties").is_some() { "object" } else { "string" }).to_lowercase();
    match kind.as_str() {
        "object" => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let fields = properties.into_iter().flatten().map(|(key, value)| (key.clone(), minimal(value)));
            Value::Object(fields.collect())
        }
        "array" => json!([]),
        "boolean" => json!(false),
        "number" | "integer" => json!(1),
        _ => json!("scripted"),
    }
}
