//! `offshoot ps`.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
    time::Duration,
};

use offshoot_core::api::{DaemonView, TaskList};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    failure::{Failure, Outcome},
    presence::ring,
    render::ps,
    session::{Session, encode},
    terminal::Cbreak,
    watching::Following,
};

/// List tasks, those that wait for you first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also those that are landed or discarded
    #[arg(long, short = 'a')]
    all: bool,
    /// Only those of this repository
    #[arg(long)]
    here: bool,
    /// Keep the list on the screen and up to date; q ends it
    #[arg(long, short = 'w')]
    watch: bool,
}

/// Events come in bursts; more redraws than this nobody can read.
const REDRAW: Duration = Duration::from_millis(200);
/// Ages and memory change without events.
const TICK: Duration = Duration::from_secs(2);

pub(crate) async fn run(args: Args, session: &Session) -> Outcome {
    let first = list(&args, session).await?;
    if args.watch {
        return redraw(session, first.seq, async || {
            text(&list(&args, session).await?, session).await.map(Some)
        })
        .await;
    }
    session.screen.print(&text(&first, session).await?)?;
    Ok(ExitCode::SUCCESS)
}

async fn list(args: &Args, session: &Session) -> Result<TaskList, Failure> {
    let mut path = format!("/v1/tasks?all={}", args.all);
    if args.here {
        let directory = session.directory()?;
        path.push_str(&format!("&path={}", encode(&directory.to_string_lossy())));
    }
    session.client.get(&path).await
}

async fn text(list: &TaskList, session: &Session) -> Result<String, Failure> {
    if session.screen.json {
        return Ok(serde_json::to_string(list).map_err(io::Error::from)?);
    }
    let daemon: DaemonView = session.client.get("/v1/daemon").await?;
    Ok(ps::table(list, Some(&daemon), session.screen.columns(), session.screen.colour))
}

/// Draws what `text` gives again when something happened after `seq`, until `q`. Without a terminal each text is printed
/// after the other; `None` is nothing new.
pub(crate) async fn redraw(
    session: &Session,
    seq: u64,
    mut text: impl AsyncFnMut() -> Result<Option<String>, Failure>,
) -> Outcome {
    let mut following = Following::new(session, "/v1/events".to_owned(), seq);
    let on_screen = session.screen.stdout_tty && !session.screen.json;
    let keys = Cbreak::begin().ok();
    let mut typed = if keys.is_some() { Some(read_keys()) } else { None };
    if on_screen {
        io::stdout().write_all(b"\x1b[?1049h\x1b[?25l")?;
    }
    let _restored = keys;
    let mut due = Some(Instant::now());
    let mut tick = tokio::time::interval(TICK);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let result = loop {
        tokio::select! {
            entry = following.next() => {
                ring(&session.screen, &entry?);
                due.get_or_insert_with(|| Instant::now() + REDRAW);
            }
            _ = tick.tick(), if on_screen => {
                due.get_or_insert_with(Instant::now);
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                due = None;
                match text().await {
                    Ok(Some(text)) if on_screen => draw(&text)?,
                    Ok(Some(text)) => session.screen.print(&text)?,
                    Ok(None) => {}
                    Err(failure) => break Err(failure),
                }
            }
            key = next_key(&mut typed) => match key {
                Some(b'q' | b'Q' | 0x03 | 0x1b) => break Ok(()),
                Some(_) => {}
                None => typed = None,
            },
            _ = tokio::signal::ctrl_c() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
        }
    };
    if on_screen {
        io::stdout().write_all(b"\x1b[?25h\x1b[?1049l")?;
        io::stdout().flush()?;
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Draws over what is there, line by line, so that nothing flickers.
fn draw(text: &str) -> io::Result<()> {
    let rows = usize::from(crate::terminal::size().rows).saturating_sub(1).max(1);
    let mut out = String::from("\x1b[H");
    for line in text.lines().take(rows) {
        out.push_str(line);
        out.push_str("\x1b[K\r\n");
    }
    out.push_str("\x1b[J");
    io::stdout().write_all(out.as_bytes())?;
    io::stdout().flush()
}

fn read_keys() -> mpsc::Receiver<u8> {
    let (send, receive) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut byte = [0];
        while let Ok(1) = io::stdin().lock().read(&mut byte) {
            if send.blocking_send(byte[0]).is_err() {
                return;
            }
        }
    });
    receive
}

async fn next_key(typed: &mut Option<mpsc::Receiver<u8>>) -> Option<u8> {
    match typed {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}
