//! What a client does to have a daemon: start one if none answers. However many clients do so at once, one daemon comes up.
//!
//! Invariant: whoever starts holds `start.lock` from before it looks until the daemon has said that it is ready, so the
//! others find it answering. Nothing here sleeps: readiness comes over a pipe, the end of a daemon by its lock.

use std::{
    fs, io,
    io::Read,
    net::SocketAddr,
    os::unix::{fs::OpenOptionsExt, net::UnixStream, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use offshoot_core::problem::{Problem, ProblemKind};
use rustix::fs::{FlockOperation, flock};

use crate::place::{Place, short_address};

/// How long a daemon may take to start: it may have to replay a long log after a crash.
const START_TIME: Duration = Duration::from_secs(120);

/// Variables a daemon is given from whoever happens to start it. No others: it lives on, and keys in the environment of a
/// shell are not its business.
const VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "DBUS_SESSION_BUS_ADDRESS",
];
const PREFIXES: &[&str] = &["LC_", "XDG_", "OFFSHOOT_"];

/// How to start a daemon if there is none.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Also listen on this loopback address.
    pub tcp: Option<SocketAddr>,
}

/// Whether a daemon answers.
pub fn connectable(place: &Place) -> bool {
    short_address(&place.socket()).and_then(|(_dir, address)| UnixStream::connect(address)).is_ok()
}

/// Has a daemon running: does nothing if one answers. Says whether it started one.
pub fn ensure(place: &Place, options: &StartOptions) -> Result<bool, Problem> {
    if connectable(place) {
        return Ok(false);
    }
    place.prepare()?;
    let lock = open_lock(&place.start_lock())?;
    lock_within(lock, START_TIME, FlockOperation::LockExclusive)?.map_or_else(
        || {
            Err(Problem::new(
                ProblemKind::Unavailable,
                "daemon_start",
                "another offshoot has been starting the daemon for two minutes",
            )
            .hint(format!("see {}", place.log().display())))
        },
        |_held| if connectable(place) { Ok(false) } else { spawn(place, options).map(|()| true) },
    )
}

/// Waits until the daemon's process is gone. `false` if it is still there after `time`.
pub fn wait_until_gone(place: &Place, time: Duration) -> Result<bool, Problem> {
    let lock = open_lock(&place.lock())?;
    Ok(lock_within(lock, time, FlockOperation::LockShared)?.is_some())
}

/// Opens a lock file, making it if need be.
pub(crate) fn open_lock(path: &Path) -> Result<fs::File, Problem> {
    fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(
        |error| {
            Problem::new(
                ProblemKind::Unavailable,
                "state_dir_unusable",
                format!("cannot open {}: {error}", path.display()),
            )
            .hint("is the disk full, or the state directory read-only?")
        },
    )
}

/// Waits for a lock. There is no call that does so for a bounded time, so a thread of its own waits; given up on, it
/// lives until the process ends.
pub(crate) fn lock_within(
    file: fs::File,
    time: Duration,
    how: FlockOperation,
) -> Result<Option<fs::File>, Problem> {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        let result = loop {
            match flock(&file, how) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        let _ = done.send(result.map(|()| file));
    });
    match wait.recv_timeout(time) {
        Ok(Ok(file)) => Ok(Some(file)),
        Ok(Err(error)) => Err(Problem::internal("cannot lock a file", &io::Error::from(error))),
        Err(_) => Ok(None),
    }
}

fn spawn(place: &Place, options: &StartOptions) -> Result<(), Problem> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("offshoot")
        .arg("__daemon")
        .arg(&place.state_dir)
        .arg(&place.user_config)
        .args(options.tcp.map(|tcp| tcp.to_string()))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| {
            name.to_str().is_some_and(|n| VARIABLES.contains(&n) || PREFIXES.iter().any(|p| n.starts_with(p)))
        }));
    let refused = |message: String| {
        Problem::new(ProblemKind::Unavailable, "daemon_start", message)
            .hint(format!("see {}", place.log().display()))
    };
    let mut child = command.spawn().map_err(|e| refused(format!("cannot start the daemon: {e}")))?;
    let Some(mut readiness) = child.stdout.take() else {
        return Err(refused("the daemon has no pipe".into()));
    };
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let _ = done.send(readiness.read_to_string(&mut text).map(|_| text));
    });
    match wait.recv_timeout(START_TIME) {
        Ok(Ok(text)) if text.trim() == READY => Ok(()),
        Ok(Ok(text)) => Err(serde_json::from_str(&text)
            .unwrap_or_else(|_| refused("the daemon ended while it was starting".into()))),
        Ok(Err(error)) => Err(refused(format!("cannot hear from the daemon: {error}"))),
        Err(_) => Err(refused("the daemon has not become ready in two minutes".into())),
    }
}

/// What a daemon writes to its standard output when it serves. Anything else there is a problem as JSON.
pub(crate) const READY: &str = "ready";
