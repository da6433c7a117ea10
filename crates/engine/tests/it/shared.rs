//! Apps of a repository that tasks are not about, one instance for all of them; and what runs beside a task's own repositories.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{http::PATIENCE, stage::Stage};

const FRONT: &str = "[[repos]]\nname = \"api\"\npath = \"../api\"\n";
const API: &str = "[apps.api]\ncommand = \"exec python3 server.py\"\nport = 8080\nshared = true\n";
const SERVICES: &str = r#"{"services": [{"name": "counter", "use": "host", "ports": [7000], "command": "exec python3 counter.py"}]}"#;
/// Where it runs, what it has in its workspace, and how often its own service was asked.
const SERVER: &str = r#"
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        with socket.create_connection(("counter", 7000)) as asked:
            count = asked.recv(100).decode()
        text = f"{socket.gethostname()} {open('version').read().strip()} {count} {os.environ.get('WORD', '-')}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"#;
const COUNTER: &str = r#"
import socket
server = socket.create_server(("", 7000))
count = 0
while True:
    asking, _ = server.accept()
    count += 1
    asking.sendall(str(count).encode())
    asking.close()
"#;

struct Product {
    stage: Stage,
    api: PathBuf,
}

fn commit(stage: &Stage, dir: &Path) {
    for arguments in [&["add", "-A"][..], &["commit", "-qm", "A change"]] {
        let output = stage
            .command("git")
            .current_dir(dir)
            .args(["-c", "user.name=t", "-c", "user.email=t@localhost"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Product {
    /// A front end, where tasks are started, and the API it needs beside it.
    fn new(settings: &str) -> Self {
        let stage = Stage::new();
        stage.configure(settings);
        let api = stage.path().join("api");
        fs::create_dir(&api).unwrap();
        let made = stage.command("git").current_dir(&api).args(["init", "-qb", "main"]).status().unwrap();
        assert!(made.success());
        for (name, text) in [
            ("offshoot.toml", API),
            ("services.json", SERVICES),
            ("server.py", SERVER),
            ("counter.py", COUNTER),
            ("version", "one"),
        ] {
            fs::write(api.join(name), text).unwrap();
        }
        stage.write("offshoot.toml", FRONT);
        let all = Self { stage, api };
        commit(&all.stage, &all.api);
        commit(&all.stage, &all.stage.repo);
        all
    }

    fn served() -> Self {
        Self::new("[repositories]\nserve = true\n")
    }

    fn by_hand(&self, name: &str) {
        self.stage.post("/v1/tasks", json!({ "path": self.stage.repo, "by_hand": true, "name": name })).ok();
        self.up(name);
    }

    fn up(&self, name: &str) {
        let id = self.stage.task(name)["id"].clone();
        self.stage.wait("rest", |e| e["task"] == id && e["event"]["type"] == "agent_resting");
    }

    /// What the API answers to one task.
    fn ask(&self, task: &str, path: &str) -> String {
        self.stage.output(task, &self.begin_to_ask(task, path)).0.trim().to_owned()
    }

    fn begin_to_ask(&self, task: &str, path: &str) -> String {
        let script = format!(
            "import urllib.request; print(urllib.request.urlopen('http://api:8080{path}', timeout=80).read().decode())"
        );
        self.stage.exec(task, &format!("exec python3 -c \"{script}\" 2>&1"))
    }

    /// The same until it answers as it should.
    fn answers(&self, task: &str, start: &str) -> String {
        let from = Instant::now();
        loop {
            let said = self.ask(task, "/");
            if said.starts_with(start) {
                return said;
            }
            assert!(from.elapsed() < PATIENCE, "{said}\n{}", self.stage.log());
        }
    }

    /// Instances that are there.
    fn instances(&self) -> Vec<Value> {
        let tasks = self.stage.get("/v1/tasks").ok();
        let tasks = tasks["tasks"].as_array().unwrap().iter();
        tasks.map(|view| view["task"].clone()).filter(|task| !task["shared"].is_null()).collect()
    }

    fn version(&self, version: &str) {
        fs::write(self.api.join("version"), version).unwrap();
        commit(&self.stage, &self.api);
    }
}

#[test]
fn ten_tasks_use_one_instance() {
    // More than there are places for; nobody works in them.
    let all = Product::new("[repositories]\nserve = true\n[machine]\nmax-runs = 20\nmemory = \"100g\"\n");
    all.stage.start(None);
    let names: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    for name in &names {
        all.stage.post("/v1/tasks", json!({ "path": all.stage.repo, "by_hand": true, "name": name })).ok();
        all.up(name);
    }
    let asked: Vec<_> = names.iter().map(|name| (name, all.begin_to_ask(name, "/"))).collect();
    for (name, exec) in asked {
        let said = all.stage.output(name, &exec).0;
        assert!(said.starts_with("api-shared one "), "{said}\n{}", all.stage.log());
    }
    assert_eq!(all.instances().len(), 1);
    // It was one process that counted, and one service of its own.
    let last = all.ask("t0", "/");
    assert_eq!(last, "api-shared one 12 -", "the first to ask was who looked whether it is ready");
    // A task has no way to what is behind the app.
    let exec = all
        .stage
        .exec("t0", "python3 -c \"import socket; socket.create_connection(('counter', 7000), 3)\" 2>&1");
    assert_ne!(all.stage.output("t0", &exec).1, Some(0));
    let exec =
        all.stage.exec("t0", "python3 -c \"import socket; socket.create_connection(('api', 7000), 3)\" 2>&1");
    assert_ne!(all.stage.output("t0", &exec).1, Some(0));
    // Any port of a task's own is still its own.
    let exec = all.stage.exec("t0", "python3 -c \"import socket; socket.create_server(('0.0.0.0', 8080))\"");
    assert_eq!(all.stage.output("t0", &exec), (String::new(), Some(0)));
    let pruned = all.stage.post("/v1/prune", json!({})).ok();
    assert!(pruned["kept"].to_string().contains("it is shared, and 10 tasks need it"), "{pruned}");
    for name in &names {
        all.stage.post(&format!("/v1/tasks/{name}/discard"), json!({ "force": true })).ok();
    }
    let pruned = all.stage.post("/v1/prune", json!({})).ok();
    assert!(pruned["removed"].to_string().contains("environment of api-shared"), "{pruned}");
    all.stage.close();
}

#[test]
fn an_app_that_dies_is_started_again() {
    let all = Product::served();
    all.stage.start(None);
    all.by_hand("one");
    assert_eq!(all.ask("one", "/"), "api-shared one 2 -");
    assert!(!all.ask("one", "/die").starts_with("api-shared"));
    all.answers("one", "api-shared one ");
    // So does its sandbox.
    rustix::process::kill_process(all.stage.shim("api-shared"), rustix::process::Signal::KILL).unwrap();
    all.answers("one", "api-shared one ");
    // But not for ever.
    let from = Instant::now();
    while all.ask("one", "/die").contains("Remote end closed") {
        assert!(from.elapsed() < PATIENCE);
        let log = all.stage.get("/v1/tasks/api-shared/apps").ok();
        if log["apps"][0]["exec"].as_str().is_some_and(|exec| exec.ends_with("-8")) {
            panic!("started again and again: {log}");
        }
    }
    all.stage.close();
}

#[test]
fn a_newer_commit_is_taken_when_nobody_needs_the_older_one() {
    let all = Product::served();
    all.stage.start(None);
    all.by_hand("one");
    all.answers("one", "api-shared one ");
    all.version("two");
    all.by_hand("two");
    all.answers("two", "api-shared one ");
    // On request it is taken at once.
    all.stage.post("/v1/tasks/api-shared/discard", json!({})).ok();
    all.answers("one", "api-shared two ");
    all.answers("two", "api-shared two ");
    for name in ["one", "two"] {
        all.stage.post(&format!("/v1/tasks/{name}/discard"), json!({ "force": true })).ok();
    }
    all.version("three");
    all.by_hand("three");
    all.answers("three", "api-shared three ");
    assert_eq!(all.instances().len(), 1);
    all.stage.close();
}

#[test]
fn what_nobody_needs_goes() {
    let all = Product::new("[repositories]\nserve = true\n[machine]\nsuspend-after = \"1s\"\n");
    all.stage.start(None);
    all.by_hand("one");
    all.answers("one", "api-shared one ");
    let id = all.instances()[0]["id"].clone();
    all.stage.wait("end of the instance", |e| e["task"] == id && e["event"]["type"] == "environment_removed");
    // The next who comes has it again.
    all.answers("one", "api-shared one ");
    all.stage.close();
}

#[test]
fn a_daemon_that_dies_leaves_one_instance() {
    for fault in ["shared.recorded", "lease.described", "service.started", "app.started"] {
        let all = Product::served();
        all.stage.start(None);
        all.by_hand("one");
        all.ask("one", "/");
        all.stage.post("/v1/tasks/api-shared/discard", json!({})).ok();
        all.stage.stop();
        // The environment is adopted, and leads to what it shares again: that begins it, perhaps before the daemon is ready.
        if all.stage.try_start(Some(fault)).is_ok() {
            all.stage.died();
        }
        all.stage.start(None);
        all.answers("one", "api-shared one ");
        assert_eq!(all.instances().len(), 1, "{fault}");
        all.stage.close();
    }
}

#[test]
fn one_that_was_cut_off_while_it_went_is_gone() {
    let all = Product::served();
    all.stage.start(Some("shared.discarded"));
    all.by_hand("one");
    all.ask("one", "/");
    all.stage.post("/v1/tasks/one/discard", json!({ "force": true })).ok();
    let _ = all.stage.request("POST", "/v1/prune", Some(&json!({})));
    all.stage.died();
    all.stage.start(None);
    assert!(all.instances().is_empty());
    all.stage.close();
}

#[test]
fn it_takes_the_users_word() {
    let all = Product::new("");
    all.stage.start(None);
    all.by_hand("one");
    let notices = all.stage.task("one")["notices"].to_string();
    assert!(notices.contains("api of api is not there") && notices.contains("serve = true"), "{notices}");
    assert!(all.ask("one", "/").contains("Error"));
    assert!(all.instances().is_empty());
    all.stage.close();
}

#[test]
fn a_repository_that_takes_part_brings_what_it_runs_on() {
    let all = Product::served();
    fs::write(
        all.api.join("offshoot.toml"),
        format!("{API}env = {{ OWN = \"1\" }}\n[environment]\nenv = {{ WORD = \"theirs\" }}\n"),
    )
    .unwrap();
    all.stage.write("offshoot.toml", &format!("{FRONT}[environment]\nenv = {{ WORD = \"ours\" }}\n"));
    commit(&all.stage, &all.api);
    commit(&all.stage, &all.stage.repo);
    all.stage.start(None);
    let params = json!({
        "path": all.stage.repo, "by_hand": true, "name": "both", "repositories": { "api": "main" }
    });
    all.stage.post("/v1/tasks", params).ok();
    all.up("both");
    // The same name leads to the task's own, which has its own repository's variables.
    assert_eq!(all.answers("both", "both one "), "both one 2 theirs");
    assert!(all.instances().is_empty());
    let exec = all.stage.exec("both", "echo $WORD; cat ../api/version");
    assert_eq!(all.stage.output("both", &exec).0, "ours\none");
    let task = all.stage.task("both");
    assert_eq!(task["environment"]["services"][0]["state"], "ready", "{task}");
    all.stage.close();
}

#[test]
fn two_of_one_name_are_refused() {
    let all = Product::served();
    all.stage.write("services.json", SERVICES);
    commit(&all.stage, &all.stage.repo);
    all.stage.start(None);
    let params = json!({
        "path": all.stage.repo, "by_hand": true, "name": "both", "repositories": { "api": "main" }
    });
    let problem = all.stage.post("/v1/tasks", params).problem("name_collision");
    let said = problem["message"].as_str().unwrap();
    assert!(said.contains("r/services.json") && said.contains("api/services.json"), "{said}");
    // What is shared has a name in the task, too.
    all.stage.write("services.json", &SERVICES.replace("counter\"", "api\""));
    let params = json!({ "path": all.stage.repo, "by_hand": true, "name": "alone" });
    all.stage.post("/v1/tasks", params).problem("name_collision");
    all.stage.close();
}
