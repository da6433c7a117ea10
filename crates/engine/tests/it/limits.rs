//! What an environment may use, and a machine that has no more to give.

use std::{fs, path::PathBuf, process::Command, time::Instant};

use offshoot_testkit::user;
use serde_json::json;

use crate::{
    audit::{self, WORK},
    http::PATIENCE,
    stage::Stage,
};

#[test]
fn what_nobody_uses_is_frozen_until_somebody_does() {
    let stage = Stage::new();
    stage.configure("[machine]\nsuspend-after = \"1s\"\n");
    stage.start(None);
    stage.post("/v1/tasks", json!({ "path": stage.repo, "by_hand": true, "name": "hand" })).ok();
    stage.wait("suspension", |entry| entry["event"]["type"] == "environment_suspended");
    let groups = fs::read_to_string(stage.environment("hand").join("cgroup")).unwrap_or_default();
    if let Some(freezer) = groups.lines().find(|line| line.contains("freezer")) {
        let state = PathBuf::from(freezer).join("freezer.state");
        let from = Instant::now();
        // It is recorded before it is done.
        while fs::read_to_string(&state).is_ok_and(|text| text.trim() != "FROZEN") {
            assert!(from.elapsed() < PATIENCE, "not frozen");
            std::thread::yield_now();
        }
    }
    let exec = stage.exec("hand", "echo awake");
    assert_eq!(stage.output("hand", &exec), ("awake\n".to_owned(), Some(0)));
    stage.wait("thaw", |entry| entry["event"]["type"] == "environment_resumed");
    // Frozen again, it survives a restart, and its end.
    let mut suspended = 0;
    stage.wait("second suspension", |entry| {
        suspended += usize::from(entry["event"]["type"] == "environment_suspended");
        suspended == 2
    });
    stage.kill();
    stage.start(None);
    let exec = stage.exec("hand", "echo awake again");
    assert_eq!(stage.output("hand", &exec).0, "awake again\n");
    suspended = 0;
    stage.wait("third suspension", |entry| {
        suspended += usize::from(entry["event"]["type"] == "environment_suspended");
        suspended == 3
    });
    stage.close();
}

#[test]
fn too_much_memory_ends_what_took_it_and_nothing_else() {
    let stage = Stage::new();
    stage.configure("[machine]\nmax-runs = 4\nmemory = \"100g\"\n[limits]\nmemory = \"128m\"\n");
    stage.start(None);
    stage.dispatch(
        "greedy",
        "Eat\n@shell echo x > one.txt\n@shell head -c 600000000 /dev/zero | tail\n@say All done",
    );
    stage.dispatch("work", WORK);
    stage.over("work", 1);
    audit::complete(&stage, "work");
    let task = stage.over("greedy", 1);
    let eaten = stage.entries().iter().any(|entry| {
        let agent = &entry["event"]["agent"];
        agent["title"].as_str().is_some_and(|t| t.starts_with("head")) && agent["status"] == "completed"
    });
    // tail's own exit code is the command's, and it was killed.
    assert!(!eaten, "600 MB fit into 128 MB: {}", task["reason"]);
    assert_eq!(stage.git(&["show", "offshoot/greedy:one.txt"]), "x", "{}", task["reason"]);
    stage.close();
}

/// A small disk of its own, or why there is none.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Option<Self> {
        if !user::is_root() {
            eprintln!("skipped: only root can mount a small disk");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("od").tempdir_in("/tmp").unwrap();
        let options = format!("size={size},mode=755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("skipped: a small disk cannot be mounted here");
            return None;
        }
        Some(Self(dir))
    }

    fn stage(&self) -> Stage {
        Stage::in_dir(tempfile::Builder::new().prefix("o").tempdir_in(self.0.path()).unwrap())
    }

    /// Takes so much of it away; all, if it has less.
    fn fill(&self, bytes: u64) {
        let zero = fs::File::open("/dev/zero").unwrap();
        let mut ballast = fs::File::create(self.0.path().join("ballast")).unwrap();
        let _ = std::io::copy(&mut std::io::Read::take(zero, bytes), &mut ballast);
    }

    fn free(&self) -> u64 {
        let fs = rustix::fs::statvfs(self.0.path()).unwrap();
        fs.f_bavail * fs.f_frsize
    }

    fn relieve(&self) {
        fs::remove_file(self.0.path().join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let Some(disk) = Disk::new("700m") else { return };
    let stage = disk.stage();
    stage.start(None);
    stage.dispatch("before", WORK);
    stage.over("before", 1);
    disk.fill(u64::MAX);
    let refused = stage.request("POST", "/v1/tasks", Some(&stage.params("work", WORK))).unwrap();
    if refused.status == 200 {
        // The last page of the log may have had room for it; then its run says so.
        let task = stage.over("work", 1);
        assert_eq!(task["state"], "failed");
        assert!(task["reason"].to_string().contains("full"), "{}", task["reason"]);
    } else {
        let text = refused.body.to_string();
        assert!(text.contains("full") || text.contains("No space"), "{text}");
    }
    stage.get("/v1/tasks/before").ok();
    stage.kill();
    // A daemon that cannot start says why; one that can, knows everything.
    let started = stage.try_start(None);
    disk.relieve();
    if let Err(said) = started {
        assert!(said.contains("full") || said.contains("space"), "{said}");
        stage.start(None);
    }
    audit::complete(&stage, "before");
    let tasks = stage.get("/v1/tasks").ok();
    if tasks["tasks"].as_array().unwrap().len() == 1 {
        stage.dispatch("work", WORK);
    } else {
        stage.post("/v1/tasks/work/runs", json!({ "prompt": WORK })).ok();
    }
    let runs = stage.task("work")["runs"].as_array().unwrap().len();
    assert_eq!(stage.over("work", runs)["state"], "complete", "{}", stage.log());
    assert_eq!(stage.git(&["show", "offshoot/work:one.txt"]), "x");
    stage.close();
}

#[test]
fn an_agent_that_fills_the_disk_loses_nothing() {
    let Some(disk) = Disk::new("300m") else { return };
    let stage = disk.stage();
    stage.start(None);
    disk.fill(40 << 20);
    let prompt = "Fill\n@shell echo precious > one.txt; echo big > .gitignore\n@commit One\n@shell dd if=/dev/zero of=big bs=1M count=270\n@say All done";
    stage.dispatch("work", prompt);
    let from = Instant::now();
    // With a full disk there is no event either.
    while disk.free() > 0 && ["queued", "running"].contains(&stage.task("work")["state"].as_str().unwrap()) {
        assert!(from.elapsed() < PATIENCE, "it does not fill the disk");
        std::thread::yield_now();
    }
    let stop = || stage.request("POST", "/v1/tasks/work/stop", Some(&json!({}))).unwrap();
    stop();
    disk.relieve();
    // Now it is told: that it was frozen, or how it ended.
    stage.wait("word of it", |entry| {
        ["attention_needed", "run_ended"].contains(&entry["event"]["type"].as_str().unwrap())
    });
    stop();
    let upper = stage.environment("work").join("upper");
    assert_eq!(fs::read_to_string(upper.join("one.txt")).unwrap(), "precious\n");
    let task = stage.over("work", 1);
    assert!(["failed", "stopped", "complete"].contains(&task["state"].as_str().unwrap()), "{task}");
    let exec = stage.exec("work", "rm -f big");
    stage.output("work", &exec);
    let diff = stage.get("/v1/tasks/work/diff").ok();
    assert!(diff["patch"].as_str().unwrap().contains("+precious"), "{diff}");
    stage.close();
}
