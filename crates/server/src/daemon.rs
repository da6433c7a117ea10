//! The daemon's life: lock, log, engine, sockets, readiness; then serving; then a stop that leaves every run going on.
//!
//! Invariants: one daemon per state directory, by the lock; the socket is replaced only under that lock; whoever started it
//! learns by standard output that it serves, or why not. `kill -9` at any moment leaves nothing that the next one does not take up.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Seek, Write},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use offshoot_core::{
    config::{DashboardConfig, UserConfig},
    problem::{Problem, ProblemKind},
};
use offshoot_engine::{Engine, Options};
use rustix::{
    fs::FlockOperation,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    dashboard::{access::Access, listeners::Listeners},
    listen::serve_unix,
    log::Log,
    place::{Place, short_address},
    routes::{App, router},
    start::{READY, lock_within, open_lock},
};

/// How long a new daemon waits for one that is on its way out.
const HANDOVER: Duration = Duration::from_secs(30);
/// Open files: a run has about ten (listeners, journal, connections), and a hundred runs must fit.
const OPEN_FILES: u64 = 65_536;

/// The role `__daemon STATE_DIR USER_CONFIG [TCP_ADDRESS]`.
pub fn daemon_main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(state_dir), Some(user_config)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(ProblemKind::Internal.exit_code());
    };
    let place = Place { state_dir: PathBuf::from(state_dir), user_config: PathBuf::from(user_config) };
    let tcp = arguments.next().and_then(|text| text.to_str().and_then(|t| t.parse().ok()));
    match live(&place, tcp) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            tracing::error!(code = problem.code, "{problem}");
            // If it has served already, nobody reads this any more.
            let _ = serde_json::to_writer(io::stdout(), &problem);
            ExitCode::from(problem.kind.exit_code())
        }
    }
}

fn live(place: &Place, tcp: Option<SocketAddr>) -> Result<(), Problem> {
    // Already a leader if it was started by hand; then there is no terminal to lose either way.
    let _ = rustix::process::setsid();
    place.prepare()?;
    Log::begin(&place.log()).map_err(|error| {
        Problem::new(
            ProblemKind::Unavailable,
            "state_dir_unusable",
            format!("cannot write {}: {error}", place.log().display()),
        )
        .hint("is the disk full, or the state directory read-only?")
    })?;
    let _lock = take_lock(place)?;
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Problem::internal("cannot start the runtime", &error))?;
    let result = runtime.block_on(serve(place, tcp));
    // Blocking work that is left (a slow disk) must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

fn take_lock(place: &Place) -> Result<fs::File, Problem> {
    let file = open_lock(&place.lock())?;
    let Some(mut file) = lock_within(file, HANDOVER, FlockOperation::LockExclusive)? else {
        let mut pid = String::new();
        let _ = fs::File::open(place.lock()).and_then(|mut f| f.read_to_string(&mut pid));
        return Err(Problem::new(
            ProblemKind::Unavailable,
            "daemon_hangs",
            format!(
                "a daemon (process {}) holds {} but does not answer",
                pid.trim(),
                place.state_dir.display()
            ),
        )
        .hint("end that process; runs are not disturbed"));
    };
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| Problem::internal("cannot write the daemon's lock", &error))?;
    Ok(file)
}

fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}

async fn serve(place: &Place, tcp: Option<SocketAddr>) -> Result<(), Problem> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| Problem::internal("cannot wait for signals", &e))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| Problem::internal("cannot wait for signals", &e))?;
    let tcp = match tcp {
        None => None,
        Some(address) => Some(listen_tcp(address).await?),
    };
    let engine = Engine::open(Options {
        state_dir: place.state_dir.clone(),
        // By this name it is the very program that runs, even if the file has been replaced since.
        exe: PathBuf::from("/proc/self/exe"),
        user_config: place.user_config.clone(),
    })
    .await?;
    let unix = listen_unix(place)?;
    let stopping = CancellationToken::new();
    let config = dashboard_config(place);
    let access = Access::open(place.dashboard(), config.forget_after.map(|span| span.0));
    let listeners = Listeners::new(access.clone(), place.token(), config.port, stopping.clone());
    let app =
        App { engine: engine.clone(), stopping: stopping.clone(), listeners: listeners.clone(), access };
    let router = router(app);
    listeners.begin(router.clone(), tcp).await?;
    say_ready()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving {}", place.socket().display());
    let stop = stopping.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
    });
    let over_tcp = async {
        stopping.cancelled().await;
        listeners.over().await;
    };
    let over_unix = serve_unix(unix, router, stopping.clone());
    let gone = async {
        stopping.cancelled().await;
        // From now on a client finds no socket, and starts the next daemon, which waits for the lock.
        let _ = fs::remove_file(place.socket());
    };
    tokio::join!(over_tcp, over_unix, gone);
    engine.close().await;
    tracing::info!("stopped");
    Ok(())
}

fn listen_unix(place: &Place) -> Result<UnixListener, Problem> {
    let path = place.socket();
    let bind = || {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (_dir, address) = short_address(&path)?;
        let listener = UnixListener::bind(address)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|error| {
        Problem::new(
            ProblemKind::Unavailable,
            "socket",
            format!("cannot listen on {}: {error}", path.display()),
        )
        .hint("set OFFSHOOT_STATE_DIR to a directory on a local disk")
    })
}

async fn listen_tcp(address: SocketAddr) -> Result<TcpListener, Problem> {
    if !address.ip().is_loopback() {
        return Err(Problem::new(
            ProblemKind::Invalid,
            "tcp_not_loopback",
            format!("{address} is not a loopback address"),
        )
        .hint("use 127.0.0.1:PORT, and a tunnel to reach it from elsewhere"));
    }
    TcpListener::bind(address).await.map_err(|error| {
        Problem::new(ProblemKind::Unavailable, "tcp", format!("cannot listen on {address}: {error}"))
            .hint("take another port, or port 0 for any")
    })
}

/// What the user says of the dashboard. A file that makes no sense is said where it is used for work.
fn dashboard_config(place: &Place) -> DashboardConfig {
    let text = fs::read_to_string(&place.user_config).unwrap_or_default();
    UserConfig::parse(&text).map(|user| user.dashboard).unwrap_or_default()
}

/// Tells whoever started this process, and lets go of the pipe.
fn say_ready() -> Result<(), Problem> {
    let told = (|| {
        let mut out = io::stdout();
        // A starter that is gone by now does not matter.
        let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
        let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        io::Result::Ok(())
    })();
    told.map_err(|error| Problem::internal("cannot let go of standard output", &error))
}
