//! Environments by hand.

use crate::stage::Stage;

#[test]
fn up_exec_down() {
    let stage = Stage::new();
    let up = stage.offshoot(&["env", "up", "--name", "e"]);
    assert_eq!(up.1, "e\n");
    assert!(up.2.contains("up in"), "{}", up.2);
    up.ok();
    let exec = |command: &[&str]| {
        let arguments: Vec<&str> = ["env", "exec", "e", "--"].iter().chain(command).copied().collect();
        stage.offshoot(&arguments)
    };
    assert_eq!(exec(&["sh", "-c", "echo out; echo err >&2; exit 7"]).0, 7);
    let ran = exec(&["sh", "-c", "printf out; printf err >&2"]);
    assert_eq!((ran.0, ran.1.as_str(), ran.2.as_str()), (0, "out", "err"));
    assert_eq!(exec(&["sh", "-c", "kill -9 $$"]).0, 137);
    let here = exec(&["pwd"]).ok();
    assert_eq!(here.trim(), stage.repo.path().to_str().unwrap());
    let big = vec![b'x'; 300_000];
    let echoed = stage.with_input(&["exec", "e", "--", "cat"], &big).ok();
    assert_eq!(echoed.len(), big.len(), "standard input goes in, all of it comes out");
    let json = stage.offshoot(&["--json", "exec", "e", "--", "sh", "-c", "echo o; echo e >&2; exit 3"]);
    assert_eq!(json.0, 3);
    let json: serde_json::Value = serde_json::from_str(&json.1).unwrap();
    assert_eq!(json, serde_json::json!({"code": 3, "signal": null, "stdout": "o\n", "stderr": "e\n"}));
    exec(&["sh", "-c", "echo work > new.txt"]).ok();
    let problem = stage.offshoot(&["--json", "env", "down", "e"]).problem(4, "unlanded_work");
    assert!(problem["message"].as_str().unwrap().contains('e'));
    let down = stage.offshoot(&["env", "down", "e", "--force"]).ok();
    assert!(down.contains("removed environment of e: "), "{down}");
}
