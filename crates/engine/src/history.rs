//! Who allowed what, when, by which rule: approvals there ever were, out of the log. Reads only.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    path::Path,
};

use offshoot_core::{
    api::{ApprovalList, ApprovalView},
    approval::{ApprovalChange, ApprovalRecord},
    event::Event,
    id::TaskId,
    problem::Problem,
    record::TaskRecord,
};
use offshoot_store::PastApproval;

use crate::{
    approvals::view,
    clock,
    engine::{Engine, TaskRef},
    ledger::store_problem,
};

/// Approvals of one page if the client does not say, and at most: 2 MB of JSON if each has a long detail.
const LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;

impl Engine {
    /// Approvals there ever were, whatever became of them, newest first: of a task, of the project that `path` lies in,
    /// or of all. A page may hold fewer than asked for, and yet not be the last.
    pub async fn past_approvals(
        &self,
        path: Option<&Path>,
        task: Option<&TaskRef>,
        before: Option<u64>,
        limit: Option<usize>,
    ) -> Result<ApprovalList, Problem> {
        let store = self.inner.ledger.store();
        let seq = store.last_seq();
        let project = self.project_at(path)?;
        let task = task.map(|task| self.find(task)).transpose()?.map(|record| record.id);
        let limit = limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT);
        let before = before.unwrap_or(u64::MAX);
        let past = store.past_approvals(task, before, limit).map_err(|e| store_problem(&e))?;
        let next = past.last().filter(|_| past.len() == limit).map(|last| last.asked.seq);
        let mut tasks: HashMap<TaskId, TaskRecord> = HashMap::new();
        let mut approvals: Vec<ApprovalView> = Vec::with_capacity(past.len());
        for past in past {
            let record = match tasks.entry(past.asked.task) {
                Slot::Occupied(known) => known.into_mut(),
                Slot::Vacant(unknown) => unknown.insert(self.inner.ledger.task(past.asked.task)?),
            };
            if project.is_none_or(|id| id == record.project) {
                approvals.extend(told(past).map(|approval| view(record, &approval)));
            }
        }
        Ok(ApprovalList { approvals, next, seq, now: clock::now() })
    }
}

/// An approval as its events tell of it.
fn told(past: PastApproval) -> Option<ApprovalRecord> {
    let Event::ApprovalRequested(asked) = past.asked.event else { return None };
    let mut record = asked.record(past.asked.run?, past.asked.at);
    let Some(settled) = past.settled else { return Some(record) };
    match settled.event {
        Event::ApprovalAnswered(answer) => {
            record.settle(answer.change(), settled.at);
            record.answer = Some(answer);
        }
        Event::ApprovalWithdrawn { reason, .. } => {
            record.settle(ApprovalChange::Withdraw, settled.at);
            record.withdrawn = Some(reason);
        }
        _ => {}
    }
    Some(record)
}
