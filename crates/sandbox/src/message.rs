//! Messages between daemon, shim and init: one datagram of a SOCK_SEQPACKET pair each, JSON with an optional tail of
//! raw bytes, descriptors by SCM_RIGHTS.
//!
//! Invariants: a datagram has at most [`MAX_DATAGRAM`] bytes; longer JSON travels in a sealed memory file, at most
//! [`MAX_JSON`]; whatever does not fit or parse is an error, never a panic. Does not know what messages mean.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use offshoot_core::egress::{EgressRule, HostName};
use rustix::{
    fs::{MemfdFlags, SealFlags},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest datagram: well below the default socket buffer (208 KiB), so that one always fits.
pub(crate) const MAX_DATAGRAM: usize = 64 * 1024;
/// Longest JSON text: a specification or an argument list is far below.
pub(crate) const MAX_JSON: usize = 8 << 20;
/// Longest raw tail of one message.
pub(crate) const MAX_TAIL: usize = 32 * 1024;
/// Most descriptors in one message (the kernel's own limit is 253).
pub(crate) const MAX_FDS: usize = 64;

const HEAD: usize = 5;
const INLINE: u8 = 1;
const IN_FILE: u8 = 2;

/// What is asked of the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Exec { id: String, stdio: StdioKind, start: Start },
    Input { exec: String },
    CloseInput { exec: String },
    Resize { exec: String, rows: u16, cols: u16 },
    Signal { exec: String, signal: i32 },
    EndTree { exec: String },
    Ack { exec: String, offset: u64 },
    KillAll,
    Freeze,
    Thaw,
    Stats,
    Listeners { from: usize },
    Execs,
    Dial { address: IpAddr, port: u16 },
    Egress { rules: Vec<EgressRule> },
    Subscribe,
    Down,
}

/// What to start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: Option<String>,
    pub root: Option<ExecRoot>,
    pub tree: Option<Tree>,
}

/// That a process is kept together with all it starts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Tree {
    /// Bytes that it may use; for init, that its keeper has to watch.
    pub memory_bytes: Option<u64>,
    /// Whether it waits for [`ToInit::Proceed`].
    pub hold: bool,
}

/// How a new process is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StdioKind {
    Journal,
    Terminal { rows: u16, cols: u16 },
    Files { stdin: bool },
}

/// First message to a new shim is the specification; all others are numbered questions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    pub n: u64,
    pub ask: Ask,
}

/// From the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromShim {
    Ready,
    Failed { step: String, error: String },
    Answer { n: u64, reply: Result<Reply, Refusal> },
    Event(Event),
}

/// A good answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Started { pid: u32 },
    Stats(Stats),
    Listeners { kinds: Vec<ListenerKind>, more: bool },
    Execs(Vec<ExecState>),
}

/// A bad answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    Unknown,
    Exists,
    Invalid(String),
    Busy,
    Frozen,
    System(String),
    NotFound(String),
}

/// What happened in the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A journal has grown to this offset. Several growths may be told as one.
    Output {
        /// Which executed process.
        exec: String,
        /// End of its journal.
        end_offset: u64,
    },
    /// A process ended; its journal holds the same as a record.
    Exited {
        /// Which executed process.
        exec: String,
        /// How.
        exit: Exit,
    },
    /// A limit was met and something was refused or killed.
    LimitExceeded {
        /// Which executed process's own limit; the environment's if none.
        exec: Option<String>,
        /// Which limit, and what was done.
        what: String,
    },
    /// Everything inside is gone.
    InitGone,
}

/// A root directory of its own for a process: the unpacked image of a service. It keeps an image's files and users
/// apart from the agent's; the boundary is the sandbox around both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRoot {
    /// The directory inside: an overlay with [`crate::Mount::Overlay`]'s `root` set, with what is shared with it.
    pub path: PathBuf,
    /// User number that it sees itself as, and everything of the sandbox's identity as; any number.
    ///
    /// For 0, calls that change owners, users and groups, or make devices, succeed without an effect.
    pub uid: u32,
    /// Group number, likewise.
    pub gid: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// One executed process as the shim knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// The id it was started under.
    pub id: String,
    /// Its number inside.
    pub pid: u32,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
    /// End of its journal.
    pub journal_end: u64,
}

/// Usage of the whole environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Bytes of memory in use.
    pub memory_bytes: u64,
    /// Processes (without control groups) or processes and threads (with them).
    pub processes: u64,
    /// CPU time used, microseconds; of living processes only without control groups.
    pub cpu_us: u64,
    /// Which limits the kernel holds for all processes together; others are soft.
    pub hard: Vec<String>,
    /// Bytes of memory in use by each executed process that is kept together with all it starts, and by that.
    pub trees: BTreeMap<String, u64>,
}

/// What a listener is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerKind {
    /// HTTP and CONNECT proxy, 127.0.0.1:3128.
    Proxy,
    /// Whatever was dialled by (synthetic) address at this port (80 or 443); the local address tells which name.
    Transparent {
        /// The port.
        port: u16,
    },
    /// A rule with an explicit port.
    Port {
        /// Synthetic address it listens on.
        address: std::net::Ipv4Addr,
        /// The port.
        port: u16,
        /// The exact name; `None` for a wildcard rule (the name is not known from the address).
        host: Option<HostName>,
    },
    /// One of [`crate::Network::served`].
    Served {
        /// The loopback address inside.
        address: std::net::Ipv4Addr,
        /// The port.
        port: u16,
    },
}

/// From shim to init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToInit {
    Go {
        soft_memory: bool,
    },
    Spawn {
        n: u64,
        terminal: Option<(u16, u16)>,
        start: Start,
    },
    /// To one that is held: it is in its group, or cannot be.
    Proceed {
        n: u64,
        go: bool,
    },
    EndTree {
        n: u64,
        pid: u32,
    },
    Signal {
        n: u64,
        pid: u32,
        signal: i32,
    },
    KillAll {
        n: u64,
    },
    Stop {
        n: u64,
        stop: bool,
    },
    Dial {
        n: u64,
        address: IpAddr,
        port: u16,
    },
    Egress {
        n: u64,
        rules: Vec<EgressRule>,
    },
    Stats {
        n: u64,
    },
}

/// From init to shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// With the listeners' descriptors; `more` follows.
    Listeners {
        kinds: Vec<ListenerKind>,
    },
    Ready,
    Failed {
        step: String,
        error: String,
    },
    Spawned {
        n: u64,
        pid: u32,
    },
    /// With a handle of the process, which waits for [`ToInit::Proceed`].
    Held {
        n: u64,
    },
    Exited {
        pid: u32,
        exit: Exit,
    },
    Done {
        n: u64,
    },
    Refused {
        n: u64,
        refusal: Refusal,
    },
    Stats {
        n: u64,
        stats: Stats,
        /// Memory of those that are kept together.
        trees: Vec<(u32, u64)>,
    },
    LimitExceeded {
        what: String,
        pid: Option<u32>,
    },
}

/// A received message.
#[derive(Debug)]
pub(crate) struct Packet {
    json: Vec<u8>,
    pub tail: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Packet {
    pub fn parse<T: DeserializeOwned>(&self) -> io::Result<T> {
        serde_json::from_slice(&self.json).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }
}

/// A message ready to be sent, so that a full socket does not mean encoding it again.
#[derive(Debug)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

pub(crate) fn encode<T: Serialize>(message: &T, tail: &[u8], mut fds: Vec<OwnedFd>) -> io::Result<Encoded> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let json = serde_json::to_vec(message)?;
    if json.len() > MAX_JSON || tail.len() > MAX_TAIL || fds.len() > MAX_FDS {
        return Err(invalid("message too long"));
    }
    let mut bytes = Vec::with_capacity(HEAD + json.len().min(MAX_DATAGRAM) + tail.len());
    let inline = HEAD + json.len() + tail.len() <= MAX_DATAGRAM;
    bytes.push(if inline { INLINE } else { IN_FILE });
    bytes.extend((json.len() as u32).to_le_bytes());
    if inline {
        bytes.extend(&json);
    } else {
        let memory = rustix::fs::memfd_create("message", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = std::fs::File::from(memory);
        file.write_all(&json)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW)?;
        fds.insert(0, file.into());
    }
    bytes.extend(tail);
    Ok(Encoded { bytes, fds })
}

/// Sends one message; `WouldBlock` when the socket is full and `flags` say not to wait.
pub(crate) fn send_encoded(socket: impl AsFd, message: &Encoded, flags: SendFlags) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = message.fds.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    let parts = [IoSlice::new(&message.bytes)];
    loop {
        match rustix::net::sendmsg(&socket, &parts, &mut control, flags | SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map(|_| ()).map_err(Into::into),
        }
    }
}

/// Encodes and sends, waiting while the socket is full.
pub(crate) fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    tail: &[u8],
    fds: Vec<OwnedFd>,
) -> io::Result<()> {
    send_encoded(socket, &encode(message, tail, fds)?, SendFlags::empty())
}

/// Receives one message; `None` when the other side is gone.
pub(crate) fn receive(socket: impl AsFd, flags: RecvFlags) -> io::Result<Option<Packet>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS + 1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = vec![0; MAX_DATAGRAM];
    let got = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            result => break result?,
        }
    };
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || got.bytes < HEAD {
        return Err(invalid("message cut off"));
    }
    buffer.truncate(got.bytes);
    let length = u32::from_le_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
    if length > MAX_JSON {
        return Err(invalid("message too long"));
    }
    let (json, tail) = match buffer[0] {
        INLINE if HEAD + length <= buffer.len() => {
            (buffer[HEAD..HEAD + length].to_vec(), buffer[HEAD + length..].to_vec())
        }
        IN_FILE if !fds.is_empty() => {
            let mut file = std::fs::File::from(fds.remove(0));
            let seals = rustix::fs::fcntl_get_seals(&file)?;
            if !seals.contains(SealFlags::WRITE | SealFlags::SHRINK) {
                return Err(invalid("message file not sealed"));
            }
            let mut json = Vec::new();
            io::Seek::rewind(&mut file)?;
            file.take(length as u64).read_to_end(&mut json)?;
            (json, buffer[HEAD..].to_vec())
        }
        _ => return Err(invalid("message cut off")),
    };
    if tail.len() > MAX_TAIL {
        return Err(invalid("message too long"));
    }
    Ok(Some(Packet { json, tail, fds }))
}
