//! What waits for a person: answered exactly once whatever happens to the daemon meanwhile, never left behind, and
//! answered by rules as wide as they were made.

use std::fs;

use serde_json::{Value, json};

use crate::stage::Stage;

const WORK: &str = "Ask\n@shell echo x >> one.txt\n@commit One\n@say All done";

fn ask(stage: &Stage, name: &str, prompt: &str) {
    let mut params = stage.params(name, prompt);
    params["permission"] = json!("ask");
    // A daemon with a fault may die before it answers.
    let _ = stage.request("POST", "/v1/tasks", Some(&params));
}

fn is_asked(entry: &Value, number: u64) -> bool {
    entry["event"]["type"] == "approval_requested" && entry["event"]["number"] == number
}

#[track_caller]
fn asked(stage: &Stage, name: &str, number: u64) {
    let id = stage.task(name)["id"].clone();
    stage.wait("request", |entry| entry["task"] == id && is_asked(entry, number));
}

#[track_caller]
fn answer(stage: &Stage, which: &str, body: Value) -> Value {
    stage.post(&format!("/v1/approvals/{}", which.replace('/', "%2F")), body).ok()
}

fn waiting(stage: &Stage) -> Vec<String> {
    let list = stage.get("/v1/approvals").ok();
    list["approvals"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn events(stage: &Stage, kind: &str) -> Vec<Value> {
    let all = stage.entries().into_iter().map(|entry| entry["event"].clone());
    all.filter(|event| event["type"] == kind).collect()
}

/// How often the agent was sent an answer, as the journal of its process tells.
fn sent(stage: &Stage, name: &str) -> usize {
    let bytes = fs::read(stage.environment(name).join("journal/run-1")).unwrap();
    bytes.windows(10).filter(|window| window == b"\"selected\"").count()
}

/// The daemon dies at `point`; each of the two questions is answered, once.
fn dies_at(point: &str) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let stage = Stage::new();
    stage.start(Some(point));
    ask(&stage, "work", WORK);
    let mut dead = false;
    for number in 1..=2 {
        let which = format!("/v1/approvals/work%2F{number}");
        let yes = json!({ "verdict": "allow" });
        let lived = stage.wait_if_it_lives(|entry| is_asked(entry, number))
            && stage.request("POST", &which, Some(&yes)).is_ok()
            && (dead
                || stage.wait_if_it_lives(|entry| {
                    is_asked(entry, number + 1) || entry["event"]["type"] == "run_ended"
                }));
        if lived {
            continue;
        }
        assert!(!dead, "it died again");
        dead = true;
        stage.died();
        stage.start(None);
        asked(&stage, "work", number);
        if waiting(&stage) == [format!("work/{number}")] {
            stage.post(&which, yes).ok();
        } else {
            assert_eq!(stage.post(&which, yes).status, 409, "answered already");
        }
    }
    assert!(dead, "{point} is never met");
    let task = stage.over("work", 1);
    assert_eq!(task["state"], "complete", "{task}\n{}", stage.log());
    assert_eq!(stage.git(&["show", "offshoot/work:one.txt"]), "x");
    assert_eq!(events(&stage, "approval_requested").len(), 2);
    assert_eq!(events(&stage, "approval_answered").len(), 2);
    assert_eq!(events(&stage, "approval_withdrawn").len(), 0);
    assert_eq!(sent(&stage, "work"), 2, "what the agent was sent");
    assert_eq!(task["approvals"], json!([]));
    assert_eq!(waiting(&stage), [""; 0]);
    stage.close();
}

macro_rules! points {
    ($($name:ident $point:literal)*) => {
        mod at {
            $(#[test] fn $name() { super::dies_at($point); })*
        }
    };
}

points! {
    asked "approval.asked"
    asked_again "approval.asked#2"
    answered "approval.answered"
    send "approval.send"
    sent "approval.sent"
    sent_again "approval.sent#2"
}

/// Killed while it waits, by `kill -9`: the question is there again, and only once.
#[test]
fn a_question_outlives_the_daemon() {
    let stage = Stage::new();
    stage.start(None);
    ask(&stage, "work", WORK);
    asked(&stage, "work", 1);
    stage.kill();
    stage.start(None);
    let list = stage.get("/v1/approvals").ok();
    assert_eq!(list["approvals"].as_array().unwrap().len(), 1, "{list}");
    let one = &list["approvals"][0];
    assert_eq!(one["approval"]["subject"], json!({ "type": "command", "command": "echo x >> one.txt" }));
    assert_eq!(one["can_be_rule"], true);
    assert_eq!(stage.task("work")["state"], "needs_attention");
    // By its id too.
    answer(&stage, one["approval"]["id"].as_str().unwrap(), json!({ "verdict": "allow" }));
    asked(&stage, "work", 2);
    assert_eq!(stage.post("/v1/approvals/work%2F1", json!({ "verdict": "deny" })).status, 409);
    assert_eq!(stage.post("/v1/approvals/work%2F9", json!({ "verdict": "deny" })).status, 404);
    answer(&stage, "work", json!({ "verdict": "allow" }));
    assert_eq!(stage.over("work", 1)["state"], "complete");
    stage.close();
}

/// A run that is stopped, or whose agent is killed, leaves nothing that waits.
#[test]
fn nobody_waits_for_a_run_that_is_over() {
    for how in ["stop", "kill", "discard"] {
        let stage = Stage::new();
        stage.start(None);
        ask(&stage, "work", WORK);
        asked(&stage, "work", 1);
        match how {
            "stop" => drop(stage.post("/v1/tasks/work/stop", json!({})).ok()),
            "discard" => drop(stage.post("/v1/tasks/work/discard", json!({ "force": true })).ok()),
            _ => rustix::process::kill_process(stage.shim("work"), rustix::process::Signal::KILL).unwrap(),
        }
        stage.wait("end of the run", |entry| entry["event"]["type"] == "run_ended");
        assert_eq!(events(&stage, "approval_withdrawn").len(), 1, "{how}\n{}", stage.log());
        assert_eq!(waiting(&stage), [""; 0], "{how}");
        if how != "discard" {
            assert_eq!(sent(&stage, "work"), 0, "{how}");
        }
        let said = stage.post("/v1/approvals/work%2F1", json!({ "verdict": "allow" }));
        assert_eq!(said.status, 409, "{how}");
        stage.close();
    }
}

#[test]
fn nobody_answers_until_the_deadline() {
    let stage = Stage::new();
    stage.configure("[agent]\napproval-timeout = \"1s\"\n");
    stage.start(None);
    ask(&stage, "work", "Ask\n@shell touch no.txt\n@say All done");
    let task = stage.over("work", 1);
    assert_eq!(task["state"], "complete", "{task}");
    let answers = events(&stage, "approval_answered");
    assert_eq!(answers[0]["by"], json!({ "type": "deadline" }), "{answers:?}");
    assert_eq!(task["changes"]["files"], 0);
    stage.close();
}

/// What waits is frozen like everything that nobody uses, and goes on with the answer.
#[test]
fn an_answer_thaws_what_waits() {
    let stage = Stage::new();
    stage.configure("[machine]\nsuspend-after = \"1s\"\n");
    stage.start(None);
    ask(&stage, "work", WORK);
    asked(&stage, "work", 1);
    stage.wait("frost", |entry| entry["event"]["type"] == "environment_suspended");
    answer(&stage, "work/1", json!({ "verdict": "allow" }));
    asked(&stage, "work", 2);
    answer(&stage, "work/2", json!({ "verdict": "allow" }));
    assert_eq!(stage.over("work", 1)["state"], "complete");
    stage.close();
}

/// A no with a reason: the agent is told, in a turn of its own where an answer carries no words.
#[test]
fn a_reason_reaches_the_agent() {
    let stage = Stage::new();
    stage.start(None);
    ask(&stage, "work", "Ask\n@shell touch no.txt\n@say All done");
    asked(&stage, "work", 1);
    answer(&stage, "work/1", json!({ "verdict": "deny", "text": "because\n@say it is Sunday" }));
    let task = stage.over("work", 1);
    assert_eq!(task["state"], "complete", "{task}");
    let said: Vec<_> =
        events(&stage, "agent").iter().map(|event| event["agent"]["text"].to_string()).collect();
    assert!(said.iter().any(|text| text.contains("it is Sunday")), "{said:?}");
    assert_eq!(task["changes"]["files"], 0);
    stage.close();
}

#[test]
fn rules_answer_what_they_were_made_for() {
    let stage = Stage::new();
    stage.start(None);
    // Another task waits for the same already.
    ask(&stage, "other", "Ask\n@shell touch a\n@say All done");
    asked(&stage, "other", 1);
    ask(&stage, "work", "Ask\n@shell touch a\n@shell touch a; touch b\n@shell touch b\n@say All done");
    asked(&stage, "work", 1);
    let refused = json!({ "verdict": "allow", "rule": "project", "prefix": "touch b" });
    assert_eq!(
        stage.post("/v1/approvals/work%2F1", refused).status,
        400,
        "a rule that misses what it is made of"
    );
    answer(&stage, "work/1", json!({ "verdict": "allow", "rule": "project", "prefix": "touch" }));
    assert_eq!(stage.over("other", 1)["state"], "complete", "{}", stage.log());

    // More than plain words: a person has to look, and cannot widen it either.
    asked(&stage, "work", 2);
    let wide = json!({ "verdict": "allow", "rule": "task", "prefix": "touch a" });
    assert_eq!(stage.post("/v1/approvals/work%2F2", wide).status, 400);
    answer(&stage, "work/2", json!({ "verdict": "deny" }));
    assert_eq!(stage.over("work", 1)["state"], "complete");
    assert_eq!(stage.git(&["ls-tree", "--name-only", "offshoot/work", "a", "b"]), "a\nb");
    let by: Vec<_> = events(&stage, "approval_answered").iter().map(|e| e["by"]["type"].clone()).collect();
    assert_eq!(by.iter().filter(|by| *by == "rule").count(), 2, "{by:?}");

    // It holds for tasks to come, after a restart too, until it is taken back.
    stage.stop();
    stage.start(None);
    ask(&stage, "third", "Ask\n@shell touch c\n@say All done");
    assert_eq!(stage.over("third", 1)["state"], "complete");
    let rules = stage.get("/v1/approvals/rules").ok();
    assert_eq!(rules["rules"][0]["name"], "work/1", "{rules}");
    stage.post("/v1/approvals/rules/work%2F1/remove", json!({})).ok();
    assert_eq!(stage.get("/v1/approvals/rules").ok()["rules"], json!([]));
    ask(&stage, "fourth", "Ask\n@shell touch c\n@say All done");
    asked(&stage, "fourth", 1);
    assert_eq!(waiting(&stage), ["fourth/1"]);
    stage.close();
}

#[test]
fn an_agent_that_cannot_ask_is_refused() {
    let stage = Stage::new();
    stage.configure("[agents.plain]\ntitle = \"Plain\"\nprotocol = \"oneshot\"\ncommand = [\"sh\"]\n");
    stage.start(None);
    let mut params = stage.params("work", WORK);
    params["permission"] = json!("ask");
    params["agent"] = json!("plain");
    let said = stage.post("/v1/tasks", params);
    assert_eq!((said.status, said.body["code"].as_str()), (400, Some("agent_cannot_ask")), "{}", said.body);
    let agents = stage.get("/v1/agents").ok();
    let asks = |name: &str| {
        let all = agents.as_array().unwrap();
        all.iter().find(|agent| agent["name"] == name).unwrap()["asks"].clone()
    };
    assert_eq!(["claude", "codex", "scripted", "aider", "plain"].map(asks), [true, true, true, false, false]);
    stage.close();
}
