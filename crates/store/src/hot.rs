//! The bounded memory of records in use, so that an append need not read and parse what it changes.
//!
//! Holds only what is committed: an append takes a record out, and puts it back after the commit or not at all.

use std::collections::HashMap;

use offshoot_core::{id::TaskId, record::TaskRecord};

/// Most records kept. Some four times as many as run at once on a large machine; a record takes a few KiB.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Hot {
    records: HashMap<TaskId, (u64, TaskRecord)>,
    clock: u64,
}

impl Hot {
    pub(crate) fn take(&mut self, task: TaskId) -> Option<TaskRecord> {
        self.records.remove(&task).map(|(_, record)| record)
    }

    pub(crate) fn put(&mut self, record: TaskRecord) {
        self.clock += 1;
        if self.records.len() >= MOST
            && let Some(oldest) = self.records.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id)
        {
            self.records.remove(&oldest);
        }
        self.records.insert(record.id, (self.clock, record));
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
    }
}
