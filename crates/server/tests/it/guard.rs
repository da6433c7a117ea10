//! Who is served over TCP: every header of a request, right and wrong, against a real listener.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::Duration,
};

use axum::{Extension, Router, routing::get};
use offshoot_core::time::Timestamp;
use offshoot_server::{
    Access, Asset, Site,
    guard::{Caller, Guard},
    serve_tcp,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ASSETS: &[Asset] =
    &[Asset { path: "index.html", tag: "\"1\"", plain: b"<!doctype html>the page", gzip: None }];

/// A listener that serves the page, and an API that tells who asked.
struct Served {
    address: SocketAddr,
    access: Access,
    _dir: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Served {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let access = Access::open(dir.path().join("dashboard.json"), None);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let who = async |Extension(caller): Extension<Caller>| format!("served {caller:?}");
        let router =
            Router::new().route("/v1/who", get(who).post(who)).route("/v1/session", get(who).post(who));
        let guard = Guard::local(address, TOKEN.to_owned(), access.clone());
        let stop = CancellationToken::new();
        tokio::spawn(serve_tcp(listener, router, guard, ASSETS, stop.clone()));
        Self { address, access, _dir: dir, _stop: stop.drop_guard() }
    }

    fn site(&self) -> Site {
        Site::local("localhost", self.address.port())
    }

    /// A session that began now, as its cookie.
    fn cookie(&self, at: Timestamp) -> (String, String) {
        let (code, _) = self.access.offer("browser", &self.site(), at, Duration::from_secs(60)).unwrap();
        let (device, secret) = self.access.begin(&code, &self.site(), at).unwrap();
        (device, format!("Cookie: {}={secret}", self.site().cookie()))
    }

    /// Status and whole answer to a request with exactly these headers.
    fn ask(&self, request: &str, headers: &[&str]) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        let head: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
        write!(stream, "{request} HTTP/1.1\r\nConnection: close\r\n{head}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_matrix_of_the_token() {
    let served = Served::new().await;
    let port = served.address.port();
    let host = format!("Host: 127.0.0.1:{port}");
    let token = format!("Authorization: Bearer {TOKEN}");
    let (_, cookie) = served.cookie(now());
    let cases: Vec<(u16, &str, Vec<String>)> = vec![
        (200, "all right", vec![host.clone(), token.clone()]),
        (200, "localhost", vec![format!("Host: localhost:{port}"), token.clone()]),
        (200, "IPv6", vec![format!("Host: [::1]:{port}"), token.clone()]),
        (200, "own origin", vec![host.clone(), token.clone(), format!("Origin: http://127.0.0.1:{port}")]),
        (200, "own page", vec![host.clone(), token.clone(), "Sec-Fetch-Site: same-origin".into()]),
        (200, "typed in", vec![host.clone(), token.clone(), "Sec-Fetch-Site: none".into()]),
        (403, "no port", vec!["Host: 127.0.0.1".into(), token.clone()]),
        (403, "other port", vec!["Host: 127.0.0.1:1".into(), token.clone()]),
        (403, "rebinding", vec![format!("Host: evil.example:{port}"), token.clone()]),
        (403, "rebinding to a suffix", vec![format!("Host: localhost.evil.example:{port}"), token.clone()]),
        (403, "a preview's name", vec![format!("Host: web.task.localhost:{port}"), token.clone()]),
        (403, "no host", vec![token.clone()]),
        (400, "two hosts", vec![host.clone(), format!("Host: localhost:{port}"), token.clone()]),
        (403, "other origin", vec![host.clone(), token.clone(), "Origin: http://evil.example".into()]),
        (403, "null origin", vec![host.clone(), token.clone(), "Origin: null".into()]),
        (403, "https origin", vec![host.clone(), token.clone(), format!("Origin: https://127.0.0.1:{port}")]),
        (403, "other loopback port", vec![host.clone(), token.clone(), "Origin: http://127.0.0.1:1".into()]),
        (
            403,
            "origin by another name",
            vec![host.clone(), token.clone(), format!("Origin: http://localhost:{port}")],
        ),
        (403, "cross-site", vec![host.clone(), token.clone(), "Sec-Fetch-Site: cross-site".into()]),
        (403, "same-site", vec![host.clone(), token.clone(), "Sec-Fetch-Site: same-site".into()]),
        (
            403,
            "opened from elsewhere, but the API",
            vec![
                host.clone(),
                token.clone(),
                "Sec-Fetch-Site: cross-site".into(),
                "Sec-Fetch-Mode: navigate".into(),
                "Sec-Fetch-Dest: document".into(),
            ],
        ),
        (401, "no token", vec![host.clone()]),
        (401, "short token", vec![host.clone(), format!("Authorization: Bearer {}", &TOKEN[..63])]),
        (
            401,
            "wrong token",
            vec![host.clone(), format!("Authorization: Bearer {}", TOKEN.replace('0', "1"))],
        ),
        (401, "wrong token and a session", vec![host.clone(), "Authorization: Bearer x".into(), cookie]),
        (401, "other scheme", vec![host.clone(), format!("Authorization: Basic {TOKEN}")]),
        (400, "two tokens", vec![host.clone(), token.clone(), token.clone()]),
    ];
    for (status, name, headers) in cases {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let (got, answer) = served.ask("GET /v1/who", &headers);
        assert_eq!(got, status, "{name}: {answer}");
        let lower = answer.to_ascii_lowercase();
        assert!(!lower.contains("access-control-"), "{name}: {answer}");
        assert!(!lower.contains("served") || status == 200, "{name}: {answer}");
        if status != 200 {
            assert!(lower.contains("application/problem+json"), "{name}: {answer}");
        }
    }
    for query in ["token", "access_token", "authorization", "code"] {
        let (got, _) = served.ask(&format!("GET /v1/who?{query}={TOKEN}"), &[&host]);
        assert_eq!(got, 401, "a token in the address is no token");
    }
}

/// A browser sends a cookie for whoever makes it ask: it has to say that our own page does.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_matrix_of_the_session() {
    const UPGRADE: &str = "Upgrade: websocket";
    const SAME: &str = "Sec-Fetch-Site: same-origin";
    let served = Served::new().await;
    let port = served.address.port();
    let (host, own) = (format!("Host: localhost:{port}"), format!("Origin: http://localhost:{port}"));
    let (device, cookie) = served.cookie(now());
    let (host, own, cookie) = (host.as_str(), own.as_str(), cookie.as_str());
    let by_ip = format!("Host: 127.0.0.1:{port}");
    let rebound = format!("Host: evil.example:{port}");
    let preview = "Origin: http://web.task.localhost:7878";
    let wrong_name = cookie.replace("offshoot-", "offshoot-1");
    let wrong = format!("{cookie}x");
    let tossed = cookie.replace("Cookie: ", &format!("Cookie: {}=tossed; a=b; ", served.site().cookie()));
    for (status, name, request, headers) in [
        (200, "own page reads", "GET", vec![host, cookie, SAME]),
        (200, "own page reads, without the new fields", "GET", vec![host, cookie, own]),
        (200, "own page changes", "POST", vec![host, cookie, own, SAME]),
        (200, "own page opens a WebSocket", "GET", vec![host, cookie, own, UPGRADE]),
        (200, "beside a cookie that somebody else has set", "GET", vec![host, &tossed, SAME]),
        (401, "no cookie", "GET", vec![host, SAME]),
        (401, "wrong secret", "GET", vec![host, SAME, &wrong]),
        (401, "another daemon's cookie", "GET", vec![host, SAME, &wrong_name]),
        (401, "at another of this machine's names", "GET", vec![&by_ip, cookie, SAME]),
        (403, "nobody says who asks", "GET", vec![host, cookie]),
        (403, "forged: a form", "POST", vec![host, cookie, "Content-Type: text/plain", preview]),
        (403, "forged: no origin", "POST", vec![host, cookie, SAME]),
        (403, "forged: null origin", "POST", vec![host, cookie, "Origin: null"]),
        (403, "forged: a preview", "POST", vec![host, cookie, preview, "Sec-Fetch-Site: cross-site"]),
        (403, "forged: another port", "POST", vec![host, cookie, "Origin: http://localhost:3000"]),
        (403, "read by another port", "GET", vec![host, cookie, "Sec-Fetch-Site: same-site"]),
        (403, "read by an image", "GET", vec![host, cookie, "Sec-Fetch-Site: cross-site"]),
        (403, "hijacked WebSocket", "GET", vec![host, cookie, preview, UPGRADE]),
        (403, "WebSocket without origin", "GET", vec![host, cookie, SAME, UPGRADE]),
        (403, "rebinding", "GET", vec![&rebound, cookie, SAME]),
    ] {
        let (got, answer) = served.ask(&format!("{request} /v1/who"), &headers);
        assert_eq!(got, status, "{name}: {answer}");
        assert!(answer.contains("served Device") == (status == 200), "{name}: {answer}");
    }
    served.access.revoke(&device, None).unwrap();
    assert_eq!(served.ask("GET /v1/who", &[host, cookie, SAME]).0, 401, "sent away");
    let (_, old) = served.cookie(Timestamp(now().0 - 31 * 24 * 3_600_000));
    assert_eq!(served.ask("GET /v1/who", &[host, &old, SAME]).0, 401, "not used for a month");
    let (_, used) = served.cookie(Timestamp(now().0 - 29 * 24 * 3_600_000));
    assert_eq!(served.ask("GET /v1/who", &[host, &used, SAME]).0, 200);
}

#[tokio::test]
async fn a_code_works_once_for_a_while_at_its_own_site() {
    let served = Served::new().await;
    let (site, at) = (served.site(), Timestamp(1_000_000));
    let offer = |site: &Site| served.access.offer("browser", site, at, Duration::from_secs(60)).unwrap().0;
    let refused = |code: &str, site: &Site, at| served.access.begin(code, site, at).unwrap_err().problem.code;
    let code = offer(&site);
    assert_eq!(code.len(), 43);
    served.access.begin(&code, &site, Timestamp(at.0 + 59_000)).unwrap();
    assert_eq!(refused(&code, &site, at), "code_refused", "used");
    assert_eq!(refused(&offer(&site), &site, Timestamp(at.0 + 60_000)), "code_refused", "old");
    assert_eq!(refused(&offer(&Site::tls("my.tunnel")), &site, at), "code_refused", "another site's");
    assert_eq!(refused("", &site, at), "code_refused");
    // Of many only the newest stay.
    let first = offer(&site);
    (0..16).for_each(|_| drop(offer(&site)));
    let later = Timestamp(at.0 + 1);
    assert_eq!(refused(&first, &site, later), "code_refused");
}

/// The page itself is nobody's secret, but it is for its own origin, and nobody frames it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn pages() {
    let served = Served::new().await;
    let host = format!("Host: localhost:{}", served.address.port());
    let host = host.as_str();
    let opened = ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: cross-site"];
    for path in ["/", "/login", "/tasks/a-task/review"] {
        let (status, answer) = served.ask(&format!("GET {path}"), &[&[host], &opened[..]].concat());
        assert_eq!(status, 200, "a link from elsewhere: {answer}");
        assert!(answer.contains("the page"), "{answer}");
    }
    for (status, path, headers) in [
        (200, "/", vec![host]),
        (404, "/assets/none.js", vec![host]),
        (404, "/../../etc/passwd", vec![host]),
        (404, "/%2e%2e/etc/passwd", vec![host]),
        (401, "/v1", vec![host]),
        (401, "/v1/", vec![host]),
        (401, "/v1/none", vec![host]),
        (401, "/v1/who?code=x", vec![host]),
        (403, "/", vec!["Host: evil.example"]),
        (
            403,
            "/",
            vec![host, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"],
        ),
        (403, "/", vec![host, "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors"]),
    ] {
        let (got, answer) = served.ask(&format!("GET {path}"), &headers);
        assert_eq!(got, status, "{path} {headers:?}: {answer}");
        let lower = answer.to_ascii_lowercase();
        for field in [
            "content-security-policy: default-src '",
            "frame-ancestors 'none'",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-origin",
            "permissions-policy: ",
        ] {
            assert!(lower.contains(field), "{path}: {field}: {answer}");
        }
        assert!(!lower.contains("unsafe-inline") && !lower.contains("unsafe-eval"), "{answer}");
        assert!(path.starts_with("/v1") || lower.contains("script-src 'self'"), "{path}: {answer}");
        assert!(!answer.contains("the page") || status == 200, "{path}: {answer}");
    }
}
