//! The dashboard's files, which are part of the program: what a browser gets at every path that is not the API's.
//!
//! Invariants: nothing is read from disk, a path is only looked up in a table, so it leads nowhere else; every answer has the
//! headers of [`secure`]; the pages hold nothing of the person's, so nobody has to be logged in to load them.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::answer::Refusal;

/// A file of the dashboard.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Its path, without a slash in front.
    pub path: &'static str,
    /// Its entity tag, with quotation marks: a digest of its content.
    pub tag: &'static str,
    /// Its content.
    pub plain: &'static [u8],
    /// The same by gzip, if that is less.
    pub gzip: Option<&'static [u8]>,
}

/// Those of this program; none if it was built without the dashboard.
pub const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// What a page may do: load and reach what is its own, nothing else; no inline script or style, no frame around it.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      connect-src 'self'; worker-src 'self'; manifest-src 'self'; object-src 'none'; base-uri 'none'; \
                      frame-ancestors 'none'; form-action 'self'";
/// The same for an answer of the API that somebody opens: nothing at all.
const API_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";
/// What the page never asks for.
const PERMISSIONS: &str = "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), \
                           magnetometer=(), microphone=(), midi=(), payment=(), usb=(), serial=()";

/// Files under this path have a digest in their name, so they never change.
const HASHED: &str = "assets/";

const WITHOUT: &str = include_str!("without.html");

/// Whether a path is the API's.
pub(crate) fn is_api(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/")
}

/// The answer to a request that is not the API's.
pub(crate) fn answer(assets: &'static [Asset], method: &Method, path: &str, headers: &HeaderMap) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "no_such_method",
            "the path does not take this method",
        )
        .into_response();
    }
    let wanted = path.trim_start_matches('/');
    let found = assets.iter().find(|asset| asset.path == wanted && asset.path != "index.html");
    let asset = match found {
        Some(asset) => Some(asset),
        // Every other address is a view of the one page, unless it looks like a file.
        None if is_view(wanted) => assets.iter().find(|asset| asset.path == "index.html"),
        None => {
            return Refusal::new(StatusCode::NOT_FOUND, "no_such_page", "there is no such page")
                .into_response();
        }
    };
    match asset {
        Some(asset) => file(asset, headers),
        None => (
            [
                (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            ],
            WITHOUT,
        )
            .into_response(),
    }
}

/// Whether a path may be one of the page's own views: no file, nothing that leads upwards.
fn is_view(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    !path.starts_with(HASHED)
        && !last.contains('.')
        && path.split('/').all(|part| !part.starts_with('.'))
        && !path.contains(['%', '\\'])
}

fn file(asset: &Asset, headers: &HeaderMap) -> Response {
    let keep =
        if asset.path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = Response::new(Body::empty());
    let out = response.headers_mut();
    out.insert(header::ETAG, HeaderValue::from_static(asset.tag));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if listed(headers, &header::IF_NONE_MATCH, asset.tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind(asset.path)));
    let content = match asset.gzip {
        Some(gzip) if listed(headers, &header::ACCEPT_ENCODING, "gzip") => {
            out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            gzip
        }
        _ => asset.plain,
    };
    *response.body_mut() = Body::from(Bytes::from_static(content));
    response
}

/// Whether a header's list has this value. A weakened tag is the same one.
fn listed(headers: &HeaderMap, name: &header::HeaderName, wanted: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|part| part.split(';').next().unwrap_or_default().trim().trim_start_matches("W/"))
        .any(|part| part == wanted)
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Adds to an answer what keeps browsers from doing anything unasked with it.
pub(crate) fn secure(api: bool, headers: &mut HeaderMap) {
    let policy = if api { API_POLICY } else { POLICY };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), PERMISSIONS),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSETS: &[Asset] = &[
        Asset { path: "assets/app-1a2b.js", tag: "\"1\"", plain: b"plain", gzip: Some(b"gzip") },
        Asset { path: "index.html", tag: "\"2\"", plain: b"<!doctype html>", gzip: None },
        Asset { path: "sw.js", tag: "\"3\"", plain: b"worker", gzip: None },
    ];

    fn get(path: &str, fields: &[(&'static str, &'static str)]) -> Response {
        let headers = fields
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        answer(ASSETS, &Method::GET, path, &headers)
    }

    fn field(response: &Response, name: header::HeaderName) -> &str {
        response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    #[test]
    fn views_are_the_page_and_files_are_files() {
        for path in ["/", "/login", "/tasks/fix-login", "/tasks/fix-login/review", "/index"] {
            let page = get(path, &[]);
            assert_eq!(field(&page, header::ETAG), "\"2\"", "{path}");
            assert_eq!(field(&page, header::CACHE_CONTROL), "no-cache", "{path}");
        }
        assert_eq!(field(&get("/sw.js", &[]), header::CACHE_CONTROL), "no-cache");
        let script = get("/assets/app-1a2b.js", &[("accept-encoding", "br;q=1.0, gzip;q=0.8")]);
        assert_eq!(field(&script, header::CONTENT_ENCODING), "gzip");
        assert_eq!(field(&script, header::CONTENT_TYPE), "text/javascript; charset=utf-8");
        assert!(field(&script, header::CACHE_CONTROL).contains("immutable"));
        assert_eq!(field(&get("/assets/app-1a2b.js", &[]), header::CONTENT_ENCODING), "");
        let known = get("/", &[("if-none-match", "\"1\", W/\"2\"")]);
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn a_path_leads_nowhere_else() {
        for path in [
            "/../etc/passwd",
            "/..%2f..%2fetc/passwd",
            "/%2e%2e/etc/passwd",
            "/..\\..\\etc",
            "/assets/../index",
            "/assets/app-0.js",
            "/assets/",
            "/.env",
            "/.git/config",
            "/favicon.ico",
            "/index.html",
            "/v1.json",
        ] {
            assert_eq!(get(path, &[]).status(), StatusCode::NOT_FOUND, "{path}");
        }
        let posted = answer(ASSETS, &Method::POST, "/login", &HeaderMap::new());
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn without_the_dashboard_the_page_says_so() {
        let page = answer(&[], &Method::GET, "/", &HeaderMap::new());
        assert_eq!(page.status(), StatusCode::OK);
        assert!(WITHOUT.contains("make build") && !WITHOUT.contains("<script") && !WITHOUT.contains("style"));
    }
}
