//! The keeper of one process and all it starts: outlives it by as long as it takes to end what it leaves behind, and ends
//! as it did. What a container's pid namespace does, without hiding the process from its neighbours.
//!
//! Forked by init, which shares its memory and which nothing inside can look into; holds one line to init, whose end means
//! "end it". It is the child subreaper of what it keeps, so a daemon that detaches itself stays below it. One that kills its
//! keeper first is left to whoever ends the environment, or to the control group where there is one.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    net::{RecvFlags, SendFlags},
    process::{WaitOptions, WaitStatus},
};

use super::{
    spawn::{self, Program},
    usage,
};
use crate::{message::Tree, sys, tree};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts a program as its keeper, in a session of its own. Returns never; the process has just been forked.
pub(super) fn run(
    program: &Program,
    tree: Tree,
    standard: [OwnedFd; 3],
    exe: Option<&OwnedFd>,
    tell: OwnedFd,
    line: &OwnedFd,
) -> ! {
    let kept = standard.iter().chain([&tell, line]).chain(exe);
    sys::close_all_but(&kept.map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
    sys::forget_standard();
    // Signals to its group are the program's.
    sys::block_signals();
    if tree.hold && !matches!(rustix::net::recv(line, &mut [0; 1], RecvFlags::empty()), Ok((1, _))) {
        sys::exit_now(1);
    }
    match begin(program, standard, exe, &tell) {
        Ok(main) => {
            drop(tell);
            keep(main, line, tree.memory_bytes)
        }
        Err(e) => {
            let text = serde_json::to_vec(&program.refusal(&e)).unwrap_or_default();
            let _ = rustix::io::write(&tell, &text);
            sys::exit_now(1)
        }
    }
}

fn begin(
    program: &Program,
    standard: [OwnedFd; 3],
    exe: Option<&OwnedFd>,
    tell: &OwnedFd,
) -> io::Result<i32> {
    rustix::process::setsid()?;
    if program.terminal.is_some() {
        rustix::process::ioctl_tiocsctty(&standard[0])?;
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut command = program.command(exe, Some(tell.try_clone()?))?;
    spawn::connect(&mut command, standard);
    sys::take_signals(&mut command);
    Ok(command.spawn()?.id() as i32)
}

/// Keeps the child `main` and everything below until it ends or the line does; holds its memory below `limit` bytes, if
/// given.
fn keep(main: i32, line: &OwnedFd, limit: Option<u64>) -> ! {
    let Ok(children) = sys::child_signals() else { sys::exit_now(1) };
    let mut look_at = limit.map(|_| Instant::now());
    loop {
        let mut fds = [PollFd::new(&children, PollFlags::IN), PollFd::new(line, PollFlags::IN)];
        let left = look_at.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let _ = rustix::event::poll(&mut fds, left.as_ref());
        let told = !fds[1].revents().is_empty();
        let mut buffer = [0u8; 128 * 4];
        while rustix::io::read(&children, &mut buffer).is_ok_and(|n| n > 0) {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid.as_raw_nonzero().get() == main {
                tree::end(PATIENCE);
                end_as(status);
            }
        }
        if told {
            tree::end(PATIENCE);
            sys::end_by(libc::SIGKILL);
        }
        if let (Some(limit), Some(at)) = (limit, look_at)
            && at <= Instant::now()
        {
            let (next, used) = usage::look(std::process::id() as i32, limit);
            look_at = Some(Instant::now() + Duration::from_millis(next));
            if used > limit {
                let _ =
                    rustix::net::send(line, &used.to_ne_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
                tree::end(PATIENCE);
                sys::end_by(libc::SIGKILL);
            }
        }
    }
}

fn end_as(status: WaitStatus) -> ! {
    match status.terminating_signal() {
        Some(signal) => sys::end_by(signal),
        None => sys::exit_now(status.exit_status().unwrap_or(-1)),
    }
}
