//! Tasks over several repositories: real ones, of both object formats, with everything that can go wrong between them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::stage::Stage;

/// Commits in the main repository and in the first of the others; leaves a change uncommitted in the last.
const WORK: &str = "go
@write one.txt x
@shell git add one.txt && git commit -qm one
@shell cd ../front && echo ui > ui.txt && git add ui.txt && git commit -qm ui
@shell echo more >> ../lib/lib.txt
@say done";

/// A stage with repositories `front` and `lib` beside the main one; `lib` has SHA-256 objects.
struct Several {
    stage: Stage,
    front: PathBuf,
    lib: PathBuf,
}

impl Several {
    fn new() -> Self {
        let stage = Stage::new();
        let (front, lib) = (stage.path().join("front"), stage.path().join("lib"));
        for (path, format) in [(&front, "sha1"), (&lib, "sha256")] {
            let object_format = format!("--object-format={format}");
            git_at(
                &stage,
                stage.path(),
                &["init", "-q", "-b", "main", &object_format, &path.to_string_lossy()],
            );
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            fs::write(path.join(format!("{name}.txt")), format!("{}\n", stage.path().display())).unwrap();
            for (key, value) in [("user.name", "Ada"), ("user.email", "ada@example.org")] {
                git_at(&stage, path, &["config", key, value]);
            }
            git_at(&stage, path, &["add", "."]);
            git_at(&stage, path, &["commit", "-qm", "Start"]);
        }
        stage.write(
            "offshoot.toml",
            "[project]\nname = \"api\"\n[[repos]]\nname = \"front\"\npath = \"../front\"\n[[repos]]\nname = \"lib\"\npath = \"../lib\"\n",
        );
        stage.git(&["add", "offshoot.toml"]);
        stage.git(&["commit", "-qm", "Repositories"]);
        Self { stage, front, lib }
    }

    fn params(&self) -> Value {
        let mut params = self.stage.params("work", WORK);
        params["repositories"] = json!({ "front": "main", "lib": "main" });
        params
    }

    /// Where a branch is in each of the three.
    fn at(&self, branch: &str) -> [String; 3] {
        [&self.stage.repo, &self.front, &self.lib]
            .map(|repo| git_at(&self.stage, repo, &["rev-parse", branch]))
    }

    fn front(&self, arguments: &[&str]) -> String {
        git_at(&self.stage, &self.front, arguments)
    }

    /// A commit of somebody else on front's main branch.
    fn somebody(&self, file: &str, text: &str) {
        fs::write(self.front.join(file), text).unwrap();
        self.front(&["add", "."]);
        self.front(&["commit", "-qm", "Somebody else"]);
    }

    /// What a finished run must have left, whatever died on the way.
    #[track_caller]
    fn harvested(&self) {
        let task = self.stage.task("work");
        assert_eq!(task["state"], "complete", "{task}\n{}", self.stage.log());
        let branches = self.at("offshoot/work");
        assert_eq!(task["head"], json!(branches[0]));
        assert_eq!(task["others"][0]["head"], json!(branches[1]));
        assert_eq!(task["others"][1]["head"], json!(branches[2]));
        assert_eq!(branches[2].len(), 64, "SHA-256");
        for other in task["others"].as_array().unwrap() {
            assert_eq!(other["changes"]["files"], 1, "{other}");
            assert!(other["unpublished"].is_null(), "{other}");
        }
        assert_eq!(self.front(&["show", "offshoot/work:ui.txt"]), "ui");
        assert!(git_at(&self.stage, &self.lib, &["show", "offshoot/work:lib.txt"]).ends_with("more"));
    }

    /// That everything has landed, and the branches of the task are gone.
    #[track_caller]
    fn landed(&self) {
        let task = self.stage.task("work");
        assert_eq!(task["state"], "landed", "{task}\n{}", self.stage.log());
        let at = self.at("main");
        assert_eq!(task["landed"], json!(at[0]));
        assert_eq!(task["others"][0]["landed"], json!(at[1]));
        assert_eq!(task["others"][1]["landed"], json!(at[2]));
        assert_eq!(fs::read_to_string(self.front.join("ui.txt")).unwrap(), "ui\n", "the checkout came along");
        assert!(self.stage.repo.join("one.txt").exists());
        for repo in [&self.stage.repo, &self.front, &self.lib] {
            let left = git_at(&self.stage, repo, &["branch", "--list", "offshoot/*"]);
            assert_eq!(left, "", "{}", repo.display());
            assert_eq!(git_at(&self.stage, repo, &["status", "--porcelain"]), "", "{}", repo.display());
        }
    }

    /// That nothing has landed anywhere, and the checkouts are as they were.
    #[track_caller]
    fn not_landed(&self, before: &[String; 3]) {
        assert_eq!(self.at("main"), *before);
        assert_eq!(self.stage.task("work")["state"], "complete");
        for repo in [&self.stage.repo, &self.front, &self.lib] {
            assert_eq!(git_at(&self.stage, repo, &["status", "--porcelain"]), "", "{}", repo.display());
        }
        self.harvested();
    }

    fn run(&self) {
        self.stage.post("/v1/tasks", self.params()).ok();
        self.stage.over("work", 1);
    }
}

#[track_caller]
fn git_at(stage: &Stage, dir: &Path, arguments: &[&str]) -> String {
    let output = stage.command("git").current_dir(dir).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn three_repositories_are_one_task() {
    let all = Several::new();
    let stage = &all.stage;
    fs::write(all.front.join("front.txt"), "not committed\n").unwrap();
    stage.start(None);
    all.run();
    all.harvested();
    let task = stage.task("work");
    assert!(
        task["notices"].to_string().contains("front: your checkout has uncommitted changes"),
        "{}",
        task["notices"]
    );
    let listed = stage.get(&format!("/v1/tasks?path={}", all.front.display())).ok();
    assert_eq!(listed["tasks"][0]["task"]["name"], "work", "found in each of its repositories");
    let diff = stage.get("/v1/tasks/work/diff").ok();
    let paths: Vec<_> = diff["files"].as_array().unwrap().iter().map(|f| f["path"].clone()).collect();
    assert_eq!(json!(paths), json!(["api/one.txt", "front/ui.txt", "lib/lib.txt"]));
    assert!(diff["patch"].as_str().unwrap().contains("+++ b/front/ui.txt"));
    let one = stage.get("/v1/tasks/work/diff?repository=front").ok();
    assert_eq!(one["files"][0]["path"], "ui.txt");
    assert_eq!(one["commits"][0]["repository"], "front");
    // At the first checkpoint the main repository alone may have changed; each step is there for all.
    let steps = task["checkpoints"].as_array().unwrap().len();
    assert_eq!(task["others"][0]["checkpoints"].as_array().unwrap().len(), steps);
    stage.get(&format!("/v1/tasks/work/diff?step={steps}")).ok();

    let more = "more\n@shell cd ../front && echo again >> ui.txt && git commit -qam again\n@say done";
    stage.post("/v1/tasks/work/runs", json!({ "prompt": more })).ok();
    stage.over("work", 2);
    assert_eq!(all.front(&["show", "offshoot/work:ui.txt"]), "ui\nagain");
    // The environment is taken away by hand and made again from all three branches.
    stage.post("/v1/tasks/work/land", json!({ "squash": true })).ok();
    assert_eq!(stage.task("work")["state"], "landed");
    assert_eq!(fs::read_to_string(all.front.join("front.txt")).unwrap(), "not committed\n", "left alone");
    assert_eq!(all.front(&["log", "--format=%s", "-1"]), "go", "as one commit");
    assert_eq!(all.front(&["show", "main:ui.txt"]), "ui\nagain");
    stage.close();
}

#[test]
fn a_conflict_in_one_lands_nothing_in_any() {
    let all = Several::new();
    all.stage.start(None);
    all.run();
    all.somebody("ui.txt", "theirs\n");
    let before = all.at("main");
    let refused = all.stage.post("/v1/tasks/work/land", json!({}));
    let problem = refused.problem("merge_conflict");
    assert!(problem["message"].as_str().unwrap().starts_with("front: "), "{problem}");
    all.not_landed(&before);
    // A change in the way of a checkout is no other thing.
    all.front(&["reset", "-q", "--hard", "HEAD~1"]);
    fs::write(all.front.join("ui.txt"), "in the way\n").unwrap();
    let before = all.at("main");
    all.stage.post("/v1/tasks/work/land", json!({})).problem("local_changes");
    assert_eq!(all.at("main"), before);
    fs::remove_file(all.front.join("ui.txt")).unwrap();
    all.stage.post("/v1/tasks/work/land", json!({})).ok();
    all.landed();
    all.stage.close();
}

#[test]
fn what_is_thrown_away_is_gone_from_all() {
    let all = Several::new();
    all.stage.start(None);
    all.run();
    let before = all.at("main");
    all.stage.post("/v1/tasks/work/discard", json!({})).problem("unlanded_work");
    let gone = all.stage.post("/v1/tasks/work/discard", json!({ "force": true })).ok();
    for name in ["api", "front", "lib"] {
        assert!(gone["removed"].to_string().contains(&format!("branch offshoot/work of {name}")), "{gone}");
    }
    for repo in [&all.stage.repo, &all.front, &all.lib] {
        assert_eq!(git_at(&all.stage, repo, &["branch", "--list", "offshoot/*"]), "");
    }
    assert_eq!(all.at("main"), before);
    all.stage.close();
}

#[test]
fn what_cannot_be_is_said_before_anything_is_recorded() {
    let all = Several::new();
    let stage = &all.stage;
    stage.start(None);
    let refused = |repositories: Value, code: &str| {
        let mut params = all.params();
        params["repositories"] = repositories;
        stage.post("/v1/tasks", params).problem(code)
    };
    let problem = refused(json!({ "frnt": "main" }), "unknown_repository");
    assert!(problem["hint"].as_str().unwrap().contains("front"), "{problem}");
    let problem = refused(json!({ "front": "nope" }), "unknown_base");
    assert!(problem["message"].as_str().unwrap().starts_with("front: "), "{problem}");
    let mut params = all.params();
    params["isolation"] = json!("worktree");
    stage.post("/v1/tasks", params).problem("repositories_need_sandbox");
    let declare = |path: &str| {
        let text = format!("[project]\nname = \"api\"\n[[repos]]\nname = \"front\"\npath = \"{path}\"\n");
        stage.write("offshoot.toml", &text);
    };
    declare("../nowhere");
    refused(json!({ "front": "main" }), "repository_missing");
    declare(".");
    refused(json!({ "front": "main" }), "same_repository");
    git_at(stage, &stage.repo, &["init", "-q", "-b", "main", "within"]);
    git_at(
        stage,
        &stage.repo.join("within"),
        &["-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    );
    declare("within");
    refused(json!({ "front": "main" }), "nested_repositories");
    assert!(stage.get("/v1/tasks").ok()["tasks"].as_array().unwrap().is_empty());
    stage.close();
}

#[test]
fn what_is_not_named_is_shown_for_reading_only_if_the_user_says_so() {
    let all = Several::new();
    let stage = &all.stage;
    stage.start(None);
    let look =
        "go\n@shell cat ../lib/lib.txt; echo x >> ../lib/lib.txt; git -C ../lib log --oneline\n@say done";
    let mut params = stage.params("hidden", look);
    params["check"] = json!("test ! -e ../lib && test ! -e ../front");
    stage.post("/v1/tasks", params.clone()).ok();
    assert_eq!(stage.over("hidden", 1)["state"], "complete", "not there");

    stage.configure("[repositories]\nshow = true\n");
    params["name"] = json!("shown");
    params["repositories"] = json!({ "front": "main" });
    params["check"] = json!(
        "test -e ../lib/lib.txt && ! (echo x >> ../lib/lib.txt) && ! touch ../lib/new && \
         git -C ../lib status --porcelain > st && test ! -s st && rm st && touch ../front/new"
    );
    stage.post("/v1/tasks", params.clone()).ok();
    let task = stage.over("shown", 1);
    assert_eq!(task["state"], "complete", "{task}");
    assert_eq!(task["others"][1]["read_only"], true, "{task}");
    assert!(task["notices"].to_string().contains("lib is shown for reading only"), "{}", task["notices"]);
    let diff = stage.get("/v1/tasks/shown/diff").ok();
    assert_eq!(diff["files"][0]["path"], "front/new", "{diff}");
    stage.post("/v1/tasks/shown/land", json!({})).ok();
    assert_eq!(all.front(&["log", "--format=%s", "-1"]), "go");
    assert_eq!(fs::read_to_string(all.lib.join("lib.txt")).unwrap().lines().count(), 1);
    // Alone with those that are shown, a task is one over one repository.
    params["name"] = json!("alone");
    params["repositories"] = json!({});
    params["prompt"] = json!("go\n@write alone.txt x\n@say done");
    params["check"] = json!("test -e ../lib/lib.txt && test -e ../front/front.txt");
    stage.post("/v1/tasks", params).ok();
    assert_eq!(stage.over("alone", 1)["state"], "complete");
    let view = stage.post("/v1/tasks/alone/land", json!({})).ok();
    assert!(view["repositories"].is_null(), "{view}");
    stage.close();
}

/// Dies at `point` on the way to the end of a run.
fn harvest(point: &str) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let all = Several::new();
    all.stage.start(Some(point));
    let _ = all.stage.request("POST", "/v1/tasks", Some(&all.params()));
    all.stage.died();
    all.stage.start(None);
    all.stage.over("work", 1);
    all.harvested();
    all.stage.close();
}

/// Dies at `point` during the landing; the next daemon takes it to its end.
fn landing(point: &str) {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let all = Several::new();
    all.stage.start(None);
    all.run();
    all.stage.stop();
    all.stage.start(Some(point));
    let _ = all.stage.request("POST", "/v1/tasks/work/land", Some(&json!({})));
    all.stage.died();
    all.stage.start(None);
    all.landed();
    all.stage.close();
}

macro_rules! points {
    ($module:ident $function:ident $($name:ident $point:literal)*) => {
        mod $module {
            $(#[test] fn $name() { super::$function($point); })*
        }
    };
}

points! { harvest_at harvest
    second_layer "layer.placed#2"
    lease_made "lease.made"
    committed "harvest.committed"
    bundled "harvest.bundled"
    first_imported "harvest.imported"
    second_imported "harvest.imported#2"
    first_published "harvest.published"
    second_objects "publish.objects#2"
    second_published "harvest.published#2"
    recorded "harvest.recorded"
}

points! { landing_at landing
    recorded "land.recorded"
    first_begun "land.record"
    first_files "land.files"
    first_ref "land.ref"
    first_moved "land.moved"
    second_begun "land.record#2"
    second_files "land.files#2"
    second_ref "land.ref#2"
    all_moved "land.moved#3"
}

/// Dies when the first branch has moved; before anybody is there again, somebody else moves the second.
fn half_way() -> Option<(Several, [String; 3])> {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return None;
    }
    let all = Several::new();
    all.stage.start(None);
    all.run();
    let before = all.at("main");
    all.stage.stop();
    all.stage.start(Some("land.moved"));
    let _ = all.stage.request("POST", "/v1/tasks/work/land", Some(&json!({})));
    all.stage.died();
    assert_ne!(all.at("main")[0], before[0], "moved");
    all.somebody("theirs.txt", "theirs\n");
    let before = [before[0].clone(), all.at("main")[1].clone(), before[2].clone()];
    Some((all, before))
}

#[test]
fn a_branch_that_moved_is_moved_back_when_another_cannot() {
    let Some((all, before)) = half_way() else { return };
    all.stage.start(None);
    all.not_landed(&before);
    assert!(!all.stage.repo.join("one.txt").exists(), "the checkout went back, too");
    all.stage.post("/v1/tasks/work/land", json!({})).ok();
    all.landed();
    all.stage.close();
}

#[test]
fn death_while_it_is_moved_back() {
    let Some((all, before)) = half_way() else { return };
    for point in ["land.back", "land.record", "land.files", "land.index"] {
        if let Err(said) = all.stage.try_start(Some(point)) {
            assert!(said.contains("signal: 6"), "{point}: {said}");
        } else {
            panic!("{point}: it lives");
        }
    }
    all.stage.start(None);
    all.not_landed(&before);
    all.stage.post("/v1/tasks/work/land", json!({})).ok();
    all.landed();
    all.stage.close();
}

#[test]
fn what_somebody_built_on_stays_and_is_said() {
    let Some((all, _)) = half_way() else { return };
    all.stage.write("theirs.txt", "theirs\n");
    all.stage.git(&["add", "."]);
    all.stage.git(&["commit", "-qm", "On top"]);
    let on_top = all.stage.git(&["rev-parse", "main"]);
    all.stage.start(None);
    assert_eq!(all.stage.git(&["rev-parse", "main"]), on_top, "nothing of theirs is lost");
    let task = all.stage.task("work");
    assert_eq!(task["state"], "complete");
    assert!(task["notices"].to_string().contains("main of api has landed"), "{}", task["notices"]);
    all.harvested();
    let view = all.stage.post("/v1/tasks/work/land", json!({})).ok();
    assert_eq!(view["repositories"][0]["how"], "up_to_date", "{view}");
    all.landed();
    all.stage.close();
}

#[test]
fn death_between_branches_that_are_thrown_away() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: this build has no fault points");
        return;
    }
    let all = Several::new();
    all.stage.start(None);
    all.run();
    all.stage.stop();
    all.stage.start(Some("branch.dropped"));
    let _ = all.stage.request("POST", "/v1/tasks/work/discard", Some(&json!({ "force": true })));
    all.stage.died();
    all.stage.start(None);
    for repo in [&all.stage.repo, &all.front, &all.lib] {
        assert_eq!(git_at(&all.stage, repo, &["branch", "--list", "offshoot/*"]), "");
    }
    assert_eq!(all.stage.task("work")["state"], "discarded");
    all.stage.close();
}
