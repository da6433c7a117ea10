//! What a terminal program shows, and what it asks of the terminal.
//!
//! The screen is kept by `vt100` at a fixed size: it is only looked at for its last lines. Queries that programs wait
//! for (device attributes, cursor position, colours) are noted with the reply that is due.

use vt100::{Callbacks, Parser, Screen as Vt};

/// Rows of the screen that is imagined.
pub(super) const ROWS: u16 = 50;
/// Columns of the screen that is imagined.
pub(super) const COLS: u16 = 160;

/// Most replies that are due at a time; programs wait for one before they ask for the next few.
const QUERIES: usize = 32;
/// How many of the last lines are looked at for a question: dialogs have their question above their options.
const LAST_LINES: usize = 12;

/// Words at which a program waits for a person, in lower case; taken from the dialogs of real agents and from
/// common tools.
const QUESTIONS: [&str; 16] = [
    "[y/n]",
    "(y/n)",
    "(y)es/(n)o",
    "yes/no",
    "do you want to",
    "would you like to",
    "do you trust",
    "press enter",
    "hit enter",
    "❯ 1.",
    "› 1.",
    "> 1.",
    "password:",
    "passphrase",
    "username for",
    "allow this",
];

/// Sort of a query, to recognise a reply that somebody else has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    Attributes,
    Status,
    Cursor,
    Colour(u8),
}

#[derive(Default)]
struct Seen {
    due: Vec<(Query, Vec<u8>)>,
    notices: Vec<String>,
}

impl Seen {
    fn query(&mut self, query: Query, reply: String) {
        if self.due.len() < QUERIES {
            self.due.push((query, reply.into_bytes()));
        }
    }

    fn notice(&mut self, words: String) {
        if self.notices.len() < QUERIES {
            self.notices.push(words);
        }
    }
}

impl Callbacks for Seen {
    fn audible_bell(&mut self, _: &mut Vt) {
        self.notice("the bell rang".to_owned());
    }

    fn unhandled_csi(&mut self, screen: &mut Vt, i1: Option<u8>, _: Option<u8>, params: &[&[u16]], c: char) {
        let first = params.first().and_then(|param| param.first()).copied().unwrap_or(0);
        match (i1, c, first) {
            (None, 'c', 0) => self.query(Query::Attributes, "\x1b[?62;22c".to_owned()),
            (None, 'n', 5) => self.query(Query::Status, "\x1b[0n".to_owned()),
            (None, 'n', 6) => {
                let (row, col) = screen.cursor_position();
                self.query(
                    Query::Cursor,
                    format!("\x1b[{};{}R", row.saturating_add(1), col.saturating_add(1)),
                );
            }
            _ => {}
        }
    }

    fn unhandled_osc(&mut self, _: &mut Vt, params: &[&[u8]]) {
        let words = |from: usize| {
            let rest = params.get(from..).unwrap_or_default().join(&b": "[..]);
            String::from_utf8_lossy(&rest).into_owned()
        };
        match params {
            [b"10", b"?"] => self.query(Query::Colour(10), "\x1b]10;rgb:ffff/ffff/ffff\x1b\\".to_owned()),
            [b"11", b"?"] => self.query(Query::Colour(11), "\x1b]11;rgb:0000/0000/0000\x1b\\".to_owned()),
            // 9;4 is a progress bar, not a notification.
            [b"9", b"4", ..] => {}
            [b"9", ..] => self.notice(words(1)),
            [b"777", b"notify", ..] => self.notice(words(2)),
            [b"99", ..] => self.notice(words(2)),
            _ => {}
        }
    }
}

pub(super) struct Screen {
    parser: Parser<Seen>,
    /// The beginning of a character whose rest has not come, at most three bytes. The parser takes what follows a cut
    /// character for other things than what follows a whole one, and where bytes are cut must not matter.
    cut: Vec<u8>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").finish_non_exhaustive()
    }
}

impl Screen {
    pub(super) fn new() -> Self {
        let rows = std::num::NonZeroU16::new(ROWS).unwrap_or(std::num::NonZeroU16::MIN);
        let cols = std::num::NonZeroU16::new(COLS).unwrap_or(std::num::NonZeroU16::MIN);
        Self { parser: Parser::new_with_callbacks(rows, cols, 0, Seen::default()), cut: Vec::new() }
    }

    /// Shows bytes; returns the notices (bells, notifications) among them.
    pub(super) fn show(&mut self, bytes: &[u8]) -> Vec<String> {
        self.cut.extend_from_slice(bytes);
        let rest = self.cut.split_off(self.cut.len() - unfinished(&self.cut));
        self.parser.process(&self.cut);
        self.cut = rest;
        std::mem::take(&mut self.parser.callbacks_mut().notices)
    }

    /// The reply that is due first.
    pub(super) fn due(&self) -> Option<&[u8]> {
        self.parser.callbacks().due.first().map(|(_, reply)| reply.as_slice())
    }

    /// Takes note that a query was answered, by us or by the terminal of a person.
    pub(super) fn replied(&mut self, query: Query) {
        let due = &mut self.parser.callbacks_mut().due;
        if let Some(index) = due.iter().position(|(one, _)| *one == query) {
            due.remove(index);
        }
    }

    /// Whether the program wants pasted text to be marked as such.
    pub(super) fn marks_paste(&self) -> bool {
        self.parser.screen().bracketed_paste()
    }

    /// The line that looks like a question to a person, if the last lines have one.
    pub(super) fn question(&self) -> Option<String> {
        let contents = self.parser.screen().contents();
        let lines: Vec<&str> = contents.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        let asks = |line: &&&str| {
            let lower = line.to_lowercase();
            QUESTIONS.iter().any(|words| lower.contains(words))
        };
        last.iter()
            .find(asks)
            .or_else(|| last.last().filter(|line| line.ends_with('?') || line.ends_with("? :")))
            .map(|line| (*line).to_owned())
    }
}

/// How many bytes at the end are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let begins = |length: &usize| {
        let end = &bytes[bytes.len() - length..];
        std::str::from_utf8(end).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=bytes.len().min(3)).find(begins).unwrap_or(0)
}
