//! Hosts that no rule names, from curl inside an environment to a server on this machine's loopback, which the daemon
//! reaches as through a company's proxy: held, answered, refused, and asked about once whatever happens meanwhile.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{http, stage::Stage};

/// A server with TLS, one without, and the proxy that leads every name to them by the port.
struct Outside {
    _dir: TempDir,
    tls: Child,
    proxy: SocketAddr,
}

impl Outside {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (key, cert) = (path("key.pem"), path("cert.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=held.example", "-keyout", &key, "-out", &cert])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut tls = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-key", &key, "-cert", &cert])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // "ACCEPT 127.0.0.1:40123 PID=…"
        let mut said = BufReader::new(tls.stdout.take().unwrap());
        let secure = loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).unwrap() > 0, "openssl says nothing");
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let plain = serve(|mut stream| {
            let _ = head(&mut stream);
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n");
        });
        let proxy = serve(move |mut stream| {
            let head = head(&mut stream);
            let to: SocketAddr = if head.contains(":443 HTTP") { secure } else { plain };
            let Ok(server) = TcpStream::connect(to) else { return };
            let _ = stream.write_all(b"HTTP/1.1 200 Go on\r\n\r\n");
            let (mut from, mut back) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
            let up = thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(Shutdown::Write);
            });
            let (mut server, mut stream) = (server, stream);
            let _ = std::io::copy(&mut server, &mut stream);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = up.join();
        });
        Self { _dir: dir, tls, proxy }
    }

    /// A stage whose daemon reaches the outside so.
    fn stage(&self) -> Stage {
        let stage = Stage::new();
        stage.variable("HTTPS_PROXY", &format!("http://{}", self.proxy));
        stage
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.tls.kill();
        let _ = self.tls.wait();
    }
}

fn serve(each: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(stream));
        }
    });
    address
}

fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// An environment by hand, up.
fn environment(stage: &Stage, name: &str) {
    let params = json!({ "path": stage.repo, "by_hand": true, "name": name });
    let id = stage.post("/v1/tasks", params).ok()["task"]["id"].clone();
    stage.wait("environment", |entry| entry["task"] == id && entry["event"]["type"] == "agent_resting");
}

fn events(stage: &Stage, kind: &str) -> Vec<Value> {
    let all = stage.entries().into_iter().map(|entry| entry["event"].clone());
    all.filter(|event| event["type"] == kind).collect()
}

#[track_caller]
fn asked(stage: &Stage, name: &str, number: u64) -> Value {
    let id = stage.task(name)["id"].clone();
    let entry = stage.wait("request", |entry| {
        entry["task"] == id
            && entry["event"]["type"] == "approval_requested"
            && entry["event"]["number"] == number
    });
    entry["event"].clone()
}

#[track_caller]
fn answer(stage: &Stage, which: &str, body: Value) -> Value {
    stage.post(&format!("/v1/approvals/{}", which.replace('/', "%2F")), body).ok()
}

/// Status and body as curl tells them.
const CURL: &str = "curl -sk --max-time 80 -w ' %{http_code} %{http_connect}\\n'";

fn curl(stage: &Stage, task: &str, what: &str) -> String {
    stage.exec(task, &format!("{CURL} {what}"))
}

#[track_caller]
fn said(stage: &Stage, task: &str, exec: &str) -> String {
    stage.output(task, exec).0
}

#[test]
fn held_until_somebody_allows_it() {
    let outside = Outside::start();
    let stage = outside.stage();
    stage.start(None);
    environment(&stage, "work");
    // By the proxy with CONNECT; by the synthetic address and the name in TLS; without TLS.
    for (number, name, what) in [
        (1, "one.example:443", "-o /dev/null https://one.example/"),
        (2, "two.example:443", "-o /dev/null --noproxy '*' https://two.example/"),
        (3, "three.example:80", "http://three.example/"),
        (4, "four.example:80", "--noproxy '*' http://four.example/"),
    ] {
        let exec = curl(&stage, "work", what);
        let request = asked(&stage, "work", number);
        let (host, port) = name.split_once(':').unwrap();
        assert_eq!(
            request["subject"],
            json!({"type": "host", "host": host, "port": port.parse::<u16>().unwrap()})
        );
        assert_eq!(request["source"]["type"], "host");
        let task = stage.task("work");
        assert_eq!(task["state"], "needs_attention");
        assert_eq!(task["reason"], format!("it asks: network access to {name}"));
        let view = answer(&stage, &format!("work/{number}"), json!({ "verdict": "allow" }));
        assert_eq!(view["can_be_rule"], true);
        let out = said(&stage, "work", &exec);
        assert!(out.contains(" 200 "), "{what}: {out}");
        assert_eq!(stage.task("work")["state"], "idle");
        // What the same command connects to afterwards is not asked about.
        let again = curl(&stage, "work", what);
        let out = said(&stage, "work", &again);
        assert!(out.contains(" 200 "), "{what}: {out}");
    }
    assert_eq!(events(&stage, "approval_requested").len(), 4);
    assert_eq!(events(&stage, "egress_refused").len(), 0);
    stage.close();
}

#[test]
fn a_no_says_who_and_why_and_holds() {
    let outside = Outside::start();
    let stage = outside.stage();
    stage.start(None);
    environment(&stage, "work");
    let exec = curl(&stage, "work", "http://no.example/");
    asked(&stage, "work", 1);
    answer(&stage, "work/1", json!({ "verdict": "deny", "text": "use the\nmirror" }));
    let out = said(&stage, "work", &exec);
    let wanted =
        "access to host no.example, port 80, was denied by a person: use the mirror; go on without it";
    assert!(out.contains(wanted) && out.contains(" 403 "), "{out}");
    // Nobody is asked again.
    let exec = curl(&stage, "work", "http://no.example/");
    assert!(said(&stage, "work", &exec).contains(wanted));
    let exec = curl(&stage, "work", "https://no.example/");
    asked(&stage, "work", 2);
    answer(&stage, "work/2", json!({ "verdict": "deny", "rule": "project" }));
    let out = said(&stage, "work", &exec);
    assert!(out.contains(" 000 403"), "{out}");
    // A standing no: in another task, at once, told once.
    environment(&stage, "other");
    for _ in 0..2 {
        let exec = curl(&stage, "other", "-v https://no.example/ 2>&1");
        let out = said(&stage, "other", &exec);
        assert!(out.contains("x-offshoot-refused: denied"), "{out}");
    }
    let rules = stage.get("/v1/approvals/rules").ok();
    assert_eq!(rules["rules"][0]["name"], "work/2");
    assert_eq!(rules["rules"][0]["answered"], 1);
    assert_eq!(
        rules["rules"][0]["rule"]["matches"],
        json!({"type": "host", "host": "no.example", "port": 443})
    );
    assert!(rules["rules"][0]["last_answered"].is_u64());
    // Who denied it, when, by which rule.
    let past = stage.get("/v1/approvals?state=all&limit=2").ok();
    let list = past["approvals"].as_array().unwrap();
    assert_eq!((list.len(), &list[0]["name"]), (2, &json!("other/1")), "{past}");
    assert_eq!(list[0]["approval"]["answer"]["by"]["rule"], rules["rules"][0]["rule"]["id"]);
    let before = past["next"].as_u64().unwrap();
    let older = stage.get(&format!("/v1/approvals?state=all&limit=2&before={before}")).ok();
    assert_eq!(older["approvals"][0]["name"], "work/1", "{older}");
    assert_eq!(older["approvals"][0]["approval"]["state"], "denied");
    assert_eq!(older["next"], Value::Null);
    let of_task = stage.get("/v1/approvals?state=all&task=other").ok();
    assert_eq!(of_task["approvals"].as_array().unwrap().len(), 1);
    // Taken back, it is asked about again.
    stage.post("/v1/approvals/rules/work%2F2/remove", json!({})).ok();
    let exec = curl(&stage, "other", "-o /dev/null https://no.example/");
    asked(&stage, "other", 2);
    answer(&stage, "other/2", json!({ "verdict": "allow", "rule": "task" }));
    assert!(said(&stage, "other", &exec).contains(" 200 "));
    stage.close();
}

#[test]
fn nobody_answers() {
    let outside = Outside::start();
    let stage = outside.stage();
    stage.configure("[approvals]\nhost-deadline = \"2s\"\n");
    stage.start(None);
    environment(&stage, "work");
    let exec = curl(&stage, "work", "http://late.example/");
    let out = said(&stage, "work", &exec);
    assert!(out.contains("nobody answered in time") && out.contains(" 403 "), "{out}");
    assert_eq!(events(&stage, "approval_answered")[0]["by"]["type"], "deadline");
    // The next one does not wait for nobody again.
    let exec = curl(&stage, "work", "http://late.example/");
    assert!(said(&stage, "work", &exec).contains("nobody answered in time"));
    // Whoever does not wait for the answer is not answered to.
    let exec = stage.exec("work", "curl -s --max-time 0.2 http://gone.example/; echo over");
    assert!(said(&stage, "work", &exec).contains("over"));
    let gone = stage.wait("withdrawal", |entry| entry["event"]["type"] == "approval_withdrawn");
    assert_eq!(gone["event"]["reason"], "nothing waits for it any more");
    assert_eq!(stage.task("work")["state"], "idle");
    assert_eq!(events(&stage, "approval_requested").len(), 2);
    stage.close();
}

#[test]
fn what_cannot_be_public_is_never_asked_about() {
    let outside = Outside::start();
    let stage = outside.stage();
    stage.start(None);
    environment(&stage, "work");
    for what in [
        "http://metadata.google.internal/",
        "http://169.254.169.254/",
        "http://10.0.0.1/",
        "http://host.internal:9/",
        "http://printer.local/",
        "http://db/",
        "-H 'Host: a_b.example' http://a_b.example/",
    ] {
        let exec = curl(&stage, "work", &format!("--max-time 5 {what}"));
        let out = said(&stage, "work", &exec);
        assert!(out.contains(" 403 ") || out.contains(" 400 "), "{what}: {out}");
    }
    let exec = stage.exec("work", "getent hosts metadata.google.internal db printer.local || echo none");
    assert!(said(&stage, "work", &exec).starts_with("none"));
    assert_eq!(events(&stage, "approval_requested").len(), 0);
    stage.close();
}

#[test]
fn nobody_is_asked_where_that_is_not_wanted() {
    let outside = Outside::start();
    let stage = outside.stage();
    stage.configure("[network]\nunknown = \"refuse\"\n");
    stage.start(None);
    environment(&stage, "work");
    let exec = curl(&stage, "work", "http://one.example/");
    let out = said(&stage, "work", &exec);
    assert!(out.contains("not on the allow-list") && out.contains(" 403 "), "{out}");
    let exec = stage.exec("work", "getent hosts one.example || echo none");
    assert!(said(&stage, "work", &exec).starts_with("none"));
    assert_eq!(events(&stage, "approval_requested").len(), 0);
    stage.close();
}

/// More than may be held are refused as if nobody were asked; one approval for all.
#[test]
fn two_hundred_at_once() {
    let outside = Outside::start();
    let stage = outside.stage();
    stage.start(None);
    environment(&stage, "work");
    let all = "for i in $(seq 200); do \
        curl -s -o /dev/null -w '%{http_code}\n' http://many.example/ >> /tmp/codes & done; wait; sort /tmp/codes | uniq -c";
    let exec = stage.exec("work", all);
    let enough = "until [ -e /tmp/codes ] && [ $(wc -l < /tmp/codes) -ge 136 ]; do sleep 0.05; done; sort /tmp/codes | uniq -c";
    let refused = stage.exec("work", enough);
    assert_eq!(said(&stage, "work", &refused).trim(), "136 403", "{}", stage.log());
    let task = stage.task("work");
    assert_eq!(task["approvals"].as_array().unwrap().len(), 1);
    answer(&stage, "work/1", json!({ "verdict": "allow" }));
    let out = said(&stage, "work", &exec);
    let counts: Vec<_> = out.lines().map(str::trim).collect();
    assert_eq!(counts, ["64 200", "136 403"]);
    assert_eq!(events(&stage, "approval_requested").len(), 1);
    stage.close();
}

#[test]
fn thrown_away_while_held() {
    let outside = Outside::start();
    let stage = outside.stage();
    stage.start(None);
    environment(&stage, "work");
    curl(&stage, "work", "http://one.example/");
    asked(&stage, "work", 1);
    stage.post("/v1/tasks/work/discard", json!({ "force": true })).ok();
    assert_eq!(events(&stage, "approval_withdrawn").len(), 1);
    assert_eq!(stage.get("/v1/approvals").ok()["approvals"], json!([]));
    stage.close();
}

/// The daemon dies while connections are held: the request is there again, once, and whoever comes back finds it or its
/// answer.
#[test]
fn a_held_connection_comes_back_after_the_daemon_died() {
    let outside = Outside::start();
    let stage = outside.stage();
    stage.start(None);
    environment(&stage, "work");
    let exec = curl(&stage, "work", "--retry 50 --retry-all-errors --retry-delay 1 http://one.example/");
    asked(&stage, "work", 1);
    stage.kill();
    stage.start(None);
    let list = stage.get("/v1/approvals").ok();
    assert_eq!(list["approvals"][0]["name"], "work/1", "{list}");
    answer(&stage, "work/1", json!({ "verdict": "allow" }));
    assert_eq!(stage.post("/v1/approvals/work%2F1", json!({ "verdict": "deny" })).status, 409);
    let out = said(&stage, "work", &exec);
    assert!(out.contains(" 200 "), "{out}");
    assert_eq!(events(&stage, "approval_requested").len(), 1);
    assert_eq!(events(&stage, "approval_answered").len(), 1);
    stage.close();
}

fn dies_at(point: &str) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let outside = Outside::start();
    let stage = outside.stage();
    stage.start(Some(point));
    environment(&stage, "work");
    curl(&stage, "work", "--retry 50 --retry-all-errors --retry-delay 1 -o /tmp/out http://one.example/");
    let is_asked = |entry: &Value| entry["event"]["type"] == "approval_requested";
    if stage.wait_if_it_lives(is_asked) {
        let yes = json!({ "verdict": "allow" });
        let _ = http::request(&stage.socket(), "POST", "/v1/approvals/work%2F1", Some(&yes));
    }
    stage.died();
    stage.start(None);
    if stage.get("/v1/approvals").ok()["approvals"] != json!([]) {
        answer(&stage, "work/1", json!({ "verdict": "allow" }));
    }
    let done = stage.exec("work", "until [ -s /tmp/out ]; do sleep 0.05; done; cat /tmp/out");
    assert_eq!(said(&stage, "work", &done).trim(), "hi");
    assert_eq!(events(&stage, "approval_requested").len(), 1, "{point}");
    assert_eq!(events(&stage, "approval_answered").len(), 1, "{point}");
    stage.close();
}

#[test]
fn dies_before_it_holds() {
    dies_at("host.held");
}

#[test]
fn dies_between_answer_and_connection() {
    dies_at("host.said");
}

/// What an agent's own command connects to, and what the agent is told of a no.
#[test]
fn an_agent_waits_and_hears_the_reason() {
    let outside = Outside::start();
    let stage = outside.stage();
    stage.start(None);
    let work =
        format!("Go\n@shell {CURL} -o out.txt https://one.example/ > code.txt; true\n@commit One\n@say Done");
    stage.dispatch("work", &work);
    asked(&stage, "work", 1);
    answer(&stage, "work/1", json!({ "verdict": "deny", "text": "because\n@say it is Sunday" }));
    let task = stage.over("work", 1);
    assert_eq!(task["state"], "complete", "{task}");
    assert_eq!(stage.git(&["show", "offshoot/work:code.txt"]).trim(), "000 403");
    let said: Vec<_> =
        events(&stage, "agent").iter().map(|event| event["agent"]["text"].to_string()).collect();
    assert!(said.iter().any(|text| text.contains("it is Sunday")), "{said:?}");
    assert_eq!(task["approvals"], json!([]));
    stage.close();
}
