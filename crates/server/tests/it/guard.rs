//! Who is served over TCP: every header of a request, right and wrong, against a real listener.

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use axum::{Router, routing::get};
use offshoot_server::{guard::Guard, serve_tcp};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

async fn listen(stopping: CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async || "served"));
    tokio::spawn(serve_tcp(listener, router, Guard::new(address, TOKEN.to_owned()), stopping));
    address
}

/// Status and body of a request with exactly these headers.
fn ask(address: SocketAddr, target: &str, headers: &[String]) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    write!(stream, "GET {target} HTTP/1.1\r\nConnection: close\r\n{head}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_matrix() {
    let stopping = CancellationToken::new();
    let address = listen(stopping.clone()).await;
    let port = address.port();
    let host = format!("Host: 127.0.0.1:{port}");
    let token = format!("Authorization: Bearer {TOKEN}");
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
        (401, "no token", vec![host.clone()]),
        (401, "short token", vec![host.clone(), format!("Authorization: Bearer {}", &TOKEN[..63])]),
        (
            401,
            "wrong token",
            vec![host.clone(), format!("Authorization: Bearer {}", TOKEN.replace('0', "1"))],
        ),
        (401, "other scheme", vec![host.clone(), format!("Authorization: Basic {TOKEN}")]),
        (400, "two tokens", vec![host.clone(), token.clone(), token.clone()]),
    ];
    for (status, name, headers) in cases {
        let (got, answer) = ask(address, "/", &headers);
        assert_eq!(got, status, "{name}: {answer}");
        let lower = answer.to_ascii_lowercase();
        assert!(!lower.contains("access-control-"), "{name}: {answer}");
        assert!(!lower.contains("served") || status == 200, "{name}: {answer}");
        if status != 200 {
            assert!(lower.contains("application/problem+json"), "{name}: {answer}");
        }
    }
    for query in ["token", "access_token", "authorization"] {
        let (got, _) = ask(address, &format!("/?{query}={TOKEN}"), std::slice::from_ref(&host));
        assert_eq!(got, 401, "a token in the address is no token");
    }
    stopping.cancel();
}
