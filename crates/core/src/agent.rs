//! What an agent does, as events: the common denominator of every agent protocol.
//!
//! Owns the vocabulary only. The crate `agents` makes these from the bytes of a conversation, the engine stores
//! them, server and CLI show them. Every string in here was written by an agent and is hostile: it is bounded by
//! the crate that made it and has to be escaped wherever it is shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::approval::Subject;

/// Something that happened in a conversation with an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentEvent {
    /// The agent has a session; with this id it can be resumed.
    SessionOpened {
        /// The agent's own id of the session.
        session: String,
    },
    /// A prompt was handed over. Turns are counted from 0 within a conversation.
    TurnStarted {
        /// Number of the turn.
        turn: u32,
        /// What was asked, shortened.
        prompt: String,
    },
    /// A piece of text. Pieces of one role that follow each other belong together.
    Message {
        /// Whose voice it is.
        role: Role,
        /// The text, possibly only a part of a sentence.
        text: String,
    },
    /// A tool call or news of one: the same id again replaces what was known.
    ToolCall {
        /// The agent's id of the call.
        id: String,
        /// One line for people.
        title: String,
        /// What sort of thing it does.
        kind: ToolKind,
        /// How far it is.
        status: ToolStatus,
        /// Files it touches.
        locations: Vec<String>,
        /// The command, the output or the error, shortened.
        detail: Option<String>,
        /// What it changes, if the agent tells: of each file its path, then the lines that go (`-`) and come (`+`).
        /// Shortened.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        change: Option<String>,
    },
    /// The agent asks something and waits for the answer.
    Asked {
        /// Id of the question; the key of its answer.
        id: String,
        /// What it wants to do, for people.
        title: String,
        /// The possible answers.
        options: Vec<AskOption>,
        /// Whether a person has to answer. If not, the permission policy answers by itself.
        waits: bool,
        /// The command, the change, the question: as much of it as fits.
        #[serde(default)]
        detail: Option<String>,
        /// The same in a form that can be compared.
        #[serde(default)]
        subject: Subject,
    },
    /// A question was answered.
    Answered {
        /// Id of the question.
        id: String,
        /// Id of the chosen option; empty if the question was withdrawn.
        option: String,
        /// Who answered.
        by: AnsweredBy,
    },
    /// What it has cost so far. The numbers are totals of the conversation, not increments.
    Usage {
        /// Tokens read.
        input_tokens: u64,
        /// Tokens written.
        output_tokens: u64,
        /// The agent's own estimate, if it makes one.
        cost_usd: Option<f64>,
    },
    /// Something is wrong: with the model, the network or the agent itself.
    Trouble {
        /// What the agent (or the protocol client) says about it.
        text: String,
        /// Whether the agent tries again by itself.
        retrying: bool,
    },
    /// A turn is over.
    TurnEnded {
        /// Number of the turn.
        turn: u32,
        /// Why.
        reason: TurnEnd,
        /// The last words, if the protocol gives them separately, or the error.
        text: Option<String>,
    },
    /// Nothing has happened for a while (terminal protocol: a guess from silence).
    Idle,
    /// A person should look (terminal protocol: a guess from a bell, a notification or a question on the screen).
    Attention {
        /// What gave rise to it.
        reason: String,
    },
}

/// Whose voice a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The agent's answer.
    Assistant,
    /// The agent's thinking, where it shows it.
    Thought,
}

/// What sort of thing a tool call does (the kinds of ACP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// Reads files.
    Read,
    /// Changes files.
    Edit,
    /// Deletes files.
    Delete,
    /// Moves or renames files.
    Move,
    /// Searches.
    Search,
    /// Runs a command.
    Execute,
    /// Plans or reasons.
    Think,
    /// Gets something from the network.
    Fetch,
    /// Anything else.
    #[default]
    Other,
}

/// How far a tool call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// Announced, or waiting for permission.
    #[default]
    Pending,
    /// At work.
    Running,
    /// Done.
    Completed,
    /// Failed or refused.
    Failed,
}

/// One possible answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskOption {
    /// The agent's id of the option.
    pub id: String,
    /// The agent's words for it.
    pub label: String,
    /// What it amounts to.
    pub kind: AskOptionKind,
}

/// What an answer amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskOptionKind {
    /// Yes, this time.
    AllowOnce,
    /// Yes, and do not ask again.
    AllowAlways,
    /// No, this time.
    RejectOnce,
    /// No, and do not ask again.
    RejectAlways,
    /// A choice that is neither yes nor no.
    Other,
}

/// Who answered a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredBy {
    /// The permission policy of the run.
    Policy,
    /// A person, or what stands for one: a standing rule, a deadline.
    Person,
}

/// Why a turn is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TurnEnd {
    /// The agent thinks it is done.
    Completed,
    /// It was told to stop.
    Cancelled,
    /// The agent or its model refused.
    Refused,
    /// A limit of tokens or requests was reached.
    Limit,
    /// An error.
    Failed,
}

/// What becomes of an agent's permission questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PermissionPolicy {
    /// Said yes to: the sandbox is the boundary.
    #[default]
    Allow,
    /// Said no to.
    Deny,
    /// Put to a person.
    Ask,
}
