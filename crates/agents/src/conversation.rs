//! A conversation with an agent, as fold and difference.
//!
//! The state is a fold over the journal of the agent's stdin and stdout ([`Conversation::observe`]); what is to be
//! sent is the difference between that state and what the caller wants ([`Conversation::next`]). The caller sends
//! it, the journal records it, and it comes back through `observe` as [`Direction::Sent`]: only then has it
//! happened. So a caller that was killed replays the journal and goes on, and nothing is sent twice.
//!
//! Invariants:
//! - `observe` gives the same state however the bytes are cut into pieces.
//! - `next` changes nothing. If the journal ends in the middle of a message, `next` gives its remainder.
//! - Memory and every string in an event are bounded (`bound.rs`); no input panics.
//!
//! The engine calls this. What it deliberately does not do: start processes, read clocks, decide what to ask.

mod acp;
mod bound;
mod claude;
mod codex;
mod json;
mod lines;
mod oneshot;
mod questions;
mod screen;
mod setup;
mod subject;
mod tell;
mod terminal;
mod tools;
mod turns;

pub use setup::{Answer, Direction, Prompt, Send, SessionWish, Setup, Wants, Wire};

/// Rows a terminal should have, so that what is guessed from its last lines fits.
pub const TERMINAL_ROWS: u16 = screen::ROWS;
/// Columns a terminal should have.
pub const TERMINAL_COLS: u16 = screen::COLS;

use offshoot_core::agent::AgentEvent;

/// How far a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversationState {
    /// The session is being opened.
    Starting,
    /// A prompt can be sent.
    Ready,
    /// The turn with this number is under way.
    InTurn(u32),
    /// The turn under way waits for a person's answer.
    Asking,
    /// Nothing more will come: the process has ended, or the session could not be opened.
    Ended,
}

/// One conversation; one for each process of an agent that is started.
#[derive(Debug)]
pub struct Conversation {
    protocol: Client,
    input_closed: bool,
    ended: bool,
}

#[derive(Debug)]
enum Client {
    Acp(Box<acp::Acp>),
    Claude(Box<claude::Claude>),
    Codex(Box<codex::Codex>),
    Terminal(Box<terminal::Terminal>),
    Oneshot(Box<oneshot::Oneshot>),
}

macro_rules! each {
    ($conversation:expr, $client:ident => $body:expr) => {
        match $conversation {
            Client::Acp($client) => $body,
            Client::Claude($client) => $body,
            Client::Codex($client) => $body,
            Client::Terminal($client) => $body,
            Client::Oneshot($client) => $body,
        }
    };
}

impl Conversation {
    /// A conversation of which nothing has been observed yet. `setup` has to be the same at every replay.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let protocol = match setup.wire {
            Wire::Acp => Client::Acp(Box::new(acp::Acp::new(setup))),
            Wire::ClaudeStreamJson => Client::Claude(Box::new(claude::Claude::new(setup))),
            Wire::CodexAppServer => Client::Codex(Box::new(codex::Codex::new(setup))),
            Wire::Terminal => Client::Terminal(Box::new(terminal::Terminal::new(setup))),
            Wire::Oneshot => Client::Oneshot(Box::new(oneshot::Oneshot::new(setup))),
        };
        Self { protocol, input_closed: false, ended: false }
    }

    /// Takes note of the next bytes of one direction. Pieces may end anywhere.
    ///
    /// The events are those that these bytes gave rise to; text that streams in small pieces is put together as far
    /// as it is in this call.
    pub fn observe(&mut self, direction: Direction, bytes: &[u8]) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        each!(&mut self.protocol, client => client.observe(direction, bytes, &mut events));
        coalesce(events)
    }

    /// Takes note that nothing was received for so long. Terminals take silence for the end of a turn; every
    /// protocol takes a very long silence within a turn for a reason to look. To be called now and then with the
    /// whole time since the last bytes; it is not part of the journal, and a replay does without.
    pub fn quiet(&mut self, seconds: u64) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        if !self.ended {
            each!(&mut self.protocol, client => client.quiet(seconds, &mut events));
        }
        events
    }

    /// Takes note that the agent's input was closed: nothing can be sent any more.
    pub fn observe_input_closed(&mut self) {
        self.input_closed = true;
    }

    /// Takes note that the process has ended, with its exit code (`None`: by a signal). After that nothing is sent.
    pub fn observe_exit(&mut self, code: Option<i32>) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        if !self.ended {
            each!(&mut self.protocol, client => client.exited(code, &mut events));
            self.ended = true;
        }
        coalesce(events)
    }

    /// What is to be sent now, given everything observed so far; `None` if there is nothing to do but wait.
    ///
    /// Send it whole, `observe` it, ask again.
    #[must_use]
    pub fn next(&self, wants: &Wants) -> Option<Send> {
        if self.ended || self.input_closed {
            return None;
        }
        each!(&self.protocol, client => client.next(wants))
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> ConversationState {
        if self.ended {
            return ConversationState::Ended;
        }
        each!(&self.protocol, client => client.state())
    }

    /// The agent's id of the session, once it is known. With it a later run can resume.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        each!(&self.protocol, client => client.session())
    }
}

/// Joins neighbouring pieces of text of one voice as long as the result stays bounded, and drops what the next
/// event replaces.
fn coalesce(events: Vec<AgentEvent>) -> Vec<AgentEvent> {
    let mut joined: Vec<AgentEvent> = Vec::with_capacity(events.len());
    for event in events {
        if let AgentEvent::Message { role, text } = &event
            && let Some(AgentEvent::Message { role: last_role, text: last }) = joined.last_mut()
            && last_role == role
            && last.len() + text.len() <= bound::TEXT
        {
            last.push_str(text);
            continue;
        }
        // Of several news of one tool call in a row, and of running totals, the last one says it all.
        match (joined.last_mut(), &event) {
            (Some(AgentEvent::ToolCall { id: last, .. }), AgentEvent::ToolCall { id, .. }) if last == id => {
                joined.pop();
            }
            (Some(AgentEvent::Usage { .. }), AgentEvent::Usage { .. }) => {
                joined.pop();
            }
            _ => {}
        }
        joined.push(event);
    }
    joined
}
