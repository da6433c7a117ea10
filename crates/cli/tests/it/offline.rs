//! Commands that need no daemon, and mistakes that are found before one is asked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.repo()).unwrap();
        fs::create_dir(home.repo().join(".git")).unwrap();
        home
    }

    fn repo(&self) -> PathBuf {
        self.0.path().join("repo")
    }

    /// Runs `offshoot` with nothing of the caller's environment. The state directory is a place where none can be made,
    /// so a command that asks for a daemon fails instead of starting one.
    fn offshoot(&self, dir: &Path, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_offshoot"))
            .args(arguments)
            .current_dir(dir)
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", "/usr/bin:/bin")
            .env("OFFSHOOT_STATE_DIR", "/dev/null/state")
            .env("OFFSHOOT_CONFIG", self.0.path().join("config.toml"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

#[must_use]
fn ends(output: &Output, code: i32) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
    (stdout, stderr)
}

#[test]
fn mistakes_in_the_arguments_give_2() {
    let home = Home::new();
    for arguments in
        [&["frobnicate"][..], &["run"], &["run", "x", "--allow", "1.2.3.4"], &["diff", "t", "--step", "x"]]
    {
        let (stdout, stderr) = ends(&home.offshoot(&home.repo(), arguments), 2);
        assert!(stdout.is_empty() && stderr.contains("error"), "{stderr}");
    }
    assert!(ends(&home.offshoot(&home.repo(), &["--help"]), 0).0.contains("follow-up"));
    assert!(ends(&home.offshoot(&home.repo(), &["--version"]), 0).0.starts_with("offshoot "));
}

#[test]
fn bad_input_gets_a_sentence_and_a_hint_before_anything_is_asked() {
    let home = Home::new();
    for (arguments, code, sentence) in [
        (&["run", " "][..], "prompt_empty", "the prompt is empty"),
        (&["run", "x", "--name", "Not A Name"], "name_invalid", "is not a name"),
        (&["run", "x", "--pass-env", "NOT_SET_ANYWHERE"], "variable_unset", "not set here"),
        (&["run", "x", "--pass-env", "A=b"], "variable_invalid", "not the name of a variable"),
        (&["shell", "x"], "no_terminal", "needs a terminal"),
        (&["daemon", "start", "--tcp", "0.0.0.0:80"], "tcp_not_loopback", "not a loopback address"),
    ] {
        let (stdout, stderr) = ends(&home.offshoot(&home.repo(), arguments), 2);
        assert!(stdout.is_empty(), "{stdout}");
        assert!(stderr.contains(sentence) && stderr.contains("hint: "), "{arguments:?}: {stderr}");
        assert!(!stderr.contains('\x1b'), "colour without a terminal: {stderr}");
        let json: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        let (_, stderr) = ends(&home.offshoot(&home.repo(), &json), 2);
        let problem: serde_json::Value = serde_json::from_str(&stderr).unwrap();
        assert_eq!(problem["code"], code);
    }
}

#[test]
fn a_state_directory_that_cannot_be_is_said() {
    let home = Home::new();
    let (_, stderr) = ends(&home.offshoot(&home.repo(), &["ps"]), 5);
    assert!(stderr.contains("/dev/null/state") && stderr.contains("OFFSHOOT_STATE_DIR"), "{stderr}");
    let (_, stderr) = ends(&home.offshoot(&home.repo(), &["daemon", "status"]), 3);
    assert!(stderr.contains("no daemon runs"), "{stderr}");
}

#[test]
fn mistakes_in_the_configuration_are_pointed_at() {
    let home = Home::new();
    let file = home.repo().join("offshoot.toml");
    fs::write(&file, "[agent]\ndefualt = \"claude\"\n").unwrap();
    let (_, stderr) = ends(&home.offshoot(&home.repo(), &["run", "x"]), 2);
    assert!(stderr.contains("offshoot.toml:2:1") && stderr.contains("defualt"), "{stderr}");
    fs::write(&file, "").unwrap();
    fs::write(home.0.path().join("config.toml"), "[machine]\nmax-runs = \"many\"\n").unwrap();
    let (_, stderr) = ends(&home.offshoot(&home.repo(), &["run", "x"]), 2);
    assert!(stderr.contains("config.toml:2:12"), "{stderr}");
}

#[test]
fn init_writes_once() {
    let home = Home::new();
    fs::write(home.repo().join("Cargo.lock"), "").unwrap();
    fs::create_dir(home.repo().join("src")).unwrap();
    fs::write(home.repo().join(".env"), "KEY=1").unwrap();
    let (stdout, stderr) = ends(&home.offshoot(&home.repo().join("src"), &["init"]), 0);
    assert_eq!(stdout.trim(), home.repo().join("offshoot.toml").to_str().unwrap());
    assert!(stderr.contains("Rust (Cargo.lock)") && stderr.contains(".env"), "{stderr}");
    let text = fs::read_to_string(home.repo().join("offshoot.toml")).unwrap();
    assert!(text.contains("cargo test --locked"), "{text}");
    let (_, stderr) = ends(&home.offshoot(&home.repo(), &["init"]), 4);
    assert!(stderr.contains("--force"), "{stderr}");
    let (stdout, _) = ends(&home.offshoot(&home.repo(), &["--json", "init", "--force"]), 0);
    let written: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(written["private"], serde_json::json!([".env"]));
    let (_, stderr) = ends(&home.offshoot(home.0.path(), &["init"]), 3);
    assert!(stderr.contains("not in a git repository"), "{stderr}");
}

#[test]
fn completions_know_the_commands() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let (stdout, _) = ends(&home.offshoot(&home.repo(), &["completions", shell]), 0);
        assert!(stdout.contains("follow-up") && stdout.contains("pass-env"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_mistake() {
    let home = Home::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_offshoot"))
        .args(["completions", "bash"])
        .env_clear()
        .env("HOME", home.0.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
