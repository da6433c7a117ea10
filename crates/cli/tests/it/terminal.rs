//! A shell inside, from a terminal outside: a pair of pseudo-terminals plays the person's.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::Child,
};

use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::stage::Stage;

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
