//! The daemon's side of one environment: questions with their answers, and a stream of events.
//!
//! Any number of questions may be open at once; each is one datagram. A reading task ends with the connection.
//! Dropping a [`Connection`] changes nothing in the environment.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    net::IpAddr,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use offshoot_core::egress::EgressRule;
use rustix::net::{RecvFlags, SendFlags};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Notify, oneshot},
};

use crate::message::{
    self, Ask, FromShim, MAX_TAIL, Packet, Question, Refusal, Reply, Start, StdioKind, Tree,
};
pub use crate::message::{Event, ExecRoot, ExecState, Exit, ListenerKind, Stats};

/// Events kept for a consumer that is slow. Growth is kept as the latest offset; of all else, 4096 are more than
/// one environment's lifetime should see, and the oldest are dropped then: journals and `execs` hold the truth.
const MAX_EVENTS: usize = 4096;

/// Why a question was not answered well.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The environment, or the connection to it, is gone.
    #[error("the environment is gone")]
    Gone,
    /// There is no such process, or it has ended.
    #[error("no such process in the environment")]
    Unknown,
    /// The environment is frozen.
    #[error("the environment is frozen")]
    Frozen,
    /// Too much is being asked at once, or everything is being killed.
    #[error("the environment is busy")]
    Busy,
    /// The request makes no sense.
    #[error("not a valid request: {0}")]
    Invalid(String),
    /// The system refused.
    #[error("refused by the system inside the environment: {0}")]
    System(String),
    /// The message could not be sent.
    #[error("cannot talk to the environment")]
    Io(#[source] io::Error),
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The id was used before in this environment.
    #[error("a process with this id was started before")]
    Exists,
    /// The program or its directory does not exist inside, or may not be executed.
    #[error("cannot execute {0}")]
    NotFound(String),
    /// Any other reason.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// What to execute.
#[derive(Debug)]
pub struct ExecRequest {
    /// Chosen by the caller, never used twice in one environment: 1 to 64 letters, digits, `-`, `_`, `.`. Also the
    /// name of the journal.
    pub id: String,
    /// Program (searched for in `PATH`) and arguments.
    pub argv: Vec<String>,
    /// Variables besides those of the specification; with a `root`, all of them.
    pub env: BTreeMap<String, String>,
    /// Directory inside; the specification's `workdir` if none. With a `root`, a directory in that; `/` if none.
    pub cwd: Option<String>,
    /// What it is connected to.
    pub stdio: Stdio,
    /// A root directory and numbers of its own.
    pub root: Option<ExecRoot>,
    /// Keeps it together with all it starts, as a container would: when it ends, what it leaves behind is ended, then
    /// [`Event::Exited`] is told.
    pub tree: bool,
    /// Most memory that it and all it starts may use, bytes; implies `tree`. Also counts for the environment. Held by the
    /// kernel where there are control groups ([`Stats::hard`] has "memory"), else watched. When it is exceeded, all of it
    /// is killed.
    pub memory_bytes: Option<u64>,
}

impl Default for ExecRequest {
    /// Nothing to execute yet, in the environment's own root, journaled.
    fn default() -> Self {
        let (id, argv, env) = (String::new(), Vec::new(), BTreeMap::new());
        Self { id, argv, env, cwd: None, stdio: Stdio::Journal, root: None, tree: false, memory_bytes: None }
    }
}

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Terminal {
    pub rows: u16,
    pub cols: u16,
}

/// What a process is connected to.
#[derive(Debug)]
pub enum Stdio {
    /// Pipes; everything is journaled.
    Journal,
    /// A terminal of its own; everything is journaled.
    Terminal(Terminal),
    /// Descriptors of the caller (files and pipes, no directories); only the exit is journaled.
    Files {
        /// `/dev/null` if none.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
}

/// A started process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its number inside.
    pub pid: u32,
}

/// A listening socket of the environment's network.
#[derive(Debug)]
pub struct Listener {
    /// What it is for.
    pub kind: ListenerKind,
    /// The socket, non-blocking. The shim keeps a duplicate.
    pub fd: OwnedFd,
}

type Waiting = oneshot::Sender<(Result<Reply, Refusal>, Vec<OwnedFd>)>;

#[derive(Default)]
struct State {
    next: u64,
    gone: bool,
    waiting: HashMap<u64, Waiting>,
    grown: BTreeMap<String, u64>,
    events: VecDeque<Event>,
}

struct Inner {
    socket: AsyncFd<OwnedFd>,
    state: Mutex<State>,
    happened: Notify,
    journals: PathBuf,
}

/// A connection to an environment's shim. Cheap to clone.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.0.journals).finish()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, packet: Packet) {
        let Ok(message) = packet.parse::<FromShim>() else { return };
        let mut state = self.state();
        match message {
            FromShim::Answer { n, reply } => {
                if let Some(waiting) = state.waiting.remove(&n) {
                    let _ = waiting.send((reply, packet.fds));
                }
            }
            FromShim::Event(Event::Output { exec, end_offset }) => {
                state.grown.insert(exec, end_offset);
                self.happened.notify_one();
            }
            FromShim::Event(event) => {
                if state.events.len() >= MAX_EVENTS {
                    state.events.pop_front();
                }
                state.events.push_back(event);
                self.happened.notify_one();
            }
            FromShim::Ready | FromShim::Failed { .. } => {}
        }
    }

    fn end(&self) {
        let mut state = self.state();
        state.gone = true;
        // Dropping the senders tells everybody who waits.
        state.waiting.clear();
        self.happened.notify_one();
    }
}

/// Receives one message, waiting for it.
pub(crate) async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<Packet>> {
    socket.async_io(Interest::READABLE, |fd| message::receive(fd, RecvFlags::DONTWAIT)).await
}

impl Connection {
    /// Takes over a connected socket. Needs a tokio runtime.
    pub(crate) fn new(socket: AsyncFd<OwnedFd>, dir: &std::path::Path) -> Self {
        let inner = Arc::new(Inner {
            socket,
            state: Mutex::default(),
            happened: Notify::new(),
            journals: dir.join("journal"),
        });
        let reading = Arc::downgrade(&inner);
        let first = inner.clone();
        tokio::spawn(async move {
            // The connection lives as long as somebody else holds it: shut down on drop wakes this up.
            let mut held = Some(first);
            while let Some(inner) = held.take() {
                match receive(&inner.socket).await {
                    Ok(Some(packet)) => inner.take(packet),
                    Ok(None) | Err(_) => return inner.end(),
                }
                drop(inner);
                held = reading.upgrade();
            }
        });
        Self(inner)
    }

    /// The journal of an executed process.
    pub fn journal(&self, exec: &str) -> PathBuf {
        self.0.journals.join(exec)
    }

    async fn ask(
        &self,
        ask: Ask,
        tail: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(Result<Reply, Refusal>, Vec<OwnedFd>), ConnectionError> {
        let (sender, receiver) = oneshot::channel();
        let n = {
            let mut state = self.0.state();
            if state.gone {
                return Err(ConnectionError::Gone);
            }
            state.next += 1;
            let n = state.next;
            state.waiting.insert(n, sender);
            n
        };
        // Also when the caller gives up waiting.
        let _forget = Forget(&self.0, n);
        let message = message::encode(&Question { n, ask }, tail, fds)
            .map_err(|e| ConnectionError::Invalid(e.to_string()))?;
        let send = |fd: &OwnedFd| message::send_encoded(fd, &message, SendFlags::DONTWAIT);
        match self.0.socket.async_io(Interest::WRITABLE, send).await {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(ConnectionError::Gone),
            result => result.map_err(ConnectionError::Io)?,
        }
        receiver.await.map_err(|_| ConnectionError::Gone)
    }

    async fn reply(&self, ask: Ask, tail: &[u8]) -> Result<(Reply, Vec<OwnedFd>), ConnectionError> {
        let (reply, fds) = self.ask(ask, tail, Vec::new()).await?;
        Ok((reply.map_err(refused)?, fds))
    }

    async fn done(&self, ask: Ask) -> Result<(), ConnectionError> {
        self.reply(ask, &[]).await.map(|_| ())
    }

    /// Starts a process.
    pub async fn exec(&self, request: ExecRequest) -> Result<Started, ExecError> {
        let ExecRequest { id, argv, env, cwd, stdio, root, tree, memory_bytes } = request;
        let tree = (tree || memory_bytes.is_some()).then_some(Tree { memory_bytes, hold: false });
        let start = Start { argv, env, cwd, root, tree };
        let (stdio, fds) = match stdio {
            Stdio::Journal => (StdioKind::Journal, Vec::new()),
            Stdio::Terminal(Terminal { rows, cols }) => (StdioKind::Terminal { rows, cols }, Vec::new()),
            Stdio::Files { stdin, stdout, stderr } => (
                StdioKind::Files { stdin: stdin.is_some() },
                stdin.into_iter().chain([stdout, stderr]).collect(),
            ),
        };
        match self.ask(Ask::Exec { id, stdio, start }, &[], fds).await?.0 {
            Ok(Reply::Started { pid }) => Ok(Started { pid }),
            Ok(_) => Err(unexpected().into()),
            Err(Refusal::Exists) => Err(ExecError::Exists),
            Err(Refusal::NotFound(what)) => Err(ExecError::NotFound(what)),
            Err(refusal) => Err(refused(refusal).into()),
        }
    }

    /// Sends input. It is in the journal when this returns, and the process's queue has room again. When this is
    /// cancelled or fails, the journal tells what was accepted.
    pub async fn input(&self, exec: &str, bytes: &[u8]) -> Result<(), ConnectionError> {
        for part in bytes.chunks(MAX_TAIL) {
            self.reply(Ask::Input { exec: exec.to_owned() }, part).await?;
        }
        Ok(())
    }

    /// Ends the input after what was sent; on a terminal, types Ctrl-D.
    pub async fn close_input(&self, exec: &str) -> Result<(), ConnectionError> {
        self.done(Ask::CloseInput { exec: exec.to_owned() }).await
    }

    /// Changes a terminal's size.
    pub async fn resize(&self, exec: &str, rows: u16, cols: u16) -> Result<(), ConnectionError> {
        self.done(Ask::Resize { exec: exec.to_owned(), rows, cols }).await
    }

    /// Kills a process and all it has started; [`Event::Exited`] tells when nothing is left. Complete for those with
    /// `tree`; of others, what has detached itself stays.
    pub async fn end_tree(&self, exec: &str) -> Result<(), ConnectionError> {
        self.done(Ask::EndTree { exec: exec.to_owned() }).await
    }

    /// Sends a signal to a process's group; SIGKILL to one with `tree` is [`Connection::end_tree`].
    pub async fn signal(&self, exec: &str, signal: i32) -> Result<(), ConnectionError> {
        self.done(Ask::Signal { exec: exec.to_owned(), signal }).await
    }

    /// Says that a journal was read up to `offset`: without it, output stops being taken after
    /// [`crate::journal::MAX_UNREAD`] bytes.
    pub async fn ack(&self, exec: &str, offset: u64) -> Result<(), ConnectionError> {
        self.done(Ask::Ack { exec: exec.to_owned(), offset }).await
    }

    /// Kills everything inside; returns when nothing is left.
    pub async fn kill_all(&self) -> Result<(), ConnectionError> {
        self.done(Ask::KillAll).await
    }

    /// Stops everything inside where it stands.
    pub async fn freeze(&self) -> Result<(), ConnectionError> {
        self.done(Ask::Freeze).await
    }

    /// Lets everything go on.
    pub async fn thaw(&self) -> Result<(), ConnectionError> {
        self.done(Ask::Thaw).await
    }

    /// What is in use.
    pub async fn stats(&self) -> Result<Stats, ConnectionError> {
        match self.reply(Ask::Stats, &[]).await?.0 {
            Reply::Stats(stats) => Ok(stats),
            _ => Err(unexpected()),
        }
    }

    /// All listening sockets, as duplicates.
    pub async fn listeners(&self) -> Result<Vec<Listener>, ConnectionError> {
        let mut all: Vec<Listener> = Vec::new();
        loop {
            let (reply, fds) = self.reply(Ask::Listeners { from: all.len() }, &[]).await?;
            let Reply::Listeners { kinds, more } = reply else { return Err(unexpected()) };
            let before = all.len();
            all.extend(kinds.into_iter().zip(fds).map(|(kind, fd)| Listener { kind, fd }));
            if !more {
                return Ok(all);
            }
            if all.len() == before {
                return Err(ConnectionError::System("no descriptors left".into()));
            }
        }
    }

    /// Replaces the allow-list: the names known inside change at once, listeners for new ports come into being (see
    /// [`Connection::listeners`]). Rules may only be appended, so that addresses keep their meaning.
    pub async fn set_egress(&self, rules: Vec<EgressRule>) -> Result<(), ConnectionError> {
        self.done(Ask::Egress { rules }).await
    }

    /// Connects to a TCP port on a loopback address inside (127.0.0.0/8 or ::1; 127.0.0.1 falls back to ::1, where
    /// some development servers listen only); returns the connected, non-blocking socket.
    pub async fn dial(&self, address: IpAddr, port: u16) -> Result<OwnedFd, ConnectionError> {
        let (_, mut fds) = self.reply(Ask::Dial { address, port }, &[]).await?;
        fds.pop().ok_or_else(unexpected)
    }

    /// All executed processes the shim knows: those that run, and the latest that ended.
    pub async fn execs(&self) -> Result<Vec<ExecState>, ConnectionError> {
        match self.reply(Ask::Execs, &[]).await?.0 {
            Reply::Execs(execs) => Ok(execs),
            _ => Err(unexpected()),
        }
    }

    /// Asks for events from now on. What happened before is in [`Connection::execs`] and the journals.
    pub async fn subscribe(&self) -> Result<(), ConnectionError> {
        self.done(Ask::Subscribe).await
    }

    /// The next event; `None` when the environment or the connection is gone. For one consumer at a time.
    pub async fn next_event(&self) -> Option<Event> {
        loop {
            let notified = self.0.happened.notified();
            {
                let mut state = self.0.state();
                // Growth first: an exit told before the output it follows would be misleading.
                if let Some((exec, end_offset)) = state.grown.pop_first() {
                    return Some(Event::Output { exec, end_offset });
                }
                if let Some(event) = state.events.pop_front() {
                    return Some(event);
                }
                if state.gone {
                    return None;
                }
            }
            notified.await;
        }
    }

    /// Ends the environment and everything in it; returns when it is gone. Fine when it is gone already.
    pub async fn down(&self) -> Result<(), ConnectionError> {
        match self.done(Ask::Down).await {
            Err(ConnectionError::Gone) => Ok(()),
            result => result,
        }
    }
}

struct Forget<'a>(&'a Inner, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.state().waiting.remove(&self.1);
    }
}

fn unexpected() -> ConnectionError {
    ConnectionError::System("an answer to another question".into())
}

fn refused(refusal: Refusal) -> ConnectionError {
    match refusal {
        Refusal::Unknown => ConnectionError::Unknown,
        Refusal::Exists => ConnectionError::Invalid("exists".into()),
        Refusal::Invalid(what) => ConnectionError::Invalid(what),
        Refusal::Busy => ConnectionError::Busy,
        Refusal::Frozen => ConnectionError::Frozen,
        Refusal::System(what) | Refusal::NotFound(what) => ConnectionError::System(what),
    }
}
