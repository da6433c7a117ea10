//! The daemon's life as clients see it.

use std::{fs, os::unix::fs::MetadataExt, process::Stdio};

use crate::stage::Stage;

#[test]
fn many_clients_start_one() {
    let stage = Stage::new();
    let mut clients: Vec<_> = (0..8)
        .map(|_| stage.command(&["--json", "daemon", "start"]).stdout(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut pids: Vec<u64> = clients
        .drain(..)
        .map(|client| {
            let output = client.wait_with_output().unwrap();
            let view: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            view["pid"].as_u64().unwrap()
        })
        .collect();
    pids.dedup();
    assert_eq!(pids.len(), 1, "{pids:?}");
    let state = stage.state_dir();
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(state.join("daemon.sock")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(state.join("daemon.lock")).unwrap().trim(), pids[0].to_string());
    stage.offshoot(&["daemon", "stop"]).ok();
    assert!(!state.join("daemon.sock").exists());
    assert_eq!(stage.offshoot(&["daemon", "status"]).0, 3);
}

#[test]
fn an_environment_outlives_it_stopped_or_killed() {
    let stage = Stage::new();
    stage.offshoot(&["env", "up", "--name", "e"]).ok();
    stage.offshoot(&["exec", "e", "--", "sh", "-c", "echo kept > /tmp/mark"]).ok();
    stage.offshoot(&["daemon", "stop"]).ok();
    assert_eq!(stage.offshoot(&["exec", "e", "--", "cat", "/tmp/mark"]).ok(), "kept\n");
    let before = stage.kill_daemon();
    assert_eq!(
        stage.offshoot(&["exec", "e", "--", "cat", "/tmp/mark"]).ok(),
        "kept\n",
        "a stale socket is replaced"
    );
    assert_ne!(stage.daemon_pid(), before);
}

#[test]
fn another_version_is_refused_but_can_be_stopped() {
    let stage = Stage::new();
    stage.offshoot(&["daemon", "start"]).ok();
    let ask = |method: &str, path: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Offshoot-Version: 1/99.0.0\r\nContent-Length: 0\r\n\r\n"
        );
        stage.raw(&request, "")
    };
    let refused = ask("GET", "/v1/tasks");
    assert!(refused.starts_with("HTTP/1.1 426 ") && refused.contains("offshoot daemon stop"), "{refused}");
    assert!(ask("GET", "/v1/daemon").starts_with("HTTP/1.1 200 "));
    assert!(ask("POST", "/v1/daemon/stop").starts_with("HTTP/1.1 200 "));
}

#[test]
fn only_json_is_taken_and_unknown_things_are_problems() {
    let stage = Stage::new();
    stage.offshoot(&["daemon", "start"]).ok();
    let ask = |head: &str, body: &str| {
        let request = format!(
            "{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stage.raw(&request, "")
    };
    for (head, body, status, code) in [
        ("POST /v1/prune HTTP/1.1", "", 415, "json_only"),
        ("POST /v1/prune HTTP/1.1\r\nContent-Type: text/plain", "{}", 415, "json_only"),
        ("POST /v1/tasks HTTP/1.1\r\nContent-Type: application/json", "{", 400, "body_invalid"),
        ("POST /v1/tasks HTTP/1.1\r\nContent-Type: application/json", "{\"pth\":1}", 400, "body_invalid"),
        ("GET /v1/tasks?everything=1 HTTP/1.1", "", 400, "query_invalid"),
        ("GET /v1/nothing HTTP/1.1", "", 404, "no_such_route"),
        ("PUT /v1/tasks HTTP/1.1\r\nContent-Type: application/json", "", 405, "no_such_method"),
        ("GET /v1/tasks/x/exec/y/stream HTTP/1.1", "", 400, "websocket_required"),
    ] {
        let answer = ask(head, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        assert!(answer.contains("application/problem+json") && answer.contains(code), "{head}: {answer}");
    }
}

#[test]
fn tcp_wants_the_token() {
    let stage = Stage::new();
    let view = stage.offshoot(&["--json", "daemon", "start", "--tcp", "127.0.0.1:0"]).json();
    let address = view["tcp"].as_str().unwrap().to_owned();
    let file = stage.state_dir().join("api-token");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&file).unwrap();
    let ask = |authorization: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let head =
            format!("GET /v1/tasks HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{authorization}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("").starts_with("HTTP/1.1 401 "));
    let with_token = ask(&format!("Authorization: Bearer {}\r\n", token.trim()));
    assert!(with_token.starts_with("HTTP/1.1 200 "), "{with_token}");
}

#[test]
fn events_resume_where_they_were_left() {
    let stage = Stage::new();
    stage.offshoot(&["env", "up", "--name", "e"]).ok();
    let last = stage.offshoot(&["--json", "ps"]).json()["seq"].as_u64().unwrap();
    assert!(last >= 4);
    let stream = |path: &str, extra: &str, until: u64| {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{extra}\r\n");
        let text = stage.raw(&head, &format!("id: {until}\n"));
        text.lines().filter_map(|l| l.strip_prefix("id: ")?.parse().ok()).collect::<Vec<u64>>()
    };
    assert_eq!(stream("/v1/events", "", last), (1..=last).collect::<Vec<_>>());
    assert_eq!(stream("/v1/events?after=2", "", last), (3..=last).collect::<Vec<_>>());
    let resumed = stream("/v1/events?after=1", "Last-Event-ID: 3\r\n", last);
    assert_eq!(
        resumed,
        (4..=last).collect::<Vec<_>>(),
        "what was received last counts more than the address"
    );
    assert_eq!(stream("/v1/tasks/e/events", "Last-Event-ID: 1\r\n", last)[0], 2);
    let list = |query: &str| {
        let head = format!(
            "GET /v1/tasks/e/events?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        stage.raw(&head, "}")
    };
    let newest = list("before=9000000000000000&limit=2");
    assert!(newest.contains(&format!("\"entries\":[{{\"seq\":{}", last - 1)), "{newest}");
    assert!(list("before=3&after=1").contains("\"code\":\"before\""));
}
