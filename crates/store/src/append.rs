//! The only way a record changes: events in, folded, log and records written in one transaction.
//!
//! Either the whole batch is recorded or nothing of it. Sequence numbers have no gaps, because a number is given
//! inside the transaction that the one writer holds.

use std::collections::HashMap;

use offshoot_core::{
    event::{Entry, Event},
    fault,
    id::{RunId, TaskId},
    lifecycle::TaskState,
    record::TaskRecord,
    time::Timestamp,
};
use rusqlite::{TransactionBehavior, params};

use crate::{
    error::{AppendError, is_name_taken},
    open::{Store, Writer},
    rows::{self, Changed},
};

/// An event to record; its number is given when it is.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// The task it belongs to.
    pub task: TaskId,
    /// The run it belongs to, if it belongs to one.
    pub run: Option<RunId>,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// A record on its way to be written.
struct Staged {
    record: TaskRecord,
    last_seq: u64,
    changed: Changed,
}

impl Store {
    /// Records a batch: all of it or, on an error, nothing. Returns the entries with their numbers.
    pub fn append(&self, entries: &[NewEntry]) -> Result<Vec<Entry>, AppendError> {
        self.with_writer(|writer| {
            let mut staged = Vec::new();
            let recorded = self.append_with(writer, entries, &mut staged)?;
            for task in staged {
                writer.hot.put(task.record);
            }
            if let Some(last) = recorded.last() {
                self.set_last_seq(last.seq);
            }
            Ok(recorded)
        })
    }

    fn append_with(
        &self,
        writer: &mut Writer,
        entries: &[NewEntry],
        staged: &mut Vec<Staged>,
    ) -> Result<Vec<Entry>, AppendError> {
        let failed = |error| AppendError::Store(self.failed(error));
        let tx =
            writer.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut recorded = Vec::with_capacity(entries.len());
        let mut places: HashMap<TaskId, usize> = HashMap::new();
        let mut insert = tx
            .prepare_cached(
                "INSERT INTO events (seq, at, task, run, kind, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .map_err(failed)?;
        for (index, new) in entries.iter().enumerate() {
            let seq = self.last_seq() + 1 + index as u64;
            let entry = Entry { seq, at: new.at, task: new.task, run: new.run, event: new.event.clone() };
            let body = rows::json(&entry.event).map_err(failed)?;
            let refused = |source| AppendError::Fold {
                index,
                kind: rows::kind(&body).to_owned(),
                task: new.task,
                source,
            };
            let place = match places.get(&new.task) {
                Some(place) => Some(*place),
                None => {
                    let known = match writer.hot.take(new.task) {
                        Some(record) => Some(record),
                        None => rows::read(&tx, new.task).map_err(failed)?,
                    };
                    known.map(|record| {
                        let changed = Changed { checkpoints: record.checkpoints.len(), ..Changed::default() };
                        staged.push(Staged { record, last_seq: seq, changed });
                        places.insert(new.task, staged.len() - 1);
                        staged.len() - 1
                    })
                }
            };
            match place.and_then(|place| staged.get_mut(place)) {
                Some(task) => {
                    task.record.apply(&entry).map_err(refused)?;
                    task.changed.note(&entry);
                    task.last_seq = seq;
                }
                None => {
                    let record = TaskRecord::create(&entry).map_err(refused)?;
                    staged.push(Staged { record, last_seq: seq, changed: Changed::default() });
                    places.insert(new.task, staged.len() - 1);
                }
            }
            insert
                .execute(params![
                    seq,
                    entry.at.0,
                    entry.task.0.as_bytes(),
                    entry.run.as_ref().map(|run| run.0.as_bytes()),
                    rows::kind(&body),
                    body,
                ])
                .map_err(failed)?;
            recorded.push(entry);
        }
        drop(insert);
        // A name that one task gives up in this batch may be taken by another.
        staged.sort_by_key(|task| !matches!(task.record.state, TaskState::Landed | TaskState::Discarded));
        for task in staged.iter_mut() {
            rows::write(&tx, &mut task.record, task.last_seq, &task.changed).map_err(|error| {
                if is_name_taken(&error) {
                    AppendError::NameTaken { project: task.record.project, name: task.record.name.clone() }
                } else {
                    failed(error)
                }
            })?;
        }
        fault::point("store.before_commit");
        tx.commit().map_err(failed)?;
        fault::point("store.after_commit");
        Ok(recorded)
    }
}

#[cfg(test)]
mod tests {
    use offshoot_core::event::TaskCreated;
    use uuid::Uuid;

    use super::*;
    use crate::StoreError;

    fn created(name: &str) -> NewEntry {
        NewEntry {
            task: TaskId(Uuid::now_v7()),
            run: None,
            at: Timestamp(1),
            event: Event::TaskCreated(TaskCreated {
                name: name.parse().unwrap(),
                project: offshoot_core::id::ProjectId(Uuid::nil()),
                root: "/r".to_owned(),
                base: "b".to_owned(),
                target: None,
                branch: "offshoot/x".to_owned(),
                agent: None,
                isolation: offshoot_core::isolation::Isolation::Sandbox,
                adopted: None,
                repository: String::new(),
                others: Vec::new(),
                scope: Vec::new(),
                shared: None,
                notices: Vec::new(),
            }),
        }
    }

    #[test]
    fn a_full_disk_leaves_nothing_half_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store.db")).unwrap();
        let task = created("a");
        store.append(std::slice::from_ref(&task)).unwrap();
        let limit = |pages: u32| {
            store.with_writer(|writer| {
                writer.connection.pragma_update(None, "max_page_count", pages).map_err(StoreError::Sqlite)
            })
        };
        let size: u32 = store
            .with_writer(|writer| {
                writer
                    .connection
                    .pragma_query_value(None, "page_count", |row| row.get(0))
                    .map_err(StoreError::Sqlite)
            })
            .unwrap();
        limit(size + 20).unwrap();
        let step = NewEntry { event: Event::Preparing { step: "x".repeat(3000) }, ..task.clone() };
        let batch = vec![step.clone(); 7];
        let error = (0..100).find_map(|_| store.append(&batch).err()).unwrap();
        assert!(matches!(error, AppendError::Store(StoreError::DiskFull { .. })), "{error:?}");
        let last = store.last_seq();
        assert_eq!(last % 7, 1, "whole batches only");
        assert_eq!(store.entries(0, None, 1000).unwrap().len() as u64, last);
        limit(1_000_000).unwrap();
        assert_eq!(store.append(&batch).unwrap().last().unwrap().seq, last + 7);
        let before = store.tasks(&crate::TaskFilter::default(), 10).unwrap();
        store.rebuild().unwrap();
        assert_eq!(store.tasks(&crate::TaskFilter::default(), 10).unwrap(), before);
    }
}
