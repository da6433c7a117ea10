//! A task from its dispatch to its end.

use serde_json::Value;

use crate::stage::Stage;

const WORK: &str =
    "@shell echo looking\n@write b.txt hello\\n\n@commit Add b\n@say done \u{1b}]0;evil\u{7}\n";

#[test]
fn from_run_to_landing() {
    let stage = Stage::new();
    let run = ["run", "-", "--agent", "scripted", "--name", "one", "--follow", "--check", "test -f b.txt"];
    let ran = stage.with_input(&run, WORK.as_bytes());
    assert!(ran.1.contains("done ␛]0;evil␇") && ran.1.contains("check passed"), "{}", ran.1);
    assert!(!ran.1.contains('\u{1b}'));
    ran.ok();

    let list = stage.offshoot(&["--json", "ps"]).json();
    let task = &list["tasks"][0]["task"];
    assert_eq!((&task["name"], &task["state"]), (&"one".into(), &"complete".into()));
    assert_eq!(task["changes"]["files"], 1);
    let words = stage.offshoot(&["ps"]).ok();
    assert!(words.contains("one   complete") && words.contains("Add b"), "{words}");

    let history = stage.offshoot(&["--json", "show", "one"]).json();
    let events = history["events"].as_array().unwrap();
    let seqs: Vec<u64> = events.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]));
    let id = task["id"].as_str().unwrap();
    assert!(
        stage.offshoot(&["show", &id[..id.len() - 2]]).ok().contains("complete"),
        "by the beginning of its id"
    );
    let logs = stage.offshoot(&["--json", "logs", "one"]).ok();
    assert_eq!(logs.lines().count(), events.len());

    let diff = stage.offshoot(&["--json", "diff", "one"]).json();
    assert_eq!(diff["files"][0]["path"], "b.txt");
    assert!(stage.offshoot(&["diff", "one"]).ok().contains("+hello"));
    assert!(stage.offshoot(&["diff", "one", "--stat"]).ok().contains("1 file, +2 −0"));
    assert!(stage.offshoot(&["exec", "one", "--", "cat", "b.txt"]).ok().starts_with("hello"));

    let again = ["follow-up", "one", "@write c.txt more\\n\n@commit Add c\n", "--follow"];
    let ran = stage.offshoot(&again);
    assert!(ran.1.contains("run 2") && !ran.1.contains("echo looking"), "only the new run: {}", ran.1);
    ran.ok();

    let landed = stage.offshoot(&["--json", "land", "one"]).json();
    assert_eq!(landed["how"], "fast_forward");
    assert_eq!(stage.repo.git(&["rev-parse", "HEAD"]).unwrap().trim(), landed["commit"].as_str().unwrap());
    assert_eq!(stage.offshoot(&["--json", "ps"]).json()["tasks"], Value::Array(vec![]));
    assert_eq!(stage.offshoot(&["--json", "ps", "--all"]).json()["tasks"][0]["task"]["state"], "landed");
    // Its branch went with the landing; what comes after it has one again.
    let more = ["follow-up", "one", "@write d.txt more\\n\n@commit Add d\n", "--follow"];
    stage.offshoot(&more).ok();
    assert!(stage.repo.git(&["show", "offshoot/one:d.txt"]).unwrap().starts_with("more"));
    assert_eq!(stage.offshoot(&["--json", "land", "one"]).json()["how"], "fast_forward");
    stage.offshoot(&["prune"]).ok();
}

#[test]
fn a_failed_check_says_so() {
    let stage = Stage::new();
    let run = [
        "run",
        "@write x y\n",
        "--agent",
        "scripted",
        "--name",
        "bad",
        "--follow",
        "--check",
        "echo why; false",
    ];
    let ran = stage.offshoot(&run);
    assert_eq!(ran.0, 1, "{}{}", ran.1, ran.2);
    assert!(
        ran.2.contains("error: bad is failed") && ran.2.contains("why") && ran.2.contains("hint: "),
        "{}",
        ran.2
    );
    let json: Vec<&str> = ["--json"].iter().chain(&["discard", "bad"]).copied().collect();
    let problem = stage.offshoot(&json).problem(4, "unlanded_work");
    assert!(problem["hint"].as_str().unwrap().contains("--force"), "{problem}");
    let gone = stage.offshoot(&["--json", "discard", "bad", "--force"]).json();
    assert!(!gone["removed"].as_array().unwrap().is_empty());
}

#[test]
fn a_run_is_stopped() {
    let stage = Stage::new();
    let name = stage.offshoot(&["run", "@sleep 600\n", "--agent", "scripted"]).ok();
    assert_eq!(name, "sleep-600\n");
    stage.offshoot(&["stop", "sleep-600"]).ok();
    // The stream ends by itself once the run is over.
    let logs = stage.offshoot(&["logs", "-f", "sleep-600"]).ok();
    assert!(logs.contains("stopped: "), "{logs}");
    assert_eq!(stage.offshoot(&["--json", "ps"]).json()["tasks"][0]["task"]["state"], "stopped");
}

/// What the agent itself wrote, byte by byte, up to its end; nothing of what was said to it, nothing made readable.
#[test]
fn raw_logs_are_the_agents_own_bytes() {
    let stage = Stage::new();
    let prompt = "@shell echo looking\n@say raw \u{1b}[31mred\n";
    let run = ["run", "-", "--agent", "scripted", "--name", "one", "--follow"];
    stage.with_input(&run, prompt.as_bytes()).ok();
    let raw = stage.offshoot(&["logs", "--raw", "one"]).ok();
    let messages: Vec<Value> = raw.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(messages.iter().any(|m| m["method"] == "session/update"), "{raw}");
    assert!(
        !messages.iter().any(|m| m["method"] == "initialize" || m["method"] == "session/prompt"),
        "{raw}"
    );
    let text: String =
        messages.iter().filter_map(|m| m.pointer("/params/update/content/text")?.as_str()).collect();
    assert!(text.contains("raw \u{1b}[31mred"), "{text:?}");
    assert_eq!(stage.offshoot(&["logs", "--raw", "one"]).ok(), raw, "the same again");
    let ran = stage.offshoot(&["logs", "--raw", "--json", "one"]);
    assert_eq!(ran.0, 2, "bytes have no JSON form");
    stage.offshoot(&["env", "up", "--name", "e"]).ok();
    let ran = stage.offshoot(&["logs", "--raw", "e"]);
    assert_eq!(ran.0, 3);
    assert!(ran.2.contains("no agent of e has started yet") && ran.2.contains("hint: "), "{}", ran.2);
}

#[test]
fn what_a_task_would_be_is_said_before_it_is() {
    let stage = Stage::new();
    let plan = ["--json", "run", "Add a filter", "--agent", "scripted", "--check", "true", "--dry-run"];
    let view = stage.offshoot(&plan).json();
    assert_eq!((&view["name"], &view["prepared"]), (&"add-a-filter".into(), &false.into()));
    assert_eq!((&view["queue_place"], &view["check"]), (&Value::Null, &"true".into()));
    assert_eq!(stage.offshoot(&["--json", "ps", "--all"]).json()["tasks"], Value::Array(vec![]));
    let run = ["run", WORK, "--agent", "scripted", "--name", "add-a-filter", "--follow"];
    stage.offshoot(&run).ok();
    let view = stage.offshoot(&plan).json();
    assert_eq!((&view["name"], &view["prepared"]), (&"add-a-filter-2".into(), &true.into()));
    let words = stage.offshoot(&plan[1..]).ok();
    assert!(words.contains("laid out already") && words.contains("starts       at once"), "{words}");
    let taken = ["run", "x", "--agent", "scripted", "--name", "add-a-filter", "--dry-run"];
    let refused = stage.offshoot(&taken).2;
    assert!(refused.contains("a task named add-a-filter exists already"), "{refused}");

    let kept = stage.offshoot(&["--json", "layers"]).json();
    let layer = &kept["layers"][0];
    assert_eq!((&layer["kind"], &layer["tasks"]), (&"base".into(), &serde_json::json!(["add-a-filter"])));
    assert!(layer["bytes"].as_u64().unwrap() > 0 && kept["unused_bytes"] == 0, "{kept}");
    assert!(stage.offshoot(&["layers"]).ok().contains("base   1 task"), "{kept}");
    stage.offshoot(&["discard", "add-a-filter", "--force"]).ok();
    let kept = stage.offshoot(&["--json", "layers"]).json();
    assert_eq!(kept["unused_bytes"], kept["layers_bytes"], "{kept}");
}
