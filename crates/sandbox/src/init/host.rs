//! The counterpart of init where there is no boundary: the processes are the user's own, on the host. No namespace, no
//! filter, no mount; what is left of an environment is that its processes are started, journaled, stopped and ended
//! together.
//!
//! Is the child subreaper of everything it starts, so that nothing gets out by being orphaned. Ends when the shim does,
//! and everything below it before. Nothing here signals a process that is not below (`kill(-1)` would mean all the user
//! has). Control groups hold memory and numbers where there are some; else memory is watched.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{Mode, OFlags},
    io::Errno,
    net::RecvFlags,
    process::{Signal, WaitOptions},
};

use super::{
    SetupError, Step,
    serve::exit,
    spawn::Program,
    starts::{Starts, Told},
    usage::{self, Scope},
};
use crate::{
    message::{self, FromInit, Packet, Refusal, ToInit},
    spec::{Host, SandboxSpec},
    sys, tree,
};

/// How long the loopback may take to answer.
const DIAL: Duration = Duration::from_millis(250);
/// How long killed processes may take to be gone when the shim is.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often is looked again while something is being killed that is not a child of this process.
const AGAIN: Duration = Duration::from_millis(5);

/// Runs as the shim's child and never returns.
pub(crate) fn main(spec: SandboxSpec, host: &Host, socket: OwnedFd) -> ! {
    match Serving::start(&spec, host, socket.as_fd()) {
        Ok(mut serving) => {
            sys::trim_heap();
            let _ = serving.serve(&socket);
            tree::end(PATIENCE);
            sys::exit_now(0)
        }
        Err(e) => {
            let failed = FromInit::Failed { step: e.step, error: e.source.to_string() };
            let _ = message::send(&socket, &failed, &[], Vec::new());
            sys::exit_now(1)
        }
    }
}

struct Serving {
    own: i32,
    children: OwnedFd,
    workdir: String,
    starts: Starts,
    /// Leaders that the shim wants to hear about.
    spawned: BTreeSet<u32>,
    /// Requests that wait until nothing is left.
    killing: Vec<u64>,
    /// Bytes, when this process has to hold the limit itself.
    memory_limit: Option<u64>,
    look_at: Option<Instant>,
}

impl Serving {
    fn start(spec: &SandboxSpec, host: &Host, socket: impl AsFd) -> Result<Self, SetupError> {
        let go = message::receive(&socket, RecvFlags::empty()).step(|| "wait for the shim".into())?;
        let go = go.and_then(|packet| packet.parse().ok());
        let Some(ToInit::Go { soft_memory }) = go else { sys::exit_now(0) };
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .step(|| "keep orphans".into())?;
        rustix::process::umask(Mode::from_raw_mode(host.umask));
        let children = sys::child_signals().step(|| "watch children".into())?;
        message::send(&socket, &FromInit::Ready, &[], Vec::new()).step(|| "report".into())?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self {
            own: std::process::id() as i32,
            children,
            workdir: spec.workdir.display().to_string(),
            starts: Starts::new(rustix::fs::open("/proc/self/exe", flags, Mode::empty()).ok()),
            spawned: BTreeSet::new(),
            killing: Vec::new(),
            memory_limit: soft_memory.then_some(spec.limits.memory_bytes),
            look_at: None,
        })
    }

    /// Returns when the shim is gone.
    fn serve(&mut self, socket: &OwnedFd) -> io::Result<()> {
        loop {
            self.wait(socket)?;
            self.finish_starts(socket)?;
            self.reap(socket)?;
            self.watch(socket)?;
            loop {
                match message::receive(socket, RecvFlags::DONTWAIT) {
                    Ok(None) => return Ok(()),
                    Ok(Some(packet)) => self.request(packet, socket)?,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e),
                }
            }
        }
    }

    fn wait(&self, socket: &OwnedFd) -> io::Result<()> {
        let mut fds = vec![PollFd::new(socket, PollFlags::IN), PollFd::new(&self.children, PollFlags::IN)];
        fds.extend(self.starts.sockets());
        let look = self.look_at.map(|at| at.saturating_duration_since(Instant::now()));
        let left = if self.killing.is_empty() { look } else { Some(look.unwrap_or(AGAIN).min(AGAIN)) };
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn tell(&self, socket: &OwnedFd, message: &FromInit) -> io::Result<()> {
        message::send(socket, message, &[], Vec::new())
    }

    fn reap(&mut self, socket: &OwnedFd) -> io::Result<()> {
        let mut buffer = [0u8; 128 * 4];
        while rustix::io::read(&self.children, &mut buffer).is_ok_and(|n| n > 0) {}
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get() as u32;
                    if self.starts.starting(pid) {
                        // Its pipe has ended with it.
                        self.finish_starts(socket)?;
                    }
                    if self.spawned.remove(&pid) {
                        self.tell(socket, &FromInit::Exited { pid, exit: exit(status) })?;
                    }
                }
                Ok(None) => break,
                Err(Errno::INTR) => {}
                Err(_) => {
                    // No child at all.
                    self.look_at = None;
                    for n in std::mem::take(&mut self.killing) {
                        self.tell(socket, &FromInit::Done { n })?;
                    }
                    return Ok(());
                }
            }
        }
        if !self.killing.is_empty() {
            tree::signal_below(self.own, Signal::KILL);
        }
        Ok(())
    }

    /// Tells what has become of a start.
    fn told(&mut self, socket: &OwnedFd, told: impl IntoIterator<Item = Told>) -> io::Result<()> {
        for (message, fds) in told {
            if let FromInit::Spawned { pid, .. } = message {
                self.spawned.insert(pid);
                if self.memory_limit.is_some() && self.look_at.is_none() {
                    self.look_at = Some(Instant::now() + Duration::from_millis(100));
                }
            }
            message::send(socket, &message, &[], fds)?;
        }
        Ok(())
    }

    fn finish_starts(&mut self, socket: &OwnedFd) -> io::Result<()> {
        let told = self.starts.finish();
        self.told(socket, told)
    }

    fn watch(&mut self, socket: &OwnedFd) -> io::Result<()> {
        let (Some(limit), Some(at)) = (self.memory_limit, self.look_at) else { return Ok(()) };
        if at > Instant::now() {
            return Ok(());
        }
        let (next, done) = usage::watch(Scope::Below(self.own), limit);
        self.look_at = Some(Instant::now() + Duration::from_millis(next));
        done.map_or(Ok(()), |what| self.tell(socket, &FromInit::LimitExceeded { what, pid: None }))
    }

    fn request(&mut self, packet: Packet, socket: &OwnedFd) -> io::Result<()> {
        let Ok(request) = packet.parse::<ToInit>() else { return Ok(()) };
        let answer = match request {
            ToInit::Go { .. } => return Ok(()),
            ToInit::Spawn { n, .. } if !self.killing.is_empty() => {
                FromInit::Refused { n, refusal: Refusal::Busy }
            }
            ToInit::Spawn { n, start, .. } if start.root.is_some() => {
                FromInit::Refused { n, refusal: Refusal::Invalid("there is no other root here".into()) }
            }
            ToInit::Spawn { n, start, terminal } => {
                let program = Program::new(start, terminal, &self.workdir);
                let told = self.starts.start(n, &program, packet.fds);
                return self.told(socket, told);
            }
            ToInit::Proceed { n, go } => {
                let told = self.starts.proceed(n, go);
                return self.told(socket, told);
            }
            ToInit::Signal { n, pid, signal: libc::SIGKILL } if self.starts.end(pid) => FromInit::Done { n },
            ToInit::EndTree { n, pid } if self.spawned.contains(&pid) => {
                if !self.starts.end(pid) {
                    tree::signal_below(pid as i32, Signal::KILL);
                    let _ = sys::signal_group(pid as i32, libc::SIGKILL);
                }
                FromInit::Done { n }
            }
            ToInit::EndTree { n, .. } => FromInit::Refused { n, refusal: Refusal::Unknown },
            ToInit::Signal { n, pid, signal } => {
                if self.spawned.contains(&pid) && sys::signal_group(pid as i32, signal).is_ok() {
                    FromInit::Done { n }
                } else {
                    FromInit::Refused { n, refusal: Refusal::Unknown }
                }
            }
            ToInit::KillAll { n } => {
                self.killing.push(n);
                // Also wakes what was stopped: SIGKILL needs no SIGCONT.
                tree::signal_below(self.own, Signal::KILL);
                return self.reap(socket);
            }
            ToInit::Stop { n, stop } => {
                tree::signal_below(self.own, if stop { Signal::STOP } else { Signal::CONT });
                FromInit::Done { n }
            }
            ToInit::Dial { n, address, port } => match dial(address, port) {
                Ok(stream) => {
                    return message::send(socket, &FromInit::Done { n }, &[], vec![OwnedFd::from(stream)]);
                }
                Err(e) => FromInit::Refused { n, refusal: Refusal::System(e.to_string()) },
            },
            ToInit::Egress { n, .. } => {
                FromInit::Refused { n, refusal: Refusal::Invalid("it has the host's own network".into()) }
            }
            ToInit::Stats { n } => {
                let trees = self.starts.kept().map(|pid| (pid, usage::look(pid as i32, 0).1)).collect();
                FromInit::Stats { n, stats: usage::stats(Scope::Below(self.own)), trees }
            }
        };
        self.tell(socket, &answer)
    }
}

/// Connects to a port of the host's loopback; of IPv4's usual address, also of IPv6's.
fn dial(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    if !address.is_loopback() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let instead = (address == Ipv4Addr::LOCALHOST).then_some((Ipv6Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&(address, port).into(), DIAL).or_else(|e| match instead {
        Some(instead) => TcpStream::connect_timeout(&instead.into(), DIAL),
        None => Err(e),
    })?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
