//! A person's review: diffs with what stands out, files, comments on lines, landings foretold, and going back. All of it
//! with names that nobody should have to read, and also when the environment is gone.

use serde_json::{Value, json};

use crate::stage::Stage;

/// A file name with a line break, a quote, a backslash, a direction override and a byte that is not UTF-8.
const ODD: &str = r#"$(printf 'o\ndd"\\ \342\200\256\377')"#;
const ODD_SHOWN: &str = r#"o\x0add"\\ \xe2\x80\xae\xff"#;

/// Percent-encoded, for a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn work() -> String {
    format!(
        "go
@write src/a.txt one
@shell git add -A && git commit -qm 'Add a'
@shell mkdir -p .husky && echo x > .husky/pre-commit && ln -s /etc/passwd out && printf 'a\\n  b\\nc\\n' > \"{ODD}\" && printf '\\0\\1' > bin
@shell printf 'one\\ntwo\\n' > src/a.txt; git mv text.txt moved.txt; chmod +x moved.txt
@shell git add -A && git commit -qm 'The rest'
@say done"
    )
}

/// A stage with a task that is over.
fn reviewed() -> Stage {
    let stage = Stage::new();
    stage.write("text.txt", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    stage.write("package.json", "{}\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-qm", "Files"]);
    stage.start(None);
    let mut params = stage.params("work", &work());
    params["scope"] = json!(["src/**", "moved.txt", "text.txt"]);
    params["check"] = json!("seq 1 5000; exit 3");
    stage.post("/v1/tasks", params).ok();
    stage.over("work", 1);
    stage
}

fn diff(stage: &Stage, query: &str) -> Value {
    stage.get(&format!("/v1/tasks/work/diff{query}")).ok()
}

fn file<'a>(view: &'a Value, path: &str) -> &'a Value {
    let files = view["files"].as_array().unwrap();
    files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("no {path} in {files:?}"))
}

fn kinds(file: &Value) -> Vec<&str> {
    file["runs_on_host"].as_array().unwrap().iter().map(|found| found["kind"].as_str().unwrap()).collect()
}

/// The part of the patch that is a file's.
fn section(view: &Value, path: &str) -> String {
    let patch = view["patch"].as_str().unwrap();
    let all: Vec<_> = format!("\n{patch}").split("\ndiff --git ").skip(1).map(str::to_owned).collect();
    let own = file(view, path)["sections"].as_array().unwrap();
    own.iter().map(|at| all[usize::try_from(at.as_u64().unwrap()).unwrap()].clone()).collect()
}

fn looked_at(stage: &Stage) {
    let view = diff(stage, "");
    assert_eq!(view["files"].as_array().unwrap().len(), 6, "{}", view["files"]);
    let odd = file(&view, ODD_SHOWN);
    assert_eq!(
        (&odd["outside_scope"], &odd["new_mode"], &odd["truncated"]),
        (&json!(true), &json!("100644"), &json!(false))
    );
    assert!(section(&view, ODD_SHOWN).contains("\n+  b\n"), "{view}");
    assert_eq!(file(&view, "src/a.txt")["outside_scope"], false);
    assert_eq!(kinds(file(&view, ".husky/pre-commit")), ["hook"]);
    let link = file(&view, "out");
    assert_eq!(kinds(link), ["link"]);
    assert!(link["runs_on_host"][0]["why"].as_str().unwrap().ends_with("to /etc/passwd"), "{link}");
    let moved = file(&view, "moved.txt");
    assert_eq!(
        (&moved["old_path"], &moved["old_mode"], &moved["outside_scope"]),
        (&json!("text.txt"), &json!("100644"), &json!(false))
    );
    assert_eq!(kinds(moved), ["executable"]);
    assert!(section(&view, "moved.txt").contains("rename to moved.txt"));
    let bin = file(&view, "bin");
    assert_eq!(
        (&bin["binary"], &bin["new_bytes"], &bin["old_bytes"]),
        (&json!(true), &json!(2), &Value::Null)
    );

    let commits = view["commits"].as_array().unwrap();
    let first = commits[0]["commit"].as_str().unwrap();
    let one = diff(stage, &format!("?commit={}", &first[..10]));
    assert_eq!(one["files"].as_array().unwrap().len(), 1);
    assert_eq!(one["head"], commits[0]["commit"]);
    assert_eq!(
        stage.get(&format!("/v1/tasks/work/diff?commit={}", view["base"].as_str().unwrap())).status,
        404
    );
    assert_eq!(stage.get("/v1/tasks/work/diff?commit=ffffff").status, 404);

    let alone = diff(stage, &format!("?file={}", encoded(ODD_SHOWN)));
    assert_eq!(alone["files"].as_array().unwrap().len(), 1);
    assert!(section(&alone, ODD_SHOWN).contains("+  b"));
    assert_eq!(stage.get("/v1/tasks/work/diff?file=none").status, 404);
    assert_eq!(diff(stage, "?stat=true")["patch"], "");

    let query = format!("?file={}", encoded(ODD_SHOWN));
    let text = stage.get(&format!("/v1/tasks/work/file{query}")).ok();
    assert_eq!((&text["text"], &text["bytes"]), (&json!("a\n  b\nc\n"), &json!(8)));
    assert_eq!(stage.get(&format!("/v1/tasks/work/file{query}&commit=base")).status, 404);
    let link = stage.get("/v1/tasks/work/file?file=out").ok();
    assert_eq!(
        (&link["text"], &link["mode"]),
        (&json!("/etc/passwd"), &json!("120000")),
        "it is not followed"
    );
    assert_eq!(stage.get("/v1/tasks/work/file?file=bin").ok()["binary"], true);
    assert_eq!(stage.get("/v1/tasks/work/file?file=text.txt&commit=base").ok()["bytes"], 18);
    for path in ["src", "", "../x", "/etc/passwd", ".git/config"] {
        let query = format!("?file={}", encoded(path));
        assert_eq!(stage.get(&format!("/v1/tasks/work/file{query}")).status, 404, "{path}");
    }
    let elsewhere = stage.git(&["commit-tree", "-m", "x", "HEAD^{tree}"]);
    assert_eq!(stage.get(&format!("/v1/tasks/work/file?file=out&commit={elsewhere}")).status, 404);
}

#[test]
fn a_diff_says_what_stands_out() {
    let stage = reviewed();
    looked_at(&stage);
    let check = stage.get("/v1/tasks/work/runs/1/check").ok();
    assert!(check["text"].as_str().unwrap().starts_with("1\n2\n"), "all of it");
    assert_eq!((&check["code"], &check["truncated"]), (&json!(3), &json!(false)));
    assert_eq!(stage.get("/v1/tasks/work/runs/2/check").status, 404);

    stage.post("/v1/tasks/work/scope", json!({ "scope": ["**"] })).ok();
    let view = diff(&stage, "?stat=true");
    assert!(view["files"].as_array().unwrap().iter().all(|file| file["outside_scope"] == false));
    assert_eq!(stage.post("/v1/tasks/work/scope", json!({ "scope": ["a["] })).status, 400);
    stage.post("/v1/tasks/work/scope", json!({ "scope": ["src/**", "moved.txt", "text.txt"] })).ok();

    // Without branch and environment everything is still there, but what only its files had.
    stage.post("/v1/tasks/work/land", json!({})).ok();
    assert_eq!(stage.task("work")["environment"]["state"], "removed");
    looked_at(&stage);
    let check = stage.get("/v1/tasks/work/runs/1/check").ok();
    assert_eq!(check["truncated"], true);
    assert!(check["text"].as_str().unwrap().ends_with("4999\n5000\n"), "its end");
    stage.close();
}

#[test]
fn whitespace_and_context_are_as_asked() {
    let stage = Stage::new();
    stage.write("text.txt", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-qm", "Files"]);
    stage.start(None);
    let big =
        "@shell seq 1 400000 > big.txt; seq 1 100000 > middle.txt; sed -i 's/^5$/ 5/; s/^9$/nine/' text.txt";
    stage.dispatch("work", &format!("go\n{big}\n@say done"));
    stage.over("work", 1);
    let view = diff(&stage, "");
    assert!(section(&view, "text.txt").contains("-5\n+ 5\n"));
    assert_eq!(view["truncated"], true);
    for large in ["big.txt", "middle.txt"] {
        assert_eq!(
            (&file(&view, large)["truncated"], &file(&view, large)["sections"]),
            (&json!(true), &json!([]))
        );
    }
    let alone = diff(&stage, "?file=big.txt");
    assert_eq!(alone["truncated"], false);
    assert!(alone["patch"].as_str().unwrap().ends_with("+400000\n"));
    let ignoring = section(&diff(&stage, "?whitespace=ignore"), "text.txt");
    assert!(!ignoring.contains("+ 5") && ignoring.contains("+nine"), "{ignoring}");
    assert!(section(&diff(&stage, "?context=0"), "text.txt").contains("@@ -5 +5 @@"));
    assert!(section(&diff(&stage, "?context=4000000000"), "text.txt").contains("\n 1\n"));
    assert_eq!(stage.get("/v1/tasks/work/diff?whitespace=maybe").status, 400);
    stage.close();
}

#[test]
fn comments_follow_their_lines_and_are_sent_once() {
    let stage = Stage::new();
    stage.write("text.txt", "1\n2\n3\nfour\n5\n6\n7\n8\n9\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-qm", "Files"]);
    stage.start(None);
    let odd = format!("@shell printf 'x\\nhello \\033[31m\\342\\200\\256there\\ny\\n' > \"{ODD}\"");
    stage.dispatch("work", &format!("go\n{odd}\n@shell sed -i 's/^four$/vier/' text.txt\n@say done"));
    stage.over("work", 1);
    let view = diff(&stage, "");
    let add = |path: &str, line: u32, side: &str, text: &str| {
        let body = json!({ "path": path, "line": line, "side": side, "text": text });
        stage.post("/v1/tasks/work/comments", body)
    };
    let on_odd = add(ODD_SHOWN, 2, "new", "Why so odd?\nReally.").ok();
    assert_eq!(
        (&on_odd["line_now"], &on_odd["stale"], &on_odd["comment"]["number"]),
        (&json!(2), &json!(false), &json!(1))
    );
    assert_eq!(on_odd["comment"]["commit"], view["head"]);
    add("text.txt", 4, "old", "It was better").ok();
    add("text.txt", 4, "new", "In English, please").ok();
    add("text.txt", 1, "new", "To be taken away").ok();
    for (path, line, text, status) in [
        ("text.txt", 99, "x", 404),
        ("text.txt", 0, "x", 404),
        ("none", 1, "x", 404),
        ("text.txt", 1, " ", 400),
    ] {
        assert_eq!(add(path, line, "new", text).status, status, "{path}:{line}");
    }
    assert_eq!(add("text.txt", 1, "new", &"x".repeat(4_001)).status, 400);
    stage.post("/v1/tasks/work/comments/4", json!({ "text": "Changed" })).ok();
    assert_eq!(stage.post("/v1/tasks/work/comments/4/remove", json!({})).ok()["drafts"], 3);
    assert_eq!(stage.post("/v1/tasks/work/comments/4/remove", json!({})).status, 404);
    assert_eq!(stage.get("/v1/tasks/work/landing").ok()["unsent_comments"], 3);

    // The follow-up's own words move a line, take one away, and rename a file.
    let text = "@shell sed -i '1i zero' text.txt; sed -i 's/^vier$/quatre/' text.txt; mv o* fine\n@say done";
    stage.post("/v1/tasks/work/comments/send", json!({ "text": text })).ok();
    let task = stage.over("work", 2);
    let prompt = task["runs"][1]["prompt"].as_str().unwrap();
    assert!(prompt.contains(&format!("\n1. {ODD_SHOWN}:2\n   > hello ")), "{prompt}");
    assert!(prompt.contains("there\n   Why so odd?\n   Really.\n"), "{prompt}");
    assert!(!prompt.contains(['\x1b', '\u{202e}']), "{prompt}");
    assert!(
        prompt.contains("\n2. text.txt:4 (before your change)\n   > four\n   It was better\n"),
        "{prompt}"
    );
    assert_eq!(stage.post("/v1/tasks/work/comments/send", json!({})).status, 409, "once");
    assert_eq!(stage.post("/v1/tasks/work/comments/1", json!({ "text": "x" })).status, 409, "it was sent");

    let list = stage.get("/v1/tasks/work/comments").ok();
    let now: Vec<_> = list["comments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| (view["path"].as_str().unwrap(), view["line_now"].as_u64(), view["stale"] == true))
        .collect();
    assert_eq!(
        now,
        [("fine", Some(2), false), ("text.txt", Some(4), false), ("text.txt", None, true)],
        "{list}"
    );
    assert!(list["comments"].as_array().unwrap().iter().all(|view| view["comment"]["sent"] == 2));
    stage.close();
}

#[test]
fn a_landing_is_foretold_and_nothing_is_changed() {
    let stage = Stage::new();
    stage.write("text.txt", "1\n2\n3\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-qm", "Files"]);
    stage.start(None);
    let work = "Make it so\n@shell echo 1 > one.txt; git add -A; git commit -qm 'First thing'\n@shell sed -i s/2/two/ text.txt; mkdir .vscode; echo {} > .vscode/tasks.json; git add -A; git commit -qm 'Second thing'\n@say done";
    stage.dispatch("work", work);
    stage.over("work", 1);
    let landing = |query: &str| {
        let before = stage.fingerprint();
        let view = stage.get(&format!("/v1/tasks/work/landing{query}")).ok();
        stage.unchanged(&before);
        view
    };
    let view = landing("");
    assert_eq!(
        (&view["clean"], &view["repositories"][0]["how"]),
        (&json!(true), &json!("fast_forward")),
        "{view}"
    );
    assert_eq!(
        (&view["repositories"][0]["ahead"], &view["repositories"][0]["behind"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(view["squash_message"], "Make it so\n\n* First thing\n* Second thing");
    assert_eq!(view["runs_on_host"], 1);
    assert_eq!(landing("?squash=true")["repositories"][0]["how"], "squash");
    assert_eq!(landing("?into=none")["problem"]["code"], "unknown_target");

    // Somebody's own change in a file that would be written.
    stage.write("text.txt", "1\n2\n3\nmine\n");
    let view = landing("");
    assert_eq!(
        (&view["clean"], &view["problem"]["code"]),
        (&json!(false), &json!("local_changes")),
        "{view}"
    );
    assert_eq!(view["problem"]["detail"], "text.txt");
    stage.git(&["checkout", "-q", "text.txt"]);

    // Somebody was there first.
    stage.write("other.txt", "x\n");
    stage.git(&["add", "-A"]);
    stage.git(&["commit", "-qm", "Other"]);
    let view = landing("");
    assert_eq!(
        (&view["repositories"][0]["how"], &view["repositories"][0]["behind"]),
        (&json!("merge"), &json!(1))
    );
    stage.write("text.txt", "1\n2!\n3\n");
    stage.git(&["commit", "-qam", "Clash"]);
    let view = landing("");
    let conflict = &view["repositories"][0]["conflicts"][0];
    assert_eq!((&view["clean"], &conflict["path"]), (&json!(false), &json!("text.txt")));
    assert!(conflict["hunks"].as_str().unwrap().contains("2!\n"), "{conflict}");
    let refused = stage.post("/v1/tasks/work/land", json!({}));
    assert_eq!(refused.status, 409, "as foretold");

    stage.git(&["reset", "-q", "--hard", "HEAD~1"]);
    stage.post("/v1/tasks/work/land", json!({ "squash": true })).ok();
    assert_eq!(stage.git(&["log", "-1", "--format=%B"]), "Make it so\n\n* First thing\n* Second thing");
    assert_eq!(landing("")["problem"]["code"], "wrong_state", "it has landed");
    stage.close();
}

/// A task of two runs, and the numbers of the checkpoints after each.
fn with_checkpoints(stage: &Stage) -> (u64, u64) {
    let newest =
        |task: &Value| task["checkpoints"].as_array().unwrap().last().unwrap()["number"].as_u64().unwrap();
    stage.dispatch("work", "go\n@write a.txt first\n@say done");
    let first = newest(&stage.over("work", 1));
    let more = "more\n@write a.txt second\n@shell echo b > b.txt; git add -A; git commit -qm both\n@say done";
    stage.post("/v1/tasks/work/runs", json!({ "prompt": more })).ok();
    (first, newest(&stage.over("work", 2)))
}

/// What is at the end of a task's branch in the user's repository.
fn at_branch(stage: &Stage) -> String {
    let files = stage.git(&["ls-tree", "--name-only", "offshoot/work", "a.txt", "b.txt"]);
    let a = stage.git(&["show", "offshoot/work:a.txt"]);
    format!("{} {a}", files.replace('\n', " "))
}

#[test]
fn a_workspace_goes_back_and_nothing_is_lost() {
    let stage = Stage::new();
    stage.start(None);
    let (first, last) = with_checkpoints(&stage);
    assert_eq!(at_branch(&stage), "a.txt b.txt second");
    // What a person left there is a checkpoint before anything is written.
    let (said, code) = stage.output("work", &stage.exec("work", "echo mine > mine.txt"));
    assert_eq!(code, Some(0), "{said}");
    let back = |step: u64| stage.post("/v1/tasks/work/restore", json!({ "step": step }));
    let task = back(first).ok();
    assert_eq!(at_branch(&stage), "a.txt first");
    assert_eq!(task["task"]["restored"], json!(first));
    assert_eq!(
        stage.git(&["log", "-1", "--format=%s", "offshoot/work"]),
        format!("Go back to checkpoint {first}")
    );
    assert!(stage.git(&["log", "--format=%s", "offshoot/work"]).contains("both"), "on top of all that was");
    let kept = task["task"]["checkpoints"].as_array().unwrap();
    let mine = kept.iter().any(|step| {
        let files = stage.get(&format!("/v1/tasks/work/diff?step={}", step["number"])).ok();
        files["files"].as_array().unwrap().iter().any(|file| file["path"] == "mine.txt")
    });
    assert!(mine, "{kept:?}");
    back(last).ok();
    assert_eq!(at_branch(&stage), "a.txt b.txt second");
    back(0).ok();
    assert_eq!(stage.git(&["diff", "--stat", "main", "offshoot/work"]), "");
    assert_eq!(back(9_999).status, 404);

    stage.post("/v1/tasks/work/runs", json!({ "prompt": "go on\n@say done" })).ok();
    let task = stage.over("work", 3);
    assert_eq!((&task["restored"], &task["runs"][2]["restored"]), (&Value::Null, &json!(0)));

    // In an environment that is another one and never saw that checkpoint.
    back(last).ok();
    stage.post("/v1/tasks/work/land", json!({})).ok();
    assert_eq!(back(first).status, 409, "it has landed");
    stage.post("/v1/tasks/work/runs", json!({ "prompt": "go on\n@write c.txt c\n@say done" })).ok();
    let task = stage.over("work", 4);
    assert_eq!(task["state"], "complete", "{task}");
    let task = back(first).ok();
    let text = stage.get("/v1/tasks/work/file?file=a.txt").ok();
    assert_eq!(text["text"], "first\n", "{}", task["task"]["unpublished"]);
    for gone in ["b.txt", "c.txt"] {
        assert_eq!(stage.get(&format!("/v1/tasks/work/file?file={gone}")).status, 404);
    }
    stage.close();
}

#[test]
fn a_run_that_works_is_not_disturbed() {
    let stage = Stage::new();
    stage.start(None);
    stage.dispatch(
        "work",
        "go\n@write a.txt x\n@shell until [ -e ../go ] || [ -e go ]; do sleep 0.1; done\n@say done",
    );
    stage.wait("checkpoint", |entry| entry["event"]["type"] == "checkpoint");
    let refused = stage.post("/v1/tasks/work/restore", json!({ "step": 1 }));
    assert_eq!(refused.status, 409);
    // Its work can be commented on all the same.
    diff(&stage, "");
    let body = json!({ "path": "a.txt", "line": 1, "side": "new", "text": "Why?" });
    assert_eq!(stage.post("/v1/tasks/work/comments", body).ok()["stale"], false);
    assert_eq!(stage.post("/v1/tasks/work/comments/send", json!({})).status, 409, "not yet");
    stage.exec("work", "touch go");
    stage.over("work", 1);
    stage.close();
}

#[test]
fn death_on_the_way_back_is_only_a_delay() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    for point in ["restore.recorded", "restore.kept", "restore.files", "restore.harvested"] {
        let stage = Stage::new();
        stage.start(Some(point));
        let (first, last) = with_checkpoints(&stage);
        let step = json!({ "step": first });
        assert!(stage.request("POST", "/v1/tasks/work/restore", Some(&step)).is_err(), "{point}");
        stage.died();
        stage.start(None);
        stage.wait("going back", |entry| entry["event"]["type"] == "restored");
        assert_eq!(at_branch(&stage), "a.txt first", "{point}");
        stage.post("/v1/tasks/work/restore", json!({ "step": last })).ok();
        assert_eq!(at_branch(&stage), "a.txt b.txt second", "{point}");
        stage.close();
    }
}
