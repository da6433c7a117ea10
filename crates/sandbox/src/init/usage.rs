//! What everything inside uses, read from the sandbox's own /proc, and the watchdog on memory where no control group
//! holds a limit. The watchdog runs only while a process does, and looks the more often the nearer the limit is.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{message::Stats, sys, tree};

/// How fast memory can be filled, bytes a millisecond (measured: 2 to 4 GiB/s); decides when to look again.
const FILL: u64 = 4 << 20;
/// Bounds on the time between two looks, milliseconds.
const LOOK: std::ops::RangeInclusive<u64> = 20..=2000;

/// Whose usage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    /// Of all processes of the pid namespace but its init.
    All,
    /// Of what is below one process of the host's.
    Below(i32),
}

struct Process {
    pid: i32,
    resident: u64,
    private: u64,
}

fn processes(scope: Scope) -> Vec<Process> {
    let numbers: Vec<i32> = match scope {
        Scope::All => {
            let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
            let numbers = entries.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
            numbers.filter(|pid| *pid != 1).collect()
        }
        Scope::Below(root) => tree::below(root).iter().map(|process| process.pid).collect(),
    };
    numbers
        .into_iter()
        .filter_map(|pid| {
            let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
            let mut pages = statm.split(' ').skip(1).map_while(|n| n.parse::<u64>().ok());
            let (resident, shared) = (pages.next()? * page(), pages.next()? * page());
            Some(Process { pid, resident, private: resident.saturating_sub(shared) })
        })
        .collect()
}

fn page() -> u64 {
    rustix::param::page_size() as u64
}

/// A process's share of the memory it maps, shared pages divided among their users.
fn proportional(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Memory of all: the private pages, unless what is resident could exceed `limit`; then the exact shares.
fn memory(processes: &[Process], limit: u64) -> u64 {
    if processes.iter().map(|p| p.resident).sum::<u64>() <= limit {
        return processes.iter().map(|p| p.private).sum();
    }
    processes.iter().map(|p| proportional(p.pid).unwrap_or(p.resident)).sum()
}

/// Totals over all processes.
pub(super) fn stats(scope: Scope) -> Stats {
    let processes = processes(scope);
    let cpu = |pid: i32| {
        let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
        let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    };
    let ticks: u64 = processes.iter().filter_map(|p| cpu(p.pid)).sum();
    Stats {
        memory_bytes: memory(&processes, 0),
        processes: processes.len() as u64,
        cpu_us: ticks * 1_000_000 / rustix::param::clock_ticks_per_second() + sys::cpu_of_children(),
        hard: Vec::new(),
        trees: BTreeMap::new(),
    }
}

/// Memory of everything below a process, or only whether it is below `limit`; and milliseconds until the next look.
pub(super) fn look(root: i32, limit: u64) -> (u64, u64) {
    let used = memory(&processes(Scope::Below(root)), limit);
    ((limit.saturating_sub(used) / FILL).clamp(*LOOK.start(), *LOOK.end()), used)
}

/// Looks once: kills the largest process when the limit is exceeded, all when it is exceeded by half.
/// Returns when to look again, and what was done.
pub(super) fn watch(scope: Scope, limit: u64) -> (u64, Option<String>) {
    let processes = processes(scope);
    let used = memory(&processes, limit);
    let next = (limit.saturating_sub(used) / FILL).clamp(*LOOK.start(), *LOOK.end());
    if used <= limit {
        return (next, None);
    }
    if used > limit + limit / 2 {
        match scope {
            Scope::All => sys::signal_all(libc::SIGKILL),
            Scope::Below(root) => {
                tree::signal_below(root, rustix::process::Signal::KILL);
            }
        }
        return (next, Some(format!("memory: {used} of {limit} bytes in use, everything was killed")));
    }
    let Some(largest) = processes.iter().max_by_key(|p| p.private) else { return (next, None) };
    let _ = sys::signal_one(largest.pid, libc::SIGKILL);
    let (pid, private) = (largest.pid, largest.private);
    (
        next,
        Some(format!("memory: {used} of {limit} bytes in use, process {pid} ({private} bytes) was killed")),
    )
}
