//! Standard output for data, standard error for words, and what is known of the terminal behind them.

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::Serialize;

use crate::text::{cut, escape_line};

/// Columns if there is no terminal to ask: wide enough that nothing of use is cut for a program that reads along.
const NO_TERMINAL_COLUMNS: usize = 160;

/// Where a command prints.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    /// `--json`.
    pub json: bool,
    /// Whether a terminal shows standard output.
    pub stdout_tty: bool,
    /// Whether a terminal shows standard error.
    pub stderr_tty: bool,
    /// Whether standard output may have colour.
    pub colour: bool,
    /// Whether standard error may have colour.
    pub stderr_colour: bool,
    progress: Arc<AtomicBool>,
}

impl Screen {
    /// That of this process.
    pub(crate) fn of_process(json: bool) -> Self {
        let dumb = env::var_os("TERM").is_some_and(|t| t == "dumb");
        let colour_wanted = env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && !dumb;
        let (stdout_tty, stderr_tty) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            json,
            stdout_tty,
            stderr_tty,
            colour: stdout_tty && colour_wanted,
            stderr_colour: stderr_tty && colour_wanted,
            progress: Arc::default(),
        }
    }

    /// Columns of the terminal that shows standard output.
    pub(crate) fn columns(&self) -> usize {
        if !self.stdout_tty {
            let given = env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
            return given.filter(|c| *c > 0).unwrap_or(NO_TERMINAL_COLUMNS);
        }
        columns_of(io::stdout())
    }

    /// Data, with a line break.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        self.end_progress();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Data as JSON, one line, so that streams of it can be read line by line.
    pub(crate) fn print_json(&self, value: &impl Serialize) -> io::Result<()> {
        self.print(&serde_json::to_string(value)?)
    }

    /// Words. That nobody reads them does not matter.
    pub(crate) fn say(&self, text: &str) {
        self.end_progress();
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// The terminal's bell.
    pub(crate) fn ring(&self) {
        if self.stderr_tty && !self.json {
            let _ = io::stderr().write_all(b"\x07");
        }
    }

    /// What is being done: on a terminal one line that the next one replaces, else a line of its own.
    pub(crate) fn progress(&self, step: &str) {
        let step = escape_line(step);
        if self.json {
            return;
        }
        if !self.stderr_tty {
            let _ = writeln!(io::stderr(), "{step}");
            return;
        }
        let line = cut(&step, columns_of(io::stderr()).saturating_sub(1));
        let _ = write!(io::stderr(), "\r\x1b[2K{line}");
        self.progress.store(true, Ordering::Relaxed);
    }

    /// Takes the progress line away.
    pub(crate) fn end_progress(&self) {
        if self.progress.swap(false, Ordering::Relaxed) {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

fn columns_of(stream: impl std::os::fd::AsFd) -> usize {
    rustix::termios::tcgetwinsize(stream).map_or(80, |size| usize::from(size.ws_col)).max(20)
}
