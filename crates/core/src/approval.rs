//! Approvals: everything that waits for a person, as one word with one life.
//!
//! Owns what is asked for, by whom, which answers there are, and the table of an approval's states. A new thing that
//! needs a person's word (a host, a push, a budget) is a variant of [`ApprovalSource`] and [`Subject`], never a
//! mechanism of its own. Standing answers are in `rule`, the fold in `record/approvals`.
//!
//! Every string in here may come from an agent and is hostile: bounded by whoever made it, escaped where it is shown,
//! and compared whole or not at all.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    agent::{AskOption, AskOptionKind, ToolKind},
    egress::HostName,
    id::{ApprovalId, EnvironmentId, RunId},
    rule::NewRule,
    time::Timestamp,
};

/// Longest text of a person with an answer, in bytes: some paragraphs.
pub const MAX_TEXT: usize = 8 << 10;

/// Who asks, and so where the answer goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ApprovalSource {
    /// The run's agent, in its conversation.
    Agent {
        /// Process of the agent in the sandbox.
        exec: String,
        /// Id of its question in that conversation.
        question: String,
    },
    /// Connections out of the environment that are held until somebody answers. Which of its processes made them is not
    /// known.
    Host {
        /// The environment.
        environment: EnvironmentId,
    },
}

/// What is asked for, in a form that can be compared: whole, or [`Subject::Unclear`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Subject {
    /// To run a command.
    Command {
        /// As the agent gives it, to a shell.
        command: String,
    },
    /// To do something with files.
    Files {
        /// What.
        kind: ToolKind,
        /// Absolute paths inside.
        paths: Vec<String>,
    },
    /// To use a tool.
    Tool {
        /// Its name.
        name: String,
        /// Its input, as JSON.
        input: String,
    },
    /// To reach a host that is on no allow-list.
    Host {
        /// Its name.
        #[schema(value_type = String)]
        host: HostName,
        /// The port.
        port: u16,
    },
    /// An opinion or a fact: no yes or no.
    Question,
    /// It was not said in a way that can be compared, or is too long for it.
    #[default]
    Unclear,
}

/// Where an approval stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// Nobody has answered.
    #[default]
    Waiting,
    /// Said yes to.
    Allowed,
    /// Said no to.
    Denied,
    /// Nobody answered in time, which counts as a no.
    Expired,
    /// It is not asked any more.
    Withdrawn,
}

/// What can happen to an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalChange {
    /// Yes.
    Allow,
    /// No.
    Deny,
    /// Its deadline has passed.
    Expire,
    /// Whoever asked does not ask any more.
    Withdraw,
}

impl ApprovalState {
    /// The state after `change`, or `None` if that cannot happen here. "Not now" is no change: it goes on waiting.
    pub fn after(self, change: ApprovalChange) -> Option<Self> {
        use ApprovalChange as C;
        match (self, change) {
            (Self::Waiting, C::Allow) => Some(Self::Allowed),
            (Self::Waiting, C::Deny) => Some(Self::Denied),
            (Self::Waiting, C::Expire) => Some(Self::Expired),
            (Self::Waiting, C::Withdraw) => Some(Self::Withdrawn),
            _ => None,
        }
    }

    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// The particulars of a new approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalRequested {
    /// Its id.
    pub approval: ApprovalId,
    /// Number within the task, from 1. People call it `TASK/NUMBER`.
    pub number: u32,
    /// Who asks.
    pub source: ApprovalSource,
    /// One line for people.
    pub title: String,
    /// The command, the change, the question: as much of it as fits.
    pub detail: Option<String>,
    /// The same in a form that can be compared.
    pub subject: Subject,
    /// The answers that whoever asks offers.
    pub options: Vec<AskOption>,
    /// When waiting ends: then it counts as denied.
    pub deadline: Timestamp,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No.
    Deny,
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answerer {
    /// A person.
    Person,
    /// A standing rule; it is called like the approval that it was made with.
    Rule {
        /// That approval.
        rule: ApprovalId,
    },
    /// Nobody, until the deadline.
    Deadline,
}

/// An answer. It is recorded before it is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalAnswered {
    /// What was answered.
    pub approval: ApprovalId,
    /// Yes or no.
    pub verdict: Verdict,
    /// Id of the offered answer that is given; empty if none of them says it.
    pub option: String,
    /// Words with it: the reason of a no, or the answer to a question.
    pub text: Option<String>,
    /// Who answered.
    pub by: Answerer,
    /// That from now on the same gets the same answer.
    pub rule: Option<NewRule>,
}

impl ApprovalAnswered {
    /// What it does to the approval.
    pub fn change(&self) -> ApprovalChange {
        match (self.by, self.verdict) {
            (Answerer::Deadline, _) => ApprovalChange::Expire,
            (_, Verdict::Allow) => ApprovalChange::Allow,
            (_, Verdict::Deny) => ApprovalChange::Deny,
        }
    }
}

/// An approval, as the log tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalRecord {
    /// Its id.
    pub id: ApprovalId,
    /// Number within the task, from 1.
    pub number: u32,
    /// The run that it holds up.
    pub run: RunId,
    /// Who asks.
    pub source: ApprovalSource,
    /// One line for people.
    pub title: String,
    /// The command, the change, the question: as much of it as fits.
    pub detail: Option<String>,
    /// The same in a form that can be compared.
    pub subject: Subject,
    /// The answers that whoever asks offers.
    pub options: Vec<AskOption>,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// When waiting ends.
    pub deadline: Timestamp,
    /// Where it stands.
    pub state: ApprovalState,
    /// The answer, until it was handed over.
    pub answer: Option<ApprovalAnswered>,
    /// Since when it does not wait any more.
    #[serde(default)]
    pub settled_at: Option<Timestamp>,
    /// Why it is not asked any more, if it was withdrawn.
    #[serde(default)]
    pub withdrawn: Option<String>,
}

impl From<ApprovalRecord> for ApprovalRequested {
    /// As it was asked for.
    fn from(record: ApprovalRecord) -> Self {
        Self {
            approval: record.id,
            number: record.number,
            source: record.source,
            title: record.title,
            detail: record.detail,
            subject: record.subject,
            options: record.options,
            deadline: record.deadline,
        }
    }
}

impl ApprovalRequested {
    /// The record that it begins with.
    pub fn record(self, run: RunId, at: Timestamp) -> ApprovalRecord {
        ApprovalRecord {
            id: self.approval,
            number: self.number,
            run,
            source: self.source,
            title: self.title,
            detail: self.detail,
            subject: self.subject,
            options: self.options,
            asked_at: at,
            deadline: self.deadline,
            state: ApprovalState::Waiting,
            answer: None,
            settled_at: None,
            withdrawn: None,
        }
    }
}

impl ApprovalRecord {
    /// What happened to it; `false` if that cannot happen.
    pub fn settle(&mut self, change: ApprovalChange, at: Timestamp) -> bool {
        let Some(after) = self.state.after(change) else { return false };
        self.state = after;
        self.settled_at = Some(at);
        true
    }

    /// The offered answer that is a plain yes, for once: the agent's own "always" is remembered where nobody sees it.
    pub fn plain_yes(&self) -> Option<&AskOption> {
        let mut yes = self.options.iter().filter(|option| option.kind == AskOptionKind::AllowOnce);
        // Several are a choice that somebody has to make.
        yes.next().filter(|_| yes.next().is_none() && self.subject != Subject::Question)
    }

    /// The offered answer that is a no; some offer none.
    pub fn plain_no(&self) -> Option<&AskOption> {
        let of = |kind| self.options.iter().find(|option| option.kind == kind);
        of(AskOptionKind::RejectOnce).or_else(|| of(AskOptionKind::RejectAlways))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_answered_once() {
        use ApprovalChange as C;
        use ApprovalState as S;
        let changes = [C::Allow, C::Deny, C::Expire, C::Withdraw];
        let after = changes.map(|change| S::Waiting.after(change));
        assert_eq!(after, [Some(S::Allowed), Some(S::Denied), Some(S::Expired), Some(S::Withdrawn)]);
        for over in [S::Allowed, S::Denied, S::Expired, S::Withdrawn] {
            assert!(changes.iter().all(|change| over.after(*change).is_none()), "{over:?}");
        }
    }
}
