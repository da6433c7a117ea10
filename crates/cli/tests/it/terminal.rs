//! A shell inside, from a terminal outside: a pair of pseudo-terminals plays the person's.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::Child,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::stage::Stage;

/// Longest wait for the next output, on a busy machine.
const PATIENCE_S: i64 = 60;

struct Terminal {
    person: File,
    program: OwnedFd,
    seen: String,
}

impl Terminal {
    fn new() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let program = ioctl_tiocgptpeer(&person, flags).unwrap();
        tcsetwinsize(&program, Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        Self { person: File::from(person), program, seen: String::new() }
    }

    fn spawn(&self, stage: &Stage, arguments: &[&str]) -> Child {
        let end = || self.program.try_clone().unwrap();
        stage
            .command(arguments)
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap()
    }

    fn type_in(&mut self, keys: &[u8]) {
        self.person.write_all(keys).unwrap();
    }

    fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            let patience = Timespec { tv_sec: PATIENCE_S, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&self.person, PollFlags::IN)], Some(&patience)).unwrap();
            assert_eq!(ready, 1, "{text:?} never came: {:?}", self.seen);
            let n = self.person.read(&mut buffer).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }
}

#[test]
fn a_shell_with_size_filter_detach_and_a_restored_terminal() {
    let stage = Stage::new();
    stage.offshoot(&["env", "up", "--name", "e"]).ok();
    let mut terminal = Terminal::new();
    let before = tcgetattr(&terminal.program).unwrap();
    let mut shell = terminal.spawn(&stage, &["shell", "e"]);
    terminal.type_in(b"stty size; echo answer=$((6 * 7))\n");
    terminal.wait_for("answer=42");
    assert!(terminal.seen.contains("33 99"), "{}", terminal.seen);
    let raw = tcgetattr(&terminal.program).unwrap();
    assert!(!raw.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO));
    terminal.type_in(b"printf '\\033]52;c;ZXZpbA==\\007vis\\151ble\\033]0;t\\007\\n'\n");
    terminal.wait_for("visible");
    assert!(
        !terminal.seen.contains("\u{1b}]52") && !terminal.seen.contains("\u{1b}]0;"),
        "{:?}",
        terminal.seen
    );
    terminal.type_in(&[0x1c, 0x1c]);
    terminal.wait_for("detached");
    assert!(shell.wait().unwrap().success());
    let after = tcgetattr(&terminal.program).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);

    let mut terminal = Terminal::new();
    let mut shell = terminal.spawn(&stage, &["shell", "e"]);
    terminal.type_in(b"echo up=$((1 + 1)); exit 5\n");
    terminal.wait_for("up=2");
    assert_eq!(shell.wait().unwrap().code(), Some(5), "a shell ends with its own code");
}

#[test]
fn a_terminal_is_restored_when_the_client_is_told_to_end() {
    let stage = Stage::new();
    stage.offshoot(&["env", "up", "--name", "e"]).ok();
    let mut terminal = Terminal::new();
    let before = tcgetattr(&terminal.program).unwrap();
    let mut shell = terminal.spawn(&stage, &["shell", "e"]);
    terminal.type_in(b"echo up=$((1 + 1))\n");
    terminal.wait_for("up=2");
    let pid = rustix::process::Pid::from_child(&shell);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(shell.wait().unwrap().code(), Some(143));
    assert_eq!(tcgetattr(&terminal.program).unwrap().local_modes, before.local_modes);
}

#[test]
fn a_watched_list_follows_and_q_ends_it() {
    let stage = Stage::new();
    stage.offshoot(&["daemon", "start"]).ok();
    let mut terminal = Terminal::new();
    let mut list = terminal.spawn(&stage, &["ps", "--watch"]);
    terminal.wait_for("no tasks");
    stage.offshoot(&["env", "up", "--name", "seen"]).ok();
    terminal.wait_for("seen");
    terminal.wait_for("idle");
    terminal.type_in(b"q");
    assert!(list.wait().unwrap().success());
}

/// An agent that works in a terminal: it says what it hears, moves a spinner while it works, and ends when it is told.
const TYPIST: &str = r#"
[agents.typist]
title = "Typist"
protocol = "terminal"
idle_after_s = 1
command = ["sh", "-c", """
stty -echo; printf 'ready> '
while read -r line; do
  echo "heard:$line"
  case $line in
    work*) (while :; do printf '.'; sleep 0.1; done) & spinner=$! ;;
    finish) echo done >made.txt; kill $spinner; echo bye; exit 0 ;;
  esac
done
"""]
"#;

#[test]
fn attach_joins_the_agents_terminal_again_and_again() {
    let stage = Stage::new();
    std::fs::write(stage.path().join("config.toml"), TYPIST).unwrap();
    stage.offshoot(&["run", "work on it", "--agent", "typist", "--name", "t"]).ok();
    let state = |stage: &Stage| {
        let list = stage.offshoot(&["--json", "ps", "--all"]).json();
        list["tasks"][0]["task"]["state"].as_str().unwrap().to_owned()
    };

    let mut terminal = Terminal::new();
    let before = tcgetattr(&terminal.program).unwrap();
    let mut attached = terminal.spawn(&stage, &["attach", "t"]);
    terminal.wait_for("heard:work on it");
    terminal.type_in(b"knock\r");
    terminal.wait_for("heard:knock");
    terminal.type_in(&[0x1c, 0x1c]);
    terminal.wait_for("detached; what runs there goes on");
    assert!(attached.wait().unwrap().success());
    assert_eq!(tcgetattr(&terminal.program).unwrap().local_modes, before.local_modes);
    assert_eq!(state(&stage), "running", "it goes on without anybody");

    // Two people at once, after the daemon was killed: both see what was said, and what either types.
    stage.kill_daemon();
    let (mut one, mut other) = (Terminal::new(), Terminal::new());
    let mut first = one.spawn(&stage, &["attach", "t"]);
    let mut second = other.spawn(&stage, &["attach", "t"]);
    one.wait_for("heard:knock");
    other.wait_for("heard:knock");
    other.type_in(b"again\r");
    one.wait_for("heard:again");
    one.type_in(b"finish\r");
    other.wait_for("bye");
    assert_eq!(first.wait().unwrap().code(), Some(0), "attach ends as the agent did");
    assert_eq!(second.wait().unwrap().code(), Some(0));
    stage.offshoot(&["logs", "-f", "t"]).ok();
    assert_eq!(state(&stage), "complete");
    assert_eq!(stage.repo.git(&["show", "offshoot/t:made.txt"]).unwrap(), "done");
    let raw = stage.offshoot(&["logs", "--raw", "t"]).ok();
    assert!(raw.contains("ready> ") && raw.contains("heard:again\r\n") && raw.contains("bye\r\n"), "{raw:?}");
}

#[test]
fn attach_says_why_it_cannot() {
    let stage = Stage::new();
    stage.offshoot(&["run", "go\n@hang", "--agent", "scripted", "--name", "busy"]).ok();
    let mut terminal = Terminal::new();
    let mut attached = terminal.spawn(&stage, &["attach", "busy"]);
    terminal.wait_for("hint:");
    assert!(
        terminal.seen.contains("its agent is spoken to by protocol, not by a terminal"),
        "{}",
        terminal.seen
    );
    assert_eq!(attached.wait().unwrap().code(), Some(4));
    let _ = stage.offshoot(&["--json", "attach", "busy"]).problem(2, "no_terminal");
    stage.offshoot(&["stop", "busy"]).ok();
}
