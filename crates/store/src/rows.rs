//! Records to rows and back.
//!
//! A task's row holds its record without runs and checkpoints; those have rows of their own. So an event rewrites
//! about 1 KiB however long the task's history is.

use std::collections::HashMap;

use offshoot_core::{
    event::{Entry, Event},
    id::{RunId, TaskId},
    lifecycle::{RunState, TaskState},
    record::{CheckpointRecord, RunRecord, TaskRecord},
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

/// What of a record has to be written.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// The runs that changed.
    pub(crate) runs: Vec<RunId>,
    /// How many checkpoints were written before.
    pub(crate) checkpoints: usize,
    /// The events that queued the new runs.
    pub(crate) queued: HashMap<RunId, u64>,
}

impl Changed {
    /// Notes what an entry, just folded, may have changed. A fold touches no run but the entry's own.
    pub(crate) fn note(&mut self, entry: &Entry) {
        if let Some(run) = entry.run {
            if matches!(entry.event, Event::RunQueued(_)) {
                self.queued.insert(run, entry.seq);
            }
            if !self.runs.contains(&run) {
                self.runs.push(run);
            }
        }
    }
}

/// Writes what changed of a record. `record` comes back as it was.
pub(crate) fn write(
    connection: &Connection,
    record: &mut TaskRecord,
    last_seq: u64,
    changed: &Changed,
) -> rusqlite::Result<()> {
    let id = record.id;
    let runs = std::mem::take(&mut record.runs);
    let checkpoints = std::mem::take(&mut record.checkpoints);
    let text = json(record);
    record.runs = runs;
    record.checkpoints = checkpoints;
    connection
        .prepare_cached(
            "INSERT INTO tasks (id, project, name, state, updated_at, last_seq, record, has_rules)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET state = ?4, updated_at = ?5, last_seq = ?6, record = ?7, has_rules = ?8",
        )?
        .execute(params![
            id.0.as_bytes(),
            record.project.0.as_bytes(),
            record.name.as_str(),
            state_text(record.state),
            record.updated_at.0,
            last_seq,
            text?,
            !record.rules.is_empty(),
        ])?;
    for run in record.runs.iter().filter(|run| changed.runs.contains(&run.id)) {
        connection
            .prepare_cached(
                "INSERT INTO runs (task, number, id, queued, queue_seq, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (task, number) DO UPDATE SET queued = ?4, record = ?6",
            )?
            .execute(params![
                id.0.as_bytes(),
                run.number,
                run.id.0.as_bytes(),
                run.state == RunState::Queued,
                changed.queued.get(&run.id).copied().unwrap_or(0),
                json(run)?,
            ])?;
    }
    for (position, checkpoint) in record.checkpoints.iter().enumerate().skip(changed.checkpoints) {
        connection
            .prepare_cached("INSERT INTO checkpoints (task, position, record) VALUES (?1, ?2, ?3)")?
            .execute(params![id.0.as_bytes(), position, json(checkpoint)?])?;
    }
    Ok(())
}

/// Reads a task's record.
pub(crate) fn read(connection: &Connection, task: TaskId) -> rusqlite::Result<Option<TaskRecord>> {
    let text: Option<String> = connection
        .prepare_cached("SELECT record FROM tasks WHERE id = ?1")?
        .query_row([task.0.as_bytes()], |row| row.get(0))
        .optional()?;
    text.map(|text| complete(connection, &text)).transpose()
}

/// A record from the text of its row, with its runs and checkpoints.
pub(crate) fn complete(connection: &Connection, text: &str) -> rusqlite::Result<TaskRecord> {
    let mut record: TaskRecord = from_json(0, text)?;
    record.runs =
        list::<RunRecord>(connection, "SELECT record FROM runs WHERE task = ?1 ORDER BY number", record.id)?;
    record.checkpoints = list::<CheckpointRecord>(
        connection,
        "SELECT record FROM checkpoints WHERE task = ?1 ORDER BY position",
        record.id,
    )?;
    Ok(record)
}

fn list<T: DeserializeOwned>(connection: &Connection, sql: &str, task: TaskId) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([task.0.as_bytes()])?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        list.push(from_json(0, row.get_ref(0)?.as_str()?)?);
    }
    Ok(list)
}

/// Columns of an entry, in the order that [`entry`] reads.
pub(crate) const ENTRY: &str = "seq, at, task, run, body";

/// An entry from its row.
pub(crate) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let run = match row.get_ref(3)?.as_blob_or_null()? {
        Some(bytes) => Some(RunId(uuid(3, bytes)?)),
        None => None,
    };
    Ok(Entry {
        seq: row.get(0)?,
        at: Timestamp(row.get(1)?),
        task: TaskId(uuid(2, row.get_ref(2)?.as_blob()?)?),
        run,
        event: from_json(4, row.get_ref(4)?.as_str()?)?,
    })
}

pub(crate) fn uuid(column: usize, bytes: &[u8]) -> rusqlite::Result<Uuid> {
    Uuid::from_slice(bytes)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, error.into()))
}

pub(crate) fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn from_json<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

/// The stored word of a state. Never changes, whatever people are shown.
pub(crate) fn state_text(state: TaskState) -> &'static str {
    match state {
        TaskState::Queued => "queued",
        TaskState::Running => "running",
        TaskState::NeedsAttention => "needs_attention",
        TaskState::Idle => "idle",
        TaskState::Complete => "complete",
        TaskState::Failed => "failed",
        TaskState::Stopped => "stopped",
        TaskState::Landed => "landed",
        TaskState::Discarded => "discarded",
    }
}

/// The tag of an event in its JSON, as in `run_ended`.
pub(crate) fn kind(body: &str) -> &str {
    body.strip_prefix("{\"type\":\"").and_then(|rest| rest.split('"').next()).unwrap_or("unknown")
}
