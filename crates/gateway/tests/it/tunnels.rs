//! CONNECT: bytes both ways, the names that TLS and HTTP show inside, ends and limits.

use std::time::Duration;

use offshoot_gateway::EgressEvent;
use tokio::io::AsyncWriteExt;

use crate::support::{Lab, Manner, hello, read_exactly, read_head, read_to_end};

#[tokio::test]
async fn a_tunnel_is_for_the_name_that_tls_asks_for() {
    let lab = Lab::new(&["example.org", "example.com"], Manner::Echo).await;
    let mut stream = lab.tunnel("example.org:443").await;
    let bytes = hello("Example.org");
    // In pieces, as a network may deliver it.
    for piece in bytes.chunks(9) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.write_all(b"more").await.unwrap();
    let back = read_exactly(&mut stream, bytes.len() + 4).await;
    assert_eq!(back, [&bytes[..], b"more"].concat());

    for other in ["example.com", "evil.com", "x\0.org", "127.0.0.1"] {
        let mut stream = lab.tunnel("example.org:443").await;
        stream.write_all(&hello(other)).await.unwrap();
        assert_eq!(read_exactly(&mut stream, 7).await, [21, 3, 1, 0, 2, 2, 49], "{other}");
        assert_eq!(read_to_end(&mut stream).await, "");
    }
    let sent = lab.server.received();
    assert!(sent.iter().all(|sent| !sent.contains(".com")), "{sent:?}");
    let refused = lab.event(|event| matches!(event, EgressEvent::Refused { code: "names-differ", .. })).await;
    assert!(matches!(refused, EgressEvent::Refused { host, .. } if host == "example.com"));
}

#[tokio::test]
async fn requests_inside_a_tunnel_are_looked_at() {
    let lab = Lab::new(&["example.org"], Manner::Web).await;
    let mut stream = lab.tunnel("example.org:80").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    read_exactly(&mut stream, 8).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.contains("names-differ"), "{answer}");
    let mut stream = lab.tunnel("example.org:80").await;
    stream.write_all(b"CONNECT evil.com:443 HTTP/1.1\r\nHost: evil.com\r\n\r\n").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.contains("invalid"), "{answer}");
    assert!(lab.server.received().iter().all(|sent| !sent.contains("evil.com")));
}

#[tokio::test]
async fn a_server_may_speak_first_and_a_client_without_tls_may_speak() {
    let lab = Lab::new(&["example.org:22"], Manner::Greets).await;
    let mut stream = lab.tunnel("example.org:22").await;
    assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
    stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 11).await, b"SSH-2.0-x\r\n");
    let lab = Lab::new(&["example.org:5432"], Manner::Echo).await;
    let mut stream = lab.tunnel("example.org:5432").await;
    stream.write_all(&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]).await.unwrap();
    assert_eq!(read_exactly(&mut stream, 8).await[4], 4);
}

#[tokio::test]
async fn bytes_sent_with_the_request_are_not_lost() {
    let lab = Lab::new(&["example.org:9"], Manner::Echo).await;
    let mut stream = lab.connect().await;
    stream.write_all(b"CONNECT example.org:9 HTTP/1.1\r\nHost: example.org\r\n\r\nearly").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(read_exactly(&mut stream, 5).await, b"early");
}

#[tokio::test]
async fn the_end_of_one_direction_is_passed_on() {
    let lab = Lab::new(&["example.org:9"], Manner::Echo).await;
    let mut stream = lab.tunnel("example.org:9").await;
    stream.write_all(b"all I have to say").await.unwrap();
    stream.shutdown().await.unwrap();
    // The server sends everything back, and only then sees the end.
    assert_eq!(read_to_end(&mut stream).await, "all I have to say");
    match lab.event(|event| matches!(event, EgressEvent::Allowed { .. })).await {
        EgressEvent::Allowed { up: 17, down: 17, port: 9, .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(lab.egress.traffic(), (17, 17));
}

#[tokio::test]
async fn an_idle_tunnel_is_closed_and_a_used_one_is_not() {
    let short = Duration::from_millis(300);
    let lab = Lab::with(&["example.org:9"], Manner::Echo, |options| options.limits.idle = short).await;
    let mut idle = lab.tunnel("example.org:9").await;
    let mut used = lab.tunnel("example.org:9").await;
    let start = std::time::Instant::now();
    let keep = async {
        let mut pause = tokio::time::interval(Duration::from_millis(30));
        while start.elapsed() < 3 * short {
            pause.tick().await;
            used.write_all(b"x").await.unwrap();
            assert_eq!(read_exactly(&mut used, 1).await, b"x");
        }
    };
    let (closed, ()) = tokio::join!(read_to_end(&mut idle), keep);
    assert_eq!(closed, "");
}

#[tokio::test]
async fn dropping_the_proxy_ends_everything() {
    let mut lab = Lab::new(&["example.org:9"], Manner::Echo).await;
    let mut stream = lab.tunnel("example.org:9").await;
    let none =
        offshoot_gateway::Egress::serve(Vec::new(), offshoot_gateway::EgressPolicy::default()).unwrap();
    drop(std::mem::replace(&mut lab.egress, none));
    assert_eq!(read_to_end(&mut stream).await, "");
    lab.event(|event| matches!(event, EgressEvent::Allowed { .. })).await;
    let gone = tokio::net::TcpStream::connect(lab.proxy).await;
    assert!(gone.is_err(), "the listener is closed");
}
