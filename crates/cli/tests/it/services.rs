//! Services of environments: real databases where they are installed as a prerequisite, and small commands for what must
//! go wrong.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::{Value, json};

use crate::stage::Stage;

fn with(services: Value) -> Stage {
    let stage = Stage::new();
    stage.repo.write("services.json", &json!({ "services": services }).to_string()).unwrap();
    stage.repo.write("db/rows.sql", "create table t(x int); insert into t values (1), (2), (3);").unwrap();
    stage.repo.commit("Services").unwrap();
    stage
}

fn up(stage: &Stage, name: &str) {
    stage.offshoot(&["env", "up", "--name", name]).ok();
}

fn sh(stage: &Stage, name: &str, script: &str) -> String {
    stage.offshoot(&["env", "exec", name, "--", "sh", "-c", script]).ok().trim().to_owned()
}

fn services(stage: &Stage, name: &str) -> Vec<Value> {
    let view = stage.offshoot(&["--json", "show", name]).json();
    let services = view.pointer("/view/task/environment/services");
    services.unwrap_or_else(|| panic!("{view}")).as_array().unwrap().clone()
}

#[test]
fn each_environment_has_its_own_database_with_its_data() {
    let stage = with(json!({
        "db": {"use": "host", "preset": "postgres", "seed": "db/rows.sql"},
        "redis": {"use": "host", "depends_on": ["db"]}
    }));
    up(&stage, "one");
    up(&stage, "two");
    assert_eq!(
        sh(&stage, "one", "psql -Atc 'insert into t values (4)' && psql -Atc 'select count(*) from t'"),
        "INSERT 0 1\n4"
    );
    assert_eq!(sh(&stage, "two", "psql -Atc 'select count(*) from t'"), "3", "the other's rows are not seen");
    assert_eq!(
        sh(&stage, "two", "psql -h localhost -Atc 'select count(*) from t'"),
        "3",
        "also on localhost"
    );
    assert_eq!(sh(&stage, "one", "psql \"$DATABASE_URL\" -Atc 'select 7'"), "7");
    assert_eq!(sh(&stage, "one", "redis-cli -u \"$REDIS_URL\" set k v"), "OK");
    assert_eq!(sh(&stage, "two", "redis-cli -h redis get k"), "");
    for service in services(&stage, "two") {
        assert_eq!(service["state"], "ready", "{service}");
    }
    let shown = stage.offshoot(&["show", "two"]).ok();
    assert!(shown.contains("db:5432 ready"), "{shown}");
    // What was written is kept with the environment, and its services come back with it.
    stage.offshoot(&["daemon", "stop"]).ok();
    assert_eq!(sh(&stage, "one", "psql -Atc 'select count(*) from t'"), "4");
    stage.offshoot(&["env", "down", "one", "--force"]).ok();
    stage.offshoot(&["env", "down", "two", "--force"]).ok();
}

#[test]
fn a_service_that_fails_shows_what_it_said() {
    let stage = with(json!({
        "broken": {"use": "host", "ports": [7000], "command": "echo the disk is made of cheese >&2; exit 3"}
    }));
    let up = stage.offshoot(&["env", "up", "--name", "e"]);
    assert_ne!(up.0, 0);
    assert!(up.2.contains("broken") && up.2.contains("code 3") && up.2.contains("cheese"), "{}", up.2);
    let shown = stage.offshoot(&["show", "e"]).ok();
    assert!(shown.contains("broken:7000 failed") && shown.contains("cheese"), "{shown}");
    // It can be looked into all the same.
    assert_eq!(sh(&stage, "e", "echo inside"), "inside");
    stage.offshoot(&["env", "down", "e", "--force"]).ok();
}

#[test]
fn restarts_are_bounded_and_dependencies_are_waited_for() {
    let stage = with(json!({
        "flaky": {"use": "host", "restart": "on-failure:3",
            "command": "n=$(cat $DATA_DIR/n 2>/dev/null || echo 0); echo $((n+1)) >$DATA_DIR/n; [ $n -ge 2 ] || exit 1; exec sleep 1000"},
        "migrate": {"use": "host", "command": "echo done", "depends_on": ["flaky"]},
        "web": {"use": "host", "command": "exec python3 -m http.server 8000", "ports": [8000],
            "depends_on": {"migrate": {"condition": "service_completed_successfully"}}}
    }));
    up(&stage, "e");
    let states = services(&stage, "e");
    let state = |name: &str| states.iter().find(|s| s["service"]["name"] == name).unwrap().clone();
    assert_eq!(state("migrate")["state"], "completed");
    assert_eq!(state("web")["state"], "ready");
    let page = sh(
        &stage,
        "e",
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://web:8000/\").status)'",
    );
    assert_eq!(page, "200");
    stage.offshoot(&["env", "down", "e", "--force"]).ok();

    let stage =
        with(json!({"never": {"use": "host", "restart": "always:2", "command": "exit 1", "ports": [7001]}}));
    let up = stage.offshoot(&["env", "up", "--name", "e"]);
    assert_ne!(up.0, 0);
    assert_eq!(services(&stage, "e")[0]["restarts"], 2);
    stage.offshoot(&["env", "down", "e", "--force"]).ok();
}

#[test]
fn mistakes_are_shown_at_their_place() {
    let stage = with(json!({}));
    stage.repo.write("services.json", "{\"services\": {\n  \"db\": {\"use\": \"hots\"}\n}}").unwrap();
    let problem = stage.offshoot(&["--json", "env", "up", "--name", "e"]);
    assert_ne!(problem.0, 0);
    assert!(problem.2.contains("services.json:2:"), "{}", problem.2);
    stage.repo.write("services.json", "{\"services\": {\"db\": {\"use\": \"host\", \"preset\": \"postgres\", \"seed\": \"nowhere.sql\"}}}").unwrap();
    let problem = stage.offshoot(&["env", "up", "--name", "f"]);
    assert_ne!(problem.0, 0);
    assert!(problem.2.contains("nowhere.sql"), "{}", problem.2);
}

/// The stream of a task's events, read until it tells this.
fn told(stage: &Stage, name: &str, what: &str) {
    let path = format!("/v1/tasks/{name}/events?path={}", stage.repo.path().display());
    let request = format!("GET {path} HTTP/1.1\r\nHost: o\r\nAccept: text/event-stream\r\n\r\n");
    let heard = stage.raw(&request, what);
    assert!(heard.contains(what), "{heard}");
}

#[test]
fn a_service_is_looked_at_for_as_long_as_it_runs() {
    let well = |restart: &str| {
        json!({"use": "host", "command": "echo up; touch $DATA_DIR/well; exec sleep 1000", "restart": restart,
            "healthcheck": {"test": ["CMD-SHELL", "test -e $DATA_DIR/well"], "interval": "50ms", "retries": 2}})
    };
    let stage = with(json!({"plain": well("no"), "again": well("on-failure:1")}));
    up(&stage, "e");
    let status = |name: &str| {
        let list = stage.offshoot(&["--json", "service", "ls", "e"]).json();
        list["services"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone()
    };
    assert_eq!(status("plain")["health"]["passed"], true);
    sh(&stage, "e", "rm /run/offshoot/services/plain/data/well");
    told(&stage, "e", "service_unhealthy");
    let ill = status("plain");
    assert_eq!((&ill["state"], &ill["health"]["passed"]), (&json!("unhealthy"), &json!(false)), "{ill}");
    assert!(ill["reason"].as_str().unwrap().contains("test -e"), "{ill}");
    assert!(stage.offshoot(&["ps"]).ok().contains("plain of e unhealthy"));
    assert!(stage.offshoot(&["show", "e"]).ok().contains("plain unhealthy"));
    sh(&stage, "e", "touch /run/offshoot/services/plain/data/well");
    told(&stage, "e", "service_healthy");
    assert_eq!(
        (status("plain")["state"].clone(), status("plain")["restarts"].clone()),
        (json!("ready"), json!(0))
    );
    // One that is to be restarted is, as often as it may be.
    sh(&stage, "e", "rm /run/offshoot/services/again/data/well");
    told(&stage, "e", "service_failed");
    told(&stage, "e", "svc-again-2");
    stage.offshoot(&["env", "down", "e", "--force"]).ok();
}

#[test]
fn a_person_stops_and_starts_services_and_reads_what_they_said() {
    let stage = with(json!({
        "redis": {"use": "host"},
        "chatty": {"use": "host", "command": "echo start $((n=$(cat $DATA_DIR/n 2>/dev/null || echo 0)+1)); echo $n >$DATA_DIR/n; exec sleep 1000"}
    }));
    up(&stage, "e");
    assert_eq!(sh(&stage, "e", "redis-cli -h redis set k v"), "OK");
    let service = |words: &[&str]| stage.offshoot(&[&["--json", "service"], words].concat());
    assert_eq!(service(&["stop", "e", "redis"]).json()["state"], "stopped");
    assert_ne!(stage.offshoot(&["env", "exec", "e", "--", "redis-cli", "-h", "redis", "ping"]).0, 0);
    // It stays so, also under another daemon, and holds nobody up.
    stage.kill_daemon();
    sh(&stage, "e", "true");
    assert!(stage.offshoot(&["service", "ls", "e"]).ok().contains("stopped"));
    assert_eq!(service(&["start", "e", "redis"]).json()["state"], "ready");
    assert_eq!(sh(&stage, "e", "redis-cli -h redis ping"), "PONG");

    let before = service(&["start", "e", "chatty"]).json();
    assert_eq!(before["exec"], "svc-chatty-1", "it ran already: {before}");
    let after = service(&["restart", "e", "chatty"]).json();
    assert_eq!((&after["exec"], &after["state"]), (&json!("svc-chatty-2"), &json!("ready")), "{after}");
    let mut following = stage.command(&["service", "logs", "-f", "e", "chatty"]);
    let mut following = following.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(following.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "start 2\n");
    following.kill().unwrap();
    following.wait().unwrap();
    service(&["restart", "e", "nobody"]).problem(3, "no_such_service");
    stage.offshoot(&["env", "down", "e", "--force"]).ok();
}

#[test]
fn a_seed_with_a_key_is_run_again_only_when_that_changed() {
    let stage = with(json!({"s": {"use": "host", "command": "exec sleep 1000",
        "seed": {"command": "cat /proc/sys/kernel/random/uuid db/rows.sql >/run/offshoot/services/s/data/rows", "key": ["db"]}}}));
    let rows = |name: &str| {
        up(&stage, name);
        sh(&stage, name, "cat /run/offshoot/services/s/data/rows")
    };
    let first = rows("first");
    stage.repo.write("elsewhere", "1").unwrap();
    stage.repo.commit("Elsewhere").unwrap();
    assert_eq!(first, rows("second"));
    stage.repo.write("db/rows.sql", "select 1;").unwrap();
    stage.repo.commit("Rows").unwrap();
    assert_ne!(first, rows("third"));
}

#[test]
fn a_port_of_localhost_leads_to_a_service() {
    let stage = with(json!({
        "redis": {"use": "host", "ports": ["7433:6379"]},
        "other": {"use": "host", "preset": "redis", "inject": {}}
    }));
    up(&stage, "e");
    let set = |place: &str, value: &str| sh(&stage, "e", &format!("redis-cli {place} set k {value}"));
    let get = |place: &str| sh(&stage, "e", &format!("redis-cli {place} get k"));
    assert_eq!((set("-h localhost -p 7433", "a"), set("-h other", "b")), ("OK".to_owned(), "OK".to_owned()));
    assert_eq!((get("-h redis"), get("-p 6379"), get("-p 7433")), ("a".into(), "a".into(), "a".into()));
    // The next daemon takes the way up.
    stage.kill_daemon();
    assert_eq!(get("-p 7433"), "a");
    stage.offshoot(&["env", "down", "e", "--force"]).ok();
}
