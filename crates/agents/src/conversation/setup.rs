//! What a conversation is given: what stays the same for its whole life ([`Setup`], to be stored with the run and
//! given again at a replay) and what the caller wants by now ([`Wants`], which only grows).

use std::collections::BTreeMap;

use offshoot_core::agent::PermissionPolicy;
use serde::{Deserialize, Serialize};

/// Which side wrote the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Written to the agent's stdin (or its terminal).
    Sent,
    /// Read from the agent's stdout (or its terminal).
    Received,
}

/// What is spoken with the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wire {
    /// Agent Client Protocol, version 1.
    Acp,
    /// Claude Code's `--input-format stream-json`.
    ClaudeStreamJson,
    /// `codex app-server`.
    CodexAppServer,
    /// Whatever a person would see and type.
    Terminal,
    /// One prompt in the arguments, text on stdout, an exit code.
    Oneshot,
}

/// Which session to talk in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionWish {
    /// A new one.
    New,
    /// The one with this id, or a new one if the agent does not know it any more.
    Resume(String),
}

/// What stays the same for the whole conversation. Made by `launch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// What is spoken.
    pub wire: Wire,
    /// Which session.
    pub session: SessionWish,
    /// The working directory inside.
    pub cwd: String,
    /// What becomes of permission questions.
    pub permission: PermissionPolicy,
    /// The agent's mode to be set explicitly, if it has it.
    pub mode: Option<String>,
    /// The model, where it is chosen in the protocol.
    pub model: Option<String>,
    /// The agent's own approval policy, where it is set in the protocol.
    pub approval: Option<String>,
    /// Put before the first prompt of a new session: instructions for agents that read no file.
    pub preamble: Option<String>,
    /// Oneshot: the prompt that is in the arguments.
    pub prompt: Option<String>,
    /// Terminal: silence of so many seconds means that the agent waits for a person.
    pub idle_after_s: u64,
    /// Silence of so many seconds within a turn is worth a look.
    pub silence_s: u64,
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// The caller's own id; not sent.
    pub id: String,
    /// The text.
    pub text: String,
}

/// The answer to a question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Id of the chosen option.
    pub option: String,
    /// Words with it: the reason of a no, or an own answer to a question. Not every protocol can carry them.
    pub text: Option<String>,
}

/// What the caller wants by now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// All prompts of the conversation so far: the n-th is the prompt of turn n and is sent when turn n-1 is over.
    pub prompts: Vec<Prompt>,
    /// The turn with this number shall stop (if it is the one under way).
    pub cancel_turn: Option<u32>,
    /// Answers by the id of the question.
    pub answers: BTreeMap<String, Answer>,
    /// No more prompts will come: close the input when the last turn is over.
    pub finish: bool,
    /// A person's terminal is attached and answers the terminal's queries itself.
    pub attached: bool,
}

/// What is to be done to the agent's stdin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Send {
    /// Write these bytes, all of them.
    Bytes(Vec<u8>),
    /// Close it.
    CloseInput,
}
