//! Carries the bytes of a command in an environment between its WebSocket and the person's terminal or pipes.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
    thread,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use offshoot_core::{
    api::{StreamNotice, StreamRequest},
    problem::{Problem, ProblemKind},
};
use tokio::{
    net::UnixStream,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::{
    failure::{Failure, Outcome},
    filter::Filter,
    keys::Keys,
    screen::Screen,
    terminal::{self, Raw},
    text::escape_line,
};

/// How the two ends meet.
pub(crate) enum Mode {
    /// The command has a terminal, and the person's becomes it.
    Terminal,
    /// Bytes as they are; `input` says whether ours goes in.
    Pipes {
        /// Whether standard input is handed in.
        input: bool,
    },
    /// Output is collected.
    Collect,
    /// Output only, of a command that is somebody else's: nothing goes in, not even that there is nothing.
    Look,
}

/// How it ended.
pub(crate) enum Ending {
    /// The command is over.
    Exited {
        /// Its code, or 128 and the signal.
        code: u8,
    },
    /// The person detached.
    Detached,
    /// The person's own process was told to end.
    Ended(u8),
}

impl Ending {
    /// The exit code of this process.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Exited { code: 0 } | Self::Detached => Ok(ExitCode::SUCCESS),
            Self::Exited { code } | Self::Ended(code) => Err(Failure::Code(*code)),
        }
    }
}

/// What was collected.
#[derive(Default)]
pub(crate) struct Collected {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Code or signal.
    pub exit: Option<(Option<i32>, Option<i32>)>,
}

/// Most bytes collected of each stream; a command that writes more is no answer for a JSON object.
const MAX_COLLECTED: usize = 64 << 20;

/// Carries bytes both ways until the command is over or the person detaches.
pub(crate) async fn carry(
    mut socket: WebSocketStream<UnixStream>,
    mode: Mode,
    screen: &Screen,
    collected: &mut Collected,
) -> Result<Ending, Failure> {
    let in_terminal = matches!(mode, Mode::Terminal);
    let raw = if in_terminal { Some(Raw::begin()?) } else { None };
    let mut resized = signal(SignalKind::window_change())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut input = match mode {
        Mode::Terminal | Mode::Pipes { input: true } => Some(read_input()),
        Mode::Pipes { input: false } | Mode::Collect | Mode::Look => None,
    };
    let look = matches!(mode, Mode::Look);
    if input.is_none() && !look {
        request(&mut socket, &StreamRequest::CloseInput).await?;
    }
    if in_terminal {
        request(&mut socket, &StreamRequest::Resize(terminal::size())).await?;
    }
    let mut keys = Keys::default();
    let mut filters = [Filter::default(), Filter::default()];
    let ending = loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(frame))) => {
                    let (stderr, bytes) = match frame.split_first() {
                        Some((2, rest)) => (true, rest),
                        Some((_, rest)) => (false, rest),
                        None => continue,
                    };
                    if matches!(mode, Mode::Collect) {
                        let into = if stderr { &mut collected.stderr } else { &mut collected.stdout };
                        let room = MAX_COLLECTED.saturating_sub(into.len());
                        into.extend_from_slice(&bytes[..bytes.len().min(room)]);
                        continue;
                    }
                    // What comes out of an environment is hostile to a terminal; a pipe gets it as it is.
                    let to_terminal = if stderr { screen.stderr_tty } else { screen.stdout_tty };
                    let filtered;
                    let shown = if to_terminal {
                        filtered = filters[usize::from(stderr)].take(bytes);
                        &filtered[..]
                    } else {
                        bytes
                    };
                    if stderr { put(io::stderr(), shown)?; } else { put(io::stdout(), shown)?; }
                }
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(StreamNotice::Exited { code, signal }) => {
                        collected.exit = Some((code, signal));
                        break Ending::Exited { code: exit_code(code, signal) };
                    }
                    Ok(StreamNotice::Gone { reason }) => {
                        drop(raw);
                        return Err(Problem::new(
                            ProblemKind::Conflict,
                            "environment_gone",
                            format!("the environment is gone: {}", escape_line(&reason)),
                        ).into());
                    }
                    Err(_) => {}
                },
                Some(Ok(Message::Close(frame))) => {
                    drop(raw);
                    let why = frame.map(|f| f.reason.to_string()).filter(|r| !r.is_empty());
                    let why = why.unwrap_or_else(|| "the daemon ended the connection".to_owned());
                    return Err(Problem::new(ProblemKind::Unavailable, "daemon_lost", escape_line(&why))
                        .hint("the command goes on; attach again").into());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    drop(raw);
                    return Err(Problem::new(
                        ProblemKind::Unavailable, "daemon_lost", "the connection to the daemon broke",
                    ).hint("the command goes on; attach again").into());
                }
            },
            typed = next_input(&mut input) => match typed {
                Some(bytes) if in_terminal => {
                    let (send, detach) = keys.take(&bytes);
                    if !send.is_empty() {
                        send_bytes(&mut socket, send).await?;
                    }
                    if detach {
                        break Ending::Detached;
                    }
                }
                Some(bytes) => send_bytes(&mut socket, bytes).await?,
                None => {
                    input = None;
                    if in_terminal {
                        break Ending::Detached;
                    }
                    request(&mut socket, &StreamRequest::CloseInput).await?;
                }
            },
            _ = resized.recv(), if in_terminal => {
                request(&mut socket, &StreamRequest::Resize(terminal::size())).await?;
            }
            // Without a terminal of its own the command gets what would have hit it here.
            _ = interrupt.recv() => if look {
                break Ending::Detached;
            } else {
                request(&mut socket, &StreamRequest::Signal { number: 2 }).await?;
            },
            _ = terminate.recv() => break Ending::Ended(143),
            _ = hangup.recv() => break Ending::Ended(129),
        }
    };
    drop(raw);
    let _ = socket.close(None).await;
    Ok(ending)
}

/// The code of a shell for such an end.
pub(crate) fn exit_code(code: Option<i32>, signal: Option<i32>) -> u8 {
    let number = code.or(signal.map(|s| 128 + s)).unwrap_or(255);
    u8::try_from(number & 0xff).unwrap_or(255)
}

async fn send_bytes(socket: &mut WebSocketStream<UnixStream>, bytes: Vec<u8>) -> Result<(), Failure> {
    // A command that is over no longer reads; its end comes by the other direction.
    let _ = socket.send(Message::Binary(Bytes::from(bytes))).await;
    Ok(())
}

async fn request(socket: &mut WebSocketStream<UnixStream>, request: &StreamRequest) -> Result<(), Failure> {
    let text = serde_json::to_string(request).map_err(|e| Problem::internal("cannot write a request", &e))?;
    let _ = socket.send(Message::Text(text.into())).await;
    Ok(())
}

async fn next_input(input: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    match input {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Standard input by a thread of its own: a read from a terminal cannot be given up on.
fn read_input() -> mpsc::Receiver<Vec<u8>> {
    // Eight reads: enough to keep the socket busy, little enough that a paste is held up by a slow command.
    let (send, receive) = mpsc::channel(8);
    thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => {
                    if send.blocking_send(buffer[..n].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receive
}

fn put(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
