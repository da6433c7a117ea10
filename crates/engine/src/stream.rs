//! The bytes of one command inside an environment, as a client sees them: output from the journal, so that a
//! reader may come late or come back, and input by message.

use offshoot_core::api::{StreamNotice, TerminalSize};
use tokio::sync::mpsc;

/// Both directions of one command's bytes.
pub struct ExecStream {
    /// What comes out, in order; ends after a notice.
    pub output: mpsc::Receiver<StreamItem>,
    /// What goes in. Dropping it detaches; the command goes on.
    pub input: mpsc::Sender<StreamInput>,
}

/// Something that came out.
#[derive(Debug)]
pub enum StreamItem {
    /// Standard output, or the terminal.
    Stdout(Vec<u8>),
    /// Standard error.
    Stderr(Vec<u8>),
    /// The end.
    Notice(StreamNotice),
}

/// Something to hand in.
#[derive(Debug)]
pub enum StreamInput {
    /// Bytes for its standard input or terminal.
    Bytes(Vec<u8>),
    /// The terminal has a new size.
    Resize(TerminalSize),
    /// No more input.
    Close,
    /// A signal, by number.
    Signal(i32),
}
