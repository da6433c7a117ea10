//! What of a message's head is passed on. Pure.
//!
//! Invariant: framing is never passed on; each side's is made anew from the parsed message, so the two sides cannot
//! read one message in two ways (RFC 9112 section 11.2).

use hyper::{
    HeaderMap, Request,
    header::{self, HeaderName, HeaderValue},
};
use offshoot_core::egress::HostName;

use super::{policy::authority, refusal::Refusal};

/// Fields that concern one connection only (RFC 9110 section 7.6.1), and those that only proxies send or read.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];
const HOP_BY_HOP_UNNAMED: [&str; 3] = ["keep-alive", "proxy-connection", "proxy-authenticate"];

/// Removes the fields that concern one connection only.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // Framing was parsed already and decides how the body is sent on.
        .filter(|name| name != header::CONTENT_LENGTH && name != header::HOST)
        .collect();
    for name in listed.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP_UNNAMED {
        headers.remove(name);
    }
}

/// Refuses codings of the transfer that would be lost on the way. (hyper refuses several lengths and codings that do
/// not end in `chunked`; beside `chunked` it ignores and removes a length.)
pub(crate) fn check_framing<B>(request: &Request<B>) -> Result<(), Refusal> {
    match request.headers().get(header::TRANSFER_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Err(Refusal::Invalid {
            what: "Transfer-Encoding; only chunked is passed on",
            text: String::from_utf8_lossy(coding.as_bytes()).into_owned(),
        }),
        _ => Ok(()),
    }
}

/// The host and port that the Host field names, `None` without one.
pub(crate) fn host(headers: &HeaderMap, default_port: u16) -> Result<Option<(HostName, u16)>, Refusal> {
    let mut values = headers.get_all(header::HOST).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| Refusal::Invalid {
        what: "Host",
        text: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    })?;
    if values.next().is_some() {
        return Err(Refusal::Invalid { what: "Host", text: "several".to_owned() });
    }
    authority(text, Some(default_port)).map(Some)
}

/// The Host field for a destination.
pub(crate) fn host_value(name: &HostName, port: u16) -> Result<HeaderValue, Refusal> {
    let text = if port == 80 { name.to_string() } else { format!("{name}:{port}") };
    HeaderValue::try_from(&text).map_err(|_| Refusal::Invalid { what: "Host", text })
}

/// Whether a request asks to go on as a WebSocket. Other protocols are not let through: an h2c upgrade, for one,
/// would name hosts that nobody checks.
pub(crate) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let upgrade =
        headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let connection = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    upgrade && connection
}

/// Makes a stripped head one of a WebSocket again.
pub(crate) fn mark_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}
