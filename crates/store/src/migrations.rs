//! The tables, and how older ones become today's.
//!
//! The list only grows: a step that was ever released is never changed. `PRAGMA user_version` is the number of steps
//! taken. A new kind of event needs a step too (an empty one will do), so that an older Offshoot, which could not read
//! it, refuses the whole database instead of stumbling over one line. Before the first step of an update the database
//! is copied to `<name>.before-v<N>`, N being the format it is updated to.

use std::path::Path;

use rusqlite::Connection;

use crate::{
    backup,
    error::OpenError,
    open::{corrupt, open_error},
};

/// Steps, oldest first. Each runs in one transaction with the change of `user_version`.
const STEPS: &[&str] = &[
    // 1: the log; the records it adds up to (without their runs and checkpoints, which have tables of their own,
    // so that an event rewrites only what it touches); projects; small private state of the daemon.
    "CREATE TABLE events (
        seq  INTEGER PRIMARY KEY,
        at   INTEGER NOT NULL,
        task BLOB NOT NULL,
        run  BLOB,
        kind TEXT NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_of_task ON events (task, seq);

    CREATE TABLE tasks (
        id         BLOB PRIMARY KEY,
        project    BLOB NOT NULL,
        name       TEXT NOT NULL,
        state      TEXT NOT NULL,
        updated_at INTEGER NOT NULL,
        last_seq   INTEGER NOT NULL,
        record     TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX names_in_use ON tasks (project, name) WHERE state NOT IN ('landed', 'discarded');
    CREATE INDEX tasks_of_name ON tasks (name);
    CREATE INDEX tasks_of_state ON tasks (state);
    CREATE INDEX tasks_of_project ON tasks (project, id);

    CREATE TABLE runs (
        task      BLOB NOT NULL REFERENCES tasks (id),
        number    INTEGER NOT NULL,
        id        BLOB NOT NULL,
        queued    INTEGER NOT NULL,
        queue_seq INTEGER NOT NULL,
        record    TEXT NOT NULL,
        PRIMARY KEY (task, number)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX runs_queued ON runs (queue_seq) WHERE queued = 1;

    CREATE TABLE checkpoints (
        task     BLOB NOT NULL REFERENCES tasks (id),
        position INTEGER NOT NULL,
        record   TEXT NOT NULL,
        PRIMARY KEY (task, position)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE projects (
        id      BLOB PRIMARY KEY,
        git_dir TEXT NOT NULL UNIQUE,
        root    TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE settings (
        key   TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;",
    // Approvals and standing rules: which tasks made some, since a rule of a project is looked for in all its tasks.
    "ALTER TABLE tasks ADD COLUMN has_rules INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX tasks_with_rules ON tasks (project) WHERE has_rules = 1;",
    // Approvals by hosts, which an older Offshoot could not read; what became of approvals is asked of the log.
    "CREATE INDEX approvals_asked ON events (seq) WHERE kind = 'approval_requested';
    CREATE INDEX approvals_asked_of_task ON events (task, seq) WHERE kind = 'approval_requested';
    CREATE INDEX approvals_settled ON events (task, seq) WHERE kind IN ('approval_answered', 'approval_withdrawn');",
];

/// Brings the database to today's format, or refuses it.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    run(connection, path, STEPS)
}

fn run(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<(), OpenError> {
    let sql = |error| open_error(path, error);
    let known = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(sql)?;
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    if found == known {
        return Ok(());
    }
    if found > 0 {
        backup::copy(connection, &backup::before(path, known)).map_err(|error| error.into_open(path))?;
    } else {
        let tables: u32 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sql)?;
        if tables > 0 {
            return Err(corrupt(path, "it holds tables that Offshoot did not make".to_owned()));
        }
    }
    for (step, version) in steps.iter().zip(1..=known).skip(found as usize) {
        let tx = connection.transaction().map_err(sql)?;
        tx.execute_batch(step).map_err(sql)?;
        tx.pragma_update(None, "user_version", version).map_err(sql)?;
        tx.commit().map_err(sql)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_taken_once_and_after_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut connection = Connection::open(&path).unwrap();
        let one = &["CREATE TABLE a (x)"][..];
        let two = &["CREATE TABLE a (x)", "CREATE TABLE b (y); INSERT INTO a VALUES (1)"][..];
        run(&mut connection, &path, one).unwrap();
        run(&mut connection, &path, one).unwrap();
        run(&mut connection, &path, two).unwrap();
        run(&mut connection, &path, two).unwrap();
        let rows: u32 = connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
        let copy = Connection::open(dir.path().join("store.db.before-v2")).unwrap();
        let version: u32 = copy.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        assert!(matches!(run(&mut connection, &path, one), Err(OpenError::Newer { found: 2, known: 1, .. })));
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut connection = Connection::open(&path).unwrap();
        run(&mut connection, &path, &["CREATE TABLE a (x)"]).unwrap();
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (y); CREATE TABLE a (x)"];
        assert!(run(&mut connection, &path, &steps).is_err());
        let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        run(&mut connection, &path, &["CREATE TABLE a (x)", "CREATE TABLE b (y)"]).unwrap();
    }
}
