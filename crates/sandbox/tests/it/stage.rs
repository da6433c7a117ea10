//! A stage for tests: a directory, a specification with the host's system and a workspace, and ways to run things.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use offshoot_sandbox::{
    Connection, Event, ExecError, ExecRequest, Exit, Identity, Limits, Mount, Network, SandboxSpec, Stdio,
    journal::{Kind, Reader},
    start,
    system::{SystemOptions, default_mounts},
};
use tempfile::TempDir;

pub struct Stage {
    pub dir: TempDir,
    pub spec: SandboxSpec,
}

/// The shim's program; elsewhere when the suite was copied for another user.
pub fn shim() -> PathBuf {
    std::env::var_os(COPIED_SHIM).map_or_else(|| env!("CARGO_BIN_EXE_offshoot-shim").into(), PathBuf::from)
}

pub const COPIED_SHIM: &str = "OFFSHOOT_TEST_SHIM";
pub const PATIENCE: Duration = Duration::from_secs(20);

impl Stage {
    /// An overlay workspace at `/work/project` over one layer with a file.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("stage").tempdir().unwrap();
        let identity = Identity::for_this_process();
        let at = |name: &str| -> PathBuf {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            identity.own(&path).unwrap();
            path
        };
        let (lower, upper, work) = (at("lower"), at("upper"), at("work"));
        std::fs::write(lower.join("file"), "from the layer\n").unwrap();
        identity.own(&lower.join("file")).unwrap();
        let mut mounts = default_mounts(&SystemOptions {
            identity: identity.clone(),
            home: "/home/dev".into(),
            home_source: None,
            hostname: "stage".into(),
            tool_dirs: Vec::new(),
            tmp_bytes: 64 << 20,
            hosts: Vec::new(),
        });
        mounts.push(Mount::Overlay {
            target: "/work/project".into(),
            lowers: vec![lower],
            upper,
            work,
            root: false,
        });
        let spec = SandboxSpec {
            id: "stage".into(),
            dir: dir.path().join("env"),
            identity,
            hostname: "stage".into(),
            mounts,
            workdir: "/work/project".into(),
            env: BTreeMap::from([
                ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
                ("HOME".to_owned(), "/home/dev".to_owned()),
            ]),
            network: Network::default(),
            limits: Limits {
                tmp_bytes: 64 << 20,
                processes: 512,
                memory_bytes: 1 << 30,
                ..Limits::default()
            },
            host: None,
            weaken: BTreeSet::new(),
            fault: None,
        };
        Self { dir, spec }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn up(&self) -> Connection {
        let connection = start(&self.spec, &shim()).await.unwrap();
        connection.subscribe().await.unwrap();
        connection
    }
}

/// A failed test leaves nothing running either.
impl Drop for Stage {
    fn drop(&mut self) {
        self.end();
        // The kernel's scratch directory has no permissions at all, which stops an ordinary user's clean-up.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let _ = std::fs::set_permissions(self.path("work/work"), open);
    }
}

impl Stage {
    fn end(&self) {
        let pid = std::fs::read_to_string(self.spec.dir.join("pid")).ok().and_then(|t| t.parse().ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { return };
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let from = std::time::Instant::now();
        while offshoot_sandbox::cleanup(&self.spec.dir).is_err() && from.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
    }
}

pub fn request(id: &str, argv: &[&str], stdio: Stdio) -> ExecRequest {
    ExecRequest {
        id: id.to_owned(),
        argv: argv.iter().map(|s| (*s).to_owned()).collect(),
        stdio,
        ..ExecRequest::default()
    }
}

/// Waits for an event, for as long as a loaded machine may take.
pub async fn event(connection: &Connection, mut wanted: impl FnMut(&Event) -> bool) -> Event {
    let search = async {
        loop {
            let event = connection.next_event().await.expect("the environment is gone");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("no such event")
}

pub async fn exit(connection: &Connection, id: &str) -> Exit {
    match event(connection, |e| matches!(e, Event::Exited { exec, .. } if exec == id)).await {
        Event::Exited { exit, .. } => exit,
        _ => unreachable!(),
    }
}

/// All bytes of one kind in a journal.
pub fn said(connection: &Connection, id: &str, kind: Kind) -> String {
    let reader = Reader::open(&connection.journal(id)).unwrap();
    let (mut at, mut bytes) = (0, Vec::new());
    loop {
        let (records, next) = reader.read_from(at, 1 << 20).unwrap();
        if records.is_empty() {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        records.into_iter().filter(|r| r.kind == kind).for_each(|r| bytes.extend(r.bytes));
        at = next;
    }
}

/// Runs a shell script to its end: exit, standard output, standard error.
pub async fn shell(connection: &Connection, id: &str, script: &str) -> (Exit, String, String) {
    let started: Result<_, ExecError> =
        connection.exec(request(id, &["/bin/sh", "-c", script], Stdio::Journal)).await;
    started.unwrap();
    let exit = exit(connection, id).await;
    (exit, said(connection, id, Kind::Stdout), said(connection, id, Kind::Stderr))
}
