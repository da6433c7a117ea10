//! What approvals and rules do to a task's record.
//!
//! A record holds the approvals that wait and those whose answer was not handed over yet; what became of the others
//! stands in the log. What was said of a host is kept as long as the run, for the connections to come. A task that waits for a person needs attention: that follows from its approvals here and is no
//! event of its own.

use super::{FoldError, TaskRecord, refused};
use crate::{
    agent::{AgentEvent, ToolStatus},
    approval::{
        Answerer, ApprovalAnswered, ApprovalChange, ApprovalRecord, ApprovalRequested, ApprovalSource,
        ApprovalState, Verdict,
    },
    event::Entry,
    id::ApprovalId,
    lifecycle::{TaskChange, TaskState},
    rule::RuleRecord,
};

impl TaskRecord {
    /// The approvals that wait for a person, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &ApprovalRecord> {
        self.approvals.iter().filter(|approval| approval.state == ApprovalState::Waiting)
    }

    pub(super) fn asked(&mut self, entry: &Entry, asked: &ApprovalRequested) -> Result<(), FoldError> {
        let run = self.run_mut(entry)?.id;
        self.approvals_asked = self.approvals_asked.max(asked.number);
        if let ApprovalSource::Host { .. } = asked.source {
            // What was said of the same host before counts no more.
            self.approvals.retain(|one| one.state == ApprovalState::Waiting || one.subject != asked.subject);
            self.rests = self.rests || self.state == TaskState::Idle;
        }
        self.approvals.push(asked.clone().record(run, entry.at));
        self.attend(entry)
    }

    pub(super) fn answered(&mut self, entry: &Entry, answered: &ApprovalAnswered) -> Result<(), FoldError> {
        let approval = self.approval_mut(answered.approval)?;
        change(approval, answered.change(), entry)?;
        approval.answer = Some(answered.clone());
        let (number, title) = (approval.number, approval.title.clone());
        let of_host = matches!(approval.source, ApprovalSource::Host { .. });
        if let Some(rule) = &answered.rule {
            self.rules.push(RuleRecord {
                id: answered.approval,
                number,
                verdict: answered.verdict,
                text: answered.text.clone(),
                scope: rule.scope,
                matches: rule.matches.clone(),
                made_at: entry.at,
            });
        }
        if answered.verdict == Verdict::Deny && !of_host {
            let said = denial(&title, answered.text.as_deref());
            self.run_mut(entry)?.denied = Some(said);
        }
        // What a person gives as a reason is said once; a rule would say it again and again.
        if let (Verdict::Deny, Answerer::Person, Some(reason)) =
            (answered.verdict, answered.by, &answered.text)
        {
            self.run_mut(entry)?.denials.push(denial(&title, Some(reason)));
        }
        // The rule goes on answering; what a person or a deadline said of a host is kept until the run is over.
        if of_host && matches!(answered.by, Answerer::Rule { .. }) {
            self.approvals.retain(|one| one.id != answered.approval);
        }
        self.attend(entry)
    }

    pub(super) fn withdrawn(&mut self, entry: &Entry, approval: ApprovalId) -> Result<(), FoldError> {
        change(self.approval_mut(approval)?, ApprovalChange::Withdraw, entry)?;
        self.approvals.retain(|one| one.id != approval);
        self.attend(entry)
    }

    pub(super) fn rule_removed(&mut self, rule: ApprovalId) -> Result<(), FoldError> {
        let before = self.rules.len();
        self.rules.retain(|one| one.id != rule);
        if self.rules.len() == before { Err(FoldError::NoApproval) } else { Ok(()) }
    }

    /// An answer that reached the agent is not kept any longer.
    pub(super) fn handed_over(&mut self, entry: &Entry, agent: &AgentEvent) -> Result<(), FoldError> {
        let AgentEvent::Answered { id, .. } = agent else { return Ok(()) };
        let run = self.run_mut(entry)?;
        let (run, running) = (run.id, run.exec.clone());
        self.approvals.retain(|approval| {
            let ApprovalSource::Agent { exec, question } = &approval.source else { return true };
            approval.state == ApprovalState::Waiting
                || approval.run != run
                || question != id
                || Some(exec) != running.as_ref()
        });
        Ok(())
    }

    /// An agent that does anything after a denial was not stopped by it.
    pub(super) fn went_on(&mut self, entry: &Entry, agent: &AgentEvent) -> Result<(), FoldError> {
        let goes_on = match agent {
            AgentEvent::TurnStarted { .. } | AgentEvent::Message { .. } => true,
            AgentEvent::ToolCall { status, .. } => *status != ToolStatus::Failed,
            _ => false,
        };
        if goes_on {
            self.run_mut(entry)?.denied = None;
        }
        Ok(())
    }

    /// Needs attention as long as anything waits.
    fn attend(&mut self, entry: &Entry) -> Result<(), FoldError> {
        let waits = self.waiting().next().map(|approval| format!("it asks: {}", approval.title));
        match waits {
            Some(reason) => {
                if self.state != TaskState::NeedsAttention {
                    self.change(TaskChange::Attend, entry.at)?;
                }
                self.reason = Some(reason);
            }
            None if self.state == TaskState::NeedsAttention => {
                let rests = std::mem::take(&mut self.rests);
                self.change(if rests { TaskChange::Rest } else { TaskChange::Proceed }, entry.at)?;
                self.reason = None;
            }
            None => {}
        }
        Ok(())
    }

    fn approval_mut(&mut self, id: ApprovalId) -> Result<&mut ApprovalRecord, FoldError> {
        self.approvals.iter_mut().find(|approval| approval.id == id).ok_or(FoldError::NoApproval)
    }
}

fn denial(title: &str, reason: Option<&str>) -> String {
    let reason = reason.map(|reason| format!("Reason: {reason}\n")).unwrap_or_default();
    format!("Permission was denied for: {title}\n{reason}Go on without it, or in another way.")
}

fn change(approval: &mut ApprovalRecord, change: ApprovalChange, entry: &Entry) -> Result<(), FoldError> {
    let from = approval.state;
    if approval.settle(change, entry.at) { Ok(()) } else { Err(refused("approval", from, change)) }
}
