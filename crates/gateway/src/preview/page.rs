//! The proxy's own pages: lists of apps, and why one does not answer. Pure.
//!
//! As HTML for browsers, as a line of text for everything else. Everything that came from elsewhere is escaped. No
//! page may be framed, none runs a script.

use std::fmt::Write as _;

use bytes::Bytes;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};

use super::{Listed, refusal::Refusal};

const CODE: HeaderName = HeaderName::from_static("x-offshoot-refused");
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem;\
color-scheme:light dark}code{font-size:.9em}td{padding:.2rem 1.5rem .2rem 0}";

/// Why a request gets no answer from an app.
pub(crate) fn refused(refusal: &Refusal, headers: &HeaderMap) -> Response<Bytes> {
    let (text, hint) = (refusal.text(), refusal.hint());
    let mut response = if wants_html(headers) {
        let mut body = format!("<p>{}</p>", escaped(&text));
        if let Some(hint) = hint {
            let _ = write!(body, "<p><code>{}</code></p>", escaped(hint));
        }
        let again = refusal.retry_after().map(|wait| wait.as_secs());
        if again.is_some() {
            body.push_str("<p>This page tries again by itself.</p>");
        }
        html("Offshoot", &body, again)
    } else {
        let hint = hint.map(|hint| format!("offshoot: {hint}\n")).unwrap_or_default();
        plain(format!("offshoot: {text}\n{hint}"))
    };
    *response.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(CODE, HeaderValue::from_static(refusal.code()));
    if let Some(wait) = refusal.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    if matches!(refusal, Refusal::Method) {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// What there is, of one task or of all.
pub(crate) fn index(
    task: Option<&str>,
    listed: &[Listed],
    port: u16,
    headers: &HeaderMap,
) -> Response<Bytes> {
    if !wants_html(headers) {
        let lines = listed.iter().map(|app| format!("{}\t{}\n", app.name.url(port), app.state));
        return plain(lines.collect());
    }
    let title = task.map_or_else(|| "Apps".to_owned(), |task| format!("Apps of {task}"));
    let mut body = format!("<h1>{}</h1>", escaped(&title));
    if listed.is_empty() {
        body.push_str(
            "<p>There are none. Apps are described in <code>offshoot.toml</code>; any port that a task \
                       listens on is at <code>&lt;port&gt;.&lt;task&gt;.localhost</code>.</p>",
        );
    } else {
        body.push_str("<table>");
        for app in listed {
            let url = escaped(&app.name.url(port));
            let _ = write!(
                body,
                "<tr><td>{}</td><td><a href=\"{url}\">{}</a></td><td>{}</td></tr>",
                escaped(&app.name.task),
                escaped(&app.name.app),
                escaped(&app.state)
            );
        }
        body.push_str("</table>");
    }
    html(&title, &body, None)
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .is_some_and(|value| value.to_str().is_ok_and(|text| text.contains("text/html")))
}

fn html(title: &str, body: &str, again: Option<u64>) -> Response<Bytes> {
    let again = again
        .map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"))
        .unwrap_or_default();
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>{again}\
         <style>{STYLE}</style></head><body>{body}</body></html>\n",
        escaped(title)
    );
    own(text, "text/html; charset=utf-8")
}

fn plain(text: String) -> Response<Bytes> {
    own(text, "text/plain; charset=utf-8")
}

fn own(text: String, kind: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter if letter.is_control() && letter != '\n' => out.extend(letter.escape_default()),
            letter => out.push(letter),
        }
    }
    out
}
