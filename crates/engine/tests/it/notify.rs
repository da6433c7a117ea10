//! Who is told what: over a real webhook, from the daemon.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{http::PATIENCE, stage::Stage};

/// A webhook that takes everything; its URL and what it was sent.
fn webhook() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            let _ = sender.send(serde_json::from_slice(&body).unwrap());
        }
    });
    (url, receiver)
}

fn ask(stage: &Stage, name: &str) {
    let mut params = stage.params(name, "Ask\n@shell touch a\n@say All done");
    params["permission"] = json!("ask");
    stage.post("/v1/tasks", params).ok();
}

#[track_caller]
fn told(hook: &mpsc::Receiver<Value>) -> Value {
    hook.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn a_person_who_does_not_look_is_told() {
    let (url, hook) = webhook();
    let stage = Stage::new();
    stage.configure(&format!(
        "[notifications]\nlink = \"https://laptop.example/\"\n[notifications.webhook]\nurl = \"{url}\"\n\
         [notifications.slack]\nurl = \"http://127.0.0.1:9/secret\"\n"
    ));
    stage.start(None);
    ask(&stage, "work");
    let asks = told(&hook);
    assert_eq!((&asks["kind"], &asks["approval"]), (&json!("approval"), &json!("work/1")), "{asks}");
    assert_eq!(asks["title"], "work asks");
    assert!(asks["text"].as_str().unwrap().contains("touch a"), "{asks}");
    assert_eq!(asks["link"], "https://laptop.example/approvals");
    stage.post("/v1/approvals/work%2F1", json!({ "verdict": "allow", "rule": "project" })).ok();
    let complete = told(&hook);
    assert_eq!((&complete["kind"], &complete["task"]["name"]), (&json!("complete"), &json!("work")));
    // Nobody is told what a standing rule answers.
    ask(&stage, "second");
    let next = told(&hook);
    assert_eq!((&next["kind"], &next["task"]["name"]), (&json!("complete"), &json!("second")), "{next}");

    // Nor of what somebody looks at, until they look elsewhere.
    let look = |task: Value| stage.post("/v1/presence", json!({ "client": "tab", "task": task }));
    look(json!("second")).ok();
    let again = json!({ "prompt": "Ask\n@shell touch b\n@say All done" });
    stage.post("/v1/tasks/second/runs", again.clone()).ok();
    stage.wait("request", |entry| {
        entry["event"]["type"] == "approval_requested" && entry["event"]["number"] == 2
    });
    stage.post("/v1/approvals/second%2F2", json!({ "verdict": "deny" })).ok();
    stage.over("second", 2);
    look(Value::Null).ok();
    stage.post("/v1/tasks/second/runs", again).ok();
    assert_eq!(told(&hook)["approval"], "second/3");
    stage.post("/v1/approvals/second%2F3", json!({ "verdict": "deny" })).ok();
    assert_eq!(told(&hook)["kind"], "complete");
    stage.post("/v1/presence", json!({ "client": "", "task": "second" })).problem("bad_client");
    stage.post("/v1/presence", json!({ "client": "tab", "task": "nobody" })).problem("no_such_task");

    let test = stage.post("/v1/notifications/test", json!({})).ok();
    assert_eq!(told(&hook)["kind"], "test");
    let sent = test["sent"].as_array().unwrap();
    assert_eq!((&sent[0]["to"], &sent[0]["error"]), (&json!("webhook"), &Value::Null), "{test}");
    assert!(sent[1]["error"].as_str().unwrap().starts_with("it cannot be reached"), "{test}");
    assert!(hook.recv_timeout(Duration::ZERO).is_err());
    let log = stage.log();
    assert!(log.contains("notification sent") && !log.contains("secret"), "{log}");
    stage.close();
}
