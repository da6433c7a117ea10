//! What goes wrong with stored data. Owns the translation from SQLite's codes: damage, a full disk and a taken
//! name have variants of their own, because each needs another answer from the person.

use std::{io, path::PathBuf};

use offshoot_core::{
    id::{ProjectId, TaskId},
    name::TaskName,
    record::FoldError,
};
use rusqlite::{ErrorCode, ffi};

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another daemon")]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// A newer Offshoot wrote it.
    #[error("{path} was written by a newer version (format {found}; this one knows {known})")]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// It is damaged. Nothing was changed or deleted.
    #[error("{path} is damaged: {detail}")]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// The newest copy made before, if there is one.
        backup: Option<PathBuf>,
        /// What was found.
        detail: String,
    },
    /// There is no room left on the disk.
    #[error("the disk that holds {path} is full")]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite failed in another way.
    #[error("cannot open {path}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Why a question to the store, or a change other than an append, failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is damaged. Nothing was changed or deleted.
    #[error("{path} is damaged: {detail}")]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// The newest copy made before, if there is one.
        backup: Option<PathBuf>,
        /// What was found.
        detail: String,
    },
    /// There is no room left on the disk. Nothing was written.
    #[error("the disk that holds {path} is full")]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot use {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The stored log does not fold: it was written under other rules.
    #[error("event {seq} does not fit its task")]
    Fold {
        /// The event.
        seq: u64,
        /// Why.
        source: FoldError,
    },
    /// SQLite failed in another way.
    #[error("the database failed")]
    Sqlite(#[source] rusqlite::Error),
}

/// Why events were not recorded. None of the batch was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// An event does not fit the record of its task.
    #[error("event {index} ({kind}) does not fit task {task}")]
    Fold {
        /// Position in the batch, from 0.
        index: usize,
        /// Its kind, as in `run_ended`.
        kind: String,
        /// Its task.
        task: TaskId,
        /// Why.
        source: FoldError,
    },
    /// Another task of the project that is neither landed nor discarded has the name.
    #[error("there is a task called {name} already")]
    NameTaken {
        /// The project.
        project: ProjectId,
        /// The name.
        name: TaskName,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a SQLite error amounts to.
pub(crate) enum Nature {
    Damage,
    Full,
    Other,
}

pub(crate) fn nature(error: &rusqlite::Error) -> Nature {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Nature::Damage,
            ErrorCode::DiskFull => Nature::Full,
            // A file that ends before its last page was cut off.
            _ if failure.extended_code == ffi::SQLITE_IOERR_SHORT_READ => Nature::Damage,
            _ => Nature::Other,
        },
        // A column that does not read as what only this crate writes.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => Nature::Damage,
        _ => Nature::Other,
    }
}

/// Whether the index of names in use refused a row.
pub(crate) fn is_name_taken(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, Some(text))
        if failure.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE && text.contains("tasks.name"))
}
