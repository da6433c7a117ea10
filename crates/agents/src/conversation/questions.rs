//! Questions an agent asks and waits for. Their keys are numbered by us: an agent that used an id again could
//! otherwise have an old yes applied to a new question.

use offshoot_core::{
    agent::{AgentEvent, AnsweredBy, AskOption, AskOptionKind, PermissionPolicy},
    approval::Subject,
};
use serde_json::Value;

use super::{Wants, bound, setup::Answer, subject};

/// All the data kept of open questions: one tool call with a large file in it, and some.
const DATA: usize = 2 * bound::LINE;

#[derive(Debug, Default)]
pub(super) struct Questions {
    asked: u64,
    open: Vec<Question>,
}

#[derive(Debug)]
pub(super) struct Question {
    /// Our key.
    pub(super) key: String,
    /// The id to answer to.
    pub(super) wire_id: Value,
    /// The possible answers.
    pub(super) options: Vec<AskOption>,
    /// What the answer has to carry back, and how long it is.
    pub(super) data: Value,
    size: usize,
    /// Whether a person has to answer.
    pub(super) waits: bool,
    /// Whether the agent does not need the answer any more.
    pub(super) withdrawn: bool,
}

/// A question as it came.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// The id to answer to.
    pub(super) wire_id: Value,
    /// What it wants, in the agent's words.
    pub(super) title: String,
    /// The command, the change, the question.
    pub(super) detail: String,
    /// The same in a form that can be compared.
    pub(super) subject: Subject,
    /// The possible answers.
    pub(super) options: Vec<AskOption>,
    /// What the answer has to carry back.
    pub(super) data: Value,
    /// Whether a person has to answer.
    pub(super) waits: bool,
}

/// What is to be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Chosen(Answer),
    Cancelled,
}

impl Questions {
    /// Takes note of a question. Returns false if there is no room for it: then it has to be refused.
    pub(super) fn ask(&mut self, asking: Asking, events: &mut Vec<AgentEvent>) -> bool {
        let Asking { wire_id, title, detail, subject, options, data, waits } = asking;
        let size = data.to_string().len();
        let kept: usize = self.open.iter().map(|question| question.size).sum();
        if self.open.len() >= bound::QUESTIONS
            || kept + size > DATA
            || self.open.iter().any(|question| question.wire_id == wire_id)
        {
            return false;
        }
        self.asked += 1;
        let key = format!("ask-{}", self.asked);
        let title = if title.trim().is_empty() { "permission" } else { &title };
        events.push(AgentEvent::Asked {
            id: key.clone(),
            title: bound::title(title),
            options: options.clone(),
            waits,
            detail: (!detail.trim().is_empty()).then(|| bound::shorten(&detail, bound::DETAIL)),
            subject: subject::whole(subject),
        });
        self.open.push(Question { key, wire_id, options, data, size, waits, withdrawn: false });
        true
    }

    /// The answers that are due.
    pub(super) fn due<'a>(
        &'a self,
        policy: PermissionPolicy,
        cancelled: bool,
        wants: &'a Wants,
    ) -> impl Iterator<Item = (&'a Question, Verdict)> {
        self.open.iter().filter_map(move |question| {
            let verdict = if cancelled || question.withdrawn {
                Verdict::Cancelled
            } else if question.waits {
                Verdict::Chosen(wants.answers.get(&question.key)?.clone())
            } else {
                by_policy(policy, &question.options)
            };
            Some((question, verdict))
        })
    }

    /// Takes note that an answer was sent. `option` is what was chosen, empty for none.
    pub(super) fn answered(&mut self, wire_id: &Value, option: &str, events: &mut Vec<AgentEvent>) -> bool {
        let Some(index) = self.open.iter().position(|question| question.wire_id == *wire_id) else {
            return false;
        };
        let question = self.open.remove(index);
        if !question.withdrawn {
            let by =
                if question.waits && !option.is_empty() { AnsweredBy::Person } else { AnsweredBy::Policy };
            let option = bound::shorten(option, bound::ID);
            events.push(AgentEvent::Answered { id: question.key, option, by });
        }
        true
    }

    /// The agent does not wait for the answer any more. With `answer_still_due` the protocol wants one nevertheless.
    pub(super) fn withdraw(
        &mut self,
        wire_id: Option<&Value>,
        answer_still_due: bool,
        events: &mut Vec<AgentEvent>,
    ) {
        for question in &mut self.open {
            if !question.withdrawn && wire_id.is_none_or(|id| question.wire_id == *id) {
                question.withdrawn = true;
                let id = question.key.clone();
                events.push(AgentEvent::Answered { id, option: String::new(), by: AnsweredBy::Policy });
            }
        }
        if !answer_still_due {
            self.open.retain(|question| !question.withdrawn);
        }
    }

    /// Whether a person has to answer something.
    pub(super) fn waiting(&self) -> bool {
        self.open.iter().any(|question| question.waits && !question.withdrawn)
    }
}

/// Chooses by the meaning of the options, since their ids differ from agent to agent. Once rather than always: the
/// agent may remember an "always" beyond this run.
fn by_policy(policy: PermissionPolicy, options: &[AskOption]) -> Verdict {
    let wanted = match policy {
        PermissionPolicy::Allow => [AskOptionKind::AllowOnce, AskOptionKind::AllowAlways],
        PermissionPolicy::Deny | PermissionPolicy::Ask => {
            [AskOptionKind::RejectOnce, AskOptionKind::RejectAlways]
        }
    };
    wanted
        .iter()
        .find_map(|kind| options.iter().find(|option| option.kind == *kind))
        .map_or(Verdict::Cancelled, |option| {
            Verdict::Chosen(Answer { option: option.id.clone(), text: None })
        })
}
