//! `isolation = "worktree"`: the same way as in a sandbox, in a worktree of the user's repository, and what is odd about
//! worktrees, each with a clear message and nothing lost.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::{http, stage::Stage};

/// Its worktree.
fn tree(stage: &Stage, name: &str) -> PathBuf {
    stage.repo.with_file_name("r.worktrees").join(name)
}

fn params(stage: &Stage, name: &str, prompt: &str) -> Value {
    let mut params = stage.params(name, prompt);
    params["isolation"] = "worktree".into();
    params["permission"] = "allow".into();
    params
}

#[track_caller]
fn run(stage: &Stage, name: &str, prompt: &str) -> Value {
    stage.post("/v1/tasks", params(stage, name, prompt)).ok();
    stage.over(name, 1)
}

/// Processes with this argument in their command line.
fn processes(argument: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|b| *b == 0).any(|part| part == argument.as_bytes())).count()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let from = Instant::now();
    while !done() {
        assert!(from.elapsed() < http::PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// Nothing of worktrees is left in the user's repository or beside it.
#[track_caller]
fn close(stage: &Stage) {
    stage.close();
    assert_eq!(stage.git(&["worktree", "list"]).lines().count(), 1);
    assert!(!stage.repo.with_file_name("r.worktrees").exists(), "directories are left");
    let ports = fs::read_dir(stage.state().join("ports")).map_or(0, Iterator::count);
    assert_eq!(ports, 0, "ports are left");
}

const WORK: &str = "Count\n@write one.txt 1\n@commit One\n@write left.txt left\n@say done";

#[test]
fn the_way_of_a_task() {
    let stage = Stage::new();
    stage.write(".gitignore", ".env\n/deps/\n");
    stage.write(".worktreeinclude", ".env\n");
    stage.write(".env", "SECRET=1\n");
    stage.write(
        "offshoot.toml",
        "[setup.deps]\ncommands = [\"mkdir deps && echo $PORT > deps/port\"]\n[check]\ncommand = \"test -f one.txt\"\n",
    );
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-q", "-m", "configured"]);
    let before = stage.fingerprint();
    stage.start(None);
    let task = run(&stage, "work", WORK);
    assert_eq!((&task["state"], &task["isolation"]), (&json!("complete"), &json!("worktree")), "{task}");
    assert_eq!(task["environment"]["tier"], "worktree, no process isolation");
    let at = tree(&stage, "work");
    assert_eq!(task["environment"]["workspace"], json!(at));
    // What a fresh checkout lacks is there, and nothing generated is in the result.
    assert_eq!(fs::read_to_string(at.join(".env")).unwrap(), "SECRET=1\n");
    let variables = fs::read_to_string(at.join(".env.local")).unwrap();
    let port = variables.lines().find_map(|line| line.strip_prefix("PORT=")).unwrap();
    assert_eq!(fs::read_to_string(at.join("deps/port")).unwrap().trim(), port);
    assert_eq!(stage.git(&["diff", "--name-only", "main..offshoot/work"]), "left.txt\none.txt");
    assert!(task["checkpoints"].as_array().is_some_and(|all| !all.is_empty()), "{task}");
    let diff = stage.get("/v1/tasks/work/diff").ok();
    assert_eq!(diff["files"].as_array().unwrap().len(), 2);
    assert_eq!(stage.get("/v1/tasks/work/diff?step=1").status, 200);
    // A person's commands run in it.
    let exec = stage.exec("work", "pwd; cat one.txt; git branch --show-current");
    let said = format!("{}\n1\noffshoot/work\n", at.display());
    assert_eq!(stage.output("work", &exec), (said, Some(0)));
    // A follow-up goes on in it.
    stage.post("/v1/tasks/work/runs", json!({ "prompt": "More\n@write two.txt 2\n@commit Two" })).ok();
    let task = stage.over("work", 2);
    assert_eq!(
        (&task["state"], &task["runs"][1]["reason"]),
        (&json!("complete"), &json!("the agent finished and the check passed"))
    );
    // Until it is landed, nothing of the user's is touched but branch and worktree.
    let meanwhile = stage.fingerprint();
    let differs = |name: &&String| before.get(*name) != meanwhile.get(*name);
    let touched: Vec<_> = meanwhile.keys().filter(differs).collect();
    let own = |name: &str| {
        [".git/worktrees", ".git/refs/offshoot", ".git/refs", ".git/logs"].iter().any(|p| name.starts_with(p))
    };
    assert!(touched.iter().all(|name| own(name)), "{touched:?}");
    stage.post("/v1/tasks/work/land", json!({})).ok();
    assert_eq!(fs::read_to_string(stage.repo.join("two.txt")).unwrap(), "2\n");
    assert_eq!(stage.git(&["status", "--porcelain"]), "", "the checkout was brought along");
    assert!(!at.exists(), "the worktree went with the task");
    close(&stage);
}

#[test]
fn it_outlives_the_daemon_and_ends_as_one() {
    let stage = Stage::new();
    stage.start(None);
    let number = format!("{}.117", std::process::id());
    let prompt = format!(
        "Slow\n@write one.txt 1\n@shell (setsid sleep {number} >/dev/null 2>&1 &) ; sleep 2; echo 2 > two.txt\n@commit Two"
    );
    stage.post("/v1/tasks", params(&stage, "work", &prompt)).ok();
    wait_for("it works", || processes(&number) > 0);
    stage.kill();
    let two = tree(&stage, "work").join("two.txt");
    wait_for("it goes on without a daemon", || two.exists());
    stage.start(None);
    let task = stage.over("work", 1);
    assert_eq!(task["state"], "complete", "{}\n{}", task["reason"], stage.log());
    assert_eq!(stage.git(&["show", "offshoot/work:two.txt"]), "2");
    wait_for("what it started is gone", || processes(&number) == 0);
    // Stopped by a person: whatever it started, however detached, ends.
    let prompt = format!(
        "Hang\n@shell (env -i setsid sleep {number} >/dev/null 2>&1 &) ; (trap '' TERM; sleep {number})"
    );
    stage.post("/v1/tasks/work/runs", json!({ "prompt": prompt })).ok();
    wait_for("it works", || processes(&number) > 1);
    stage.post("/v1/tasks/work/stop", json!({})).ok();
    assert_eq!(stage.over("work", 2)["state"], "stopped");
    wait_for("nothing is left", || processes(&number) == 0);
    // Its processes killed from outside: it comes up again over the same files.
    kill_process(stage.shim("work"), Signal::KILL).unwrap();
    let id = stage.task("work")["id"].clone();
    stage.wait("loss", |e| e["task"] == id && e["event"]["type"] == "environment_lost");
    let exec = stage.exec("work", "cat two.txt");
    assert_eq!(stage.output("work", &exec), ("2\n".to_owned(), Some(0)));
    close(&stage);
}

#[test]
fn nothing_is_chosen_silently() {
    let stage = Stage::new();
    stage
        .write("offshoot.toml", "[environment]\nisolation = \"worktree\"\n[agent]\npermission = \"allow\"\n");
    stage.start(None);
    let mut plain = stage.params("work", WORK);
    stage.post("/v1/tasks", plain.clone()).problem("isolation_not_confirmed");
    plain["isolation"] = "worktree".into();
    plain["by_hand"] = true.into();
    plain["agent"] = Value::Null;
    plain["prompt"] = "".into();
    let task = stage.post("/v1/tasks", plain.clone()).ok()["task"].clone();
    assert_eq!(
        task["runs"][0]["permission"], "ask",
        "that the repository allows everything does not count here"
    );
    let notices = task["notices"].to_string();
    assert!(notices.contains("no process isolation"), "{notices}");
    stage.configure("[worktree]\nfrom-project = true\n");
    plain["isolation"] = Value::Null;
    plain["name"] = "other".into();
    let task = stage.post("/v1/tasks", plain).ok()["task"].clone();
    assert_eq!(task["isolation"], "worktree");
    // Paths that would fill the checkout, or that only the user may choose, are refused before anything is made.
    for (config, code) in [
        (
            "[environment]\nisolation = \"worktree\"\n[worktree]\npath = \"/tmp/{task}\"\n",
            "bad_worktree_path",
        ),
        (
            "[environment]\nisolation = \"worktree\"\n[worktree]\npath = \"../r/trees/{task}\"\n",
            "bad_worktree_path",
        ),
    ] {
        stage.write("offshoot.toml", config);
        stage.post("/v1/tasks", params(&stage, "third", WORK)).problem(code);
    }
    fs::remove_file(stage.repo.join("offshoot.toml")).unwrap();
    let task = stage.post("/v1/tasks", stage.params("fourth", WORK)).ok()["task"].clone();
    assert_eq!(task["isolation"], "sandbox", "the default stays");
    stage.over("fourth", 1);
    close(&stage);
}

#[test]
fn a_worktree_that_was_deleted_by_hand() {
    let stage = Stage::new();
    stage.start(None);
    run(&stage, "work", WORK);
    fs::remove_dir_all(tree(&stage, "work")).unwrap();
    stage.git(&["worktree", "prune"]);
    stage
        .post(
            "/v1/tasks/work/runs",
            json!({ "prompt": "More\n@shell cat left.txt\n@write two.txt 2\n@commit Two" }),
        )
        .ok();
    let task = stage.over("work", 2);
    assert_eq!(task["state"], "complete", "{}", task["reason"]);
    assert_eq!(stage.git(&["show", "offshoot/work:left.txt"]), "left");
    assert_eq!(stage.git(&["show", "offshoot/work:two.txt"]), "2");
    // Once more while nothing runs there, and git was made to forget it; then it is made anew from its branch.
    stage.stop();
    kill_process(stage_shim(&stage), Signal::KILL).unwrap();
    let at = tree(&stage, "work");
    fs::remove_dir_all(&at).unwrap();
    stage.git(&["worktree", "remove", "-f", "-f", at.to_str().unwrap()]);
    stage.start(None);
    let exec = stage.exec("work", "cat two.txt");
    assert_eq!(stage.output("work", &exec), ("2\n".to_owned(), Some(0)));
    close(&stage);
}

fn stage_shim(stage: &Stage) -> rustix::process::Pid {
    stage.sandboxes().iter().find_map(|dir| crate::stage::pid_in(dir)).unwrap()
}

#[test]
fn what_stands_against_a_removal_is_said_first() {
    let stage = Stage::new();
    stage.start(None);
    run(&stage, "work", "Nothing\n@say done");
    let at = tree(&stage, "work");
    let path = at.to_str().unwrap().to_owned();
    let discard = |force: bool| stage.post("/v1/tasks/work/discard", json!({ "force": force }));
    stage.git(&["worktree", "unlock", &path]);
    stage.git(&["worktree", "lock", "--reason", "mine", &path]);
    let problem = discard(true).problem("worktree_locked");
    assert!(problem.to_string().contains("mine"), "{problem}");
    stage.git(&["worktree", "unlock", &path]);
    // A worktree within it.
    let within = at.join("within");
    stage.git(&["worktree", "add", "-q", "-b", "within", within.to_str().unwrap()]);
    discard(true).problem("worktree_nested");
    assert!(within.exists());
    stage.git(&["worktree", "remove", within.to_str().unwrap()]);
    // Something else in its place.
    let aside = stage.path().join("aside");
    fs::rename(&at, &aside).unwrap();
    fs::create_dir(&at).unwrap();
    fs::write(at.join("mine"), "mine").unwrap();
    discard(true).problem("worktree_replaced");
    assert!(at.join("mine").exists());
    fs::remove_dir_all(&at).unwrap();
    fs::rename(&aside, &at).unwrap();
    assert_eq!(stage.task("work")["state"], "complete", "nothing was recorded");
    // Untracked files are work.
    fs::write(at.join("untracked.txt"), "x").unwrap();
    discard(false).problem("unlanded_work");
    assert_eq!(stage.git(&["show", "offshoot/work:untracked.txt"]), "x", "and on the branch by now");
    discard(true).ok();
    assert!(!at.exists());
    assert_eq!(stage.git(&["branch", "--list", "offshoot/*"]), "");
    close(&stage);
}

#[test]
fn its_branch_is_checked_out_elsewhere() {
    let stage = Stage::new();
    stage.start(None);
    run(&stage, "work", WORK);
    let at = tree(&stage, "work");
    // A person takes the branch away from it.
    kill_process(stage.shim("work"), Signal::KILL).unwrap();
    let id = stage.task("work")["id"].clone();
    stage.wait("loss", |e| e["task"] == id && e["event"]["type"] == "environment_lost");
    fs::remove_dir_all(&at).unwrap();
    stage.git(&["worktree", "remove", "-f", "-f", at.to_str().unwrap()]);
    stage.git(&["checkout", "-q", "offshoot/work"]);
    stage.post("/v1/tasks/work/runs", json!({ "prompt": "More\n@write two.txt 2\n@commit Two" })).ok();
    let task = stage.over("work", 2);
    assert_eq!(task["state"], "failed");
    let reason = task["reason"].as_str().unwrap();
    assert!(reason.contains("is checked out in") && reason.contains("switch"), "{reason}");
    assert_eq!(fs::read_to_string(stage.repo.join("left.txt")).unwrap(), "left\n");
    stage.git(&["checkout", "-q", "main"]);
    stage.post("/v1/tasks/work/runs", json!({ "prompt": "More\n@write two.txt 2\n@commit Two" })).ok();
    assert_eq!(stage.over("work", 3)["state"], "complete", "{}", stage.task("work")["reason"]);
    // Landing brings along the worktree of another task that has the target checked out.
    let mut onto = params(&stage, "onto", "Add\n@write three.txt 3\n@commit Three");
    onto["from"] = "offshoot/work".into();
    stage.post("/v1/tasks", onto).ok();
    assert_eq!(stage.over("onto", 1)["target"], "offshoot/work");
    stage.post("/v1/tasks/onto/land", json!({})).ok();
    assert_eq!(fs::read_to_string(at.join("three.txt")).unwrap(), "3\n");
    stage.post("/v1/tasks/work/land", json!({})).ok();
    assert_eq!(fs::read_to_string(stage.repo.join("three.txt")).unwrap(), "3\n");
    close(&stage);
}

#[test]
fn many_at_once_and_from_odd_places() {
    let stage = Stage::new();
    // A worktree that another tool made, inside the checkout; and a bare repository.
    let theirs = stage.repo.join(".claude/worktrees/x");
    stage.git(&["worktree", "add", "-q", "-b", "theirs", theirs.to_str().unwrap()]);
    let bare = stage.path().join("bare.git");
    stage.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    stage.start(None);
    let names: Vec<_> = (0..4).map(|n| format!("t{n}")).collect();
    for name in &names {
        stage.post("/v1/tasks", params(&stage, name, WORK)).ok();
    }
    let place = |name: &str, path: &Path| {
        let mut odd = params(&stage, name, WORK);
        odd["path"] = json!(path);
        stage.post("/v1/tasks", odd).ok();
    };
    place("linked", &theirs);
    place("bare", &bare);
    let mut ports = Vec::new();
    for name in names.iter().map(String::as_str).chain(["linked", "bare"]) {
        let task = stage.over(name, 1);
        assert_eq!(task["state"], "complete", "{name}: {}", task["reason"]);
        let workspace = PathBuf::from(task["environment"]["workspace"].as_str().unwrap());
        let text = fs::read_to_string(workspace.join(".env.local")).unwrap();
        ports.push(text.lines().find(|line| line.starts_with("PORT=")).unwrap().to_owned());
    }
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 6, "each has its own ports: {ports:?}");
    // The worktree it was started from is not needed any more.
    stage.git(&["worktree", "remove", "--force", theirs.to_str().unwrap()]);
    assert_eq!(stage.task("linked")["target"], "theirs");
    stage.post("/v1/tasks/linked/land", json!({})).ok();
    assert_eq!(stage.git(&["show", "theirs:left.txt"]), "left");
    stage.post("/v1/tasks/bare/land", json!({})).ok();
    let output = stage.command("git").current_dir(&bare).args(["show", "main:left.txt"]).output().unwrap();
    assert_eq!(output.stdout, b"left\n");
    close(&stage);
}

#[test]
fn what_others_made_is_taken_up_and_stays_theirs() {
    let stage = Stage::new();
    let theirs = stage.path().join("theirs");
    stage.git(&["worktree", "add", "-q", "-b", "feature/filter", theirs.to_str().unwrap()]);
    fs::write(theirs.join("work.txt"), "work").unwrap();
    stage.start(None);
    let listed = stage.get(&format!("/v1/worktrees?path={}", stage.repo.display())).ok();
    let other = &listed[1];
    assert_eq!(
        (&other["path"], &other["task"], &other["changed"]),
        (&json!(theirs), &Value::Null, &json!(1)),
        "{listed}"
    );
    let adopt = |path: &Path| stage.post("/v1/worktrees/adopt", json!({ "path": path }));
    adopt(&stage.repo).problem("not_a_worktree");
    let task = adopt(&theirs).ok()["task"].clone();
    assert_eq!((&task["name"], &task["branch"]), (&json!("filter"), &json!("feature/filter")));
    let id = task["id"].clone();
    stage.wait("up", |e| e["task"] == id && e["event"]["type"] == "agent_resting");
    adopt(&theirs).problem("already_a_task");
    let diff = stage.get("/v1/tasks/filter/diff").ok();
    assert_eq!(diff["files"][0]["path"], "work.txt");
    let git = |arguments: &[&str]| {
        let output = stage.command("git").current_dir(&theirs).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(git(&["status", "--porcelain"]), "?? work.txt\n", "nothing was committed");
    stage.post("/v1/tasks/filter/land", json!({})).problem("uncommitted_changes");
    git(&["add", "-A"]);
    git(&["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "-m", "work"]);
    stage.post("/v1/tasks/filter/land", json!({})).ok();
    assert_eq!(stage.git(&["show", "main:work.txt"]), "work");
    assert!(theirs.join("work.txt").exists(), "it stays");
    // Again, and let go with work in it: nothing is deleted.
    let id = adopt(&theirs).ok()["task"]["id"].clone();
    stage.wait("up", |e| e["task"] == id && e["event"]["type"] == "agent_resting");
    fs::write(theirs.join("more.txt"), "more").unwrap();
    let view = stage.post("/v1/tasks/filter/discard", json!({})).ok();
    assert!(view["kept"][0]["what"].as_str().unwrap().contains("theirs"), "{view}");
    assert_eq!(git(&["status", "--porcelain"]), "?? more.txt\n");
    assert!(!stage.git(&["worktree", "list", "--porcelain"]).contains("locked"));
    stage.git(&["worktree", "remove", "--force", theirs.to_str().unwrap()]);
    close(&stage);
}

const COUNTER: &str = r#"{"services": [{"name": "counter", "use": "host", "ports": [7000],
  "inject": {"COUNTER_URL": "tcp://{host}:{port}"},
  "healthcheck": {"test": ["CMD-SHELL", "test $COUNTER_URL = tcp://counter:7000"]}, "command": "exec python3 -m http.server 7000"}]}"#;

/// A stage whose project runs on a service that serves the commit's files.
fn with_service() -> Stage {
    let stage = Stage::new();
    stage.write("services.json", COUNTER);
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-q", "-m", "A service"]);
    stage
}

const ASK: &str = "python3 -c \"import os, urllib.request as u; print(u.urlopen(os.environ['COUNTER_URL'].replace('tcp', 'http') + '/stage.txt').read().decode())\"";

#[test]
fn services_run_beside_a_worktree() {
    let stage = with_service();
    stage.start(None);
    let mut urls = Vec::new();
    for name in ["one", "two"] {
        let task = run(&stage, name, &format!("Ask\n@shell {ASK} > said.txt\n@say done"));
        assert_eq!(task["state"], "complete", "{task}");
        assert_eq!(task["environment"]["services"][0]["state"], "ready", "{task}");
        let said = fs::read_to_string(tree(&stage, name).join("said.txt")).unwrap();
        assert_eq!(said.trim(), stage.path().display().to_string(), "it runs over the commit's files");
        let file = fs::read_to_string(tree(&stage, name).join(".env.local")).unwrap();
        urls.push(
            file.lines().find(|line| line.starts_with("COUNTER_URL=tcp://127.0.0.1:")).unwrap().to_owned(),
        );
    }
    assert_ne!(urls[0], urls[1], "each has its own");
    // The daemon may go, and whatever runs is found again; so it is when all processes are gone.
    stage.kill();
    stage.start(None);
    let exec = stage.exec("one", ASK);
    assert_eq!(stage.output("one", &exec).1, Some(0));
    kill_process(stage.shim("one"), Signal::KILL).unwrap();
    let lost = stage.task("one")["id"].clone();
    stage.wait("loss", |e| e["task"] == lost && e["event"]["type"] == "environment_lost");
    let exec = stage.exec("one", ASK);
    assert_eq!(stage.output("one", &exec).1, Some(0));
    close(&stage);
}

#[test]
fn a_daemon_that_dies_while_services_come_up_leaves_nothing() {
    for fault in ["beside.up", "service.started", "lease.described"] {
        let stage = with_service();
        stage.start(Some(fault));
        let _ = stage.request("POST", "/v1/tasks", Some(&params(&stage, "one", "Nothing\n@say done")));
        stage.died();
        stage.start(None);
        let task = stage.over("one", 1);
        assert_eq!(task["state"], "complete", "{fault}: {task}");
        close(&stage);
    }
}

#[test]
fn a_worktree_has_the_variables_of_who_asks() {
    let stage = Stage::new();
    stage.start(None);
    let mut asked = params(&stage, "one", "Look\n@shell env > said.txt\n@say done");
    asked["session"] = json!([
        { "name": "CARGO_HOME", "value": "/x/cargo" }, { "name": "SECRET_KEY", "value": "no" }
    ]);
    stage.post("/v1/tasks", asked.clone()).ok();
    stage.over("one", 1);
    let said = fs::read_to_string(tree(&stage, "one").join("said.txt")).unwrap();
    assert!(said.contains("CARGO_HOME=/x/cargo\n") && !said.contains("SECRET_KEY"), "{said}");
    // No such variable goes into a sandbox.
    asked["name"] = json!("boxed");
    asked["isolation"] = json!("sandbox");
    stage.post("/v1/tasks", asked).ok();
    stage.over("boxed", 1);
    let exec = stage.exec("boxed", "cat said.txt; env");
    assert!(!stage.output("boxed", &exec).0.contains("/x/cargo"));
    close(&stage);
}
