//! The control group of one executed process and all it starts, below the environment's: holds its memory, and ends it
//! completely. Made and removed by the shim; one that is left is removed with the environment's.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::event::{EventfdFlags, PollFlags};

use crate::cgroup::{field, number, read, wait_until};

/// How near to its limit a group is when the kernel looks for somebody in it to kill. It tells before it kills.
const NEAR: u64 = 2 << 20;

/// One executed process's group.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    unified: bool,
    limit: Option<u64>,
    kills: u64,
    told: bool,
    alarm: Option<OwnedFd>,
}

impl Group {
    /// Makes a group at `path`, whose parent may hold memory. None if the limit cannot be held.
    pub fn create(path: PathBuf, unified: bool, limit: Option<u64>) -> Option<Self> {
        fs::create_dir(&path).ok()?;
        let put = |file: &str, value: &str| fs::write(path.join(file), value).is_ok();
        let held = limit.map(|bytes| bytes.to_string()).is_none_or(|bytes| {
            if unified {
                put("memory.swap.max", "0");
                // All of it: a database without one of its processes is of no use, and says so to nobody.
                put("memory.oom.group", "1");
                put("memory.max", &bytes)
            } else {
                // The one for memory and swap together exists where swap is accounted for.
                let held = put("memory.limit_in_bytes", &bytes);
                put("memory.memsw.limit_in_bytes", &bytes);
                held
            }
        });
        if !held {
            let _ = fs::remove_dir(&path);
            return None;
        }
        let alarm = limit.and_then(|_| if unified { unified_alarm(&path) } else { alarm(&path) }.ok());
        Some(Self { path, unified, limit, kills: 0, told: false, alarm })
    }

    /// Moves a process in.
    pub fn enter(&self, pid: i32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
    }

    /// What to wait on for [`Group::exceeded`], until it has said so once.
    pub fn alarm(&self) -> Option<(&OwnedFd, PollFlags)> {
        let flags = if self.unified { PollFlags::PRI } else { PollFlags::IN };
        self.alarm.as_ref().map(|fd| (fd, flags))
    }

    /// What was done about a met limit; once. `alarmed` when the alarm has told that there is something.
    pub fn exceeded(&mut self, alarmed: bool) -> Option<String> {
        let events = if self.unified { "memory.events" } else { "memory.oom_control" };
        let kills = field(&self.path.join(events), "oom_kill ").unwrap_or(0);
        let near = !self.unified && alarmed && self.limit.is_some_and(|limit| self.memory() + NEAR >= limit);
        if alarmed && self.unified {
            // Any change of the file wakes; reading it is what makes it quiet again.
            let mut buffer = [0; 512];
            let _ = self.alarm.as_ref().map(|fd| rustix::io::pread(fd, &mut buffer, 0));
        }
        if kills <= self.kills && !near {
            if alarmed && !self.unified {
                let _ = self.alarm.as_ref().map(|fd| rustix::io::read(fd, &mut [0; 8]));
            }
            return None;
        }
        // It is ended now, if the kernel has not done so.
        (self.kills, self.alarm) = (kills.max(self.kills), None);
        let what = match self.limit {
            Some(limit) => format!("memory: {limit} bytes were not enough, it was killed"),
            None => "memory: the kernel killed a process of it".to_owned(),
        };
        (!std::mem::replace(&mut self.told, true)).then_some(what)
    }

    /// Processes that the kernel has killed in it.
    pub fn kills(&self) -> u64 {
        self.kills
    }

    /// Memory in use, bytes.
    pub fn memory(&self) -> u64 {
        number(&self.path.join(if self.unified { "memory.current" } else { "memory.usage_in_bytes" }))
            .unwrap_or(0)
    }

    /// Kills whoever is still in it and removes it.
    pub fn end(self) {
        wait_until(|| {
            let _ = fs::write(self.path.join("cgroup.kill"), "1");
            for pid in read(&self.path.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            fs::remove_dir(&self.path).is_ok() || !self.path.exists()
        });
    }
}

/// Version 1: a counter that the kernel raises before it looks for a process to kill.
fn alarm(path: &Path) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let events = fs::File::open(path.join("memory.oom_control"))?;
    let alarm = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    fs::write(path.join("cgroup.event_control"), format!("{} {}", alarm.as_raw_fd(), events.as_raw_fd()))?;
    Ok(alarm)
}

/// Version 2: the file itself, which has to be read before it can be waited on.
fn unified_alarm(path: &Path) -> io::Result<OwnedFd> {
    let mut events = fs::File::open(path.join("memory.events"))?;
    io::copy(&mut events, &mut io::sink())?;
    Ok(events.into())
}
