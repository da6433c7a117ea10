//! A task over two repositories by the command line, from the question to what is in both.

use std::{fs, path::Path};

use offshoot_testkit::repo::TestRepo;

use crate::stage::Stage;

const WORK: &str = "add a field, server and page
@write server.txt field
@shell git add server.txt && git commit -qm 'Serve the field'
@shell cd ../front && echo field > page.txt && git add page.txt && git commit -qm 'Show the field'
@say done";

fn declare(stage: &Stage, front: &Path) {
    let path = front.file_name().unwrap().to_string_lossy();
    let text = format!(
        "[project]\nname = \"api\"\n[agent]\ndefault = \"scripted\"\n[[repos]]\nname = \"front\"\npath = \"../{path}\"\n"
    );
    stage.repo.write("offshoot.toml", &text).unwrap();
    stage.repo.commit("Two repositories").unwrap();
}

#[test]
fn both_are_edited_checked_shown_and_landed() {
    let stage = Stage::new();
    let front = TestRepo::small(&stage.path().join("front")).unwrap();
    front.git(&["branch", "feat/ui"]).unwrap();
    declare(&stage, front.path());
    let check = "diff server.txt ../front/page.txt";
    let from = ["--from", "front=feat/ui", "--from", "api=HEAD"];
    let mut arguments = vec!["run", WORK, "--name", "field", "--check", check, "--follow"];
    arguments.extend(from);
    let said = stage.offshoot(&arguments).ok();
    assert!(said.contains("check passed"), "{said}");
    assert!(said.contains("front: 1 commit on the branch, 1 file changed"), "{said}");

    let listed = stage.offshoot(&["ps"]).ok();
    assert!(listed.contains("  api: offshoot/field at "), "{listed}");
    assert!(listed.contains("  front: offshoot/field at "), "{listed}");
    let shown = stage.offshoot(&["show", "field"]).ok();
    assert!(shown.contains("of feat/ui, head "), "{shown}");
    let patch = stage.offshoot(&["diff", "field"]).ok();
    assert!(patch.contains("+++ b/api/server.txt") && patch.contains("+++ b/front/page.txt"), "{patch}");
    let stat = stage.offshoot(&["diff", "field", "--stat", "--repo", "front"]).ok();
    assert!(stat.contains("Show the field") && stat.contains("A page.txt"), "{stat}");
    assert!(!stat.contains("server.txt"), "{stat}");
    let code = stage.offshoot(&["--json", "diff", "field", "--repo", "back"]);
    code.problem(3, "unknown_repository");

    let landed = stage.offshoot(&["land", "field"]).ok();
    assert!(landed.contains("api: main was moved forward to it"), "{landed}");
    assert!(landed.contains("front: feat/ui was moved forward to it"), "{landed}");
    assert_eq!(fs::read_to_string(stage.repo.path().join("server.txt")).unwrap().trim(), "field");
    assert_eq!(front.git(&["show", "feat/ui:page.txt"]).unwrap().trim(), "field");
    assert!(!front.path().join("page.txt").exists(), "main is checked out there, and was not meant");
    assert_eq!(front.git(&["branch", "--list", "offshoot/*"]).unwrap().trim(), "");
}

#[test]
fn mistakes_are_said_at_once() {
    let stage = Stage::new();
    let front = TestRepo::small(&stage.path().join("front")).unwrap();
    declare(&stage, front.path());
    let refused = |from: &[&str], exit: i32, code: &str| {
        let mut arguments = vec!["--json", "run", "go"];
        for value in from {
            arguments.extend(["--from", value]);
        }
        stage.offshoot(&arguments).problem(exit, code)
    };
    refused(&["main", "main"], 2, "two_bases");
    refused(&["front=main", "front=main"], 2, "two_bases");
    refused(&["main", "api=main"], 2, "two_bases");
    refused(&["fornt=main"], 3, "unknown_repository");
    let problem = refused(&["front=nope"], 3, "unknown_base");
    assert!(problem["message"].as_str().unwrap().starts_with("front: "), "{problem}");
    assert!(stage.offshoot(&["--json", "ps"]).json()["tasks"].as_array().unwrap().is_empty());
}
