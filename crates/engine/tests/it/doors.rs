//! Apps, and the ways in: by host name and by port, whatever state the environment is in.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    time::Instant,
};

use serde_json::{Value, json};

use crate::{http::PATIENCE, stage::Stage};

const CONFIG: &str = r#"
[apps.web]
command = "echo I am $NAME; exec python3 -m http.server $PORT"
port = 3000
start = true
env = { NAME = "the app" }

[apps.docs]
command = "exec python3 -m http.server $PORT --bind ::1"
port = 4000
cwd = "docs"

[apps.broken]
command = "echo what a pity >&2; exit 3"

[ports]
variables = { DEBUG_PORT = 1 }
"#;

/// A stage with apps and an environment by hand for each name.
fn with_apps(names: &[&str]) -> Stage {
    let stage = Stage::new();
    stage.write("offshoot.toml", CONFIG);
    stage.write("docs/page.txt", "the page");
    stage.git(&["add", "-A"]);
    stage.git(&["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "Apps"]);
    stage.start(None);
    for name in names {
        stage.post("/v1/tasks", json!({ "path": stage.repo, "by_hand": true, "name": name })).ok();
        let id = stage.task(name)["id"].clone();
        stage.wait("app", |e| {
            e["task"] == id && e["event"]["type"] == "app_started" && e["event"]["app"] == "web"
        });
        let exec = stage.exec(name, &format!("echo file of {name} > name.txt"));
        assert_eq!(stage.output(name, &exec).1, Some(0));
    }
    stage
}

/// One request: status, and what follows the head.
fn ask(address: &str, host: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_default();
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

fn preview(stage: &Stage) -> String {
    let view = stage.get("/v1/daemon").ok();
    view["preview"].as_str().expect("no port for previews").replace("localhost", "127.0.0.1")
}

fn by_name(stage: &Stage, name: &str, path: &str) -> (u16, String) {
    let address = preview(stage);
    let host = format!("{name}.localhost:{}", address.rsplit(':').next().unwrap());
    ask(&address, &host, path).unwrap()
}

/// The same until it is there: nobody is told when an app begins to listen.
#[track_caller]
fn found(stage: &Stage, name: &str, path: &str) -> String {
    let from = Instant::now();
    loop {
        match by_name(stage, name, path) {
            (200, body) => return body,
            (status, body) if from.elapsed() > PATIENCE => panic!("{name}: {status} {body}\n{}", stage.log()),
            _ => std::thread::yield_now(),
        }
    }
}

fn app(stage: &Stage, task: &str, name: &str) -> Value {
    let apps = stage.get(&format!("/v1/tasks/{task}/apps")).ok();
    apps["apps"].as_array().unwrap().iter().find(|app| app["name"] == name).unwrap().clone()
}

fn change(stage: &Stage, task: &str, name: &str, change: &str) -> Value {
    stage.post(&format!("/v1/tasks/{task}/apps/{name}"), json!({ "change": change })).ok()
}

#[test]
fn the_same_port_in_two_environments_is_two_places() {
    let stage = with_apps(&["one", "two"]);
    for name in ["one", "two"] {
        assert_eq!(found(&stage, &format!("web.{name}"), "/name.txt"), format!("file of {name}\n"));
        assert_eq!(by_name(&stage, &format!("3000.{name}"), "/name.txt").1, format!("file of {name}\n"));
        let id = stage.task(name)["id"].as_str().unwrap().to_owned();
        assert_eq!(by_name(&stage, &format!("web.{id}"), "/name.txt").1, format!("file of {name}\n"));
        let address = app(&stage, name, "web")["address"].as_str().unwrap().to_owned();
        assert_eq!(ask(&address, "any", "/name.txt").unwrap().1, format!("file of {name}\n"));
    }
    let ports = |name: &str| -> BTreeSet<String> {
        let view = stage.get(&format!("/v1/tasks/{name}")).ok();
        view["ports"].as_array().unwrap().iter().map(|p| p["address"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ports("one").len(), 4, "two for the variable, one for each app with a port");
    assert!(ports("one").is_disjoint(&ports("two")));
    // A variable holds a port that is the same inside and outside.
    let exec = stage.exec("one", "echo $DEBUG_PORT; echo debug > /tmp/d; cd /tmp; nohup python3 -m http.server $DEBUG_PORT >/dev/null 2>&1 &");
    let port = stage.output("one", &exec).0.trim().to_owned();
    assert!(ports("one").contains(&format!("127.0.0.1:{port}")), "{port}");
    assert_eq!(found(&stage, &format!("{port}.one"), "/d"), "debug\n");
    assert_eq!(ask(&format!("127.0.0.1:{port}"), "any", "/d").unwrap().1, "debug\n");

    let (status, index) = by_name(&stage, "one", "/");
    assert!(
        status == 200 && index.contains("http://web.one.localhost:") && !index.contains("two"),
        "{index}"
    );
    for (name, status, text) in [
        ("web.none", 404, "there is no task"),
        ("none.one", 404, "one has no app none"),
        ("broken.one", 404, "has no port"),
        ("docs.one", 503, "it was never started"),
        ("9.one", 502, "nothing listens at port 9"),
    ] {
        let (got, body) = by_name(&stage, name, "/");
        assert!(got == status && body.contains(text), "{name}: {got} {body}");
    }

    // What is thrown away leads nowhere, and its ports are free for the next.
    let given = ports("one");
    let held = || std::fs::read_dir(stage.state().join("ports")).unwrap().count();
    assert_eq!(held(), 2);
    stage.post("/v1/tasks/one/discard", json!({ "force": true })).ok();
    assert_eq!(by_name(&stage, "web.one", "/").0, 404);
    assert!(ask(given.first().unwrap(), "any", "/").is_err());
    assert_eq!(held(), 1);
    stage.close();
}

#[test]
fn services_are_reached_by_name_and_by_port_too() {
    let stage = Stage::new();
    let mail =
        json!({ "name": "mail", "use": "host", "command": "python3 -m http.server 8025", "ports": ["8025"] });
    stage.write("services.json", &json!({ "services": [mail] }).to_string());
    stage.git(&["add", "-A"]);
    stage.git(&["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "Services"]);
    stage.start(None);
    for name in ["one", "two"] {
        stage.post("/v1/tasks", json!({ "path": stage.repo, "by_hand": true, "name": name })).ok();
        let id = stage.task(name)["id"].clone();
        stage.wait("service", |e| e["task"] == id && e["event"]["type"] == "service_ready");
        let listing = found(&stage, &format!("mail.{name}"), "/");
        assert!(listing.contains("Directory listing"), "{listing}");
        let view = stage.get(&format!("/v1/tasks/{name}")).ok();
        assert_eq!((&view["ports"][0]["name"], &view["ports"][0]["port"]), (&json!("mail"), &json!(8025)));
        let address = view["ports"][0]["address"].as_str().unwrap();
        assert_eq!(ask(address, "any", "/").unwrap().1, listing);
    }
    stage.close();
}

#[test]
fn apps_are_started_and_stopped_and_heard() {
    let stage = with_apps(&["one"]);
    found(&stage, "web.one", "/name.txt");
    assert_eq!(app(&stage, "one", "web")["state"], "running");
    assert_eq!(change(&stage, "one", "web", "start")["exec"], "app-web-1", "it runs already");
    let log = stage.get("/v1/tasks/one/apps/web/log").ok();
    assert!(log["text"].as_str().unwrap().starts_with("I am the app\n"), "{log}");

    assert_eq!(change(&stage, "one", "docs", "start")["state"], "running");
    assert_eq!(found(&stage, "docs.one", "/page.txt"), "the page", "it listens on the other loopback only");
    assert_eq!(change(&stage, "one", "web", "restart")["exec"], "app-web-2");
    assert_eq!(found(&stage, "web.one", "/name.txt"), "file of one\n");
    let stopped = change(&stage, "one", "web", "stop");
    assert_eq!((&stopped["state"], &stopped["reason"]), (&json!("ended"), &json!("it was stopped")));
    assert_eq!(by_name(&stage, "web.one", "/").0, 503);

    change(&stage, "one", "broken", "start");
    let ended = stage.wait("end", |e| e["event"]["type"] == "app_ended" && e["event"]["app"] == "broken");
    assert_eq!(ended["event"]["reason"], "it ended with code 3");
    assert_eq!(stage.get("/v1/tasks/one/apps/broken/log").ok()["text"], "what a pity\n");
    stage.post("/v1/tasks/one/apps/none", json!({ "change": "start" })).problem("no_such_app");
    stage.get("/v1/tasks/one/apps/none/log").problem("no_such_app");
    stage.close();
}

#[test]
fn what_an_app_says_for_long_is_kept_at_its_end() {
    let stage = with_apps(&["one"]);
    let noisy = "\n[apps.noisy]\ncommand = \"seq 20000000; echo the end; exec sleep 1000\"\n";
    stage.write("offshoot.toml", &format!("{CONFIG}{noisy}"));
    let exec = change(&stage, "one", "noisy", "start")["exec"].as_str().unwrap().to_owned();
    let from = Instant::now();
    // 160 MB go by, more than a journal keeps and more than it takes without a reader.
    let log = loop {
        let log = stage.get("/v1/tasks/one/apps/noisy/log").ok();
        if log["text"].as_str().unwrap().ends_with("20000000\nthe end\n") {
            break log;
        }
        assert!(from.elapsed() < PATIENCE * 3, "{}", log["text"].as_str().unwrap().len());
        std::thread::yield_now();
    };
    assert_eq!((&log["truncated"], &log["exec"]), (&json!(true), &json!(exec)));
    assert!(log["text"].as_str().unwrap().len() > 100_000);
    stage.close();
}

#[test]
fn apps_outlive_the_daemon_and_come_back_with_their_environment() {
    let stage = with_apps(&["one"]);
    found(&stage, "web.one", "/name.txt");
    let address = app(&stage, "one", "web")["address"].as_str().unwrap().to_owned();
    stage.kill();
    assert!(ask(&address, "any", "/").is_err());
    stage.start(None);
    assert_eq!(app(&stage, "one", "web")["exec"], "app-web-1", "it went on");
    assert_eq!(by_name(&stage, "web.one", "/name.txt").1, "file of one\n");
    assert_eq!(ask(&address, "any", "/name.txt").unwrap().1, "file of one\n", "the same port");

    // Without processes, it is brought up by whoever comes in.
    rustix::process::kill_process(stage.shim("one"), rustix::process::Signal::KILL).unwrap();
    stage.wait("loss", |e| e["event"]["type"] == "environment_lost");
    assert_eq!(app(&stage, "one", "web")["state"], "interrupted");
    assert_eq!(found(&stage, "web.one", "/name.txt"), "file of one\n");
    assert_eq!(app(&stage, "one", "web")["exec"], "app-web-2");
    // The same when the daemon was away meanwhile.
    let shim = stage.shim("one");
    stage.kill();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    stage.start(None);
    let from = Instant::now();
    while !ask(&address, "any", "/name.txt").is_ok_and(|(_, body)| body == "file of one\n") {
        assert!(from.elapsed() < PATIENCE, "{}", stage.log());
        std::thread::yield_now();
    }
    assert_eq!(app(&stage, "one", "web")["exec"], "app-web-3");
    // One that was stopped stays stopped.
    change(&stage, "one", "web", "stop");
    rustix::process::kill_process(stage.shim("one"), rustix::process::Signal::KILL).unwrap();
    let mut lost = 0;
    stage.wait("loss", |e| {
        lost += usize::from(e["event"]["type"] == "environment_lost");
        lost == 3
    });
    assert_eq!(stage.output("one", &stage.exec("one", "echo up")).0, "up\n");
    assert_eq!(app(&stage, "one", "web")["state"], "ended");
    stage.close();
}

#[test]
fn a_frozen_app_is_woken_by_whoever_comes_in() {
    let stage = with_apps(&["one"]);
    found(&stage, "web.one", "/name.txt");
    stage.stop();
    stage.configure("[machine]\nsuspend-after = \"1s\"\n");
    stage.start(None);
    let suspended = |times: usize| {
        let mut seen = 0;
        stage.wait("suspension", |e| {
            seen += usize::from(e["event"]["type"] == "environment_suspended");
            seen == times
        });
    };
    suspended(1);
    assert_eq!(by_name(&stage, "web.one", "/name.txt"), (200, "file of one\n".to_owned()));
    suspended(2);
    let address = app(&stage, "one", "web")["address"].as_str().unwrap().to_owned();
    assert_eq!(ask(&address, "any", "/name.txt").unwrap().1, "file of one\n");
    stage.close();
}

#[test]
fn a_daemon_that_dies_while_it_starts_an_app_leaves_one() {
    let stage = with_apps(&["one"]);
    stage.kill();
    stage.start(Some("app.started"));
    let _ = stage.request("POST", "/v1/tasks/one/apps/docs", Some(&json!({ "change": "start" })));
    stage.died();
    stage.start(None);
    assert_eq!(app(&stage, "one", "docs")["state"], "running");
    assert_eq!(found(&stage, "docs.one", "/page.txt"), "the page");
    assert_eq!(app(&stage, "one", "docs")["exec"], "app-docs-1");
    stage.close();
}

#[test]
fn without_a_boundary_apps_have_ports_of_their_own_and_no_others_are_reached() {
    let stage = with_apps(&[]);
    for name in ["one", "two"] {
        let params = json!({ "path": stage.repo, "by_hand": true, "name": name, "isolation": "worktree" });
        stage.post("/v1/tasks", params).ok();
        let id = stage.task(name)["id"].clone();
        stage.wait("app", |e| e["task"] == id && e["event"]["type"] == "app_started");
        let exec = stage.exec(name, &format!("echo file of {name} > name.txt"));
        assert_eq!(stage.output(name, &exec).1, Some(0));
        assert_eq!(found(&stage, &format!("web.{name}"), "/name.txt"), format!("file of {name}\n"));
    }
    let (one, two) = (app(&stage, "one", "web"), app(&stage, "two", "web"));
    assert_ne!(one["port"], two["port"]);
    assert_eq!(by_name(&stage, &format!("{}.one", one["port"]), "/name.txt").1, "file of one\n");
    let (status, body) = by_name(&stage, &format!("{}.one", two["port"]), "/name.txt");
    assert!(status == 404 && body.contains("is not one of one's"), "{status} {body}");
    let own = preview(&stage);
    assert_eq!(by_name(&stage, &format!("{}.one", own.rsplit(':').next().unwrap()), "/").0, 404);
    stage.close();
}
