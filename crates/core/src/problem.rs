//! What goes wrong, as people and programs see it: one sentence, what to do next, a stable code.
//!
//! The HTTP API sends a [`Problem`] as `application/problem+json` (RFC 9457, with `code` and `hint` as extensions),
//! the CLI prints it and exits with its kind's exit code.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The kinds of problem. Each has one exit code and one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// What was asked was done, and its outcome is bad: a run failed, a command inside exited non-zero.
    Failed,
    /// What was asked for makes no sense: bad argument, bad configuration.
    Invalid,
    /// There is no such task, agent, branch, repository.
    NotFound,
    /// It clashes with what is there: name taken, merge conflict, local changes, wrong state.
    Conflict,
    /// This machine cannot do it now: no isolation, disk full, agent not installed, daemon not reachable.
    Unavailable,
    /// Client, daemon or stored data are not of one version, or the stored data is damaged.
    Incompatible,
    /// A mistake of Offshoot's own.
    Internal,
}

impl ProblemKind {
    /// All kinds, in the order of their exit codes.
    pub const ALL: [Self; 7] = [
        Self::Failed,
        Self::Invalid,
        Self::NotFound,
        Self::Conflict,
        Self::Unavailable,
        Self::Incompatible,
        Self::Internal,
    ];

    /// The exit code of a command that ends with such a problem.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unavailable => 5,
            Self::Incompatible => 6,
            Self::Internal => 70,
        }
    }

    /// The status of an HTTP answer with such a problem.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Failed => 422,
            Self::Invalid => 400,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Unavailable => 503,
            Self::Incompatible => 426,
            Self::Internal => 500,
        }
    }

    /// What the kind means, for the documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Failed => "it was done, and its outcome is bad: the run or the command inside failed",
            Self::Invalid => "what was asked for makes no sense: a bad argument or configuration",
            Self::NotFound => "there is no such task, agent, branch or repository",
            Self::Conflict => {
                "it clashes with what is there: a name, a merge conflict, local changes, a wrong state"
            }
            Self::Unavailable => "this machine cannot do it now: isolation, disk, agent or daemon is missing",
            Self::Incompatible => "client, daemon or stored data differ in version, or the data is damaged",
            Self::Internal => "a mistake in Offshoot",
        }
    }
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
pub struct Problem {
    /// The kind; decides exit code and HTTP status.
    pub kind: ProblemKind,
    /// Stable and searchable, as in `name_taken`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do next, if there is something.
    pub hint: Option<String>,
    /// More to read, shown as it is: conflicting hunks, the end of a log.
    pub detail: Option<String>,
}

impl Problem {
    /// A problem without hint and detail.
    pub fn new(kind: ProblemKind, code: &str, message: impl Into<String>) -> Self {
        Self { kind, code: code.to_owned(), message: message.into(), hint: None, detail: None }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with more to read.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// A mistake of Offshoot's own, with the whole chain of causes.
    pub fn internal(what: &str, error: &dyn std::error::Error) -> Self {
        Self::new(ProblemKind::Internal, "internal", format!("{what}: {}", chain(error)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
