//! The shim's loop: waits without a timeout for daemons, init and output, and does what they ask.
//!
//! It never waits for one daemon, and asks init little enough at a time ([`MAX_PENDING`]) that neither can block the
//! other. When init is gone the environment is: journals are completed, groups and socket removed, the lock freed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::FileType,
    io::Errno,
    net::{RecvFlags, SocketFlags},
    pipe::PipeFlags,
    process::{Signal, WaitId, WaitIdOptions},
};

use super::{exec::Exec, peers::Peers};
use crate::{
    cgroup::Cgroup,
    exec_group::Group,
    journal::{MAX_RECORD, Writer},
    message::{
        self, Ask, Event, ExecState, Exit, FromInit, ListenerKind, MAX_FDS, Packet, Question, Refusal, Reply,
        Start, Stats, StdioKind, ToInit,
    },
    spec::SandboxSpec,
    tree,
};

/// Questions init may have open: they and their answers fit into both socket buffers.
const MAX_PENDING: usize = 48;
/// Ended processes that are still listed; older ones have their journals on disk.
const MAX_ENDED: usize = 256;
/// Listeners; each holds a descriptor here and one in the daemon.
const MAX_LISTENERS: usize = 512;

/// How long what a killed init leaves on the host may take to be gone.
const ORPHANS: Duration = Duration::from_secs(4);

/// A question that init is working on.
struct Pending {
    peer: u64,
    n: u64,
    what: What,
}

enum What {
    Plain,
    Exec(Box<Exec>, Option<(u16, u16)>),
    Egress,
}

/// What woke the loop.
enum Woken {
    Listener,
    Init,
    Gone,
    Peer(u64),
    Output(usize, usize),
    Input(usize),
    Memory(usize),
}

/// The running shim.
pub(super) struct Shim {
    _lock: File,
    listener: OwnedFd,
    init: OwnedFd,
    pidfd: OwnedFd,
    listeners: Vec<(ListenerKind, OwnedFd)>,
    cgroup: Cgroup,
    env: BTreeMap<String, String>,
    peers: Peers,
    execs: Vec<Exec>,
    pending: BTreeMap<u64, Pending>,
    asked: u64,
    frozen: bool,
    /// There is no pid namespace that ends with init.
    host: bool,
    downs: Vec<(u64, u64)>,
    buffer: Vec<u8>,
}

impl Shim {
    pub fn new(
        lock: File,
        listener: OwnedFd,
        init: OwnedFd,
        pidfd: OwnedFd,
        listeners: Vec<(ListenerKind, OwnedFd)>,
        cgroup: Cgroup,
        spec: &SandboxSpec,
    ) -> Self {
        Self {
            _lock: lock,
            listener,
            init,
            pidfd,
            listeners,
            cgroup,
            env: spec.env.clone(),
            peers: Peers::default(),
            execs: Vec::new(),
            pending: BTreeMap::new(),
            asked: 0,
            frozen: false,
            host: spec.host.is_some(),
            downs: Vec::new(),
            buffer: vec![0; MAX_RECORD],
        }
    }

    /// Runs until the environment is gone.
    pub fn serve(mut self, first: OwnedFd) {
        self.peers.add(first);
        loop {
            match self.wait() {
                Ok(woken) => {
                    if woken.iter().any(|w| matches!(w, Woken::Gone)) {
                        break;
                    }
                    for one in woken {
                        self.handle(one);
                    }
                }
                Err(e) => {
                    eprintln!("shim: cannot wait: {e}");
                    break;
                }
            }
            for at in 0..self.execs.len() {
                if self.execs[at].stuck() {
                    self.with_exec(at, |exec, buffer| exec.retry(buffer));
                }
            }
            self.peers.flush();
        }
        self.finish();
    }

    fn wait(&self) -> io::Result<Vec<Woken>> {
        let mut what = vec![Woken::Listener, Woken::Init, Woken::Gone];
        let mut fds = vec![
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.init, PollFlags::IN),
            PollFd::new(&self.pidfd, PollFlags::IN),
        ];
        for peer in self.peers.iter() {
            let room = if peer.wants_room() { PollFlags::OUT } else { PollFlags::empty() };
            what.push(Woken::Peer(peer.token));
            fds.push(PollFd::new(&peer.socket, PollFlags::IN | room));
        }
        for (at, exec) in self.execs.iter().enumerate() {
            for (output, fd) in exec.readable() {
                what.push(Woken::Output(at, output));
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
            if let Some(fd) = exec.writable() {
                what.push(Woken::Input(at));
                fds.push(PollFd::new(fd, PollFlags::OUT));
            }
            if let Some((fd, flags)) = exec.group.as_ref().and_then(Group::alarm) {
                what.push(Woken::Memory(at));
                fds.push(PollFd::new(fd, flags));
            }
        }
        // A full disk is the one thing nobody tells us the end of.
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        let timeout = self.execs.iter().any(Exec::stuck).then_some(&second);
        match rustix::event::poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        Ok(what.into_iter().zip(ready).filter_map(|(what, ready)| ready.then_some(what)).collect())
    }

    fn handle(&mut self, woken: Woken) {
        match woken {
            Woken::Listener => {
                while let Ok(socket) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) {
                    self.peers.add(socket);
                }
            }
            Woken::Init => self.hear_init(),
            Woken::Gone => {}
            Woken::Peer(token) => self.hear_peer(token),
            Woken::Output(at, output) => self.with_exec(at, |exec, buffer| exec.read(output, buffer)),
            Woken::Input(at) => self.with_exec(at, |exec, _| exec.write()),
            Woken::Memory(at) => self.memory(at, true),
        }
    }

    /// Does something with one process and tells what came of it: growth, its end, room for input.
    fn with_exec(&mut self, at: usize, act: impl FnOnce(&mut Exec, &mut [u8])) {
        let Some(exec) = self.execs.get_mut(at) else { return };
        let (end, exit) = (exec.end(), exec.exit());
        act(exec, &mut self.buffer);
        if exec.end() > end {
            self.peers.tell(&Event::Output { exec: exec.id.clone(), end_offset: exec.end() });
        }
        if let (None, Some(exit)) = (exit, exec.exit()) {
            self.peers.tell(&Event::Exited { exec: exec.id.clone(), exit });
        }
        for (peer, n) in exec.room() {
            self.peers.answer(peer, n, Ok(Reply::Done), Vec::new());
        }
    }

    fn hear_init(&mut self) {
        // Bounded, so that a busy init does not starve the others.
        for _ in 0..64 {
            match message::receive(&self.init, RecvFlags::DONTWAIT) {
                Ok(Some(packet)) => self.on_init(packet),
                // Gone, or nothing more; the pidfd tells the former.
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn on_init(&mut self, mut packet: Packet) {
        let Ok(message) = packet.parse::<FromInit>() else { return };
        match message {
            FromInit::Listeners { kinds } => {
                let room = MAX_LISTENERS.saturating_sub(self.listeners.len());
                self.listeners.extend(kinds.into_iter().zip(packet.fds).take(room));
            }
            FromInit::Spawned { n, pid } => {
                let Some(Pending { peer, n, what: What::Exec(mut exec, size) }) = self.pending.remove(&n)
                else {
                    return;
                };
                exec.pid = pid;
                if let (Some((rows, cols)), Some(master)) = (size, packet.fds.pop())
                    && let Err(e) = exec.attach(master).and_then(|()| exec.note_size(rows, cols))
                {
                    eprintln!("shim: terminal of {}: {e}", exec.id);
                }
                self.execs.push(*exec);
                self.peers.answer(peer, n, Ok(Reply::Started { pid }), Vec::new());
            }
            FromInit::Exited { pid, exit } => {
                if let Some(at) = self.running(pid) {
                    self.memory(at, false);
                    if let Some(group) = self.execs[at].group.take() {
                        self.cgroup.told_below(group.kills());
                        group.end();
                    }
                    self.with_exec(at, |exec, buffer| exec.ended(exit, buffer));
                }
                for what in self.cgroup.exceeded() {
                    self.peers.tell(&Event::LimitExceeded { exec: None, what });
                }
                self.forget();
            }
            FromInit::Done { n } => self.settle(n, Ok(Reply::Done), packet.fds),
            FromInit::Refused { n, refusal } => self.settle(n, Err(refusal), Vec::new()),
            FromInit::Held { n } => self.enter_group(n, &packet.fds),
            FromInit::Stats { n, mut stats, trees } => {
                let held = self.cgroup.stats();
                stats.hard = held.hard;
                stats.trees = self.trees(&trees);
                for (to, from) in
                    [(&mut stats.memory_bytes, held.memory_bytes), (&mut stats.cpu_us, held.cpu_us)]
                {
                    *to = if from > 0 { from } else { *to };
                }
                self.settle(n, Ok(Reply::Stats(stats)), Vec::new());
            }
            FromInit::LimitExceeded { what, pid } => {
                let exec = pid.and_then(|pid| Some(self.execs[self.running(pid)?].id.clone()));
                self.peers.tell(&Event::LimitExceeded { exec, what });
            }
            FromInit::Ready | FromInit::Failed { .. } => {}
        }
    }

    fn settle(&mut self, n: u64, reply: Result<Reply, Refusal>, fds: Vec<OwnedFd>) {
        let Some(Pending { peer, n, what }) = self.pending.remove(&n) else { return };
        if let What::Exec(mut exec, _) = what {
            // Nothing was started: leave no empty journal behind.
            let _ = fs::remove_file(journal_path(&exec.id));
            if let Some(group) = exec.group.take() {
                group.end();
            }
        } else if let What::Egress = what {
            return self.peers.answer(peer, n, reply, Vec::new());
        }
        self.peers.answer(peer, n, reply, fds);
    }

    /// Ended processes are listed for a while only.
    fn forget(&mut self) {
        let ended = self.execs.iter().filter(|e| e.over()).count();
        let mut surplus = ended.saturating_sub(MAX_ENDED);
        self.execs.retain(|e| {
            let forgotten = surplus > 0 && e.over();
            surplus -= usize::from(forgotten);
            !forgotten
        });
    }

    fn hear_peer(&mut self, token: u64) {
        for _ in 0..64 {
            let Some(peer) = self.peers.get(token) else { return };
            match message::receive(&peer.socket, RecvFlags::DONTWAIT) {
                Ok(Some(packet)) => match packet.parse::<Question>() {
                    Ok(question) => self.ask(token, question, packet),
                    Err(_) => return self.peers.cut(token),
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Ok(None) | Err(_) => return self.peers.cut(token),
            }
        }
    }

    fn ask(&mut self, peer: u64, question: Question, packet: Packet) {
        let n = question.n;
        let mut fds = Vec::new();
        let reply = match question.ask {
            Ask::Exec { id, start, stdio } => match self.exec(peer, n, id, start, stdio, packet.fds) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            Ask::Input { exec } => match self.input(peer, n, &exec, &packet.tail) {
                Ok(true) => Ok(Reply::Done),
                Ok(false) => return,
                Err(refusal) => Err(refusal),
            },
            Ask::CloseInput { exec } => self.on_exec(&exec, |exec| exec.close_input()),
            Ask::Resize { exec, rows, cols } => self.on_exec(&exec, |exec| exec.resize(rows, cols)),
            Ask::Ack { exec, offset } => self.find(&exec).map(|at| {
                self.with_exec(at, |exec, buffer| {
                    exec.acknowledge(offset);
                    exec.retry(buffer);
                });
                Reply::Done
            }),
            Ask::Signal { exec, signal } => match self.find(&exec).map(|at| self.execs[at].pid) {
                Ok(pid) => return self.ask_init(peer, n, What::Plain, |n| ToInit::Signal { n, pid, signal }),
                Err(refusal) => Err(refusal),
            },
            Ask::EndTree { exec } => match self.find(&exec).map(|at| self.execs[at].pid) {
                Ok(pid) => return self.ask_init(peer, n, What::Plain, |n| ToInit::EndTree { n, pid }),
                Err(refusal) => Err(refusal),
            },
            Ask::KillAll => {
                if self.frozen && self.cgroup.freezes() {
                    let _ = self.cgroup.freeze(false);
                }
                self.frozen = false;
                return self.ask_init(peer, n, What::Plain, |n| ToInit::KillAll { n });
            }
            Ask::Freeze | Ask::Thaw => {
                let freeze = matches!(question.ask, Ask::Freeze);
                if !self.cgroup.freezes() {
                    self.ask_init(peer, n, What::Plain, |n| ToInit::Stop { n, stop: freeze });
                    self.frozen = freeze;
                    return;
                }
                let result = self.cgroup.freeze(freeze);
                self.frozen = if result.is_ok() { freeze } else { self.frozen };
                result.map(|()| Reply::Done).map_err(|e| Refusal::System(e.to_string()))
            }
            Ask::Stats => {
                let stats = Stats { trees: self.trees(&[]), ..self.cgroup.stats() };
                if !self.cgroup.holds_memory() && !self.frozen {
                    return self.ask_init(peer, n, What::Plain, |n| ToInit::Stats { n });
                }
                Ok(Reply::Stats(stats))
            }
            Ask::Listeners { from } => {
                let part = self.listeners.iter().skip(from).take(MAX_FDS);
                let mut kinds = Vec::new();
                for (kind, fd) in part {
                    match fd.try_clone() {
                        Ok(fd) => fds.push(fd),
                        Err(_) => break,
                    }
                    kinds.push(kind.clone());
                }
                let more = from + kinds.len() < self.listeners.len();
                Ok(Reply::Listeners { kinds, more })
            }
            Ask::Execs => Ok(Reply::Execs(self.execs.iter().map(Exec::state).collect::<Vec<ExecState>>())),
            Ask::Dial { address, port } => {
                return self.ask_init(peer, n, What::Plain, |n| ToInit::Dial { n, address, port });
            }
            Ask::Egress { rules } => {
                return self.ask_init(peer, n, What::Egress, |n| ToInit::Egress { n, rules });
            }
            Ask::Subscribe => {
                self.peers.subscribe(peer);
                Ok(Reply::Done)
            }
            Ask::Down => {
                self.downs.push((peer, n));
                self.end_init();
                return;
            }
        };
        self.peers.answer(peer, n, reply, fds);
    }

    /// The running process that init knows by this number.
    fn running(&self, pid: u32) -> Option<usize> {
        self.execs.iter().position(|e| e.pid == pid && e.running())
    }

    /// Moves a process that waits for it into its group.
    fn enter_group(&mut self, n: u64, handle: &[OwnedFd]) {
        let Some(Pending { what: What::Exec(exec, _), .. }) = self.pending.get(&n) else { return };
        let entered = exec.group.as_ref().zip(handle.first()).is_some_and(|(group, handle)| {
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd()));
            let pid =
                text.ok().and_then(|t| t.lines().find_map(|l| l.strip_prefix("Pid:")?.trim().parse().ok()));
            pid.is_some_and(|pid| group.enter(pid).is_ok())
        });
        let _ = message::send(&self.init, &ToInit::Proceed { n, go: entered }, &[], Vec::new());
    }

    /// Looks whether a process has met its own limit of memory; then tells, and ends all of it.
    fn memory(&mut self, at: usize, alarmed: bool) {
        let Some(exec) = self.execs.get_mut(at) else { return };
        let Some(what) = exec.group.as_mut().and_then(|group| group.exceeded(alarmed)) else { return };
        let (id, pid) = (exec.id.clone(), exec.pid);
        self.peers.tell(&Event::LimitExceeded { exec: Some(id), what });
        if alarmed {
            // Answered to nobody.
            let _ = message::send(&self.init, &ToInit::EndTree { n: 0, pid }, &[], Vec::new());
        }
    }

    /// Memory of the processes that are kept together: by their groups, else as init has seen it.
    fn trees(&self, seen: &[(u32, u64)]) -> BTreeMap<String, u64> {
        let running = self.execs.iter().filter(|exec| exec.running());
        let memory = |exec: &Exec| match &exec.group {
            Some(group) => Some(group.memory()),
            None => seen.iter().find(|(pid, _)| *pid == exec.pid).map(|(_, bytes)| *bytes),
        };
        running.filter_map(|exec| Some((exec.id.clone(), memory(exec)?))).collect()
    }

    fn find(&self, id: &str) -> Result<usize, Refusal> {
        // The newest first: ids are not used twice, but this is where most questions are about.
        self.execs.iter().rposition(|e| e.id == id).ok_or(Refusal::Unknown)
    }

    fn on_exec(&mut self, id: &str, act: impl FnOnce(&mut Exec) -> io::Result<()>) -> Result<Reply, Refusal> {
        let at = self.find(id)?;
        let mut result = Ok(());
        self.with_exec(at, |exec, _| result = act(exec));
        result.map(|()| Reply::Done).map_err(|e| Refusal::System(e.to_string()))
    }

    fn input(&mut self, peer: u64, n: u64, id: &str, bytes: &[u8]) -> Result<bool, Refusal> {
        let at = self.find(id)?;
        let mut result = Ok(true);
        self.with_exec(at, |exec, _| result = exec.input(bytes));
        match result {
            Ok(false) => {
                self.execs[at].wait_for_room(peer, n);
                Ok(false)
            }
            Ok(true) => Ok(true),
            Err(e) => Err(Refusal::System(e.to_string())),
        }
    }

    /// Sends init a question and remembers who asked.
    fn ask_init(&mut self, peer: u64, n: u64, what: What, question: impl FnOnce(u64) -> ToInit) {
        let refusal = if self.frozen && self.cgroup.freezes() {
            Some(Refusal::Frozen)
        } else if self.pending.len() >= MAX_PENDING {
            Some(Refusal::Busy)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.peers.answer(peer, n, Err(refusal), Vec::new());
        }
        self.asked += 1;
        let number = self.asked;
        self.pending.insert(number, Pending { peer, n, what });
        if let Err(e) = message::send(&self.init, &question(number), &[], Vec::new()) {
            self.settle(number, Err(Refusal::System(e.to_string())), Vec::new());
        }
    }

    fn exec(
        &mut self,
        peer: u64,
        n: u64,
        id: String,
        mut start: Start,
        stdio: StdioKind,
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        let system = |e: io::Error| Refusal::System(e.to_string());
        let name_fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > 64 || id.starts_with('.') || !id.chars().all(name_fits) {
            return Err(Refusal::Invalid(format!("{id:?} is not an id")));
        }
        let nul = |s: &String| s.contains('\0');
        if start.argv.is_empty()
            || start.argv.iter().any(nul)
            || start.env.iter().any(|(k, v)| nul(k) || nul(v) || k.contains('='))
        {
            return Err(Refusal::Invalid("arguments or variables cannot be passed on".into()));
        }
        if self.frozen {
            return Err(Refusal::Frozen);
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Refusal::Busy);
        }
        let pending = self.pending.values().any(|p| matches!(&p.what, What::Exec(e, _) if e.id == id));
        if pending || self.find(&id).is_ok() {
            return Err(Refusal::Exists);
        }
        let (mut terminal, mut pipes) = (None, None);
        match stdio {
            StdioKind::Terminal { rows, cols } => {
                terminal = Some((rows, cols));
                fds.clear();
            }
            StdioKind::Journal => {
                let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
                let ((input, a), (b, stdout), (c, stderr)) =
                    (pipe().map_err(system)?, pipe().map_err(system)?, pipe().map_err(system)?);
                fds = vec![input, stdout, stderr];
                pipes = Some((a, b, c));
            }
            StdioKind::Files { stdin } => {
                if fds.len() != 2 + usize::from(stdin) || fds.iter().any(is_directory) {
                    return Err(Refusal::Invalid("descriptors do not fit".into()));
                }
                if !stdin {
                    fds.insert(0, File::open("/dev/null").map_err(system)?.into());
                }
            }
        }
        let journal = match Writer::create(&journal_path(&id)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(Refusal::Exists),
            result => result.map_err(system)?,
        };
        let mut exec = Exec::new(id, journal);
        if let Some((a, b, c)) = pipes {
            exec = exec.with_pipes(a, b, c).map_err(system)?;
        }
        // An image brings its own.
        if start.root.is_none() {
            start.env = self.env.clone().into_iter().chain(start.env).collect();
        }
        if let Some(tree) = &mut start.tree {
            exec.group = self.cgroup.group(&exec.id, tree.memory_bytes);
            tree.hold = exec.group.is_some();
            // Held by the kernel, or watched by its keeper.
            tree.memory_bytes = tree.memory_bytes.filter(|_| !tree.hold);
        }
        self.asked += 1;
        let number = self.asked;
        let spawn = ToInit::Spawn { n: number, terminal, start };
        self.pending.insert(number, Pending { peer, n, what: What::Exec(Box::new(exec), terminal) });
        if let Err(e) = message::send(&self.init, &spawn, &[], fds) {
            self.settle(number, Err(Refusal::System(e.to_string())), Vec::new());
        }
        Ok(())
    }

    fn end_init(&mut self) {
        if self.frozen && self.cgroup.freezes() {
            // Version 1 does not let frozen processes die.
            let _ = self.cgroup.freeze(false);
        }
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Init, and with it everything inside, is gone: completes the journals and leaves no trace but them.
    fn finish(mut self) {
        self.end_init();
        let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        if self.host {
            tree::end(ORPHANS);
        }
        self.hear_init();
        for at in 0..self.execs.len() {
            if self.execs[at].running() {
                self.with_exec(at, |exec, buffer| exec.ended(Exit::Signal(libc::SIGKILL), buffer));
            }
        }
        let pending: Vec<u64> = self.pending.keys().copied().collect();
        for n in pending {
            self.settle(n, Err(Refusal::System("the environment is gone".into())), Vec::new());
        }
        offshoot_core::fault::point("shim.ended");
        self.cgroup.remove();
        let _ = fs::remove_file("shim.sock");
        let _ = fs::remove_file("pid");
        self.peers.tell(&Event::InitGone);
        let Self { _lock: lock, mut peers, downs, .. } = self;
        drop(lock);
        for (peer, n) in downs {
            peers.answer(peer, n, Ok(Reply::Done), Vec::new());
        }
        peers.flush();
    }
}

fn journal_path(id: &str) -> std::path::PathBuf {
    Path::new("journal").join(id)
}

fn is_directory(fd: &OwnedFd) -> bool {
    // What cannot be looked at is not handed in either.
    rustix::fs::fstat(fd).map_or(true, |s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
}
