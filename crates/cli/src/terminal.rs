//! The person's terminal in raw mode, and back: on every way out, also when this process panics or is told to end.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

use offshoot_core::api::TerminalSize;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode as long as it lives: every key goes to the program inside.
pub(crate) struct Raw(());

impl Raw {
    /// Puts the terminal behind standard input into raw mode.
    pub(crate) fn begin() -> io::Result<Self> {
        change(Termios::make_raw).map(|()| Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Single keys without echo as long as it lives; Ctrl-C stays what it is.
pub(crate) struct Cbreak(());

impl Cbreak {
    /// Has keys of the terminal behind standard input come one by one.
    pub(crate) fn begin() -> io::Result<Self> {
        change(|termios| termios.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO)).map(|()| Self(()))
    }
}

impl Drop for Cbreak {
    fn drop(&mut self) {
        restore();
    }
}

fn change(how: impl FnOnce(&mut Termios)) -> io::Result<()> {
    let before = tcgetattr(io::stdin())?;
    let mut changed = before.clone();
    how(&mut changed);
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    // A release build ends at a panic without running destructors, so the hook has to do it.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        hook(panic);
    }));
    // What was typed ahead stays.
    Ok(tcsetattr(io::stdin(), OptionalActions::Drain, &changed)?)
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(before) = before else { return };
    if io::stdout().is_terminal() {
        // What a program that was left in the middle may have turned on: other screen, mouse, paste marks, hidden cursor.
        let _ = io::stdout().write_all(
            b"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?25h\x1b[<u\x1b[0m\r",
        );
        let _ = io::stdout().flush();
    }
    // Answers of the terminal to questions of a program that is gone must not become keys of the person's shell.
    let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
}

/// The size of the person's terminal.
pub(crate) fn size() -> TerminalSize {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    match size {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, cols: size.ws_col }
        }
        _ => TerminalSize { rows: 24, cols: 80 },
    }
}
