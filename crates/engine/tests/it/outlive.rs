//! What runs outlives the daemon: work goes on without it, and the next one tells everything, once.

use std::time::Instant;

use serde_json::json;

use crate::{audit, http, stage::Stage};

/// The work of [`audit::WORK`] with a pause in it.
const SLOW: &str = "Count\n@shell echo x >> one.txt\n@commit One\n@shell sleep 1\n@calls 20\n@shell echo y >> two.txt\n@commit Two\n@say All done";

/// Waits until the agent is in its pause.
fn in_the_pause(stage: &Stage) {
    stage.wait("pause", |entry| {
        let agent = &entry["event"]["agent"];
        agent["type"] == "tool_call" && agent["title"] == "sleep 1" && agent["status"] != "completed"
    });
}

#[test]
fn work_goes_on_while_there_is_no_daemon() {
    let stage = Stage::new();
    stage.start(None);
    stage.dispatch("work", SLOW);
    in_the_pause(&stage);
    let upper = stage.environment("work").join("upper");
    assert!(!upper.join("two.txt").exists());
    stage.kill();
    let from = Instant::now();
    // Nobody tells of it while there is no daemon.
    while !upper.join("two.txt").exists() {
        assert!(from.elapsed() < http::PATIENCE, "the agent stands still");
        std::thread::yield_now();
    }
    stage.start(None);
    stage.over("work", 1);
    audit::complete(&stage, "work");
    stage.close();
}

#[test]
fn stopped_and_started_again_and_again() {
    let stage = Stage::new();
    stage.start(None);
    stage.dispatch("work", SLOW);
    in_the_pause(&stage);
    for _ in 0..4 {
        stage.stop();
        stage.start(None);
    }
    stage.over("work", 1);
    audit::complete(&stage, "work");
    stage.close();
}

/// A question of an agent that was asked before the restart is still there and is answered by the policy once.
#[test]
fn a_turn_that_is_over_is_not_begun_again() {
    let stage = Stage::new();
    stage.start(None);
    stage.dispatch("work", audit::WORK);
    stage.over("work", 1);
    for _ in 0..2 {
        stage.kill();
        stage.start(None);
    }
    audit::complete(&stage, "work");
    let prompt = "Again\n@shell echo z >> three.txt\n@commit Three";
    stage.post("/v1/tasks/work/runs", json!({ "prompt": prompt })).ok();
    stage.kill();
    stage.start(None);
    let task = stage.over("work", 2);
    assert_eq!(task["state"], "complete", "{}", task["reason"]);
    audit::prompted(&stage, "work", 2);
    assert_eq!(stage.git(&["log", "--format=%s", "main..offshoot/work"]), "Three\nTwo\nOne");
    assert_eq!(stage.git(&["show", "offshoot/work:three.txt"]), "z");
    stage.close();
}

#[test]
fn a_command_is_heard_from_its_beginning_after_a_restart() {
    let stage = Stage::new();
    stage.start(None);
    stage.post("/v1/tasks", json!({ "path": stage.repo, "by_hand": true, "name": "hand" })).ok();
    stage.wait("environment", |entry| entry["event"]["type"] == "environment_up");
    let exec =
        stage.exec("hand", "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; sleep 0.005; done");
    http::output(&stage.socket(), "hand", &exec, Some("line 20\n")).unwrap();
    stage.kill();
    stage.start(None);
    http::output(&stage.socket(), "hand", &exec, Some("line 50\n")).unwrap();
    stage.stop();
    stage.start(None);
    let (text, code) = stage.output("hand", &exec);
    let whole: String = (1..=200).map(|n| format!("line {n}\n")).collect();
    assert_eq!(text, whole);
    assert_eq!(code, Some(0));
    stage.close();
}

/// The sandbox that a layer is built in does not outlive the wish for it.
#[test]
fn a_build_that_was_cut_off_is_ended_and_done_again() {
    let stage = Stage::new();
    stage.write("offshoot.toml", "[setup.all]\ncommands = [\"sleep 1000\"]\n");
    stage.start(None);
    stage.dispatch("work", audit::WORK);
    stage.wait("setup", |entry| {
        entry["event"]["step"].as_str().is_some_and(|step| step.contains("sleep 1000"))
    });
    let from = Instant::now();
    let building = || {
        stage
            .sandboxes()
            .into_iter()
            .any(|dir| dir.join("journal/step-0").exists() || dir.join("build.log").exists())
    };
    while !building() {
        assert!(from.elapsed() < http::PATIENCE, "no builder");
        std::thread::yield_now();
    }
    let seen = crate::leaks::Seen::of(&stage);
    stage.kill();
    std::fs::remove_file(stage.repo.join("offshoot.toml")).unwrap();
    stage.start(None);
    stage.over("work", 1);
    audit::complete(&stage, "work");
    stage.close();
    assert_eq!(seen.left(&stage), Vec::<String>::new());
}
