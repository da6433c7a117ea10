//! The log folded again. Records are only a projection of it: this drops them all and makes them anew.
//!
//! One task at a time, so that memory is bounded by the largest task and not by the log.

use offshoot_core::{event::Entry, id::TaskId, record::TaskRecord};
use rusqlite::TransactionBehavior;

use crate::{
    error::StoreError,
    open::Store,
    rows::{self, Changed, ENTRY},
};

impl Store {
    /// Makes all records anew from the log, in one transaction: on an error everything is as it was. Returns the
    /// number of tasks.
    pub fn rebuild(&self) -> Result<usize, StoreError> {
        let failed = |error| self.failed(error);
        self.with_writer(|writer| {
            writer.hot.clear();
            let tx = writer
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(failed)?;
            tx.execute_batch("DELETE FROM checkpoints; DELETE FROM runs; DELETE FROM tasks")
                .map_err(failed)?;
            let tasks = tx
                .prepare("SELECT DISTINCT task FROM events")
                .and_then(|mut statement| {
                    statement
                        .query_map([], |row| rows::uuid(0, row.get_ref(0)?.as_blob()?).map(TaskId))?
                        .collect::<rusqlite::Result<Vec<_>>>()
                })
                .map_err(failed)?;
            let mut of_task = tx
                .prepare(&format!("SELECT {ENTRY} FROM events WHERE task = ?1 ORDER BY seq"))
                .map_err(failed)?;
            for task in &tasks {
                let mut found = of_task.query([task.0.as_bytes()]).map_err(failed)?;
                let mut folded: Option<(TaskRecord, u64)> = None;
                let mut changed = Changed::default();
                while let Some(row) = found.next().map_err(failed)? {
                    let entry: Entry = rows::entry(row).map_err(failed)?;
                    let refused = |source| StoreError::Fold { seq: entry.seq, source };
                    match &mut folded {
                        Some((record, last_seq)) => {
                            record.apply(&entry).map_err(refused)?;
                            *last_seq = entry.seq;
                        }
                        None => folded = Some((TaskRecord::create(&entry).map_err(refused)?, entry.seq)),
                    }
                    changed.note(&entry);
                }
                if let Some((mut record, last_seq)) = folded {
                    rows::write(&tx, &mut record, last_seq, &changed).map_err(failed)?;
                }
            }
            drop(of_task);
            tx.commit().map_err(failed)?;
            Ok(tasks.len())
        })
    }
}
