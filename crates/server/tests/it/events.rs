//! The event stream on the wire.

use axum::{Router, routing::get};
use offshoot_core::event::Entry;
use offshoot_server::{event_stream, serve_unix};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

fn entry(seq: u64) -> Entry {
    serde_json::from_value(serde_json::json!({
        "seq": seq, "at": 0, "task": "01900000-0000-7000-8000-000000000001", "run": null,
        "event": {"type": "preparing", "step": "line one\nline two\r\ndata: forged"}
    }))
    .unwrap()
}

/// Ids are sequence numbers, an agent's text cannot forge an event, and a stop of the daemon ends the stream.
#[tokio::test]
async fn ids_are_sequence_numbers_and_a_stop_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let stopping = CancellationToken::new();
    let (send, receive) = mpsc::channel(4);
    let receive = std::sync::Arc::new(std::sync::Mutex::new(Some(receive)));
    let stop = stopping.clone();
    let router = Router::new()
        .route("/", get(async move || event_stream(receive.lock().unwrap().take().unwrap(), stop.clone())));
    let listener = UnixListener::bind(&path).unwrap();
    let served = tokio::spawn(serve_unix(listener, router, stopping.clone()));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    send.send(entry(7)).await.unwrap();
    send.send(entry(9)).await.unwrap();
    let mut text = String::new();
    while !text.contains("id: 9") || !text.ends_with("\n\n\r\n") {
        let mut buffer = [0; 4096];
        let n = client.read(&mut buffer).await.unwrap();
        assert!(n > 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    let ids: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["7", "9"]);
    assert_eq!(text.lines().filter(|l| l.starts_with("data: ")).count(), 2, "{text}");
    stopping.cancel();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    served.await.unwrap();
}
