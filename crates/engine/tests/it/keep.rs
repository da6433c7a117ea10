//! Work that is not landed is never lost unless somebody says so by force; the user's repository is never touched but
//! for the task's branch.

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::stage::Stage;

/// In which way a task came to hold work (or none), and what then happened to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    Committed,
    Uncommitted,
    OnlyNewFiles,
    OnlyDeleted,
    Crashed,
    StoppedAtWork,
    CheckFailed,
    ByHand,
    ShellAfterwards,
    ShellThenKilled,
    ShellThenKilledAndRestarted,
    FollowUpKilled,
    Nothing,
}

const CASES: [Case; 13] = [
    Case::Committed,
    Case::Uncommitted,
    Case::OnlyNewFiles,
    Case::OnlyDeleted,
    Case::Crashed,
    Case::StoppedAtWork,
    Case::CheckFailed,
    Case::ByHand,
    Case::ShellAfterwards,
    Case::ShellThenKilled,
    Case::ShellThenKilledAndRestarted,
    Case::FollowUpKilled,
    Case::Nothing,
];

impl Case {
    fn name(self) -> String {
        format!("{self:?}").to_ascii_lowercase()
    }

    fn make(self, stage: &Stage) {
        let name = self.name();
        let run = |prompt: &str| {
            stage.dispatch(&name, prompt);
            stage.over(&name, 1);
        };
        let shell = |script: &str| {
            let exec = stage.exec(&name, script);
            assert_eq!(stage.output(&name, &exec).1, Some(0));
        };
        let lose = || {
            let shim = stage.shim(&name);
            kill_process(shim, Signal::KILL).unwrap();
            let id = stage.task(&name)["id"].clone();
            stage.wait("loss", |e| e["task"] == id && e["event"]["type"] == "environment_lost");
        };
        match self {
            Self::Committed => run("Work\n@shell echo precious > kept.txt\n@commit Kept"),
            Self::Uncommitted => run("Work\n@shell echo precious >> README.md"),
            Self::OnlyNewFiles => run("Work\n@shell mkdir -p a/b && echo precious > a/b/kept.txt"),
            Self::OnlyDeleted => run("Work\n@shell rm README.md"),
            Self::Crashed => run("Work\n@shell echo precious > kept.txt\n@crash"),
            Self::StoppedAtWork => {
                stage.dispatch(&name, "Work\n@shell echo precious > kept.txt\n@sleep 1000");
                let id = stage.task(&name)["id"].clone();
                stage.wait("work", |e| e["task"] == id && e["event"]["agent"]["status"] == "completed");
                stage.post(&format!("/v1/tasks/{name}/stop"), json!({})).ok();
                stage.over(&name, 1);
            }
            Self::CheckFailed => {
                let mut params = stage.params(&name, "Work\n@shell echo precious > kept.txt");
                params["check"] = json!("false");
                stage.post("/v1/tasks", params).ok();
                stage.over(&name, 1);
            }
            Self::ByHand => {
                stage.post("/v1/tasks", json!({ "path": stage.repo, "by_hand": true, "name": name })).ok();
                shell("echo precious > kept.txt");
            }
            Self::ShellAfterwards => {
                run("Work\n@say nothing");
                shell("echo precious > kept.txt");
            }
            Self::ShellThenKilled => {
                run("Work\n@say nothing");
                shell("echo precious > kept.txt");
                lose();
            }
            Self::ShellThenKilledAndRestarted => {
                run("Work\n@say nothing");
                shell("echo precious > kept.txt");
                lose();
                stage.kill();
                stage.start(None);
            }
            Self::FollowUpKilled => {
                run("Work\n@say nothing");
                let again = json!({ "prompt": "More\n@shell echo precious > kept.txt\n@sleep 1000" });
                stage.post(&format!("/v1/tasks/{name}/runs"), again).ok();
                let id = stage.task(&name)["id"].clone();
                stage.wait("work", |e| e["task"] == id && e["event"]["agent"]["status"] == "completed");
                kill_process(stage.shim(&name), Signal::KILL).unwrap();
                stage.over(&name, 2);
            }
            Self::Nothing => run("Work\n@say nothing"),
        }
    }
}

#[test]
fn nothing_takes_work_away_unasked() {
    let stage = Stage::new();
    stage.configure("[machine]\nmax-runs = 40\nmemory = \"200g\"\n");
    stage.start(None);
    for case in CASES {
        case.make(&stage);
    }
    // What is at work is left alone.
    stage.dispatch("atwork", "Work\n@shell echo precious > kept.txt\n@sleep 1000");
    stage.post("/v1/tasks/atwork/discard", json!({})).problem("still_active");
    stage.post("/v1/prune", json!({})).ok();
    for case in CASES {
        let name = case.name();
        let answer = stage.post(&format!("/v1/tasks/{name}/discard"), json!({}));
        if case == Case::Nothing {
            answer.ok();
            assert_eq!(stage.task(&name)["state"], "discarded");
            continue;
        }
        assert_eq!(answer.body["code"], "unlanded_work", "{case:?}: {}", answer.body);
        let diff = stage.get(&format!("/v1/tasks/{name}/diff")).ok();
        let patch = diff["patch"].as_str().unwrap();
        let sign = if case == Case::OnlyDeleted { "deleted file mode" } else { "+precious" };
        assert!(patch.contains(sign), "{case:?}: {patch}");
        assert!(stage.environment(&name).join("upper").is_dir(), "{case:?}");
    }
    assert_eq!(stage.task("atwork")["state"], "running");
    // Each of it can be landed.
    for case in CASES.into_iter().filter(|case| ![Case::Nothing, Case::OnlyDeleted].contains(case)) {
        let name = case.name();
        stage.git(&["branch", &format!("for-{name}"), "main"]);
        let target = json!({ "target": format!("for-{name}") });
        stage.post(&format!("/v1/tasks/{name}/land"), target).ok();
        let patch = stage.git(&["diff", "main", &format!("for-{name}")]);
        assert!(patch.contains("+precious"), "{case:?}: {patch}");
    }
    stage.close();
}

#[test]
fn the_users_repository_stays_as_it_is() {
    let stage = Stage::new();
    stage.git(&["branch", "other"]);
    stage.git(&["tag", "v1"]);
    stage.git(&["config", "remote.origin.url", "https://token@example.com/x.git"]);
    stage.write(".git/hooks/post-checkout", "#!/bin/sh\ntouch hooked\n");
    stage.write("staged.txt", "staged-secret\n");
    stage.git(&["add", "staged.txt"]);
    stage.write("README.md", "modified-secret\n");
    stage.write("untracked.txt", "untracked-secret\n");
    stage.write(".env", "KEY=env-secret\n");
    let before = stage.fingerprint();
    stage.start(None);
    stage.dispatch(
        "work",
        "Look\n@shell grep -rI secret . > found.txt; git config --list >> found.txt; git for-each-ref >> found.txt; git stash list >> found.txt; ls -a >> found.txt; true\n@commit Found",
    );
    let task = stage.over("work", 1);
    assert_eq!(task["state"], "complete", "{}", task["reason"]);
    let found = stage.git(&["show", "offshoot/work:found.txt"]);
    for leak in ["secret", "token", "untracked.txt", "staged.txt", ".env"] {
        assert!(!found.contains(leak), "{leak} leaked in:\n{found}");
    }
    stage.unchanged(&before);
    let notices = stage.wait("notice", |entry| {
        let text = entry["event"].to_string();
        text.contains("uncommitted changes")
    });
    assert!(notices.to_string().contains("not part of this task"), "{notices}");
    // Refused, with everything as it was.
    stage.dispatch("clash", "Clash\n@shell echo other > README.md\n@commit Clash");
    stage.over("clash", 1);
    stage.post("/v1/tasks/clash/land", json!({})).problem("local_changes");
    stage.unchanged(&before);
    stage.get("/v1/tasks/clash/diff").ok();
    stage.post("/v1/prune", json!({})).ok();
    stage.unchanged(&before);
    stage.close();
    stage.unchanged(&before);
}

#[test]
fn what_is_thrown_away_while_it_is_made_is_not_there() {
    let stage = Stage::new();
    stage.write("offshoot.toml", "[setup.all]\ncommands = [\"sleep 2\"]\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-qm", "A setup"]);
    stage.start(None);
    let by_hand = |name: &str| {
        stage.post("/v1/tasks", json!({ "path": stage.repo, "by_hand": true, "name": name })).ok();
        stage.task(name)["id"].clone()
    };
    let one = by_hand("one");
    stage.wait("setup", |e| {
        e["task"] == one
            && e["event"]["type"] == "preparing"
            && e["event"]["step"].to_string().contains("sleep")
    });
    let view = stage.post("/v1/tasks/one/discard", json!({ "force": true })).ok();
    assert!(view["kept"].to_string().contains("still being made"), "{view}");
    // It waits for the same setup, so the first is over then.
    let two = by_hand("two");
    stage.wait("rest", |e| e["task"] == two && e["event"]["type"] == "agent_resting");
    let made = stage
        .entries()
        .into_iter()
        .find(|e| e["task"] == one && e["event"]["type"] == "environment_creating");
    assert!(made.is_none(), "{made:?}");
    assert!(!stage.post("/v1/prune", json!({})).ok().to_string().contains("no task knows it"));
    stage.close();
}
