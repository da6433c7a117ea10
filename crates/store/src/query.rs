//! What can be asked, and the two small tables that are no projection: projects and settings.
//!
//! Each question sees the database as it is at one moment.

use offshoot_core::{
    event::Entry,
    id::{ProjectId, RunId, TaskId},
    lifecycle::TaskState,
    record::TaskRecord,
};
use rusqlite::{Connection, OptionalExtension, Params, params};
use uuid::Uuid;

use crate::{
    error::StoreError,
    open::Store,
    rows::{self, ENTRY},
};

/// Which tasks to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskFilter {
    /// Of this project only.
    pub project: Option<ProjectId>,
    /// Also those that are landed or discarded.
    pub include_done: bool,
}

/// A run that waits for admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedRun {
    /// Number of the event that queued it; the order of the queue.
    pub seq: u64,
    /// Its task.
    pub task: TaskId,
    /// The run.
    pub run: RunId,
}

/// A repository of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its git directory, by which it is found again.
    pub git_dir: String,
    /// Its root: work tree, or git directory if it is bare.
    pub root: String,
}

/// Fewest hexadecimal digits that are taken for the beginning of an id: shorter ones are rather names.
const SHORTEST_PREFIX: usize = 4;

/// Most tasks that one word may mean.
const MOST_FOUND: u32 = 50;

impl Store {
    /// A task's record.
    pub fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        self.ask(|connection| rows::read(connection, id))
    }

    /// The tasks that a word means. The first of these that gives any: the whole id; the name of tasks that are
    /// neither landed nor discarded; the beginning of an id (4 digits or more); the name of tasks that are landed or
    /// discarded, the newest of each project. Without `project`, tasks of all projects.
    pub fn find(&self, word: &str, project: Option<ProjectId>) -> Result<Vec<TaskRecord>, StoreError> {
        self.ask(|connection| {
            if let Ok(id) = word.parse() {
                return Ok(rows::read(connection, id)?.into_iter().collect());
            }
            let project = project.map(|project| *project.0.as_bytes());
            let live = records(
                connection,
                "SELECT record FROM tasks WHERE name = ?1 AND state NOT IN ('landed', 'discarded')
                 AND (?2 IS NULL OR project = ?2) ORDER BY id DESC LIMIT ?3",
                params![word, project, MOST_FOUND],
            )?;
            if !live.is_empty() {
                return Ok(live);
            }
            if let Some((first, last)) = id_range(word) {
                let by_id = records(
                    connection,
                    "SELECT record FROM tasks WHERE id BETWEEN ?1 AND ?2 AND (?3 IS NULL OR project = ?3)
                     ORDER BY id DESC LIMIT ?4",
                    params![first, last, project, MOST_FOUND],
                )?;
                if !by_id.is_empty() {
                    return Ok(by_id);
                }
            }
            records(
                connection,
                "SELECT record FROM tasks WHERE id IN (
                    SELECT max(id) FROM tasks WHERE name = ?1 AND (?2 IS NULL OR project = ?2) GROUP BY project)
                 ORDER BY id DESC LIMIT ?3",
                params![word, project, MOST_FOUND],
            )
        })
    }

    /// Tasks, newest first.
    pub fn tasks(&self, filter: &TaskFilter, limit: usize) -> Result<Vec<TaskRecord>, StoreError> {
        let project = filter.project.map(|project| *project.0.as_bytes());
        self.ask(|connection| {
            records(
                connection,
                "SELECT record FROM tasks WHERE (?1 IS NULL OR project = ?1)
                 AND (?2 OR state NOT IN ('landed', 'discarded')) ORDER BY id DESC LIMIT ?3",
                params![project, filter.include_done, rows_at_most(limit)],
            )
        })
    }

    /// All tasks in any of these states, oldest first.
    pub fn tasks_in_states(&self, states: &[TaskState]) -> Result<Vec<TaskRecord>, StoreError> {
        self.ask(|connection| {
            let mut found = Vec::new();
            for state in states {
                let sql = "SELECT record FROM tasks WHERE state = ?1 ORDER BY id";
                found.extend(records(connection, sql, [rows::state_text(*state)])?);
            }
            found.sort_by_key(|record| record.id);
            found.dedup_by_key(|record| record.id);
            Ok(found)
        })
    }

    /// The tasks in which standing rules were made that still hold, also landed and discarded ones, newest first; of a
    /// project, or of all.
    pub fn tasks_with_rules(&self, project: Option<ProjectId>) -> Result<Vec<TaskRecord>, StoreError> {
        self.ask(|connection| match project {
            Some(project) => records(
                connection,
                "SELECT record FROM tasks WHERE project = ?1 AND has_rules = 1 ORDER BY id DESC",
                [project.0.as_bytes()],
            ),
            None => records(connection, "SELECT record FROM tasks WHERE has_rules = 1 ORDER BY id DESC", []),
        })
    }

    /// The runs that wait for admission, first come first.
    pub fn queued(&self) -> Result<Vec<QueuedRun>, StoreError> {
        self.ask(|connection| {
            connection
                .prepare_cached("SELECT queue_seq, task, id FROM runs WHERE queued = 1 ORDER BY queue_seq")?
                .query_map([], |row| {
                    Ok(QueuedRun {
                        seq: row.get(0)?,
                        task: TaskId(rows::uuid(1, row.get_ref(1)?.as_blob()?)?),
                        run: RunId(rows::uuid(2, row.get_ref(2)?.as_blob()?)?),
                    })
                })?
                .collect()
        })
    }

    /// Events after number `after`, in order; of one task, or of all.
    pub fn entries(&self, after: u64, task: Option<TaskId>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.ask(|connection| match task {
            Some(task) => connection
                .prepare_cached(&format!(
                    "SELECT {ENTRY} FROM events WHERE task = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
                ))?
                .query_map(params![task.0.as_bytes(), after, rows_at_most(limit)], rows::entry)?
                .collect(),
            None => connection
                .prepare_cached(&format!("SELECT {ENTRY} FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2"))?
                .query_map(params![after, rows_at_most(limit)], rows::entry)?
                .collect(),
        })
    }

    /// The newest events before number `before`, in order; of one task, or of all.
    pub fn entries_before(
        &self,
        before: u64,
        task: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        // The database's numbers are signed.
        let (before, limit) = (before.min(i64::MAX.unsigned_abs()), rows_at_most(limit));
        let mut entries: Vec<Entry> = self.ask(|connection| match task {
            Some(task) => connection
                .prepare_cached(&format!(
                    "SELECT {ENTRY} FROM events WHERE task = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
                ))?
                .query_map(params![task.0.as_bytes(), before, limit], rows::entry)?
                .collect(),
            None => connection
                .prepare_cached(&format!(
                    "SELECT {ENTRY} FROM events WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2"
                ))?
                .query_map(params![before, limit], rows::entry)?
                .collect(),
        })?;
        entries.reverse();
        Ok(entries)
    }

    /// The project of a git directory; made if there is none. Its root may change when a repository is moved.
    pub fn project(&self, git_dir: &str, root: &str) -> Result<ProjectId, StoreError> {
        self.with_writer(|writer| {
            let id = writer
                .connection
                .prepare_cached(
                    "INSERT INTO projects (id, git_dir, root) VALUES (?1, ?2, ?3)
                     ON CONFLICT (git_dir) DO UPDATE SET root = excluded.root RETURNING id",
                )
                .and_then(|mut statement| {
                    statement.query_row(params![Uuid::now_v7().as_bytes(), git_dir, root], |row| {
                        rows::uuid(0, row.get_ref(0)?.as_blob()?)
                    })
                });
            id.map(ProjectId).map_err(|error| self.failed(error))
        })
    }

    /// All projects, oldest first.
    pub fn projects(&self) -> Result<Vec<Project>, StoreError> {
        self.ask(|connection| {
            connection
                .prepare_cached("SELECT id, git_dir, root FROM projects ORDER BY id")?
                .query_map([], |row| {
                    Ok(Project {
                        id: ProjectId(rows::uuid(0, row.get_ref(0)?.as_blob()?)?),
                        git_dir: row.get(1)?,
                        root: row.get(2)?,
                    })
                })?
                .collect()
        })
    }

    /// A small private value of the daemon's.
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.ask(|connection| {
            connection
                .prepare_cached("SELECT value FROM settings WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    /// Keeps a small private value.
    pub fn set_setting(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.with_writer(|writer| {
            writer
                .connection
                .prepare_cached(
                    "INSERT INTO settings (key, value) VALUES (?1, ?2)
                    ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                )
                .and_then(|mut statement| statement.execute([key, value]))
                .map_err(|error| self.failed(error))?;
            Ok(())
        })
    }

    /// Asks with a reader; everything asked sees one moment.
    pub(crate) fn ask<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.readers()
            .with(|connection| {
                let moment = connection.transaction()?;
                work(&moment)
            })
            .map_err(|error| self.failed(error))
    }
}

fn records(connection: &Connection, sql: &str, with: impl Params) -> rusqlite::Result<Vec<TaskRecord>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(with)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(rows::complete(connection, row.get_ref(0)?.as_str()?)?);
    }
    Ok(records)
}

fn rows_at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The ids that begin with the given hexadecimal digits, hyphens at will.
fn id_range(word: &str) -> Option<([u8; 16], [u8; 16])> {
    let mut digits = 0;
    let (mut first, mut last) = (0u128, u128::MAX);
    for character in word.chars().filter(|c| *c != '-') {
        let digit = u128::from(character.to_digit(16)?);
        let shift = 124u32.checked_sub(4 * digits)?;
        first |= digit << shift;
        last &= !((0xf ^ digit) << shift);
        digits += 1;
    }
    (digits as usize >= SHORTEST_PREFIX).then(|| (first.to_be_bytes(), last.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_id_is_a_range() {
        let of = |word| {
            id_range(word).map(|(a, b)| (Uuid::from_bytes(a).to_string(), Uuid::from_bytes(b).to_string()))
        };
        assert_eq!(
            of("0192aBcd-7f"),
            Some((
                "0192abcd-7f00-0000-0000-000000000000".to_owned(),
                "0192abcd-7fff-ffff-ffff-ffffffffffff".to_owned()
            ))
        );
        for none in ["", "abc", "a-b-c", "fix-it", "00000000000000000000000000000000f"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
