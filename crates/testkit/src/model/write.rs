//! Answers in the words of the four APIs, whole or as a stream of events.

use serde_json::{Value, json};

use super::decide::Call;
use super::read::Api;

pub(super) enum Written {
    Whole(Value),
    Events(Vec<String>),
}

pub(super) fn write(api: Api, body: &Value, text: &str, calls: &[Call], stream: bool) -> Written {
    let model = body.get("model").cloned().unwrap_or(json!("fake-model"));
    match api {
        Api::Anthropic => anthropic(&model, text, calls, stream),
        Api::Responses => responses(body, &model, text, calls, stream),
        Api::Chat => chat(&model, text, calls, stream),
        Api::Gemini => gemini(text, calls, stream),
    }
}

fn id(prefix: &str) -> String {
    format!("{prefix}{}", &uuid::Uuid::new_v4().simple().to_string()[..20])
}

/// Models do not stream word by word but in small pieces.
fn pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    if chars.is_empty() {
        return vec![String::new()];
    }
    chars.chunks(12).map(|piece| piece.iter().collect()).collect()
}

fn output_tokens(text: &str) -> usize {
    10 + text.len() / 4
}

fn named(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

fn data(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn anthropic(model: &Value, text: &str, calls: &[Call], stream: bool) -> Written {
    let mut blocks: Vec<Value> = Vec::new();
    if !text.is_empty() || calls.is_empty() {
        blocks.push(json!({"type": "text", "text": text}));
    }
    for (name, arguments) in calls {
        blocks.push(json!({"type": "tool_use", "id": id("toolu_"), "name": name, "input": arguments}));
    }
    let stop = if calls.is_empty() { "end_turn" } else { "tool_use" };
    let mut message = json!({
        "id": id("msg_"), "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": {
            "input_tokens": 100, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        },
    });
    let usage = json!({"input_tokens": 100, "output_tokens": output_tokens(text)});
    if !stream {
        message["content"] = Value::Array(blocks);
        message["stop_reason"] = json!(stop);
        message["usage"]["output_tokens"] = usage["output_tokens"].clone();
        return Written::Whole(message);
    }
    let mut events = vec![named("message_start", &json!({"type": "message_start", "message": message}))];
    for (index, block) in blocks.iter().enumerate() {
        let mut start = block.clone();
        let (whole, delta): (String, fn(&str) -> Value) = if block["type"] == "text" {
            start["text"] = json!("");
            (text.to_owned(), |piece| json!({"type": "text_delta", "text": piece}))
        } else {
            start["input"] = json!({});
            (block["input"].to_string(), |piece| json!({"type": "input_json_delta", "partial_json": piece}))
        };
        let start = json!({"type": "content_block_start", "index": index, "content_block": start});
        events.push(named("content_block_start", &start));
        for piece in pieces(&whole) {
            let event = json!({"type": "content_block_delta", "index": index, "delta": delta(&piece)});
            events.push(named("content_block_delta", &event));
        }
        events.push(named("content_block_stop", &json!({"type": "content_block_stop", "index": index})));
    }
    let delta = json!({"stop_reason": stop, "stop_sequence": null});
    events.push(named("message_delta", &json!({"type": "message_delta", "delta": delta, "usage": usage})));
    events.push(named("message_stop", &json!({"type": "message_stop"})));
    Written::Events(events)
}

fn argument_text(arguments: &Value) -> String {
    arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned)
}

fn chat(model: &Value, text: &str, calls: &[Call], stream: bool) -> Written {
    let id_ = id("chatcmpl-");
    let output = output_tokens(text);
    let usage = json!({"prompt_tokens": 100, "completion_tokens": output, "total_tokens": 100 + output});
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    let call = |(name, arguments): &Call| json!({"id": id("call_"), "type": "function", "function": {"name": name, "arguments": argument_text(arguments)}});
    let calls: Vec<Value> = calls.iter().map(call).collect();
    if !stream {
        let mut message =
            json!({"role": "assistant", "content": if text.is_empty() { Value::Null } else { json!(text) }});
        if !calls.is_empty() {
            message["tool_calls"] = Value::Array(calls);
        }
        return Written::Whole(json!({
            "id": id_, "object": "chat.completion", "created": 1, "model": model, "usage": usage,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        }));
    }
    let chunk = |choices: Value| json!({"id": id_, "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices});
    let delta = |delta: Value| data(&chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}])));
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}))];
    if !text.is_empty() {
        events.extend(pieces(text).iter().map(|piece| delta(json!({"content": piece}))));
    }
    for (index, call) in calls.iter().enumerate() {
        let mut first = call.clone();
        first["index"] = json!(index);
        first["function"]["arguments"] = json!("");
        events.push(delta(json!({"tool_calls": [first]})));
        for piece in pieces(call["function"]["arguments"].as_str().unwrap_or_default()) {
            events.push(delta(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})));
        }
    }
    events.push(data(&chunk(json!([{"index": 0, "delta": {}, "finish_reason": finish}]))));
    let mut last = chunk(json!([]));
    last["usage"] = usage;
    events.push(data(&last));
    events.push("data: [DONE]\n\n".to_owned());
    Written::Events(events)
}

fn responses(body: &Value, model: &Value, text: &str, calls: &[Call], stream: bool) -> Written {
    let mut items: Vec<Value> = Vec::new();
    if !text.is_empty() || calls.is_empty() {
        let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
        items.push(json!({
            "id": id("msg_"), "type": "message", "status": "completed", "role": "assistant", "content": content,
        }));
    }
    for (name, arguments) in calls {
        if let Some(input) = arguments.as_str() {
            items.push(json!({
                "id": id("ctc_"), "type": "custom_tool_call", "status": "completed", "call_id": id("call_"),
                "name": name, "input": input,
            }));
            continue;
        }
        let mut item = json!({
            "id": id("fc_"), "type": "function_call", "status": "completed", "call_id": id("call_"), "name": name,
            "arguments": arguments.to_string(),
        });
        if let Some(namespace) = namespace(body, name) {
            item["namespace"] = json!(namespace);
        }
        items.push(item);
    }
    let output = output_tokens(text);
    let mut response = json!({
        "id": id("resp_"), "object": "response", "created_at": 1, "status": "in_progress", "model": model,
        "output": [], "usage": null,
    });
    let mut done = response.clone();
    done["status"] = json!("completed");
    done["output"] = json!(items);
    done["usage"] = json!({
        "input_tokens": 100, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 100 + output,
    });
    if !stream {
        return Written::Whole(done);
    }
    let mut events = Vec::new();
    let mut event = |kind: &str, mut fields: Value| {
        fields["type"] = json!(kind);
        fields["sequence_number"] = json!(events.len());
        events.push(named(kind, &fields));
    };
    event("response.created", json!({"response": response.take()}));
    for (index, item) in items.iter().enumerate() {
        let item_id = &item["id"];
        let mut begun = item.clone();
        begun["status"] = json!("in_progress");
        match item["type"].as_str().unwrap_or_default() {
            "message" => {
                begun["content"] = json!([]);
                event("response.output_item.added", json!({"output_index": index, "item": begun}));
                let part = json!({"type": "output_text", "text": "", "annotations": []});
                let at = |extra: (&str, Value)| json!({"output_index": index, "item_id": item_id, "content_index": 0, extra.0: extra.1});
                event("response.content_part.added", at(("part", part)));
                for piece in pieces(text) {
                    event("response.output_text.delta", at(("delta", json!(piece))));
                }
                event("response.output_text.done", at(("text", json!(text))));
                event("response.content_part.done", at(("part", item["content"][0].clone())));
            }
            kind => {
                let (field, name) = if kind == "function_call" {
                    ("arguments", "response.function_call_arguments")
                } else {
                    ("input", "response.custom_tool_call_input")
                };
                begun[field] = json!("");
                event("response.output_item.added", json!({"output_index": index, "item": begun}));
                for piece in pieces(item[field].as_str().unwrap_or_default()) {
                    let fields = json!({"output_index": index, "item_id": item_id, "delta": piece});
                    event(&format!("{name}.delta"), fields);
                }
                let fields = json!({"output_index": index, "item_id": item_id, field: item[field]});
                event(&format!("{name}.done"), fields);
            }
        }
        event("response.output_item.done", json!({"output_index": index, "item": item}));
    }
    event("response.completed", json!({"response": done}));
    Written::Events(events)
}

/// The group a tool was offered in.
fn namespace(body: &Value, name: &str) -> Option<String> {
    let tools = body.get("tools")?.as_array()?;
    let group = tools.iter().find(|one| {
        let inner = one.get("tools").and_then(Value::as_array);
        one["type"] == "namespace" && inner.is_some_and(|inner| inner.iter().any(|tool| tool["name"] == name))
    })?;
    group["name"].as_str().map(str::to_owned)
}

fn gemini(text: &str, calls: &[Call], stream: bool) -> Written {
    let output = output_tokens(text);
    let usage =
        json!({"promptTokenCount": 100, "candidatesTokenCount": output, "totalTokenCount": 100 + output});
    let object = |parts: Vec<Value>, finish: bool| {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if finish {
            candidate["finishReason"] = json!("STOP");
        }
        json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "fake-model", "responseId": "r1"})
    };
    let mut parts: Vec<Value> = calls
        .iter()
        .map(|(name, arguments)| json!({"functionCall": {"id": id("fc_"), "name": name, "args": arguments}}))
        .collect();
    let speaks = !text.is_empty() || calls.is_empty();
    if !stream {
        if speaks {
            parts.insert(0, json!({"text": text}));
        }
        return Written::Whole(object(parts, true));
    }
    let mut events = Vec::new();
    if speaks {
        events.extend(pieces(text).iter().map(|piece| data(&object(vec![json!({"text": piece})], false))));
    }
    if parts.is_empty() {
        parts.push(json!({"text": ""}));
    }
    events.push(data(&object(parts, true)));
    Written::Events(events)
}
