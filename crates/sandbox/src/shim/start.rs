//! Makes the environment: takes the specification from standard input (a socket), locks the directory, makes control
//! groups, forks init into new namespaces, tells it who it is, and waits until it is ready.
//!
//! Started with an empty environment and no arguments that say anything; single-threaded for its whole life.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    process::ExitCode,
};

use offshoot_core::fault;
use rustix::{
    fs::{FlockOperation, Mode},
    net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType},
    process::{Resource, Rlimit},
};

use super::serve::Shim;
use crate::{
    cgroup::Cgroup,
    enter, init,
    message::{self, FromInit, FromShim, ListenerKind, ToInit},
    spec::{SandboxSpec, Weakness},
    sys::{self, Cloned},
};

/// Raised for everything inside, so that when the machine runs out of memory the kernel takes a run's process before
/// the user's own programs.
const OOM_SCORE: &str = "300";

/// What `offshoot __shim` does, before anything else is set up. Never returns to other roles.
pub fn shim_main() -> ExitCode {
    if let Some(code) = enter::role(std::env::args_os().skip(1)) {
        return code;
    }
    sys::default_signals();
    let socket = match take_socket() {
        Ok(socket) => socket,
        Err(e) => {
            eprintln!("shim: {e}");
            return ExitCode::FAILURE;
        }
    };
    match start(&socket) {
        Ok(shim) => {
            sys::trim_heap();
            shim.serve(socket);
            ExitCode::SUCCESS
        }
        Err(Failure { step, source }) => {
            eprintln!("shim: {step}: {source}");
            let failed = FromShim::Failed { step, error: source.to_string() };
            let _ = message::send(&socket, &failed, &[], Vec::new());
            ExitCode::FAILURE
        }
    }
}

struct Failure {
    step: String,
    source: io::Error,
}

trait Step<T> {
    fn step(self, step: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, Failure> {
        self.map_err(|e| Failure { step: step.to_owned(), source: e.into() })
    }
}

/// The socket is standard input, so that starting a shim needs no code between fork and exec.
fn take_socket() -> io::Result<OwnedFd> {
    sys::close_from(3);
    let _ = rustix::process::setsid();
    // Each layer is an open descriptor once.
    let _ = raise_open_files();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let mut stdin = sys::adopt(0)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::io::dup2(&null, &mut stdin)?;
    std::mem::forget(stdin);
    Ok(socket)
}

fn raise_open_files() -> rustix::io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

fn start(socket: &OwnedFd) -> Result<Shim, Failure> {
    let packet = message::receive(socket, RecvFlags::empty()).step("receive the specification")?;
    let packet = packet.ok_or(io::ErrorKind::UnexpectedEof).step("receive the specification")?;
    let spec: SandboxSpec = packet.parse().step("read the specification")?;
    if cfg!(debug_assertions) {
        fault::arm(spec.fault.clone());
    }
    rustix::process::chdir(&spec.dir).step("enter the environment's directory")?;
    let lock = lock().step("lock the environment's directory")?;
    fault::point("shim.locked");
    let listener = listen().step("listen for daemons")?;
    match fs::create_dir("journal") {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(e).step("make the journal directory");
        }
        _ => {}
    }
    fs::write("pid", std::process::id().to_string()).step("note the process number")?;
    if spec.host.is_some() {
        // What init leaves when it is killed comes here, and is ended before this process ends.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).step("keep orphans")?;
        fs::write("host", &spec.id).step("note that there is no boundary")?;
    }
    let mut cgroup = Cgroup::create(&spec);
    fault::point("shim.cgroup");
    match launch(&spec, &cgroup) {
        Ok((init, pidfd, listeners)) => {
            fault::point("shim.ready");
            message::send(socket, &FromShim::Ready, &[], Vec::new()).step("report").or_else(|e| {
                // The daemon died meanwhile: its successor will connect.
                if e.source.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) }
            })?;
            Ok(Shim::new(lock, listener, init, pidfd, listeners, cgroup, &spec))
        }
        Err(e) => {
            cgroup.remove();
            let _ = fs::remove_file("shim.sock");
            let _ = fs::remove_file("pid");
            Err(e)
        }
    }
}

/// Held by the shim, and by init as long as that lives: a free lock means that the environment is gone.
fn lock() -> io::Result<File> {
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open("lock")?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

fn listen() -> io::Result<OwnedFd> {
    match fs::remove_file("shim.sock") {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new("shim.sock")?)?;
    rustix::net::listen(&socket, 8)?;
    Ok(socket)
}

type Launched = (OwnedFd, OwnedFd, Vec<(ListenerKind, OwnedFd)>);

/// Forks init and sees it through its set-up.
fn launch(spec: &SandboxSpec, cgroup: &Cgroup) -> Result<Launched, Failure> {
    let privileged = rustix::process::geteuid().is_root();
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .step("make a socket")?;
    let mut namespaces = match spec.host {
        Some(_) => 0,
        None => libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID,
    };
    for (flag, weakness) in [
        (libc::CLONE_NEWNET, Weakness::NetworkNamespace),
        (libc::CLONE_NEWIPC, Weakness::IpcNamespace),
        (libc::CLONE_NEWUTS, Weakness::HostnameNamespace),
    ] {
        if spec.host.is_none() && !spec.weak(weakness) {
            namespaces |= flag;
        }
    }
    let inside = cgroup.start_in();
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let cloned = sys::clone_into(namespaces, inside.as_ref().map(AsFd::as_fd));
    let (pid, pidfd) = match cloned.step("make namespaces")? {
        Cloned::Child => {
            drop(ours);
            match &spec.host {
                Some(host) => init::host_main(spec.clone(), host, theirs),
                None => init::main(spec.clone(), theirs, privileged),
            }
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    fault::point("shim.cloned");
    let result = guide(spec, &ours, pid, privileged, cgroup);
    match result {
        Ok(listeners) => Ok((ours, pidfd, listeners)),
        Err(e) => {
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            let _ = rustix::process::waitid(
                rustix::process::WaitId::PidFd(pidfd.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
            Err(e)
        }
    }
}

fn guide(
    spec: &SandboxSpec,
    init: &OwnedFd,
    pid: i32,
    privileged: bool,
    cgroup: &Cgroup,
) -> Result<Vec<(ListenerKind, OwnedFd)>, Failure> {
    let put = |file: &str, text: String| fs::write(format!("/proc/{pid}/{file}"), text);
    let identity = &spec.identity;
    if spec.host.is_none() {
        if !privileged {
            put("setgroups", "deny".into()).step("forbid group changes")?;
        }
        let map = |id: u32| match privileged && spec.weak(Weakness::IdentityMap) {
            true => format!("0 0 {}", id + 1),
            false => format!("{id} {id} 1"),
        };
        put("uid_map", map(identity.uid)).step("map the user")?;
        put("gid_map", map(identity.gid)).step("map the group")?;
    }
    cgroup.enter(pid).step("enter the control group")?;
    // Only now: until here the kernel lets this user write the maps because both processes are dumpable. Nothing
    // hostile has run yet.
    if !spec.weak(Weakness::Undumpable) {
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .step("hide memory")?;
    }
    let go = ToInit::Go { soft_memory: !cgroup.holds_memory() };
    message::send(init, &go, &[], Vec::new()).step("start init")?;
    let mut listeners = Vec::new();
    loop {
        let packet = message::receive(init, RecvFlags::empty()).step("set up")?;
        let packet = packet.ok_or_else(|| io::Error::other("init ended")).step("set up")?;
        match packet.parse::<FromInit>().step("set up")? {
            FromInit::Listeners { kinds } => listeners.extend(kinds.into_iter().zip(packet.fds)),
            FromInit::Ready => return Ok(listeners),
            FromInit::Failed { step, error } => {
                return Err(Failure { step, source: io::Error::other(error) });
            }
            _ => {}
        }
    }
}
