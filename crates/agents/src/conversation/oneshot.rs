//! One prompt, given in the arguments; text on stdout; an exit code. Nothing can be asked, answered or added: a
//! follow-up is a new process, and to cancel is to kill it.

use offshoot_core::agent::{AgentEvent, Role, TurnEnd};

use super::lines::{Line, Lines};
use super::setup::{Direction, Send, Setup, Wants};
use super::tell::{say, too_long};
use super::turns::{Turns, exit_text};
use super::{ConversationState, bound};

#[derive(Debug)]
pub(super) struct Oneshot {
    setup: Setup,
    received: Lines,
    turns: Turns,
    last_line: String,
}

impl Oneshot {
    pub(super) fn new(setup: Setup) -> Self {
        Self { setup, received: Lines::default(), turns: Turns::default(), last_line: String::new() }
    }

    fn begin(&mut self, events: &mut Vec<AgentEvent>) {
        if self.turns.started() == 0 {
            let prompt = self.setup.prompt.clone().unwrap_or_default();
            self.turns.start(&prompt, events);
        }
    }

    pub(super) fn observe(&mut self, direction: Direction, bytes: &[u8], events: &mut Vec<AgentEvent>) {
        if direction == Direction::Sent {
            return;
        }
        self.begin(events);
        for line in self.received.push(bytes) {
            match line {
                Line::Whole(line) => self.line(&line, events),
                Line::TooLong => events.push(too_long()),
            }
        }
    }

    fn line(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        let mut text = String::from_utf8_lossy(line).trim_end().to_owned();
        self.last_line = bound::shorten(&text, bound::TITLE);
        text.push('\n');
        say(Role::Assistant, &text, events);
    }

    #[expect(clippy::unused_self, reason = "the same call for every protocol")]
    pub(super) fn next(&self, _wants: &Wants) -> Option<Send> {
        // Some wait for the end of their input before they begin.
        Some(Send::CloseInput)
    }

    pub(super) fn quiet(&mut self, seconds: u64, events: &mut Vec<AgentEvent>) {
        self.turns.quiet(seconds, self.setup.silence_s, events);
    }

    pub(super) fn exited(&mut self, code: Option<i32>, events: &mut Vec<AgentEvent>) {
        self.begin(events);
        let rest = self.received.partial().to_vec();
        if !rest.trim_ascii().is_empty() {
            self.line(&rest, events);
        }
        match code {
            Some(0) => self.turns.end(TurnEnd::Completed, None, events),
            code => {
                let text = if self.last_line.is_empty() {
                    exit_text(code)
                } else {
                    format!("{}: {}", exit_text(code), self.last_line)
                };
                self.turns.end(TurnEnd::Failed, Some(&text), events);
            }
        }
    }

    pub(super) fn state(&self) -> ConversationState {
        if self.turns.started() == 0 { ConversationState::InTurn(0) } else { self.turns.state() }
    }

    #[expect(clippy::unused_self, reason = "the same call for every protocol")]
    pub(super) fn session(&self) -> Option<&str> {
        None
    }
}
