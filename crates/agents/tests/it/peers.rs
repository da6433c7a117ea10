//! Agents in memory: a line in, lines out. The shapes are those of real ones.

use offshoot_agents::conversation::{SessionWish, Setup, Wire};
use offshoot_core::agent::PermissionPolicy;
use serde_json::{Value, json};

pub fn setup(wire: Wire) -> Setup {
    Setup {
        wire,
        session: SessionWish::New,
        cwd: "/repo".into(),
        permission: PermissionPolicy::Allow,
        mode: Some("yolo".into()),
        model: Some("large".into()),
        approval: None,
        preamble: Some("Be brief.".into()),
        prompt: Some("go".into()),
        idle_after_s: 5,
        silence_s: 60,
    }
}

/// What a peer answers to a line.
pub fn answer(wire: Wire, line: &[u8]) -> Vec<Value> {
    let Ok(message) = serde_json::from_slice::<Value>(line) else { return Vec::new() };
    match wire {
        Wire::Acp => acp(&message),
        Wire::ClaudeStreamJson => claude(&message),
        Wire::CodexAppServer => codex(&message),
        Wire::Terminal | Wire::Oneshot => Vec::new(),
    }
}

fn acp(message: &Value) -> Vec<Value> {
    let id = &message["id"];
    let update = |update: Value| json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s", "update": update}});
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => vec![
            json!({"id": id, "result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}}),
        ],
        "session/new" => vec![json!({"id": id, "result": {"sessionId": "s", "modes": {
            "currentModeId": "default", "availableModes": [{"id": "default"}, {"id": "yolo"}],
        }, "configOptions": [{"id": "which", "category": "model", "currentValue": "small", "options": [
            {"value": "small"}, {"group": "Others", "options": [{"value": "large"}]},
        ]}]}})],
        "session/set_mode" | "session/set_config_option" => vec![json!({"id": id, "result": {}})],
        "session/prompt" => vec![
            update(
                json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "hällo"}}),
            ),
            update(
                json!({"sessionUpdate": "tool_call", "toolCallId": "t", "title": "Write", "kind": "edit", "status": "pending"}),
            ),
            json!({"id": 7, "method": "craft/private", "params": {}}),
            json!({"id": id.as_u64().unwrap() + 1000, "method": "session/request_permission", "params": {
                "toolCall": {"toolCallId": "t"}, "options": [
                    {"optionId": "no", "name": "No", "kind": "reject_once"},
                    {"optionId": "proceed", "name": "Yes", "kind": "allow_once"},
                ],
            }}),
        ],
        "" if message["result"]["outcome"]["optionId"] == "proceed" => {
            let prompt = id.as_u64().unwrap() - 1000;
            vec![
                update(
                    json!({"sessionUpdate": "tool_call_update", "toolCallId": "t", "status": "completed"}),
                ),
                json!({"id": prompt, "result": {"stopReason": "end_turn", "usage": {"inputTokens": 3, "outputTokens": 4}}}),
            ]
        }
        _ => Vec::new(),
    }
}

fn claude(message: &Value) -> Vec<Value> {
    match message["type"].as_str().unwrap_or_default() {
        "user" => vec![
            json!({"type": "system", "subtype": "init", "session_id": "s"}),
            json!({"type": "assistant", "parent_tool_use_id": null, "message": {"content": [
                {"type": "text", "text": "hällo"},
                {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}},
            ]}}),
            json!({"type": "control_request", "request_id": "h", "request": {"subtype": "hook_callback"}}),
            json!({"type": "control_request", "request_id": "q", "request": {
                "subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}, "description": "ls",
            }}),
        ],
        "control_response" if message["response"]["response"]["behavior"] == "allow" => vec![
            json!({"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t", "content": "a"}]}}),
            json!({"type": "result", "subtype": "success", "is_error": false, "result": "done", "total_cost_usd": 0.1}),
        ],
        _ => Vec::new(),
    }
}

fn codex(message: &Value) -> Vec<Value> {
    let id = &message["id"];
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => vec![json!({"id": id, "result": {}})],
        "thread/start" => vec![json!({"id": id, "result": {"thread": {"id": "s"}}})],
        "turn/start" => vec![
            json!({"id": id, "result": {"turn": {"id": "u"}}}),
            json!({"method": "item/started", "params": {"threadId": "s", "item": {
                "type": "commandExecution", "id": "t", "command": "/bin/bash -lc 'ls'", "status": "inProgress",
            }}}),
            json!({"id": 0, "method": "item/commandExecution/requestApproval", "params": {"itemId": "t", "command": "ls"}}),
        ],
        "" if message["result"]["decision"] == "accept" => vec![
            json!({"method": "item/agentMessage/delta", "params": {"threadId": "s", "itemId": "m", "delta": "hällo"}}),
            json!({"method": "turn/completed", "params": {"threadId": "s", "turn": {"status": "completed", "error": null}}}),
        ],
        _ => Vec::new(),
    }
}
