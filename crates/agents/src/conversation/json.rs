//! Reading JSON that may be anything: every access is optional, nothing is assumed of shapes.

use serde_json::Value;

use super::bound;

/// The string at a JSON pointer, or an empty one.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The id at a JSON pointer, if it is a string of a sensible length.
pub(super) fn id(value: &Value, pointer: &str) -> Option<String> {
    bound::id(text(value, pointer))
}

/// The number at a JSON pointer.
pub(super) fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

/// The list at a JSON pointer, or an empty one.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// One message as one line.
pub(super) fn line(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// What an error of JSON-RPC says.
pub(super) fn error_text(error: &Value) -> String {
    let message = text(error, "/message");
    let details = match error.pointer("/data/details").or_else(|| error.pointer("/data/message")) {
        Some(Value::String(details)) => details.as_str(),
        _ => error.get("data").and_then(Value::as_str).unwrap_or_default(),
    };
    let both = match (message.is_empty(), details.is_empty() || details == message) {
        (false, true) => message.to_owned(),
        (false, false) => format!("{message}: {details}"),
        (true, false) => details.to_owned(),
        (true, true) => error.to_string(),
    };
    bound::shorten(&both, bound::DETAIL)
}
