//! The daemon dies at each of its fault points; the next one finds a true state and goes on to a true end.

use serde_json::json;

use crate::{
    audit::{self, WORK},
    stage::Stage,
};

/// Dies at `point` during a run with a check; then it is taken to its end, and nothing is left.
fn run(point: &str) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let stage = Stage::new();
    let before = stage.fingerprint();
    let mut params = stage.params("work", WORK);
    params["check"] = json!("sh test.sh");
    stage.start(Some(point));
    // It may die before it answers.
    let _ = stage.request("POST", "/v1/tasks", Some(&params));
    stage.died();
    stage.start(None);
    let tasks = stage.get("/v1/tasks").ok();
    if tasks["tasks"].as_array().unwrap().is_empty() {
        stage.post("/v1/tasks", params).ok();
    }
    stage.over("work", 1);
    audit::complete(&stage, "work");
    stage.unchanged(&before);
    stage.close();
    stage.unchanged(&before);
}

macro_rules! points {
    ($($name:ident $point:literal)*) => {
        mod at {
            $(#[test] fn $name() { super::run($point); })*
        }
    };
}

points! {
    export_pack "export.pack"
    export_ref "export.ref"
    layer_start "layer.start"
    layer_built "layer.built"
    layer_placed "layer.placed"
    lease_made "lease.made"
    lease_described "lease.described"
    lease_start "lease.start"
    lease_up "lease.up"
    run_launch "run.launch"
    run_launched "run.launched"
    run_send "run.send"
    run_send_session "run.send#2"
    run_send_prompt "run.send#3"
    run_heard "run.heard"
    run_heard_later "run.heard#3"
    run_checkpoint "run.checkpoint"
    run_checked "run.checked"
    harvest_start "harvest.start"
    harvest_committed "harvest.committed"
    harvest_bundled "harvest.bundled"
    import_quarantine "import.quarantine"
    import_objects "import.objects"
    harvest_imported "harvest.imported"
    publish_objects "publish.objects"
    harvest_recorded "harvest.recorded"
    run_ended "run.ended"
}

/// Dies at `point` while a setup with a cache is made: nothing half-made is taken for a layer, and it is made again.
fn setup(point: &str) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let stage = Stage::new();
    stage.write(
        "offshoot.toml",
        "[setup.deps]\ncommands = [\"mkdir -p ~/.npm && echo cached >~/.npm/thing && echo installed >deps\"]\nkey = [\".gitignore\"]\n",
    );
    stage.write(".gitignore", "deps\n");
    stage.git(&["add", "."]);
    stage.git(&["commit", "-qm", "Setup"]);
    stage.start(Some(point));
    let mut params = stage.params("work", WORK);
    params["check"] = json!("test \"$(cat deps ~/.npm/thing | xargs)\" = 'installed cached'");
    let _ = stage.request("POST", "/v1/tasks", Some(&params));
    stage.died();
    stage.start(None);
    if stage.get("/v1/tasks").ok()["tasks"].as_array().unwrap().is_empty() {
        stage.post("/v1/tasks", params).ok();
    }
    stage.over("work", 1);
    audit::complete(&stage, "work");
    stage.close();
}

macro_rules! setup {
    ($($name:ident $point:literal)*) => {
        mod with_setup {
            $(#[test] fn $name() { super::setup($point); })*
        }
    };
}

setup! {
    started "layer.start#2"
    built "layer.built#2"
    cache_placed "layer.placed#2"
    placed "layer.placed#3"
}

/// Dies at `point` while services come up: the next daemon takes up what runs, starts what does not, and seeds once.
fn services(point: &str) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let stage = Stage::new();
    let serve =
        "until [ -e $DATA_DIR/seed ]; do sleep 0.1; done; cd $DATA_DIR && exec python3 -m http.server 8000";
    let seed = "echo row >>/run/offshoot/services/web/data/seed";
    let text = json!({"services": {
        "web": {"use": "host", "command": serve, "ports": [8000], "seed": {"command": seed},
            "healthcheck": {"test": ["NONE"]}},
        "late": {"use": "host", "command": "exec sleep 1000", "depends_on": ["web"]}
    }});
    stage.write("services.json", &text.to_string());
    stage.git(&["add", "services.json"]);
    stage.git(&["commit", "-qm", "Services"]);
    stage.start(Some(point));
    let check = "test \"$(python3 -c 'import urllib.request as u; print(u.urlopen(\"http://web:8000/seed\").read())')\" = \"b'row\\n'\"";
    let mut params = stage.params("work", WORK);
    params["check"] = json!(check);
    let _ = stage.request("POST", "/v1/tasks", Some(&params));
    stage.died();
    stage.start(None);
    if stage.get("/v1/tasks").ok()["tasks"].as_array().unwrap().is_empty() {
        stage.post("/v1/tasks", params).ok();
    }
    stage.over("work", 1);
    audit::complete(&stage, "work");
    stage.close();
}

macro_rules! services {
    ($($name:ident $point:literal)*) => {
        mod with_services {
            $(#[test] fn $name() { super::services($point); })*
        }
    };
}

services! {
    data_start "data.start"
    data_seeded "data.seeded"
    layer_placed "layer.placed#2"
    service_started "service.started#3"
    service_started_later "service.started#4"
    lease_up "lease.up"
    run_launched "run.launched"
}

/// A shim or its init dies at `point` while an environment or a layer comes up or goes down: said, nothing of it left, and
/// the next run works.
fn sandbox(point: &str) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let stage = Stage::new();
    stage.start(Some(point));
    stage.dispatch("work", WORK);
    let task = stage.over("work", 1);
    let ended = task["state"].as_str().unwrap();
    if ended == "complete" {
        audit::complete(&stage, "work");
    } else {
        assert_eq!(ended, "failed", "{task}");
        let reason = task["reason"].as_str().unwrap();
        assert!(
            reason.contains("sandbox") || reason.contains("layer") || reason.contains("files"),
            "{reason}"
        );
    }
    stage.stop();
    stage.start(None);
    if ended == "failed" {
        stage.post("/v1/tasks/work/runs", json!({ "prompt": WORK })).ok();
        assert_eq!(stage.over("work", 2)["state"], "complete", "{}", stage.log());
        assert!(stage.git(&["show", "offshoot/work:one.txt"]).starts_with('x'));
        audit::prompted(&stage, "work", 1);
    }
    stage.close();
}

macro_rules! sandboxes {
    ($($name:ident $point:literal)*) => {
        mod sandbox_at {
            $(#[test] fn $name() { super::sandbox($point); })*
        }
    };
}

sandboxes! {
    shim_locked "shim.locked"
    shim_cgroup "shim.cgroup"
    shim_cloned "shim.cloned"
    shim_ready "shim.ready"
    shim_ended "shim.ended"
    init_mount "init.mount"
    init_go "init.go"
    init_mounted "init.mounted"
    init_ready "init.ready"
}

/// A run that failed before its agent did anything is not taken for done by the daemon after the next.
#[test]
fn a_failure_is_still_one_after_a_crash() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let stage = Stage::new();
    stage.start(Some("lease.up"));
    let mut params = stage.params("work", WORK);
    params["env"] = json!([{ "name": "KEY", "value": "1" }]);
    let _ = stage.request("POST", "/v1/tasks", Some(&params));
    stage.died();
    // The value was nowhere but in that daemon's memory; this one brings out what there is, and dies over it.
    // It may be so quick that it dies before it says that it is ready.
    if stage.try_start(Some("harvest.start")).is_ok() {
        stage.died();
    }
    stage.start(None);
    let task = stage.over("work", 1);
    assert_eq!(task["state"], "failed", "{task}");
    assert!(task["reason"].as_str().unwrap().contains("KEY"), "{}", task["reason"]);
    let again = json!({ "prompt": WORK, "env": [{ "name": "KEY", "value": "1" }] });
    stage.post("/v1/tasks/work/runs", again).ok();
    assert_eq!(stage.over("work", 2)["state"], "complete");
    stage.close();
}

/// A check that was under way is begun again, alone, and counts once.
#[test]
fn a_check_that_was_cut_off_is_made_again() {
    let stage = Stage::new();
    stage.start(None);
    let mut params = stage.params("work", WORK);
    // Fails if another one runs beside it.
    params["check"] = json!("exec 9>/tmp/alone; flock -n 9 || exit 3; sleep 0.5");
    stage.post("/v1/tasks", params).ok();
    let held = || {
        let logs = stage.environment("work").join("journal");
        let names = std::fs::read_dir(logs).into_iter().flatten().flatten();
        names.filter(|e| e.file_name().to_string_lossy().starts_with("check-")).count()
    };
    stage.wait("check", |entry| entry["event"]["type"] == "check_started");
    let from = std::time::Instant::now();
    // That it runs is not recorded anywhere else.
    while held() == 0 {
        assert!(from.elapsed() < crate::http::PATIENCE, "no check");
        std::thread::yield_now();
    }
    stage.kill();
    stage.start(None);
    let task = stage.over("work", 1);
    assert_eq!(task["runs"][0]["check_code"], 0, "{task}");
    audit::complete(&stage, "work");
    stage.close();
}

/// A task from its dispatch to its landing, for as long as the daemon lives. Returns whether it lived to the end.
fn dispatch_and_land(stage: &Stage, squash: bool) -> bool {
    let tasks = stage.request("GET", "/v1/tasks?all=true", None);
    let Ok(tasks) = tasks else { return false };
    if tasks.ok()["tasks"].as_array().unwrap().is_empty()
        && stage.request("POST", "/v1/tasks", Some(&stage.params("work", WORK))).is_err()
    {
        return false;
    }
    if !stage.wait_if_it_lives(|entry| entry["event"]["type"] == "run_ended") {
        return false;
    }
    let Ok(task) = stage.request("GET", "/v1/tasks/work", None) else { return false };
    let task = task.ok();
    if task["task"]["state"] == "landed" {
        return true;
    }
    assert_eq!(task["task"]["state"], "complete", "{}\n{}", task["task"]["reason"], stage.log());
    match stage.request("POST", "/v1/tasks/work/land", Some(&json!({ "squash": squash }))) {
        Ok(answer) => {
            answer.ok();
            true
        }
        Err(_) => false,
    }
}

/// Landed once, cleanly, and everything of the task gone.
#[track_caller]
fn landed(stage: &Stage, squash: bool) {
    let task = stage.task("work");
    assert_eq!(task["state"], "landed");
    assert_eq!(task["environment"]["state"], "removed", "{}", stage.log());
    audit::told_once(stage, "work", 20);
    let subjects = stage.git(&["log", "--format=%s", "main"]);
    let wanted = if squash { "Count\nStage\nBegin" } else { "Two\nOne\nStage\nBegin" };
    assert_eq!(subjects, wanted);
    assert_eq!(stage.git(&["status", "--porcelain"]), "", "the checkout is not clean");
    assert_eq!(std::fs::read_to_string(stage.repo.join("one.txt")).unwrap(), "x\n");
    assert_eq!(stage.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    stage.git(&["fsck", "--strict", "--no-dangling"]);
}

/// Dies at the point for the first time it is met, the second, …, until a task lives from dispatch to landing.
fn at_each(point: &str, squash: bool) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    for nth in 1.. {
        assert!(nth < 200, "never lives to the end");
        let stage = Stage::new();
        stage.start(Some(&format!("{point}#{nth}")));
        let lived = dispatch_and_land(&stage, squash);
        if !lived {
            stage.died();
            stage.start(None);
            assert!(dispatch_and_land(&stage, squash), "{point}#{nth}: it died again\n{}", stage.log());
        }
        landed(&stage, squash);
        stage.close();
        if lived {
            assert!(nth > 1, "{point} is never met");
            eprintln!("{point}: met {} times", nth - 1);
            return;
        }
    }
}

#[test]
fn before_each_write_to_the_log() {
    at_each("store.before_commit", false);
}

#[test]
fn after_each_write_to_the_log() {
    at_each("store.after_commit", true);
}

#[test]
fn at_each_step_of_a_landing() {
    for point in ["land.recorded", "land.objects", "land.record", "land.files", "land.index", "land.ref"] {
        at_each(point, point == "land.record");
    }
    at_each("lease.remove", false);
}

/// A landing on a branch that is not checked out.
#[test]
fn landing_beside_the_checkout() {
    if !cfg!(debug_assertions) {
        return;
    }
    for point in ["land.recorded", "land.objects", "land.ref"] {
        let stage = Stage::new();
        stage.git(&["branch", "release"]);
        let main = stage.git(&["rev-parse", "main"]);
        stage.start(Some(point));
        stage.dispatch("work", WORK);
        stage.over("work", 1);
        let params = json!({ "target": "release" });
        assert!(stage.request("POST", "/v1/tasks/work/land", Some(&params)).is_err(), "{point}");
        stage.died();
        stage.start(None);
        stage.wait("landing", |entry| entry["event"]["type"] == "landed");
        assert_eq!(stage.git(&["log", "--format=%s", "release"]), "Two\nOne\nStage\nBegin");
        assert_eq!(stage.git(&["rev-parse", "HEAD", "main"]), format!("{main}\n{main}"));
        assert_eq!(stage.git(&["status", "--porcelain"]), "");
        stage.close();
    }
}

/// Thrown away for as long as the daemon lives, at each write to the log.
#[test]
fn at_each_step_of_a_discard() {
    if !cfg!(debug_assertions) {
        return;
    }
    for point in ["store.before_commit", "store.after_commit", "lease.remove"] {
        for nth in 1.. {
            let stage = Stage::new();
            stage.start(None);
            stage.dispatch("work", WORK);
            stage.over("work", 1);
            stage.stop();
            stage.start(Some(&format!("{point}#{nth}")));
            let force = json!({ "force": true });
            let thrown = stage.request("POST", "/v1/tasks/work/discard", Some(&force));
            let lived = thrown.is_ok_and(|answer| answer.status == 200);
            if !lived {
                stage.died();
                stage.start(None);
            }
            stage.close();
            if lived {
                break;
            }
        }
    }
}
