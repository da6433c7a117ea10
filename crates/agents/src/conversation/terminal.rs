//! Any program in a terminal. There is no protocol, so this guesses, and only three things:
//!
//! - *Idle*: nothing was shown for some seconds (agents at work move a spinner). An idle program can be given the
//!   next prompt; if a turn was under way, it is taken to be over.
//! - *Attention*: it is quiet and the last lines look like a question, or it rang the bell or sent a desktop
//!   notification (OSC 9, 777, 99).
//! - *Ended*: the process exited.
//!
//! Prompts are typed: pasted as one block if the program supports marked paste, else as one line; Return follows when
//! the program has shown a reaction. A prompt counts as sent when it was typed, by us or by a person. Queries that
//! programs make to their terminal are answered unless a person's terminal is attached.
//!
//! Whatever the program really did is to be taken from the workspace and the exit code.

use std::hash::{DefaultHasher, Hash, Hasher};

use offshoot_core::agent::{AgentEvent, TurnEnd};

use super::screen::{Query, Screen};
use super::setup::{Direction, Send, SessionWish, Setup, Wants};
use super::turns::Turns;
use super::{ConversationState, bound};

const PASTE: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";
const INTERRUPT: u8 = 0x03;
/// Longest typed or pasted text that is remembered while it is being typed: the longest prompt.
const TYPED: usize = 1 << 20;
/// Most lines that are remembered as typed. A person types for days until then.
const TYPED_LINES: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Terminal {
    setup: Setup,
    screen: Screen,
    turns: Turns,
    /// What is being typed since the last Return.
    line: Vec<u8>,
    /// An escape sequence that is not complete yet, of the bytes sent.
    escape: Vec<u8>,
    pasting: bool,
    /// A block was pasted, Return is still to follow.
    pasted: bool,
    /// The program has shown something since then.
    reacted: bool,
    /// Hashes of the lines typed, in order.
    typed: Vec<u64>,
    idle: bool,
    attention: bool,
}

impl Terminal {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            screen: Screen::new(),
            turns: Turns::default(),
            line: Vec::new(),
            escape: Vec::new(),
            pasting: false,
            pasted: false,
            reacted: false,
            typed: Vec::new(),
            idle: false,
            attention: false,
        }
    }

    pub(super) fn observe(&mut self, direction: Direction, bytes: &[u8], events: &mut Vec<AgentEvent>) {
        match direction {
            Direction::Received => {
                if bytes.is_empty() {
                    return;
                }
                self.idle = false;
                self.reacted = true;
                for notice in self.screen.show(bytes) {
                    self.attention = true;
                    events.push(AgentEvent::Attention { reason: bound::shorten(&notice, bound::TITLE) });
                }
            }
            Direction::Sent => {
                for &byte in bytes {
                    self.was_sent(byte, events);
                }
            }
        }
    }

    fn was_sent(&mut self, byte: u8, events: &mut Vec<AgentEvent>) {
        if !self.escape.is_empty() || byte == 0x1b {
            self.escape.push(byte);
            if self.escape_is_complete() {
                let sequence = std::mem::take(&mut self.escape);
                self.sequence_was_sent(&sequence);
            }
            return;
        }
        if self.pasting {
            self.remember(byte);
            return;
        }
        self.attention = false;
        match byte {
            INTERRUPT => self.turns.cancel_sent(),
            b'\r' => self.line_was_typed(events),
            0x7f | 0x08 => {
                self.line.pop();
            }
            _ => self.remember(byte),
        }
    }

    fn remember(&mut self, byte: u8) {
        if self.line.len() < TYPED {
            self.line.push(byte);
        }
    }

    /// Escape sequences end by their own grammar; none that is of interest is longer than a colour's reply.
    fn escape_is_complete(&self) -> bool {
        match self.escape.as_slice() {
            [] | [_] | [_, b'[' | b']' | b'O'] => false,
            [_, b'[', .., last] => (0x40..=0x7e).contains(last) || self.escape.len() > 64,
            [_, b']', rest @ ..] => {
                rest.ends_with(b"\x07") || rest.ends_with(b"\x1b\\") || self.escape.len() > 64
            }
            _ => true,
        }
    }

    fn sequence_was_sent(&mut self, sequence: &[u8]) {
        if sequence == PASTE {
            self.pasting = true;
            self.line.clear();
        } else if sequence == PASTE_END {
            self.pasting = false;
            self.pasted = true;
            self.reacted = false;
        } else if self.pasting {
            for &byte in sequence {
                self.remember(byte);
            }
        } else if let Some(query) = replied(sequence) {
            self.screen.replied(query);
        } else {
            // Arrow keys and the like: a person.
            self.attention = false;
        }
    }

    fn line_was_typed(&mut self, events: &mut Vec<AgentEvent>) {
        self.pasted = false;
        let line = std::mem::take(&mut self.line);
        let text = words(&String::from_utf8_lossy(&line));
        if text.is_empty() {
            return;
        }
        if self.typed.len() < TYPED_LINES {
            self.typed.push(hash(&text));
        }
        self.idle = false;
        if self.turns.current().is_none() {
            self.turns.start(&text, events);
        }
    }

    /// How many of the prompts were typed, in their order.
    fn prompts_sent(&self, wants: &Wants) -> usize {
        let mut typed = self.typed.iter();
        let mut sent = 0;
        while let Some(text) = self.prompt(wants, sent) {
            let wanted = hash(&words(&text));
            if !typed.any(|one| *one == wanted) {
                break;
            }
            sent += 1;
        }
        sent
    }

    fn prompt(&self, wants: &Wants, number: usize) -> Option<String> {
        let text = &wants.prompts.get(number)?.text;
        let fresh = self.setup.session == SessionWish::New && number == 0;
        let preamble = self.setup.preamble.as_deref().filter(|_| fresh);
        Some(preamble.map_or_else(|| text.clone(), |preamble| format!("{preamble}\n\n{text}")))
    }

    pub(super) fn next(&self, wants: &Wants) -> Option<Send> {
        if let Some(reply) = self.screen.due()
            && !wants.attached
            && !self.pasting
        {
            // An escape sequence that was cut off is finished first.
            let rest = reply.strip_prefix(self.escape.as_slice()).unwrap_or(reply);
            return Some(Send::Bytes(rest.to_vec()));
        }
        if self.turns.to_cancel(wants) {
            return Some(Send::Bytes(vec![INTERRUPT]));
        }
        let number = self.prompts_sent(wants);
        let Some(text) = self.prompt(wants, number) else {
            let done = wants.finish && self.turns.current().is_none();
            return done.then_some(Send::CloseInput);
        };
        let text = typeable(&text);
        if self.pasted && self.line == text.as_bytes() {
            return self.reacted.then(|| Send::Bytes(b"\r".to_vec()));
        }
        let cut_off = self.pasting && text.as_bytes().starts_with(&self.line);
        if cut_off {
            let mut bytes = text.as_bytes()[self.line.len()..].to_vec();
            bytes.extend_from_slice(PASTE_END);
            return Some(Send::Bytes(bytes));
        }
        if !self.idle || self.attention {
            return None;
        }
        let mut bytes = Vec::with_capacity(text.len() + PASTE.len() + PASTE_END.len());
        if self.screen.marks_paste() {
            bytes.extend_from_slice(PASTE);
            bytes.extend_from_slice(text.as_bytes());
            bytes.extend_from_slice(PASTE_END);
        } else {
            let line = words(&text);
            let rest = line.as_bytes().strip_prefix(self.line.as_slice()).unwrap_or(line.as_bytes());
            bytes.extend_from_slice(rest);
            bytes.push(b'\r');
        }
        Some(Send::Bytes(bytes))
    }

    pub(super) fn quiet(&mut self, seconds: u64, events: &mut Vec<AgentEvent>) {
        if seconds < self.setup.idle_after_s || self.idle {
            return;
        }
        self.idle = true;
        if self.attention {
            return;
        }
        if let Some(question) = self.screen.question() {
            self.attention = true;
            events.push(AgentEvent::Attention { reason: bound::shorten(&question, bound::TITLE) });
            return;
        }
        events.push(AgentEvent::Idle);
        let reason = if self.turns.is_cancelled() { TurnEnd::Cancelled } else { TurnEnd::Completed };
        self.turns.end(reason, None, events);
    }

    pub(super) fn exited(&mut self, code: Option<i32>, events: &mut Vec<AgentEvent>) {
        if code == Some(0) {
            self.turns.end(TurnEnd::Completed, None, events);
        }
        self.turns.exited(code, events);
    }

    pub(super) fn state(&self) -> ConversationState {
        if self.attention {
            ConversationState::Asking
        } else if self.turns.current().is_none() && !self.idle {
            ConversationState::Starting
        } else {
            self.turns.state()
        }
    }

    #[expect(clippy::unused_self, reason = "the same call for every protocol")]
    pub(super) fn session(&self) -> Option<&str> {
        None
    }
}

/// Which query a sequence sent to the program replies to.
fn replied(sequence: &[u8]) -> Option<Query> {
    match sequence {
        [_, b'[', b'?', .., b'c'] => Some(Query::Attributes),
        [_, b'[', .., b'R'] => Some(Query::Cursor),
        [_, b'[', b'0' | b'3', b'n'] => Some(Query::Status),
        [_, b']', b'1', b'0', b';', ..] => Some(Query::Colour(10)),
        [_, b']', b'1', b'1', b';', ..] => Some(Query::Colour(11)),
        _ => None,
    }
}

/// The text without control characters, by which it could leave the paste or press keys.
fn typeable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// The words of a text on one line: what is compared, and what is typed where there is no marked paste.
fn words(text: &str) -> String {
    typeable(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Only compared within one process, so the algorithm does not matter.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
