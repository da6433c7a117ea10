//! Notices to real servers on this machine's loopback: one that takes them, one that is slow, one that is dead.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use offshoot_core::config::{NotificationKind, UserConfig};
use offshoot_notify::{Notice, Outbox, Sink, deliver_once};

const LONG: Duration = Duration::from_secs(60);

/// A server that answers each request with the next of `statuses`, the last one for ever; its URL, and what it was sent.
fn server(statuses: &'static [u16]) -> (String, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let status = statuses[number.min(statuses.len() - 1)];
            let _ = sender.send(answer(stream, status));
        }
    });
    (url, receiver)
}

fn answer(mut stream: TcpStream, status: u16) -> (String, String) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let text = format!(
        "HTTP/1.1 {status} x\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn sinks(config: &str) -> Vec<Sink> {
    Sink::all(&UserConfig::parse(config).unwrap().notifications)
}

fn notice() -> Notice {
    Notice {
        kind: Some(NotificationKind::Approval),
        task: Some(("01900000-0000-7000-8000-000000000001".to_owned(), "date-filter".parse().unwrap())),
        root: "/home/ada/shop".to_owned(),
        what: "asks".to_owned(),
        text: "network access to <b>cdn.example</b>:443\u{1b}[2J".to_owned(),
        approval: Some("date-filter/1".to_owned()),
        link: Some("https://laptop.example/approvals".to_owned()),
    }
}

#[tokio::test]
async fn each_sink_is_sent_what_it_reads() {
    let (url, taken) = server(&[200]);
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "tk_secret\n").unwrap();
    let config = format!(
        "[notifications.webhook]\nurl = \"{url}/hook\"\n[notifications.ntfy]\nurl = \"{url}\"\ntopic = \"mine\"\n\
         token-file = \"{}\"\n[notifications.slack]\nurl = \"{url}/services/x\"\n",
        token.display()
    );
    for (sink, path, holds) in sinks(&config)
        .iter()
        .zip(["/hook", "/", "/services/x"])
        .zip([
            r#""kind":"approval""#,
            r#""topic":"mine""#,
            r#""text":"date-filter asks: `network access to &lt;b&gt;"#,
        ])
        .map(|((sink, path), holds)| (sink, path, holds))
    {
        let sent = deliver_once(sink, &notice()).await;
        assert_eq!((sent.error, sent.host.as_deref()), (None, Some("127.0.0.1")));
        let (head, body) = taken.recv_timeout(LONG).unwrap();
        assert!(head.starts_with(&format!("POST {path} HTTP/1.1")), "{head}");
        assert!(body.contains(holds) && !body.contains("\\u001b"), "{body}");
        let authorized = head.to_ascii_lowercase().contains("authorization: bearer tk_secret");
        assert_eq!(authorized, sink.word() == "ntfy", "{head}");
    }
}

#[tokio::test]
async fn what_does_not_work_is_said_without_a_secret() {
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    for (url, said) in [
        (format!("http://{dead}/secret"), "it cannot be reached"),
        (server(&[403]).0 + "/secret", "status 403"),
        // Nobody is sent elsewhere.
        (server(&[302]).0 + "/secret", "status 302"),
        ("http://no-such-host.invalid/secret".to_owned(), "it cannot be reached"),
    ] {
        let sink = &sinks(&format!("[notifications.slack]\nurl = \"{url}\"\n"))[0];
        let error = deliver_once(sink, &notice()).await.error.unwrap();
        assert!(error.contains(said) && !error.contains("secret"), "{url}: {error}");
    }
    let sink =
        &sinks("[notifications.webhook]\nurl = \"http://127.0.0.1:1\"\ntoken-file = \"/nowhere\"\n")[0];
    assert!(deliver_once(sink, &notice()).await.error.unwrap().contains("token"));
    for bad in [
        "[notifications.slack]\nurl = \"file:///etc/passwd\"",
        "[notifications.ntfy]\nurl = \"https://x\"\ntopic = \"a/b\"",
    ] {
        assert!(UserConfig::parse(bad).is_err(), "{bad}");
    }
}

/// One that is slow and one that is dead take no time of whoever has something to say, nor of the others; one that is unwell
/// for a moment is tried again.
#[tokio::test]
async fn a_slow_one_holds_nobody_up() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let (unwell, taken) = server(&[503, 200]);
    let config = format!(
        "[notifications.webhook]\nurl = \"http://{}\"\n[notifications.ntfy]\nurl = \"http://127.0.0.1:9\"\ntopic = \"x\"\n\
         [notifications.slack]\nurl = \"{unwell}\"\n",
        slow.local_addr().unwrap()
    );
    let outbox = Outbox::default();
    let begun = Instant::now();
    for _ in 0..500 {
        for sink in sinks(&config).into_iter().take(2) {
            outbox.send(sink, notice());
        }
    }
    outbox.send(sinks(&config).remove(2), notice());
    assert!(begun.elapsed() < Duration::from_secs(2));
    let first = tokio::task::spawn_blocking(move || {
        (taken.recv_timeout(LONG).unwrap(), taken.recv_timeout(LONG).unwrap())
    });
    let ((_, one), (_, again)) = first.await.unwrap();
    assert_eq!(one, again, "the same, once more");
}
