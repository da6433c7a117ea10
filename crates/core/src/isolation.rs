//! How much stands between an agent and the machine: the kinds of environment there are.
//!
//! Chosen by a person for each task, shown wherever the task is, never lowered by anybody else.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an environment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Own files, processes, network: what it could break is disposable.
    #[default]
    Sandbox,
    /// A git worktree of the user's repository. Its processes are the user's own, with all that these may do.
    Worktree,
}

impl Isolation {
    /// Its name, as options and files spell it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Worktree => "worktree",
        }
    }

    /// What a person has to know about it wherever it is shown.
    #[must_use]
    pub fn described(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Worktree => "worktree, no process isolation",
        }
    }

    /// Whether this is the default.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        *self == Self::Sandbox
    }
}
