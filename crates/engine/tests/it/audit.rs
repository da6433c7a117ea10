//! What must be true of a run whatever happened to the daemon meanwhile.

use std::fs;

use serde_json::Value;

use crate::stage::Stage;

/// Work that shows whether anything was done twice: each file gets one line, each commit is one.
pub const WORK: &str = "Count\n@shell echo x >> one.txt\n@commit One\n@calls 20\n@shell echo y >> two.txt\n@commit Two\n@say All done";

/// The log has no gaps, and each task in it went by the table of its states.
pub fn log(stage: &Stage) -> Vec<Value> {
    let entries = stage.entries();
    for (number, entry) in (1..).zip(&entries) {
        assert_eq!(entry["seq"], number, "gap in the log");
    }
    entries
}

fn count(entries: &[Value], wanted: impl Fn(&Value) -> bool) -> usize {
    entries.iter().filter(|e| wanted(&e["event"])).count()
}

/// A run of [`WORK`] (or of other work with that many calls) is complete: everything once and in order, one prompt, both
/// commits, the branch in the user's repository.
#[track_caller]
pub fn complete(stage: &Stage, name: &str) {
    let task = stage.task(name);
    assert_eq!(task["state"], "complete", "{}\n{}", task["reason"], stage.log());
    told_once(stage, name, 20);
    let branch = format!("offshoot/{name}");
    assert_eq!(stage.git(&["show", &format!("{branch}:one.txt")]), "x");
    assert_eq!(stage.git(&["show", &format!("{branch}:two.txt")]), "y");
    assert_eq!(stage.git(&["log", "--format=%s", &format!("main..{branch}")]), "Two\nOne");
    assert_eq!(task["unpublished"], Value::Null);
    assert_eq!(task["head"], stage.git(&["rev-parse", &branch]));
    prompted(stage, name, 1);
}

/// Each tool call of the task's events was told once per state, in order, `looks` of them looks.
#[track_caller]
pub fn told_once(stage: &Stage, name: &str, looks: usize) {
    let id = stage.task(name)["id"].clone();
    let entries: Vec<_> = log(stage).into_iter().filter(|e| e["task"] == id).collect();
    let is = |kind: &'static str| move |e: &Value| e["type"] == kind;
    for once in ["task_created", "run_queued", "run_admitted", "run_ended"] {
        assert_eq!(count(&entries, is(once)), 1, "{once}");
    }
    let said = |kind: &'static str| move |e: &Value| e["type"] == "agent" && e["agent"]["type"] == kind;
    for once in ["session_opened", "turn_started", "turn_ended"] {
        assert_eq!(count(&entries, said(once)), 1, "{once}");
    }
    let mut calls: Vec<String> = Vec::new();
    let mut offset = 0;
    let mut text = String::new();
    for entry in entries.iter().filter(|e| e["event"]["type"] == "agent") {
        let at = entry["event"]["offset"].as_u64().unwrap();
        assert!(at >= offset, "told out of order");
        offset = at;
        let agent = &entry["event"]["agent"];
        match agent["type"].as_str() {
            Some("tool_call") => calls.push(format!("{} {}", agent["id"], agent["status"])),
            Some("message") => text.push_str(agent["text"].as_str().unwrap()),
            _ => {}
        }
    }
    assert_eq!(text.matches("All done").count(), 1, "{text}");
    let mut unique = calls.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), calls.len(), "told twice");
    let title = |e: &Value| {
        let agent = &e["agent"];
        let title = agent["title"].as_str().unwrap_or_default();
        (agent["status"] == "completed")
            .then(|| title.strip_prefix("Look at thing ").and_then(|n| n.parse::<usize>().ok()))
            .flatten()
    };
    let order: Vec<usize> = entries.iter().filter_map(|e| title(&e["event"])).collect();
    assert_eq!(order, (0..looks).collect::<Vec<_>>(), "calls lost or out of order");
}

/// How many prompts the scripted agent was given, as its own files tell.
#[track_caller]
pub fn prompted(stage: &Stage, name: &str, times: usize) {
    let sessions = stage.environment(name).join("home").join(".offshoot/scripted/sessions");
    let mut prompts = 0;
    for entry in fs::read_dir(&sessions).unwrap_or_else(|e| panic!("{}: {e}", sessions.display())).flatten() {
        let session: Value = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();
        let history = session["history"].as_array().unwrap();
        prompts += history.iter().filter(|said| said.get("person").is_some()).count();
    }
    assert_eq!(prompts, times, "prompts that the agent got");
}
