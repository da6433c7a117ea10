//! The red-team probe: runs inside an environment and tries to get out, to see what it should not, or to take more
//! than it was given. One line of JSON an attack: `{"attack": …, "outcome": "blocked" | "reached" | "skipped", …}`.
//!
//! `offshoot-probe NAME=VALUE…` takes the host's canaries as arguments (see `Canaries`). Uses std and libc only, so
//! that it can be linked statically (`-C target-feature=+crt-static`) and run in any backend. An attack whose canary
//! is not given is "skipped". It stays on its side: what it would break, it only shows that it could.
#![expect(unsafe_code, reason = "attacks are system calls; all of them go through `call`")]

mod files;
mod kernel;
mod network;
mod processes;
mod resources;

use std::{collections::BTreeMap, fmt::Write as _};

/// What an attack came to.
enum Outcome {
    Blocked(String),
    Reached(String),
    Skipped(&'static str),
}

use Outcome::{Blocked, Reached, Skipped};

impl Outcome {
    /// Reached if the call succeeded.
    fn of<T>(result: Result<T, std::io::Error>) -> Self {
        match result {
            Ok(_) => Reached("allowed".into()),
            Err(e) => Blocked(e.to_string()),
        }
    }
}

/// What the host has laid out, by name.
struct Canaries(BTreeMap<String, String>);

impl Canaries {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

type Attack = (&'static str, fn(&Canaries) -> Outcome);

/// One system call. Arguments are integers or addresses of data that outlives the call.
fn call(number: libc::c_long, arguments: &[usize]) -> std::io::Result<usize> {
    let a = |n: usize| arguments.get(n).copied().unwrap_or(0);
    // SAFETY: callers pass addresses of live data of the size the call expects, or plain numbers.
    let result = unsafe { libc::syscall(number, a(0), a(1), a(2), a(3), a(4), a(5)) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result as usize) }
}

/// Runs something in a forked child and returns its exit code, or 128 + the signal that killed it.
fn in_child(act: impl FnOnce() -> i32) -> i32 {
    // SAFETY: this program has no other threads.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = act();
        // SAFETY: does not return.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: status lives through the call.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}

/// Runs something with all rights over new namespaces, as an agent's own sandbox would have; 99 if there are none.
fn nested(namespaces: libc::c_int, act: impl FnOnce() -> i32) -> i32 {
    in_child(|| match call(libc::SYS_unshare, &[(libc::CLONE_NEWUSER | namespaces) as usize]) {
        Ok(_) => act(),
        Err(_) => 99,
    })
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn main() {
    let pairs =
        std::env::args().skip(1).filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())));
    let canaries = Canaries(pairs.collect());
    let only = canaries.get("only").map(str::to_owned);
    let groups = [processes::ATTACKS, files::ATTACKS, network::ATTACKS, kernel::ATTACKS, resources::ATTACKS];
    for (name, attack) in groups.concat() {
        if only.as_ref().is_some_and(|only| !only.split(',').any(|o| o == name)) {
            continue;
        }
        let (outcome, detail) = match attack(&canaries) {
            Blocked(detail) => ("blocked", detail),
            Reached(detail) => ("reached", detail),
            Skipped(why) => ("skipped", why.to_owned()),
        };
        println!("{{\"attack\":\"{name}\",\"outcome\":\"{outcome}\",\"detail\":{}}}", quoted(&detail));
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if (c as u32) < 32 => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
