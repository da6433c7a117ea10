//! What every sandbox started here has in common: the binary that plays the shim, the identity inside, and the
//! allow-list root file system around a workspace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    net::SocketAddrV4,
    path::{Path, PathBuf},
};

use offshoot_core::{egress::EgressRule, event::Limits};
use offshoot_git::inside::monitor;
use offshoot_sandbox::{
    ExecRequest, Exit, Identity, Limits as SandboxLimits, Mount, Network, SandboxSpec, StartError, Stdio,
    system::{SystemOptions, default_mounts},
};

use crate::{layers::Builders, sandbox::Sandbox, tools::Tools};

/// How to start sandboxes on this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The binary that is the shim when called with `__shim`.
    pub exe: PathBuf,
    /// Who everything inside runs as.
    pub identity: Identity,
    /// The home directory inside; the user's own path, with nothing of its content.
    pub home: PathBuf,
    /// How much is built on it at a time.
    pub builders: Builders,
}

/// A file system around a workspace, and what may be used and reached from it.
#[derive(Clone, Debug)]
pub struct Room<'a> {
    /// Name, unique among what runs on this machine.
    pub id: String,
    /// Host directory for lock, socket and journals.
    pub dir: PathBuf,
    /// Host name inside.
    pub hostname: String,
    /// The workspace's layers, top first; none for an empty workspace.
    pub lowers: Vec<PathBuf>,
    /// The workspace's writable layer.
    pub upper: PathBuf,
    /// The kernel's scratch directory for it.
    pub work: PathBuf,
    /// Layers of the home directory, top first.
    pub home_lowers: Vec<PathBuf>,
    /// The home directory's writable layer.
    pub home_upper: PathBuf,
    /// The kernel's scratch directory for it.
    pub home_work: PathBuf,
    /// Where the workspace appears.
    pub workspace: &'a Path,
    /// The project's objects on the host.
    pub objects: &'a Path,
    /// Tools to show.
    pub tools: &'a Tools,
    /// Directories to show read-only besides, at the same path.
    pub binds: Vec<PathBuf>,
    /// The record of [`crate::monitor`]: git inside is told what changed.
    pub monitor: Option<PathBuf>,
    /// What is put together besides, after all else.
    pub mounts: Vec<Mount>,
    /// Lines for `/etc/hosts`.
    pub hosts: Vec<String>,
    /// Variables of every process, besides the usual ones.
    pub env: BTreeMap<String, String>,
    /// What may be reached.
    pub egress: Vec<EgressRule>,
    /// Whether connections to other hosts come to be asked about, rather than find no such host.
    pub others_asked: bool,
    /// Loopback addresses inside at which the holder of the listeners answers.
    pub served: Vec<SocketAddrV4>,
    /// What may be used.
    pub limits: Limits,
}

impl Machine {
    /// The machine as this process finds it.
    pub fn here(exe: PathBuf, home: PathBuf, builders: Builders) -> Self {
        Self { exe, identity: Identity::for_this_process(), home, builders }
    }

    /// The home directory inside, for a workspace at that path: the user's own path unless the workspace is there.
    pub fn home_for(&self, workspace: &Path) -> PathBuf {
        if self.home.starts_with(workspace) { PathBuf::from("/home/dev") } else { self.home.clone() }
    }

    /// Makes a directory that belongs to the identity inside.
    pub fn make_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        self.identity.own(dir)
    }

    /// Starts a sandbox around a room.
    pub async fn start(&self, room: Room<'_>) -> Result<Sandbox, StartError> {
        let connection = offshoot_sandbox::start(&self.spec(room), &self.exe).await?;
        Sandbox::new(connection).await.map_err(|e| StartError::Shim(io::Error::other(e)))
    }

    fn spec(&self, room: Room<'_>) -> SandboxSpec {
        let home = self.home_for(room.workspace);
        let mut mounts = default_mounts(&SystemOptions {
            home: home.clone(),
            identity: self.identity.clone(),
            hostname: room.hostname.clone(),
            home_source: None,
            tool_dirs: Vec::new(),
            tmp_bytes: SandboxLimits::default().tmp_bytes,
            hosts: room.hosts.clone(),
        });
        let bind = |source: &Path, target: &Path| Mount::Bind {
            source: source.to_owned(),
            target: target.to_owned(),
            writable: false,
            optional: true,
        };
        mounts.push(Mount::Overlay {
            target: home.clone(),
            lowers: room.home_lowers,
            upper: room.home_upper,
            work: room.home_work,
            root: false,
        });
        mounts.extend(room.tools.directories.iter().map(|d| bind(d, d)));
        mounts.extend(room.binds.iter().map(|d| bind(d, d)));
        mounts.push(bind(room.objects, Path::new(offshoot_git::inside::OBJECTS)));
        if let Some(began) = &room.monitor {
            // By its name: a descriptor's own path leads out of the sandbox's mounts. Replaced meanwhile, it is missing.
            let exe = std::fs::read_link(&self.exe).unwrap_or_else(|_| self.exe.clone());
            mounts.push(bind(&exe, Path::new(monitor::HOOK)));
            mounts.push(bind(began, Path::new(monitor::BEGAN)));
            mounts.push(bind(&room.upper, Path::new(monitor::UPPER)));
        }
        mounts.push(Mount::Overlay {
            target: room.workspace.to_owned(),
            lowers: room.lowers,
            upper: room.upper,
            work: room.work,
            root: false,
        });
        mounts.extend(room.mounts);
        SandboxSpec {
            id: room.id,
            dir: room.dir,
            identity: self.identity.clone(),
            hostname: room.hostname,
            mounts,
            workdir: room.workspace.to_owned(),
            env: environment_variables(&home, &self.identity.name, room.tools, &room.hosts, room.env),
            network: Network { egress: room.egress, others: room.others_asked, served: room.served },
            limits: SandboxLimits {
                memory_bytes: room.limits.memory_bytes,
                processes: room.limits.processes.into(),
                cpu_percent: room.limits.cpu_percent,
                file_bytes: room.limits.disk_bytes,
                ..SandboxLimits::default()
            },
            host: None,
            weaken: BTreeSet::new(),
            fault: offshoot_core::fault::armed(),
        }
    }
}

/// The variables every process inside has: an allow-list made here, nothing inherited.
fn environment_variables(
    home: &Path,
    user: &str,
    tools: &Tools,
    hosts: &[String],
    more: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    const PROXY: &str = "http://127.0.0.1:3128";
    // Services are inside: no proxy is asked for them.
    let direct: String = ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .chain(hosts.iter().flat_map(|line| line.split(' ')))
        .collect::<Vec<_>>()
        .join(",");
    let path = tools.path_variable();
    let home = home.to_string_lossy();
    let usual = [
        ("PATH", path.as_str()),
        ("HOME", &home),
        ("USER", user),
        ("LOGNAME", user),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
        ("TERM", "xterm-256color"),
        ("OFFSHOOT", "1"),
        ("HTTP_PROXY", PROXY),
        ("HTTPS_PROXY", PROXY),
        ("http_proxy", PROXY),
        ("https_proxy", PROXY),
        ("NO_PROXY", direct.as_str()),
        ("no_proxy", direct.as_str()),
        // Node 22.21 and newer; older ones reach allowed hosts by their synthetic addresses.
        ("NODE_USE_ENV_PROXY", "1"),
    ];
    let mut env: BTreeMap<_, _> = usual.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    env.extend(more);
    env
}

/// Why a command inside did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("could not start {command:?} inside")]
    Start {
        /// The command.
        command: String,
        /// Why.
        #[source]
        source: offshoot_sandbox::ExecError,
    },
    /// It ended badly.
    #[error("{command:?} ended with {exit:?}")]
    Exit {
        /// The command.
        command: String,
        /// How.
        exit: Exit,
    },
    /// It took too long.
    #[error("{command:?} took longer than {seconds} s")]
    Timeout {
        /// The command.
        command: String,
        /// The bound.
        seconds: u64,
    },
    /// The sandbox went away meanwhile.
    #[error("the sandbox ended while {command:?} ran")]
    Gone {
        /// The command.
        command: String,
    },
    /// A host file for its output could not be made.
    #[error("could not write {path}")]
    Output {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A command to be run inside and waited for.
pub struct Command {
    /// A name for the process, unique within the sandbox.
    pub id: String,
    /// The command.
    pub argv: Vec<String>,
    /// Variables besides those of the sandbox.
    pub env: BTreeMap<String, String>,
    /// How long it may take, in seconds.
    pub seconds: u64,
}

/// Runs a command inside with its output going to host files, and waits for its end. The files' size is bounded by
/// the sandbox's own limits; whoever reads them bounds what is read.
pub async fn run_inside(
    sandbox: &Sandbox,
    command: Command,
    stdout: File,
    stderr: File,
) -> Result<Exit, CommandError> {
    run_inside_at(sandbox, None, command, stdout, stderr).await
}

/// The same in another directory than the workspace.
pub async fn run_inside_at(
    sandbox: &Sandbox,
    cwd: Option<&Path>,
    command: Command,
    stdout: File,
    stderr: File,
) -> Result<Exit, CommandError> {
    let text = command.argv.iter().rev().find(|a| !a.is_empty()).cloned().unwrap_or_default();
    let text = text.lines().next().unwrap_or_default().chars().take(120).collect::<String>();
    let events = sandbox.events();
    sandbox
        .exec(ExecRequest {
            id: command.id.clone(),
            argv: command.argv,
            env: command.env,
            cwd: cwd.map(|dir| dir.to_string_lossy().into_owned()),
            stdio: Stdio::Files { stdin: None, stdout: stdout.into(), stderr: stderr.into() },
            ..ExecRequest::default()
        })
        .await
        .map_err(|source| CommandError::Start { command: text.clone(), source })?;
    let ended = sandbox.exit(&command.id, events);
    match tokio::time::timeout(std::time::Duration::from_secs(command.seconds), ended).await {
        Ok(Some(exit)) => Ok(exit),
        Ok(None) => Err(CommandError::Gone { command: text }),
        Err(_) => {
            let _ = sandbox.signal(&command.id, 9).await;
            Err(CommandError::Timeout { command: text, seconds: command.seconds })
        }
    }
}
