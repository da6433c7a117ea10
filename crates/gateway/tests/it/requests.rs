//! Plain HTTP requests through the proxy.

use std::time::Duration;

use offshoot_gateway::EgressEvent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Lab, Manner, policy, read_exactly, read_head, read_to_end};

#[tokio::test]
async fn a_refusal_can_be_acted_on() {
    let lab = Lab::new(&["example.org"], Manner::Web).await;
    let answer = lab.exchange("CONNECT evil.com:443 HTTP/1.1\r\nHost: evil.com:443\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.ends_with(
        "offshoot: host evil.com is not on the allow-list; ask the person to allow it: offshoot run --allow evil.com\n"
    ));
    let answer = lab.exchange("GET http://evil.com:8080/ HTTP/1.1\r\nHost: evil.com:8080\r\n\r\n").await;
    assert!(answer.contains("offshoot run --allow evil.com:8080\n"), "{answer}");
    match &lab.events()[..] {
        [
            EgressEvent::Refused { host, port: Some(443), code: "not-listed", policy: true, .. },
            EgressEvent::Refused { .. },
        ] => assert_eq!(host, "evil.com"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_concerns_one_connection_stays_on_it() {
    let lab = Lab::new(&["example.org"], Manner::Web).await;
    let answer = lab
        .exchange(
            "GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\nProxy-Authorization: Basic c2VjcmV0\r\n\
             Proxy-Connection: keep-alive\r\nConnection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\
             TE: trailers\r\nX-Kept: yes\r\nAccept: */*\r\n\r\n",
        )
        .await;
    assert!(answer.ends_with("answer 1"), "{answer}");
    let sent = lab.server.received()[0].to_ascii_lowercase();
    for gone in ["proxy-", "x-secret", "keep-alive", "te:", "connection"] {
        assert!(!sent.contains(gone), "{gone}: {sent}");
    }
    assert!(sent.contains("x-kept: yes"), "{sent}");
}

#[tokio::test]
async fn one_connection_serves_several_hosts_each_checked() {
    let lab = Lab::new(&["example.org", "example.com"], Manner::Web).await;
    let mut stream = lab.connect().await;
    for (host, answer) in
        [("example.org", "answer 1"), ("example.org", "answer 2"), ("example.com", "answer 1")]
    {
        stream
            .write_all(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(read_exactly(&mut stream, 8).await, answer.as_bytes());
    }
    assert_eq!(lab.company.asked(), ["example.org:80", "example.com:80"], "the first was used again");
    stream.write_all(b"GET http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut stream).await.contains("not-listed"));
}

#[tokio::test]
async fn a_changed_policy_holds_from_the_next_request_on() {
    let lab = Lab::new(&["example.org"], Manner::Web).await;
    let request = "GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n";
    assert!(lab.exchange(request).await.contains("not-listed"));
    lab.egress.set_policy(policy(&["example.org", "example.com"]));
    assert!(lab.exchange(request).await.ends_with("answer 1"));
    lab.egress.set_policy(policy(&[]));
    assert!(lab.exchange(request).await.contains("not-listed"));
}

#[tokio::test]
async fn bodies_go_both_ways() {
    let lab = Lab::new(&["host:SERVER"], Manner::Web).await;
    let port = lab.server.address.port();
    let head = format!("POST http://host.internal:{port}/ HTTP/1.1\r\nHost: host.internal:{port}\r\n");
    let answer = lab.exchange(format!("{head}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n12345")).await;
    assert!(answer.ends_with("answer 1"), "{answer}");
    let answer =
        lab.exchange(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n")).await;
    assert!(answer.contains("answer"), "{answer}");
    let sent = lab.server.received();
    assert!(
        sent[0].ends_with("\r\n\r\n12345") && !sent[0].to_ascii_lowercase().contains("expect"),
        "{sent:?}"
    );
    assert!(sent[1].ends_with("5\r\nabcde\r\n0\r\n\r\n"), "{sent:?}");
    assert!(lab.company.asked().is_empty(), "the host's own ports are dialled directly");
    match lab.event(|event| matches!(event, EgressEvent::Allowed { .. })).await {
        EgressEvent::Allowed { host, port: p, up, down, .. } => {
            assert_eq!((host.as_str(), p), ("host.internal", port));
            assert!(up > 50 && down > 40, "{up} {down}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn websockets_pass_and_other_upgrades_do_not() {
    let lab = Lab::new(&["host:SERVER"], Manner::Echo).await;
    // A server that switches protocols by sending the request's own bytes back is none; make one by hand.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    lab.egress.set_policy(policy(&[&format!("host:{port}")]));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        (head, ping)
    });
    let mut stream = lab.connect().await;
    let request = format!(
        "GET http://host.internal:{port}/ws HTTP/1.1\r\nHost: host.internal:{port}\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(read_exactly(&mut stream, 5).await, b"first");
    stream.write_all(b"ping").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 4).await, b"pong");
    let (head, ping) = server.await.unwrap();
    assert!(head.to_ascii_lowercase().contains("upgrade: websocket") && &ping == b"ping", "{head}");
}

#[tokio::test]
async fn an_allowed_host_that_does_not_answer_is_told_apart() {
    let lab = Lab::new(&["host:1", "nowhere.invalid"], Manner::Web).await;
    let answer = lab.exchange("GET http://host.internal:1/ HTTP/1.1\r\nHost: host.internal:1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("unreachable"), "{answer}");
    let refused = lab.event(|_| true).await;
    assert!(matches!(refused, EgressEvent::Refused { policy: false, .. }), "{refused:?}");
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let short = Duration::from_millis(100);
    let lab = Lab::with(&["example.org"], Manner::Web, |options| options.limits.head = short).await;
    let mut stream = lab.connect().await;
    stream.write_all(b"GET http://example.org/ HTTP/1.1\r\nHost: exa").await.unwrap();
    read_to_end(&mut stream).await;
    let mut stream = lab.tunnel("example.org:443").await;
    stream.write_all(&[22, 3, 1]).await.unwrap();
    read_to_end(&mut stream).await;
    let mut huge = "GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n".to_owned();
    huge.push_str(&format!("X: {}\r\n", "y".repeat(1 << 20)));
    let mut stream = lab.connect().await;
    let _ = stream.write_all(huge.as_bytes()).await;
    let answer = read_to_end(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(lab.server.received().iter().all(String::is_empty), "{:?}", lab.server.received());
}
