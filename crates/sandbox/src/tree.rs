//! The processes below one of ours, found in `/proc`: what stands for a pid namespace where there is none.
//!
//! Whoever asks is a child subreaper, so what a process leaves behind stays below it, however it was detached. A number
//! is signalled only while it still belongs to the process that was found. Linux only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal};

/// The variable that everything in an environment without a boundary carries.
pub(crate) const MARK: &str = "OFFSHOOT_ENVIRONMENT";
/// Rounds of looking and killing: each one finds what was forked during the one before.
const PAUSE: Duration = Duration::from_millis(1);

/// A process, told from a later one with the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub pid: i32,
    parent: i32,
    started: u64,
    dead: bool,
}

fn look(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let dead = fields.next()? == "Z";
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Process { pid, parent, started, dead })
}

fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Everything below `root` that lives, without itself.
pub(crate) fn below(root: i32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in numbers().filter_map(look) {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut seen, mut pending) = (Vec::new(), BTreeSet::from([root]), vec![root]);
    while let Some(pid) = pending.pop() {
        for process in children.remove(&pid).unwrap_or_default() {
            if seen.insert(process.pid) {
                pending.push(process.pid);
                if !process.dead {
                    found.push(process);
                }
            }
        }
    }
    found
}

/// Sends a signal to a process if it is still the one that was found.
pub(crate) fn signal(process: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if look(process.pid).is_some_and(|now| now.started == process.started) {
        let _ = pidfd_send_signal(handle, signal);
    }
}

/// Sends a signal to everything below `root`; how many there were.
pub(crate) fn signal_below(root: i32, sent: Signal) -> usize {
    let all = below(root);
    all.iter().for_each(|process| signal(process, sent));
    all.len()
}

/// Kills everything below this process and reaps what becomes its child, for at most `patience`. Whether nothing is left.
pub(crate) fn end(patience: Duration) -> bool {
    let (from, own) = (Instant::now(), std::process::id() as i32);
    loop {
        let left = signal_below(own, Signal::KILL);
        while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        if left == 0 || from.elapsed() > patience {
            return left == 0;
        }
        // The dying are not all children of this process: nothing tells when the last one is gone.
        std::thread::sleep(PAUSE);
    }
}

/// Kills every process that carries this mark in its environment, wherever it hangs, for at most `patience`: the last
/// resort when everybody who could have known it as a descendant was killed.
pub(crate) fn end_marked(environment: &str, patience: Duration) -> bool {
    let (from, own) = (Instant::now(), std::process::id() as i32);
    let mark = format!("{MARK}={environment}");
    loop {
        let marked: Vec<_> = numbers()
            .filter(|pid| *pid != own)
            .filter(|pid| {
                let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                variables.split(|b| *b == 0).any(|variable| variable == mark.as_bytes())
            })
            .filter_map(look)
            .filter(|process| !process.dead)
            .collect();
        marked.iter().for_each(|process| signal(process, Signal::KILL));
        if marked.is_empty() || from.elapsed() > patience {
            return marked.is_empty();
        }
        std::thread::sleep(PAUSE);
    }
}
