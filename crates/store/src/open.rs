//! Opening and closing. Owns the files beside the database: `store.db.lock` is locked while a store is open and
//! says `open` until it was closed in good order, which is how an unclean end is noticed.
//!
//! Invariants: one opener at a time; damage is refused with the place of the newest backup, and nothing is ever
//! deleted or repaired by itself. With WAL and `synchronous=NORMAL` a killed process loses nothing; a power cut may
//! lose the transactions of the last moments, never a part of one.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension};

use crate::{
    backup,
    error::{Nature, OpenError, StoreError, nature},
    hot::Hot,
    migrations,
    readers::Readers,
};

/// The event log and its projections. Every method is synchronous; a single statement takes some 20 µs.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Taken out only by `drop`.
    writer: Mutex<Option<Writer>>,
    readers: Readers,
    last_seq: AtomicU64,
    damaged: AtomicBool,
    lock: File,
}

/// The one connection that writes, and what it remembers.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) hot: Hot,
}

impl Store {
    /// Opens the database at `path`, or makes it, and brings it to today's format. After an unclean end the whole
    /// file is checked first.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (mut lock, unclean) = lock(path)?;
        let empty = match fs::metadata(path) {
            Ok(metadata) => metadata.len() == 0,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(source) => return Err(OpenError::Io { path: path.to_owned(), source }),
        };
        if empty && backup::newest(path).is_some() {
            return Err(corrupt(
                path,
                "the file is missing or empty, though there is a backup of it".to_owned(),
            ));
        }
        // Made here, so that only its owner can read it; SQLite gives its other files the same permissions.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let sql = |error| open_error(path, error);
        let mut connection = Connection::open(path).map_err(sql)?;
        configure(&connection).map_err(sql)?;
        if unclean && !empty {
            quick_check(&connection, path)?;
        }
        migrations::migrate(&mut connection, path)?;
        let last_seq = consistent_end(&connection, path)?;
        lock.rewind()
            .and_then(|()| lock.write_all(b"open\n"))
            .map_err(|source| OpenError::Io { path: backup::beside(path, ".lock"), source })?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(Some(Writer { connection, hot: Hot::default() })),
            readers: Readers::new(path),
            last_seq: AtomicU64::new(last_seq),
            damaged: AtomicBool::new(false),
            lock,
        })
    }

    /// Number of the newest event; 0 if there is none.
    pub fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Acquire)
    }

    pub(crate) fn set_last_seq(&self, seq: u64) {
        self.last_seq.store(seq, Ordering::Release);
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Runs `work` with the writer. A panic inside an earlier `work` rolled its transaction back and left nothing.
    pub(crate) fn with_writer<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer: MutexGuard<'_, Option<Writer>> =
            self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.as_mut() {
            Some(writer) => work(writer),
            None => Err(StoreError::Sqlite(rusqlite::Error::InvalidQuery).into()),
        }
    }

    /// What a SQLite error means to callers. Damage is remembered, so that the next opening checks the file.
    pub(crate) fn failed(&self, error: rusqlite::Error) -> StoreError {
        match nature(&error) {
            Nature::Damage => {
                self.damaged.store(true, Ordering::Release);
                StoreError::Corrupt {
                    path: self.path.clone(),
                    backup: backup::newest(&self.path),
                    detail: error.to_string(),
                }
            }
            Nature::Full => StoreError::DiskFull { path: self.path.clone() },
            Nature::Other => StoreError::Sqlite(error),
        }
    }
}

impl Store {
    /// Moves everything into the main file and ends writing: whoever still holds the store can only read. What is not
    /// closed so is closed when the last of them lets go, if the process lives that long.
    pub fn close(&self) {
        self.readers.close();
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // The last connection to close would do that by itself, but somebody may be reading.
        let moved =
            writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        let closed = writer.connection.close().is_ok() && moved.is_ok_and(|busy| busy == 0);
        if closed && !self.damaged.load(Ordering::Acquire) {
            let _ = self.lock.set_len(0);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
        // Closing would not do: a process just forked, on its way to becoming another program, may still have the file.
        let _ = self.lock.unlock();
    }
}

/// Takes the lock. Also tells whether the last opener ended without closing.
fn lock(path: &Path) -> Result<(File, bool), OpenError> {
    let lock_path = backup::beside(path, ".lock");
    let io = |source| OpenError::Io { path: lock_path.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    let mut mark = Vec::new();
    Read::by_ref(&mut file).take(16).read_to_end(&mut mark).map_err(io)?;
    Ok((file, !mark.is_empty()))
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // 16 MiB: the upper levels of every index at a million events.
    connection.pragma_update(None, "cache_size", -16_384)?;
    // A log that a slow reader let grow is cut back to 64 MiB.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    Ok(())
}

fn quick_check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| open_error(path, error))?;
    if found == "ok" { Ok(()) } else { Err(corrupt(path, found)) }
}

/// Number of the newest event. The records must stand at the same one: both are written in one transaction.
fn consistent_end(connection: &Connection, path: &Path) -> Result<u64, OpenError> {
    let sql = |error| open_error(path, error);
    let end: Option<(u64, Vec<u8>)> = connection
        .query_row("SELECT seq, task FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(sql)?;
    let Some((last, task)) = end else { return Ok(0) };
    let folded: Option<u64> = connection
        .query_row("SELECT last_seq FROM tasks WHERE id = ?1", [task], |row| row.get(0))
        .optional()
        .map_err(sql)?;
    if folded != Some(last) {
        return Err(corrupt(path, format!("the log ends at event {last}, but its task does not")));
    }
    Ok(last)
}

pub(crate) fn corrupt(path: &Path, detail: String) -> OpenError {
    OpenError::Corrupt { path: path.to_owned(), backup: backup::newest(path), detail }
}

pub(crate) fn open_error(path: &Path, error: rusqlite::Error) -> OpenError {
    match nature(&error) {
        Nature::Damage => corrupt(path, error.to_string()),
        Nature::Full => OpenError::DiskFull { path: path.to_owned() },
        Nature::Other => OpenError::Sqlite { path: path.to_owned(), source: error },
    }
}
