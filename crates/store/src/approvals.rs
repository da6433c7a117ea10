//! What became of approvals, out of the log: a record keeps only those that still matter.

use std::collections::HashMap;

use offshoot_core::{
    event::Entry,
    id::{ApprovalId, TaskId},
    time::Timestamp,
};
use rusqlite::{OptionalExtension, params};

use crate::{
    error::StoreError,
    open::Store,
    rows::{self, ENTRY},
};

/// Of what an index is kept for each of these, so it stands in the questions word for word.
const SETTLED: &str = "kind IN ('approval_answered', 'approval_withdrawn')";

/// An approval as it was asked for, and how that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PastApproval {
    /// The request.
    pub asked: Entry,
    /// The answer or the withdrawal; `None` while it waits.
    pub settled: Option<Entry>,
}

impl Store {
    /// Approvals that were asked for before the entry with number `before`, newest first; of one task, or of all.
    pub fn past_approvals(
        &self,
        task: Option<TaskId>,
        before: u64,
        limit: usize,
    ) -> Result<Vec<PastApproval>, StoreError> {
        // SQLite counts in signed numbers.
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ask(|connection| {
            let asked = "kind = 'approval_requested' AND seq < ?1";
            let asked: Vec<Entry> = match task {
                None => connection
                    .prepare_cached(&format!(
                        "SELECT {ENTRY} FROM events WHERE {asked} ORDER BY seq DESC LIMIT ?2"
                    ))?
                    .query_map(params![before, limit], rows::entry)?
                    .collect::<rusqlite::Result<_>>()?,
                Some(task) => connection
                    .prepare_cached(&format!(
                        "SELECT {ENTRY} FROM events WHERE {asked} AND task = ?3 ORDER BY seq DESC LIMIT ?2"
                    ))?
                    .query_map(params![before, limit, task.0.as_bytes()], rows::entry)?
                    .collect::<rusqlite::Result<_>>()?,
            };
            let mut settled = connection.prepare_cached(&format!(
                "SELECT {ENTRY} FROM events WHERE task = ?1 AND seq > ?2 AND {SETTLED}
                 AND json_extract(body, '$.approval') = ?3 ORDER BY seq LIMIT 1"
            ))?;
            let mut past = Vec::with_capacity(asked.len());
            for asked in asked {
                let offshoot_core::event::Event::ApprovalRequested(request) = &asked.event else { continue };
                let with = params![asked.task.0.as_bytes(), asked.seq, request.approval.to_string()];
                let settled = settled.query_row(with, rows::entry).optional()?;
                past.push(PastApproval { asked, settled });
            }
            Ok(past)
        })
    }

    /// How often each standing rule answered, and when it last did.
    pub fn answers_of_rules(&self) -> Result<HashMap<ApprovalId, (u64, Timestamp)>, StoreError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT json_extract(body, '$.by.rule') AS rule, count(*), max(at) FROM events
                 WHERE {SETTLED} AND rule IS NOT NULL GROUP BY rule"
            ))?;
            let mut rows = statement.query([])?;
            let mut counts = HashMap::new();
            while let Some(row) = rows.next()? {
                if let Ok(rule) = row.get_ref(0)?.as_str()?.parse() {
                    counts.insert(rule, (row.get(1)?, Timestamp(row.get(2)?)));
                }
            }
            Ok(counts)
        })
    }
}
