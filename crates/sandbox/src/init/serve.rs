//! Init's life: set up, then wait without a timeout for the shim's requests, ended children and DNS queries.
//!
//! Ends when the shim does (end of file on the socket, or the parent-death signal); the kernel then kills everything
//! inside. Requests come from the shim only; still nothing in them can make init fail.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use offshoot_core::{egress::EgressRule, fault};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::Mode,
    io::Errno,
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt},
    process::{Signal, WaitOptions, WaitStatus},
};

use super::{
    SetupError, Step, confine,
    dns::{Dns, Names, Others},
    lo::{self, Gate},
    mounts,
    moves::Moves,
    spawn::Program,
    starts::{Starts, Told},
    usage::{self, Scope},
};
use crate::{
    message::{self, Exit, FromInit, ListenerKind, MAX_FDS, Packet, Refusal, ToInit},
    spec::{SandboxSpec, Weakness},
    sys, tree,
};

/// Dials that may wait for an answer at once.
const MAX_DIALS: usize = 64;

/// Runs as pid 1 and never returns. `privileged` when the shim is root.
pub(crate) fn main(spec: SandboxSpec, socket: OwnedFd, privileged: bool) -> ! {
    let result = Init::start(spec, socket.as_fd(), privileged);
    match result {
        Ok(mut init) => {
            init.socket = Some(socket);
            sys::trim_heap();
            let _ = init.serve();
            sys::exit_now(0)
        }
        Err(e) => {
            let failed = FromInit::Failed { step: e.step, error: e.source.to_string() };
            let _ = message::send(&socket, &failed, &[], Vec::new());
            sys::exit_now(1)
        }
    }
}

/// A connection that is being made; where it is to go next if this fails.
struct Dial {
    n: u64,
    socket: OwnedFd,
    instead: Option<SocketAddr>,
}

struct Init {
    socket: Option<OwnedFd>,
    children: OwnedFd,
    network: Option<(Dns, Gate)>,
    listening: Vec<ListenerKind>,
    workdir: String,
    starts: Starts,
    /// Renames that wait for an answer.
    moves: Option<Moves>,
    /// Leaders that the shim wants to hear about.
    spawned: BTreeSet<u32>,
    /// Requests that wait until nothing is left inside.
    killing: Vec<u64>,
    dials: Vec<Dial>,
    /// Bytes, when this process has to hold the limit itself.
    memory_limit: Option<u64>,
    look_at: Option<Instant>,
    others: Others,
}

impl Init {
    fn start(spec: SandboxSpec, socket: impl AsFd, privileged: bool) -> Result<Self, SetupError> {
        let go = message::receive(&socket, RecvFlags::empty()).step(|| "wait for the shim".into())?;
        let go = go.and_then(|packet| packet.parse().ok());
        let Some(ToInit::Go { soft_memory }) = go else { sys::exit_now(0) };
        fault::point("init.go");
        rustix::process::umask(Mode::empty());
        if !spec.weak(Weakness::HostnameNamespace) {
            rustix::system::sethostname(spec.hostname.as_bytes()).step(|| "set the host name".into())?;
        }
        // What runs inside sees its control group as the root.
        sys::new_cgroup_view().step(|| "hide control groups".into())?;
        let mut sources = mounts::open_sources(&spec)?;
        confine::become_identity(&spec, privileged)?;
        let exe = sources.take_exe()?;
        mounts::assemble(&spec, &sources)?;
        drop(sources);
        fault::point("init.mounted");
        let (mut listeners, mut network) = (Vec::new(), None);
        let others = match (spec.weak(Weakness::DnsFilter), spec.network.others) {
            (true, _) => Others::All,
            (_, true) => Others::Public,
            _ => Others::None,
        };
        if !spec.weak(Weakness::NetworkNamespace) {
            let (gate, made) = lo::bring_up(&spec.network)?;
            listeners = made;
            let dns = Dns::start(Names::new(spec.network.egress.clone(), others))?;
            network = Some((dns, gate));
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        confine::limit(&spec, soft_memory)?;
        confine::drop_rights(&spec)?;
        let moves = Moves::listen(&spec);
        let children = sys::child_signals().step(|| "watch children".into())?;
        let mut init = Self {
            socket: None,
            children,
            network,
            listening: Vec::new(),
            workdir: spec.workdir.display().to_string(),
            starts: Starts::new(exe),
            moves,
            spawned: BTreeSet::new(),
            killing: Vec::new(),
            dials: Vec::new(),
            memory_limit: (soft_memory && !spec.weak(Weakness::MemoryLimit))
                .then_some(spec.limits.memory_bytes),
            look_at: None,
            others,
        };
        init.hand_out(&socket, listeners).step(|| "hand out listeners".into())?;
        fault::point("init.ready");
        message::send(&socket, &FromInit::Ready, &[], Vec::new()).step(|| "report".into())?;
        Ok(init)
    }

    fn hand_out(&mut self, socket: impl AsFd, listeners: Vec<(ListenerKind, OwnedFd)>) -> io::Result<()> {
        let mut rest = listeners.into_iter().peekable();
        while rest.peek().is_some() {
            let (kinds, fds): (Vec<_>, Vec<_>) = rest.by_ref().take(MAX_FDS).unzip();
            self.listening.extend(kinds.iter().cloned());
            message::send(&socket, &FromInit::Listeners { kinds }, &[], fds)?;
        }
        Ok(())
    }

    fn tell(&self, message: &FromInit, fds: Vec<OwnedFd>) -> io::Result<()> {
        match &self.socket {
            Some(socket) => message::send(socket, message, &[], fds),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Returns when the shim is gone.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            if let Some((dns, _)) = &mut self.network {
                dns.serve();
            }
            self.finish_starts()?;
            self.reap()?;
            self.finish_dials()?;
            self.watch()?;
            while let Some(packet) = self.next_request()? {
                self.request(packet)?;
            }
        }
    }

    /// Blocks until something is to be done but answering renames, which is done here, since it has to be quick; with a
    /// timeout only while the watchdog is on duty.
    fn wait(&mut self) -> io::Result<()> {
        let Some(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut what = vec![PollFd::new(socket, PollFlags::IN), PollFd::new(&self.children, PollFlags::IN)];
        what.extend(self.dials.iter().map(|dial| PollFd::new(&dial.socket, PollFlags::OUT)));
        what.extend(self.starts.sockets());
        let dns: Vec<_> = self.network.iter().flat_map(|(dns, _)| dns.sockets()).collect();
        what.extend(dns.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let left = self.look_at.map(|at| at.saturating_duration_since(Instant::now()));
        let left =
            left.map(|d| Timespec { tv_sec: d.as_secs() as i64, tv_nsec: i64::from(d.subsec_nanos()) });
        let others = what.len();
        let listener = self.moves.as_ref().map(Moves::socket);
        what.extend(listener.iter().map(|fd| PollFd::new(fd.as_ref(), PollFlags::IN)));
        loop {
            match rustix::event::poll(&mut what, left.as_ref()) {
                Ok(_) => {}
                Err(Errno::INTR) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
            let renamed = what.get(others).is_some_and(|fd| fd.revents().contains(PollFlags::IN));
            if let Some(moves) = self.moves.as_mut().filter(|_| renamed) {
                moves.serve();
            }
            // Renames without a pause must not keep the watchdog from looking.
            let late = self.look_at.is_some_and(|at| at <= Instant::now());
            if !renamed || late || what[..others].iter().any(|fd| !fd.revents().is_empty()) {
                return Ok(());
            }
        }
    }

    fn next_request(&self) -> io::Result<Option<Packet>> {
        let Some(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };
        match message::receive(socket, RecvFlags::DONTWAIT) {
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(packet) => Ok(packet),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        let mut buffer = [0u8; 128 * 4];
        while rustix::io::read(&self.children, &mut buffer).is_ok_and(|n| n > 0) {}
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get() as u32;
                    if self.starts.starting(pid) {
                        // Its pipe has ended with it.
                        self.finish_starts()?;
                    }
                    if let Some(moves) = &mut self.moves
                        && moves.ended(pid, status.exit_status())
                    {
                        continue;
                    }
                    if self.spawned.remove(&pid) {
                        self.tell(&FromInit::Exited { pid, exit: exit(status) }, Vec::new())?;
                    }
                }
                Ok(None) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        // No child at all.
        self.look_at = None;
        for n in std::mem::take(&mut self.killing) {
            self.tell(&FromInit::Done { n }, Vec::new())?;
        }
        Ok(())
    }

    fn watch(&mut self) -> io::Result<()> {
        let (Some(limit), Some(at)) = (self.memory_limit, self.look_at) else { return Ok(()) };
        if at > Instant::now() {
            return Ok(());
        }
        let (next, done) = usage::watch(Scope::All, limit);
        self.look_at = Some(Instant::now() + Duration::from_millis(next));
        match done {
            Some(what) => self.tell(&FromInit::LimitExceeded { what, pid: None }, Vec::new()),
            None => Ok(()),
        }
    }

    fn request(&mut self, packet: Packet) -> io::Result<()> {
        let Ok(request) = packet.parse::<ToInit>() else { return Ok(()) };
        match request {
            ToInit::Go { .. } => Ok(()),
            ToInit::Spawn { n, .. } if !self.killing.is_empty() => self.done_or(n, false, Refusal::Busy),
            ToInit::Spawn { n, start, terminal } => {
                let program = Program::new(start, terminal, &self.workdir);
                let told = self.starts.start(n, &program, packet.fds);
                self.told(told)
            }
            ToInit::Proceed { n, go } => {
                let told = self.starts.proceed(n, go);
                self.told(told)
            }
            ToInit::Signal { n, pid, signal } => {
                let known = self.spawned.contains(&pid);
                let ended = signal == libc::SIGKILL && self.starts.end(pid);
                let sent = known && (ended || sys::signal_group(pid as i32, signal).is_ok());
                self.done_or(n, sent, Refusal::Unknown)
            }
            ToInit::EndTree { n, pid } => {
                let known = self.spawned.contains(&pid);
                if known && !self.starts.end(pid) {
                    tree::signal_below(pid as i32, Signal::KILL);
                    let _ = sys::signal_group(pid as i32, libc::SIGKILL);
                }
                self.done_or(n, known, Refusal::Unknown)
            }
            ToInit::KillAll { n } => {
                self.killing.push(n);
                // Also wakes those that freeze() stopped: SIGKILL needs no SIGCONT.
                sys::signal_all(libc::SIGKILL);
                self.reap()
            }
            ToInit::Stop { n, stop } => {
                sys::signal_all(if stop { libc::SIGSTOP } else { libc::SIGCONT });
                self.tell(&FromInit::Done { n }, Vec::new())
            }
            ToInit::Dial { n, address, port } => self.dial_first(n, address, port),
            ToInit::Egress { n, rules } => self.egress(n, rules),
            ToInit::Stats { n } => {
                let trees = self.starts.kept().map(|pid| (pid, usage::look(pid as i32, 0).1)).collect();
                self.tell(&FromInit::Stats { n, stats: usage::stats(Scope::All), trees }, Vec::new())
            }
        }
    }

    fn done_or(&self, n: u64, good: bool, refusal: Refusal) -> io::Result<()> {
        let message = if good { FromInit::Done { n } } else { FromInit::Refused { n, refusal } };
        self.tell(&message, Vec::new())
    }

    fn egress(&mut self, n: u64, rules: Vec<EgressRule>) -> io::Result<()> {
        let Some((dns, gate)) = &mut self.network else {
            return self.done_or(n, false, Refusal::Invalid("no network".into()));
        };
        match gate.listen(&rules, &self.listening) {
            Ok(listeners) => {
                dns.set(Names::new(rules, self.others));
                if let Some(socket) = self.socket.as_ref().map(OwnedFd::try_clone).transpose()? {
                    self.hand_out(&socket, listeners)?;
                }
                self.tell(&FromInit::Done { n }, Vec::new())
            }
            Err(e) => self.done_or(n, false, Refusal::System(format!("{}: {}", e.step, e.source))),
        }
    }

    /// Tells what has become of a start.
    fn told(&mut self, told: impl IntoIterator<Item = Told>) -> io::Result<()> {
        for (message, fds) in told {
            if let FromInit::Spawned { pid, .. } = message {
                self.spawned.insert(pid);
                if self.memory_limit.is_some() && self.look_at.is_none() {
                    self.look_at = Some(Instant::now() + Duration::from_millis(100));
                }
            }
            self.tell(&message, fds)?;
        }
        Ok(())
    }

    fn finish_starts(&mut self) -> io::Result<()> {
        let told = self.starts.finish();
        self.told(told)
    }

    fn dial_first(&mut self, n: u64, address: IpAddr, port: u16) -> io::Result<()> {
        if !address.is_loopback() {
            return self.done_or(n, false, Refusal::Invalid(format!("{address} is not inside")));
        }
        // Some servers listen on the other family's only.
        let both = address == IpAddr::V4(Ipv4Addr::LOCALHOST);
        let instead = both.then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        self.dial(n, (address, port).into(), instead)
    }

    fn dial(&mut self, n: u64, address: SocketAddr, instead: Option<SocketAddr>) -> io::Result<()> {
        if self.dials.len() >= MAX_DIALS {
            return self.done_or(n, false, Refusal::Busy);
        }
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None);
        let result = socket.and_then(|s| match rustix::net::connect(&s, &address) {
            Ok(()) => Ok((s, true)),
            Err(Errno::INPROGRESS) => Ok((s, false)),
            Err(e) => Err(e),
        });
        match (result, instead) {
            (Ok((socket, true)), _) => self.tell(&FromInit::Done { n }, vec![socket]),
            (Ok((socket, false)), instead) => {
                self.dials.push(Dial { n, socket, instead });
                Ok(())
            }
            (Err(_), Some(instead)) => self.dial(n, instead, None),
            (Err(e), None) => self.done_or(n, false, Refusal::System(io::Error::from(e).to_string())),
        }
    }

    fn finish_dials(&mut self) -> io::Result<()> {
        for dial in std::mem::take(&mut self.dials) {
            match (sockopt::socket_error(&dial.socket), dial.instead) {
                (Ok(Ok(())), _) if rustix::net::getpeername(&dial.socket).is_ok() => {
                    self.tell(&FromInit::Done { n: dial.n }, vec![dial.socket])?;
                }
                (Ok(Ok(())), _) => self.dials.push(dial),
                (_, Some(instead)) => self.dial(dial.n, instead, None)?,
                _ => self.done_or(dial.n, false, Refusal::System("connection refused".into()))?,
            }
        }
        Ok(())
    }
}

pub(super) fn exit(status: WaitStatus) -> Exit {
    match status.terminating_signal() {
        Some(signal) => Exit::Signal(signal),
        None => Exit::Code(status.exit_status().unwrap_or(-1)),
    }
}
