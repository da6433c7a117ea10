//! Brings environments up, finds those that are up, and cleans up after those that died.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};
use tokio::process::Command;

use crate::{
    cgroup,
    connection::{self, Connection},
    message::{self, FromShim},
    spec::{SandboxSpec, Weakness},
    sys, tree,
};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why an environment did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory could not be prepared.
    #[error("cannot prepare {0}")]
    Directory(PathBuf, #[source] io::Error),
    /// The shim could not be started or talked to.
    #[error("cannot start the shim of the environment")]
    Shim(#[source] io::Error),
    /// The shim or init failed; `doctor` tells what this machine lacks.
    #[error("cannot set the environment up: {step}: {error}")]
    Setup {
        /// What was being done.
        step: String,
        /// What the system said.
        error: String,
    },
    /// The shim ended without a word.
    #[error("the shim ended during set-up; see {0}")]
    Ended(PathBuf),
}

/// Why there is no connection to an environment.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing runs there.
    #[error("the environment is gone")]
    Gone,
    /// It runs but does not answer (yet).
    #[error("cannot connect to the environment")]
    Io(#[source] io::Error),
}

/// Why an environment's remains could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// It is alive.
    #[error("the environment is still running")]
    Alive,
    /// Its directory could not be looked at.
    #[error("cannot look at the environment's directory")]
    Io(#[source] io::Error),
}

/// Starts `exe __shim` for an environment, whose directory must exist or be creatable; returns when it is ready.
///
/// The shim has a session of its own, an empty environment, no descriptor of this process, and outlives it.
pub async fn start(spec: &SandboxSpec, exe: &Path) -> Result<Connection, StartError> {
    let directory = |e| StartError::Directory(spec.dir.clone(), e);
    fs::create_dir_all(&spec.dir).map_err(directory)?;
    let log = File::options().append(true).create(true).open(spec.dir.join("shim.log")).map_err(directory)?;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| StartError::Shim(e.into()))?;
    let mut command = Command::new(exe);
    command.arg("__shim").current_dir("/").stdin(theirs).stdout(Stdio::null()).stderr(log);
    if !spec.weak(Weakness::CleanEnv) {
        command.env_clear();
    }
    let mut child = command.spawn().map_err(StartError::Shim)?;
    drop(command);
    // Reaped if it ends before this process does.
    tokio::spawn(async move { child.wait().await });
    let socket = sys::watch(ours).map_err(StartError::Shim)?;
    message::send(socket.get_ref(), spec, &[], Vec::new()).map_err(StartError::Shim)?;
    let packet = connection::receive(&socket).await.map_err(StartError::Shim)?;
    let ended = || StartError::Ended(spec.dir.join("shim.log"));
    match packet.ok_or_else(ended)?.parse().map_err(StartError::Shim)? {
        FromShim::Ready => Ok(Connection::new(socket, &spec.dir)),
        FromShim::Failed { step, error } => Err(StartError::Setup { step, error }),
        _ => Err(ended()),
    }
}

/// Whether a shim or an init holds the lock in an environment's directory.
fn alive(dir: &Path) -> io::Result<bool> {
    let file = match File::open(dir.join("lock")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Connects to an environment that another daemon started.
pub async fn connect(dir: &Path) -> Result<Connection, ConnectError> {
    let failed = |e: Errno| ConnectError::Io(e.into());
    if !alive(dir).map_err(ConnectError::Io)? {
        return Err(ConnectError::Gone);
    }
    // Socket addresses hold 108 bytes; the directory's own path may be longer.
    let dir_fd = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let dir_fd: OwnedFd = dir_fd.map_err(failed)?;
    let flags = SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed)?;
    let path = format!("/proc/self/fd/{}/shim.sock", dir_fd.as_raw_fd());
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    rustix::net::connect(&socket, &address).map_err(failed)?;
    Ok(Connection::new(sys::watch(socket).map_err(ConnectError::Io)?, dir))
}

/// Ends whatever runs in an environment's directory, whoever started it, and removes what it leaves as [`cleanup`]
/// does. Without asking: for what cannot be talked to, or is not wanted by anybody any more.
pub fn end(dir: &Path) -> Result<(), CleanupError> {
    let from = Instant::now();
    while alive(dir).map_err(CleanupError::Io)? && from.elapsed() < PATIENCE {
        let pid = fs::read_to_string(dir.join("pid")).ok().and_then(|text| text.trim().parse().ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let shim = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            // The number may be somebody else's by now.
            if shim.is_ok_and(|line| line.ends_with(b"\0__shim\0")) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        // There is no call that waits for a lock for a bounded time.
        std::thread::sleep(Duration::from_millis(1));
        cgroup::remove_listed(&dir.join("cgroup"));
    }
    cleanup(dir)
}

/// Removes what a killed shim left in an environment's directory: socket, process number, control groups.
/// Journals, lock file and log stay. Refuses while the environment lives.
pub fn cleanup(dir: &Path) -> Result<(), CleanupError> {
    if alive(dir).map_err(CleanupError::Io)? {
        return Err(CleanupError::Alive);
    }
    cgroup::remove_listed(&dir.join("cgroup"));
    // Without a pid namespace nothing ends with the shim and its init, if both were killed.
    if let Ok(id) = fs::read_to_string(dir.join("host"))
        && !id.is_empty()
    {
        tree::end_marked(&id, PATIENCE);
    }
    for name in ["shim.sock", "pid"] {
        match fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(CleanupError::Io(e)),
            _ => {}
        }
    }
    Ok(())
}
