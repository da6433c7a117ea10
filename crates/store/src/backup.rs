//! Copies of the database: made while it is in use, put in place by renaming, the two newest kept. Copies from before
//! an update are kept beside them and never deleted here. Restoring is a person's decision: stop the daemon, move
//! `store.db`, `store.db-wal` and `store.db-shm` away, copy the backup to `store.db`.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use crate::{
    error::{Nature, OpenError, StoreError, nature},
    open::Store,
};

/// A file beside the database, as in `store.db.backup`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(suffix);
    path.with_file_name(name)
}

/// Where the copy from before an update to format `version` goes.
pub(crate) fn before(path: &Path, version: u32) -> PathBuf {
    beside(path, &format!(".before-v{version}"))
}

/// The newest copy there is, of whatever sort.
pub(crate) fn newest(path: &Path) -> Option<PathBuf> {
    let prefix = path.file_name()?.to_str()?;
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter(|file| {
            file.file_name().to_str().and_then(|name| name.strip_prefix(prefix)).is_some_and(|rest| {
                rest == ".backup"
                    || rest == ".backup-older"
                    || rest.strip_prefix(".before-v").is_some_and(|v| v.bytes().all(|b| b.is_ascii_digit()))
            })
        })
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())))
        .max()
        .map(|(_, path)| path)
}

#[derive(Debug)]
pub(crate) enum CopyError {
    Io(PathBuf, io::Error),
    Sqlite(rusqlite::Error),
}

impl CopyError {
    pub(crate) fn into_open(self, path: &Path) -> OpenError {
        match self {
            Self::Io(path, source) if source.kind() == io::ErrorKind::StorageFull => {
                OpenError::DiskFull { path }
            }
            Self::Io(path, source) => OpenError::Io { path, source },
            Self::Sqlite(error) => crate::open::open_error(path, error),
        }
    }
}

/// Copies the database, as it is at one moment, to `to`: written beside it first, flushed, then renamed.
pub(crate) fn copy(connection: &Connection, to: &Path) -> Result<(), CopyError> {
    let new = beside(to, ".new");
    let io = |error| CopyError::Io(new.clone(), error);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    // SQLite writes into an empty file that exists, and so only its owner can read it.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(io)?;
    let text = new.to_str().ok_or_else(|| io(io::Error::new(io::ErrorKind::InvalidFilename, "not UTF-8")))?;
    let copied = connection
        .execute("VACUUM INTO ?1", [text])
        .map_err(CopyError::Sqlite)
        .and_then(|_| File::open(&new).and_then(|file| file.sync_all()).map_err(io))
        .and_then(|()| fs::rename(&new, to).map_err(io));
    if copied.is_err() {
        let _ = fs::remove_file(&new);
    }
    copied?;
    if let Some(dir) = to.parent() {
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| CopyError::Io(dir.to_owned(), error))?;
    }
    Ok(())
}

impl Store {
    /// Copies the whole database to `store.db.backup`; the copy before becomes `store.db.backup-older`. Appends and
    /// questions go on meanwhile. Without any event since the last copy nothing is written. Returns the copy's path.
    pub fn backup(&self) -> Result<PathBuf, StoreError> {
        let path = self.path();
        let to = beside(path, ".backup");
        if last_seq_of(&to).is_some_and(|seq| seq == self.last_seq() && seq > 0) {
            return Ok(to);
        }
        let older = beside(path, ".backup-older");
        let keep = beside(path, ".backup-keep");
        // The copy before stays under one name or the other all the time.
        let kept = fs::hard_link(&to, &keep).is_ok();
        let copied =
            self.readers().with(|reader| Ok(copy(reader, &to))).map_err(|error| self.failed(error))?;
        if kept {
            let done = if copied.is_ok() { fs::rename(&keep, &older) } else { fs::remove_file(&keep) };
            done.map_err(|source| StoreError::Io { path: older, source })?;
        }
        copied.map_err(|error| match error {
            CopyError::Io(path, source) if source.kind() == io::ErrorKind::StorageFull => {
                StoreError::DiskFull { path }
            }
            CopyError::Io(path, source) => StoreError::Io { path, source },
            CopyError::Sqlite(error) if matches!(nature(&error), Nature::Full) => {
                StoreError::DiskFull { path: to.clone() }
            }
            CopyError::Sqlite(error) => self.failed(error),
        })?;
        Ok(to)
    }
}

fn last_seq_of(copy: &Path) -> Option<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(copy, flags).ok()?;
    connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0)).ok()
}
