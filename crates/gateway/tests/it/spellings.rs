//! One host has one spelling: everything else is refused, and nothing of it reaches the outside.

use crate::support::{Lab, Manner};

/// Ways to ask that are not `example.org`, and the word that the answer is refused with.
const CONNECTS: &[(&str, &str)] = &[
    ("evil.com:443", "not-listed"),
    ("evil.com.example.com:443", "not-listed"),
    ("example.org.evil.com:443", "not-listed"),
    ("xexample.org:443", "not-listed"),
    ("www.example.org:443", "not-listed"),
    ("xn--exmple-cua.org:443", "not-listed"),
    ("localhost:443", "not-listed"),
    ("host.internal:22", "port-not-listed"),
    ("example.org:22", "port-not-listed"),
    ("example.org:8443", "port-not-listed"),
    ("wild.net:443", "not-listed"),
    ("badwild.net:443", "not-listed"),
    ("127.0.0.1:443", "address"),
    ("127.1:443", "address"),
    ("2130706433:443", "address"),
    ("0x7f000001:443", "address"),
    ("0x7f.1:443", "address"),
    ("0177.0.0.1:443", "address"),
    ("017700000001:443", "address"),
    ("1.2.3.4.:443", "address"),
    ("169.254.169.254:80", "address"),
    ("[::1]:443", "address"),
    ("[::ffff:127.0.0.1]:443", "address"),
    ("[::ffff:7f00:1]:443", "address"),
    ("[fe80::1%25eth0]:443", ""),
    ("example.org", "invalid"),
    ("example.org:", "invalid"),
    ("example.org:0", "invalid"),
    ("example.org:65536", "invalid"),
    ("example.org:+443", ""),
    ("example.org:443x", ""),
    ("example.org:0x1bb", ""),
    ("example.org..:443", "invalid"),
    (".example.org:443", "invalid"),
    ("..:443", "invalid"),
    ("-example.org:443", "invalid"),
    ("example_x.org:443", "invalid"),
    ("user@example.org:443", "invalid"),
    ("example.org@evil.com:443", "invalid"),
    ("user:pass@example.org:443", "invalid"),
    ("evil.com#example.org:443", ""),
    ("evil.com/example.org:443", ""),
    ("evil.com?example.org:443", ""),
    ("evil.com\\example.org:443", ""),
    ("evil.com%00example.org:443", ""),
    ("evil.com\0example.org:443", ""),
    ("example.org%2eevil.com:443", ""),
    ("b\u{fc}cher.example:443", ""),
    ("example\u{3002}org:443", ""),
    ("\u{ff45}xample.org:443", ""),
    ("http://example.org:443", ""),
    ("example.org\t:443", ""),
];

#[tokio::test]
async fn hosts_have_one_spelling_in_connect() {
    let lab = Lab::new(&["example.org", "*.wild.net", "host:8080"], Manner::Web).await;
    for (place, code) in CONNECTS {
        let answer = lab.exchange(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n")).await;
        // An empty word: hyper does not take it for a request at all.
        if code.is_empty() {
            assert!(answer.starts_with("HTTP/1.1 40") || answer.is_empty(), "{place:?}: {answer}");
        } else {
            assert!(answer.starts_with("HTTP/1.1 40"), "{place:?}: {answer}");
            assert!(answer.contains(&format!("x-offshoot-refused: {code}\r\n")), "{place:?}: {answer}");
        }
    }
    assert!(lab.company.asked().is_empty(), "{:?}", lab.company.asked());
    for (place, asked) in [
        ("example.org:443", "example.org:443"),
        ("EXAMPLE.org:443", "example.org:443"),
        ("example.org.:443", "example.org:443"),
        ("a.b.wild.net:80", "a.b.wild.net:80"),
    ] {
        drop(lab.tunnel(place).await);
        assert_eq!(lab.company.asked().last().unwrap(), asked);
    }
}

#[tokio::test]
async fn hosts_have_one_spelling_in_requests() {
    let lab = Lab::new(&["example.org", "host:8080"], Manner::Web).await;
    for (request, code) in [
        ("GET http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n", "not-listed"),
        ("GET http://example.org/ HTTP/1.1\r\nHost: evil.com\r\n", "names-differ"),
        ("GET http://evil.com/ HTTP/1.1\r\nHost: example.org\r\n", "names-differ"),
        ("GET http://example.org/ HTTP/1.1\r\nHost: example.org:8080\r\n", "names-differ"),
        ("GET http://example.org:8080/ HTTP/1.1\r\nHost: example.org:8080\r\n", "port-not-listed"),
        ("GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\nHost: evil.com\r\n", "invalid"),
        ("GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\nHost: example.org\r\n", "invalid"),
        ("GET http://example.org/ HTTP/1.1\r\nHost: example.org, evil.com\r\n", "invalid"),
        ("GET http://example.org/ HTTP/1.1\r\nHost: \r\n", "invalid"),
        ("GET http://user@example.org/ HTTP/1.1\r\nHost: example.org\r\n", "invalid"),
        ("GET http://evil.com@example.org/ HTTP/1.1\r\nHost: example.org\r\n", "invalid"),
        ("GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n", "address"),
        ("GET http://[::1]/ HTTP/1.1\r\nHost: [::1]\r\n", "address"),
        ("GET http://2130706433/ HTTP/1.1\r\nHost: 2130706433\r\n", "address"),
        ("GET https://example.org/ HTTP/1.1\r\nHost: example.org\r\n", "invalid"),
        ("GET ftp://example.org/ HTTP/1.1\r\nHost: example.org\r\n", "invalid"),
        ("GET / HTTP/1.1\r\nHost: example.org\r\n", "invalid"),
        ("GET /etc/passwd HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n", "address"),
        ("OPTIONS * HTTP/1.1\r\nHost: example.org\r\n", "invalid"),
        ("GET http://host.internal/ HTTP/1.1\r\nHost: host.internal\r\n", "port-not-listed"),
    ] {
        let answer = lab.exchange(format!("{request}\r\n")).await;
        assert!(answer.contains(&format!("x-offshoot-refused: {code}\r\n")), "{request:?}: {answer}");
    }
    assert!(lab.company.asked().is_empty(), "{:?}", lab.company.asked());
    let answer = lab.exchange("GET http://Example.ORG./x?y=1 HTTP/1.1\r\nHost: example.org\r\n\r\n").await;
    assert!(answer.ends_with("answer 1"), "{answer}");
    assert_eq!(lab.company.asked(), ["example.org:80"]);
    let received = lab.server.received();
    assert!(received[0].starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{received:?}");
    assert_eq!(received[0].to_ascii_lowercase().matches("host: example.org\r\n").count(), 1, "{received:?}");
}

/// Requests that two readers could take for a different number of requests. None may reach the outside as such.
#[tokio::test]
async fn nothing_is_smuggled() {
    let head = "POST http://example.org/ HTTP/1.1\r\nHost: example.org\r\n";
    let hidden = "GET /hidden HTTP/1.1\r\nHost: evil.com\r\n\r\n";
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 40\r\n\r\n",
        "Content-Length: 0, 40\r\n\r\n",
        "Content-Length: +0\r\n\r\n",
        "Content-Length: 0x28\r\n\r\n",
        "Content-Length: -1\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
        "Connection: content-length\r\nContent-Length: 44\r\n\r\n",
        "X: y\nContent-Length: 44\n\n",
        "X\0: y\r\n\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    ] {
        let lab = Lab::new(&["example.org"], Manner::Web).await;
        let answer = lab.exchange(format!("{head}{framing}{hidden}")).await;
        if framing.contains("gzip") {
            assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        }
        for sent in lab.server.received() {
            let sent = sent.to_ascii_lowercase();
            let (before, after) = sent.split_once("\r\n\r\n").unwrap_or((&sent, ""));
            assert!(!before.contains("evil.com") && !before.contains("h2c"), "{framing:?}: {sent}");
            // The hidden request is either not there or is the body that the head says it is.
            if !after.is_empty() && before.contains("content-length: 44") {
                assert_eq!(after.len(), 44, "{framing:?}");
            } else {
                assert!(!after.contains("hidden"), "{framing:?}: {sent} / {answer}");
            }
        }
    }
}
