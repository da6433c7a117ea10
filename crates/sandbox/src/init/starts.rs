//! Processes that do not run what was asked for at once: they change into a root of their own, or are kept together with
//! all they will start, or wait until they are in their control group. And the keepers of those that are kept together.
//!
//! Used by both loops, inside and on the host. What comes from here is told to the shim by them. What a keeper says is one
//! number: it runs where hostile processes could make it say anything.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    net::{RecvFlags, SendFlags},
    process::{Pid, PidfdFlags},
};

use super::spawn::{self, Program, Started};
use crate::message::{FromInit, Refusal};

/// Longest reason a process may give for not having become what it was to be: a path and a sentence, in one write.
const MAX_EXCUSE: usize = 4096;

/// A process that is not yet what was asked for.
struct Starting {
    n: u64,
    pid: u32,
    master: Option<OwnedFd>,
    tell: OwnedFd,
}

/// What is to be told to the shim.
pub(super) type Told = (FromInit, Vec<OwnedFd>);

pub(super) struct Starts {
    /// This program, for its role in becoming another one.
    exe: Option<OwnedFd>,
    starting: Vec<Starting>,
    /// Lines to keepers, by their number; end of file on one ends what it keeps.
    keepers: BTreeMap<u32, OwnedFd>,
}

impl Starts {
    pub fn new(exe: Option<OwnedFd>) -> Self {
        Self { exe, starting: Vec::new(), keepers: BTreeMap::new() }
    }

    /// Starts a program. Nothing is told yet if more has to happen.
    pub fn start(&mut self, n: u64, program: &Program, fds: Vec<OwnedFd>) -> Option<Told> {
        let Started { pid, master, tell, line } = match spawn::spawn(program, fds, self.exe.as_ref()) {
            Ok(started) => started,
            Err(e) => return Some(refused(n, program.refusal(&e))),
        };
        let Some(tell) = tell else {
            return Some((FromInit::Spawned { n, pid }, master.into_iter().collect()));
        };
        self.starting.push(Starting { n, pid, master, tell });
        self.keepers.extend(line.map(|line| (pid, line)));
        let held = program.tree.is_some_and(|tree| tree.hold);
        let pid = Pid::from_raw(pid as i32).filter(|_| held)?;
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Some((FromInit::Held { n }, vec![handle])),
            Err(_) => self.proceed(n, false),
        }
    }

    /// What to wait on.
    pub fn sockets(&self) -> impl Iterator<Item = PollFd<'_>> {
        let fds = self.starting.iter().map(|s| &s.tell).chain(self.keepers.values());
        fds.map(|fd| PollFd::new(fd, PollFlags::IN))
    }

    /// Whether this process is on its way.
    pub fn starting(&self, pid: u32) -> bool {
        self.starting.iter().any(|s| s.pid == pid)
    }

    /// Which processes have become what they were to be, or why not; which trees are too big.
    pub fn finish(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        for starting in std::mem::take(&mut self.starting) {
            let mut buffer = [0; MAX_EXCUSE];
            match rustix::io::read(&starting.tell, &mut buffer) {
                Err(Errno::AGAIN | Errno::INTR) => self.starting.push(starting),
                // It runs, or was killed on the way.
                Ok(0) | Err(_) => {
                    let Starting { n, pid, master, .. } = starting;
                    told.push((FromInit::Spawned { n, pid }, master.into_iter().collect()));
                }
                Ok(length) => {
                    let excuse = serde_json::from_slice(&buffer[..length]);
                    let refusal = excuse.unwrap_or(Refusal::System("it did not say why".into()));
                    told.push(refused(starting.n, refusal));
                }
            }
        }
        self.keepers.retain(|pid, control| {
            let mut buffer = [0; 8];
            match rustix::net::recv(&*control, &mut buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => true,
                Ok((8, _)) => {
                    let what = format!("memory: {} bytes in use, it was killed", u64::from_ne_bytes(buffer));
                    told.push((FromInit::LimitExceeded { what, pid: Some(*pid) }, Vec::new()));
                    true
                }
                // It is about to end.
                _ => false,
            }
        });
        told
    }

    /// Lets a held process go on, or not.
    pub fn proceed(&mut self, n: u64, go: bool) -> Option<Told> {
        let at = self.starting.iter().position(|s| s.n == n)?;
        let control = self.keepers.get(&self.starting[at].pid)?;
        if go {
            let _ = rustix::net::send(control, &[1], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            return None;
        }
        let starting = self.starting.remove(at);
        self.keepers.remove(&starting.pid);
        Some(refused(n, Refusal::System("it could not enter its control group".into())))
    }

    /// Ends a process and all it has started, if it is kept together with that.
    pub fn end(&mut self, pid: u32) -> bool {
        self.keepers.remove(&pid).is_some()
    }

    /// All that are kept together.
    pub fn kept(&self) -> impl Iterator<Item = u32> {
        self.keepers.keys().copied()
    }
}

fn refused(n: u64, refusal: Refusal) -> Told {
    (FromInit::Refused { n, refusal }, Vec::new())
}
