//! Bad input that only the daemon can see: one sentence, a hint, the documented code.

use std::fs;

use offshoot_testkit::repo::TestRepo;

use crate::stage::Stage;

#[test]
fn each_gets_a_sentence_a_hint_and_a_code() {
    let stage = Stage::new();
    stage.offshoot(&["env", "up", "--name", "taken"]).ok();
    for (arguments, exit, code) in [
        (&["run", "x", "--agent", "nobody"][..], 3, "unknown_agent"),
        (&["run", "x", "--agent", "aider"], 5, "agent_not_installed"),
        (&["run", "x", "--agent", "scripted", "--from", "no-such-branch"], 3, "unknown_base"),
        (&["env", "up", "--name", "taken"], 4, "name_taken"),
        (&["show", "no-such-task"], 3, "no_such_task"),
        (&["diff", "no-such-task"], 3, "no_such_task"),
        (&["exec", "taken", "--", "no-such-command"], 1, "command_not_started"),
        (&["logs", "--raw", "no-such-task"], 3, "no_such_task"),
    ] {
        let ran = stage.offshoot(arguments);
        assert!(ran.1.is_empty(), "data for a refusal: {}", ran.1);
        assert!(ran.2.starts_with("error: "), "{arguments:?}: {}", ran.2);
        assert!(ran.2.contains("\nhint: "), "{arguments:?}: {}", ran.2);
        assert_eq!(ran.2.lines().filter(|l| l.starts_with("error: ")).count(), 1);
        if arguments.contains(&"--raw") {
            assert_eq!(ran.0, exit);
            continue;
        }
        let json: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let _ = stage.offshoot(&json).problem(exit, code);
    }
}

#[test]
fn places_that_are_no_repository_with_a_commit() {
    let stage = Stage::new();
    let plain = stage.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let _ = stage
        .offshoot_in(&plain, &["--json", "run", "x", "--agent", "scripted"])
        .problem(3, "not_a_repository");
    let empty = TestRepo::init(&stage.path().join("empty")).unwrap();
    let ran = stage.offshoot_in(empty.path(), &["run", "x", "--agent", "scripted"]);
    assert_ne!(ran.0, 0);
    assert!(ran.2.contains("commit") && ran.2.contains("hint: "), "{}", ran.2);
}
