//! The counting of turns, common to all protocols: at most one is under way, they are numbered from 0 in the order
//! of their prompts.

use offshoot_core::agent::{AgentEvent, TurnEnd};

use super::{ConversationState, Wants, bound};

/// How far one of our requests is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Request {
    #[default]
    Unsent,
    Sent,
    Done,
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    started: u32,
    under_way: bool,
    cancelled: bool,
    silence_reported: bool,
}

impl Turns {
    pub(super) fn start(&mut self, prompt: &str, events: &mut Vec<AgentEvent>) {
        let turn = self.started;
        self.started = self.started.saturating_add(1);
        self.under_way = true;
        self.cancelled = false;
        self.silence_reported = false;
        events.push(AgentEvent::TurnStarted { turn, prompt: bound::shorten(prompt, bound::DETAIL) });
    }

    /// Ends the turn under way; without one nothing happens.
    pub(super) fn end(&mut self, reason: TurnEnd, text: Option<&str>, events: &mut Vec<AgentEvent>) {
        let Some(turn) = self.current() else { return };
        self.under_way = false;
        let text = text.filter(|text| !text.is_empty()).map(|text| bound::shorten(text, bound::DETAIL));
        events.push(AgentEvent::TurnEnded { turn, reason, text });
    }

    /// The number of the turn under way.
    pub(super) fn current(&self) -> Option<u32> {
        self.under_way.then(|| self.started.saturating_sub(1))
    }

    /// How many turns were started.
    pub(super) fn started(&self) -> u32 {
        self.started
    }

    pub(super) fn cancel_sent(&mut self) {
        self.cancelled = true;
    }

    /// Whether the turn under way was told to stop.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Whether the turn under way is to be told to stop.
    pub(super) fn to_cancel(&self, wants: &Wants) -> bool {
        !self.cancelled && self.current().is_some() && self.current() == wants.cancel_turn
    }

    /// The text of the prompt to be sent next.
    pub(super) fn next_prompt<'a>(&self, wants: &'a Wants) -> Option<&'a str> {
        if self.under_way {
            return None;
        }
        wants.prompts.get(self.started as usize).map(|prompt| prompt.text.as_str())
    }

    /// Whether everything wanted has been said and done.
    pub(super) fn all_done(&self, wants: &Wants) -> bool {
        wants.finish && !self.under_way && wants.prompts.len() <= self.started as usize
    }

    pub(super) fn state(&self) -> ConversationState {
        self.current().map_or(ConversationState::Ready, ConversationState::InTurn)
    }

    /// Reports a silence that is long for a turn, once a turn.
    pub(super) fn quiet(&mut self, seconds: u64, limit: u64, events: &mut Vec<AgentEvent>) {
        if self.under_way && limit > 0 && seconds >= limit && !self.silence_reported {
            self.silence_reported = true;
            events.push(AgentEvent::Attention {
                reason: format!("nothing heard for {seconds} s within a turn"),
            });
        }
    }

    /// The end of the process ends the turn too: it did not end by itself.
    pub(super) fn exited(&mut self, code: Option<i32>, events: &mut Vec<AgentEvent>) {
        let reason = if self.cancelled { TurnEnd::Cancelled } else { TurnEnd::Failed };
        self.end(reason, Some(&exit_text(code)), events);
    }
}

pub(super) fn exit_text(code: Option<i32>) -> String {
    match code {
        Some(code) => format!("the agent exited with code {code} before the end of the turn"),
        None => "the agent was killed before the end of the turn".to_owned(),
    }
}
