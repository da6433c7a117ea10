//! What an environment is to be, as data: written by the environment crate, handed to the shim in its first message
//! (never by argument or variable, which other processes can read).
//!
//! Does not touch the machine, except [`Identity::for_this_process`].

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddrV4,
    path::{Path, PathBuf},
};

use offshoot_core::egress::EgressRule;
use serde::{Deserialize, Serialize};

/// The user that everything inside runs as. Inside and outside it has the same numbers; nobody else is mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User number, inside and outside.
    pub uid: u32,
    /// Group number, inside and outside.
    pub gid: u32,
    /// Login name shown inside.
    pub name: String,
}

/// The user and group that sandboxes of a root daemon run as: one below `nobody` (65534), owned by no distribution.
const UNPRIVILEGED: u32 = 65533;

impl Identity {
    /// The caller itself, or an unprivileged number when the caller is root: root's own number may write files
    /// such as `/proc/sys/kernel/core_pattern` even without any capability, so it is never mapped.
    pub fn for_this_process() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let name = "dev".to_owned();
        if uid == 0 { Self { uid: UNPRIVILEGED, gid: UNPRIVILEGED, name } } else { Self { uid, gid, name } }
    }

    /// Makes `path` (not what is below it) belong to this identity: needed for the layers, upper and work
    /// directories of a root daemon. Nothing to do for an ordinary user's own files.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }
}

/// One environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Name of the environment, used for its control group: letters, digits, `-`, `_`, `.`.
    pub id: String,
    /// Host directory private to this environment: `lock`, `shim.sock`, `shim.log`, `journal/`, `cgroup`.
    pub dir: PathBuf,
    /// Who everything inside runs as.
    pub identity: Identity,
    /// Host name inside.
    pub hostname: String,
    /// The file system, in the order it is put together. `/proc` and `/dev` are always there.
    pub mounts: Vec<Mount>,
    /// Working directory of executed processes that name none; made if missing.
    pub workdir: PathBuf,
    /// Environment variables of every executed process. The caller makes the allow-list.
    pub env: BTreeMap<String, String>,
    /// What the environment may reach.
    pub network: Network,
    /// What it may use up.
    pub limits: Limits,
    /// There is no boundary: its processes are the caller's own, on the host. Identity, host name, mounts and network
    /// mean nothing then.
    #[serde(default)]
    pub host: Option<Host>,
    /// Defences to leave out, so that a test can show that its probe would notice. Ignored in release builds.
    #[serde(default)]
    pub weaken: BTreeSet<Weakness>,
    /// Fault point to arm in shim and init. Ignored in release builds.
    #[serde(default)]
    pub fault: Option<String>,
}

/// What processes on the host have that a sandbox decides by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The user's mask of permission bits for new files.
    pub umask: u32,
}

/// One step of putting the file system together. Targets are absolute paths inside; missing parents are made.
/// Symbolic links met on the way to a target are resolved inside the new root, never on the host; below an overlay that
/// is a root of its own, inside that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A host directory or file, with everything mounted below it.
    Bind {
        /// Host path, opened once, before anything inside exists.
        source: PathBuf,
        /// Where it appears.
        target: PathBuf,
        /// Whether the inside may write to it.
        writable: bool,
        /// Leave it out when the source does not exist.
        optional: bool,
    },
    /// A kernel overlay. Without lowers the upper directory itself is bound.
    Overlay {
        /// Where it appears.
        target: PathBuf,
        /// Immutable layers, top first.
        lowers: Vec<PathBuf>,
        /// Writable layer; must be mounted by one environment at a time.
        upper: PathBuf,
        /// The kernel's scratch directory, empty, on the upper's file system.
        work: PathBuf,
        /// Whether this is a root of its own (see [`crate::ExecRoot`]): links met in it are resolved in it.
        root: bool,
    },
    /// Something that is inside already, a second time, with everything mounted below it; keeps its restrictions.
    Share {
        /// Path inside, as put together so far.
        source: PathBuf,
        /// Where it appears, too. A file takes the place of a link that leads nowhere.
        target: PathBuf,
        /// Whether it may be written to there, as far as it may at `source`.
        writable: bool,
    },
    /// Memory-backed directory.
    Tmpfs {
        /// Where it appears.
        target: PathBuf,
        /// Most bytes it holds.
        bytes: u64,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A file with the given text. Replaces what is there.
    File {
        /// Where it appears.
        target: PathBuf,
        /// Its text.
        content: String,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link. Left out when something has that name already.
    Symlink {
        /// Where it appears.
        target: PathBuf,
        /// What it says.
        to: PathBuf,
    },
    /// A directory.
    Dir {
        /// Where it appears.
        target: PathBuf,
        /// Permission bits (given to the directory itself when it is made here).
        mode: u32,
    },
}

/// What the environment may reach. Allowed names get addresses that lead to listeners which
/// the host holds; there is no other way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The allow-list. Only ever appended to while the environment lives (see [`crate::network`]).
    pub egress: Vec<EgressRule>,
    /// Whether names that no rule names have an address too, that of all wildcards: whoever holds the listeners decides
    /// about each connection.
    #[serde(default)]
    pub others: bool,
    /// Addresses at which the holder of the listeners answers, besides the proxy: what is found there is its business. On
    /// loopback, where no server inside can have them; or of the synthetic range, where none inside is in the way.
    #[serde(default)]
    pub served: Vec<SocketAddrV4>,
}

/// Limits for all processes inside together, unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// CPU in percent of one processor (150 = one and a half); held only with control groups.
    pub cpu_percent: Option<u32>,
    /// Largest file one process may write, bytes.
    pub file_bytes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes in each of `/tmp` and `/dev/shm`.
    pub tmp_bytes: u64,
}

impl Default for Limits {
    /// What one coding agent with a build and a test suite needs on a workstation.
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            processes: 4096,
            cpu_percent: None,
            file_bytes: 16 << 30,
            open_files: 65536,
            tmp_bytes: 2 << 30,
        }
    }
}

/// A defence that a test leaves out to prove that the probe for it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each name is the defence that is left out")]
pub enum Weakness {
    CleanEnv,
    Undumpable,
    Seccomp,
    NetworkNamespace,
    OwnProc,
    IpcNamespace,
    HostnameNamespace,
    DropCapabilities,
    ReadOnlySystem,
    ReadOnlyRoot,
    PrivateRoot,
    OwnDevices,
    ProcessLimit,
    MemoryLimit,
    TmpLimit,
    FileLimit,
    CoreLimit,
    DnsFilter,
    NoNewPrivileges,
    LayerPaths,
    /// The old root is taken off, not only left behind.
    PivotRoot,
    /// One user and one group exist inside, and they are not root. Only a root outside can leave it out.
    IdentityMap,
    /// No descriptor of init's reaches what it starts.
    CloseOnExec,
}

impl SandboxSpec {
    /// Whether a defence is to be left out; never in release builds.
    pub(crate) fn weak(&self, weakness: Weakness) -> bool {
        cfg!(debug_assertions) && self.weaken.contains(&weakness)
    }
}
