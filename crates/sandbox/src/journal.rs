//! The journal: one append-only file per executed process, with all it was told and all it said, in the order the
//! shim saw it, and how it ended. Offsets are byte positions in the file; they never change, even after old records
//! were given back to the file system.
//!
//! Record: `len: u32 LE`, `kind: u8`, 3 zero bytes, `unix_ms: u64 LE`, then `len` bytes. Written by the shim only
//! ([`Writer`]); read by anyone, while it grows ([`Reader`]). A reader treats the file as hostile.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::FallocateFlags;

use crate::message::Exit;

/// Bytes before each record's own.
pub const HEADER: usize = 16;
/// Longest record: the shim reads and writes in pieces of at most this.
pub const MAX_RECORD: usize = 64 * 1024;
/// How far a process may run ahead of the daemon's acknowledgements before its output is no longer read: several
/// minutes of a busy terminal, and 50 environments fill 3 GiB at most.
pub const MAX_UNREAD: u64 = 64 << 20;
/// Acknowledged bytes that are kept readable for terminals that scroll back; older ones are given back.
pub const RETAINED: u64 = 64 << 20;
/// Old records are given back in pieces of this, so that it happens rarely.
const PUNCH: u64 = 8 << 20;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Bytes for the process's standard input, recorded before they are written.
    Stdin = 1,
    /// Bytes from standard output.
    Stdout = 2,
    /// Bytes from standard error.
    Stderr = 3,
    /// Bytes from the terminal.
    Terminal = 4,
    /// Bytes typed into the terminal.
    TerminalInput = 5,
    /// New size of the terminal: rows and columns, two `u16 LE`.
    Resize = 6,
    /// The process ended: `u8` 0 = code, 1 = signal, then `i32 LE`.
    Exit = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Stdin,
            Self::Stdout,
            Self::Stderr,
            Self::Terminal,
            Self::TerminalInput,
            Self::Resize,
            Self::Exit,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it starts.
    pub offset: u64,
    /// What it holds.
    pub kind: Kind,
    /// When the shim saw it, milliseconds since 1970.
    pub unix_ms: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Record {
    /// How the process ended, if this is that record.
    pub fn exit(&self) -> Option<Exit> {
        let [how, a, b, c, d] = *self.bytes.as_slice() else { return None };
        let number = i32::from_le_bytes([a, b, c, d]);
        match (self.kind, how) {
            (Kind::Exit, 0) => Some(Exit::Code(number)),
            (Kind::Exit, 1) => Some(Exit::Signal(number)),
            _ => None,
        }
    }
}

/// Why a journal could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error("cannot read the journal")]
    Io(#[from] io::Error),
    /// The bytes at this offset are no record.
    #[error("no record at offset {0}")]
    Damaged(u64),
    /// The record at this offset was given back to the file system.
    #[error("the record at offset {0} is no longer kept")]
    Gone(u64),
}

/// Reads a journal, also while it grows.
#[derive(Debug)]
pub struct Reader(File);

impl Reader {
    /// Opens a journal.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        Ok(Self(OpenOptions::new().read(true).custom_flags(flags as i32).open(path)?))
    }

    /// The complete records from `offset` on, of about `max` bytes together (at least one record, if there is one),
    /// and the offset to go on from. A torn last record is left for the next time.
    pub fn read_from(&self, offset: u64, max: usize) -> Result<(Vec<Record>, u64), ReadError> {
        let (mut at, mut records) = (offset, Vec::new());
        while at - offset <= max as u64 || records.is_empty() {
            let mut header = [0; HEADER];
            if !self.fill(&mut header, at)? {
                break;
            }
            let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
            if header == [0; HEADER] {
                return Err(ReadError::Gone(at));
            }
            let kind = Kind::from_byte(header[4]).filter(|_| length <= MAX_RECORD && header[5..8] == [0; 3]);
            let kind = kind.ok_or(ReadError::Damaged(at))?;
            let mut bytes = vec![0; length];
            if !self.fill(&mut bytes, at + HEADER as u64)? {
                break;
            }
            let mut ms = [0; 8];
            ms.copy_from_slice(&header[8..]);
            records.push(Record { offset: at, kind, unix_ms: u64::from_le_bytes(ms), bytes });
            at += (HEADER + length) as u64;
        }
        Ok((records, at))
    }

    fn fill(&self, buffer: &mut [u8], at: u64) -> io::Result<bool> {
        match self.0.read_exact_at(buffer, at) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Appends to a journal. One per file.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    end: u64,
    acknowledged: u64,
    punched: u64,
}

impl Writer {
    /// Makes a new journal; an existing one is an error.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file, end: 0, acknowledged: 0, punched: 0 })
    }

    /// End of the last record.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether the daemon has fallen too far behind to take more output.
    pub fn full(&self) -> bool {
        self.end - self.acknowledged >= MAX_UNREAD
    }

    /// Appends one record, whole or not at all.
    pub fn append(&mut self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        header[4] = kind as u8;
        header[8..].copy_from_slice(&ms.to_le_bytes());
        let total = HEADER + bytes.len();
        let mut written = 0;
        while written < total {
            let parts = [
                IoSlice::new(&header[written.min(HEADER)..]),
                IoSlice::new(&bytes[written.saturating_sub(HEADER).min(bytes.len())..]),
            ];
            match self.file.write_vectored(&parts) {
                Ok(0) => return self.undo(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return self.undo(e),
            }
        }
        self.end += total as u64;
        Ok(())
    }

    fn undo(&mut self, error: io::Error) -> io::Result<()> {
        self.file.set_len(self.end)?;
        Err(error)
    }

    /// Appends how the process ended.
    pub fn append_exit(&mut self, exit: Exit) -> io::Result<()> {
        let (how, number) = match exit {
            Exit::Code(code) => (0, code),
            Exit::Signal(signal) => (1, signal),
        };
        let [a, b, c, d] = number.to_le_bytes();
        self.append(Kind::Exit, &[how, a, b, c, d])
    }

    /// The daemon has read up to `offset` and will not ask for what is much older again.
    pub fn acknowledge(&mut self, offset: u64) {
        self.acknowledged = self.acknowledged.max(offset.min(self.end));
        let keep_from = self.acknowledged.saturating_sub(RETAINED);
        if keep_from >= self.punched + PUNCH {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // A file system that cannot give back parts of a file keeps them; nothing else depends on it.
            let _ = rustix::fs::fallocate(&self.file, flags, self.punched, keep_from - self.punched);
            self.punched = keep_from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_read_back_and_a_torn_end_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.journal");
        let mut writer = Writer::create(&path).unwrap();
        writer.append(Kind::Stdin, b"in").unwrap();
        writer.append(Kind::Stdout, &[7; MAX_RECORD]).unwrap();
        writer.append_exit(Exit::Signal(9)).unwrap();
        let reader = Reader::open(&path).unwrap();
        let (records, next) = reader.read_from(0, 10).unwrap();
        assert_eq!((records[0].kind, records[0].bytes.as_slice()), (Kind::Stdin, &b"in"[..]));
        assert_eq!(
            next,
            records.last().unwrap().offset + (HEADER + records.last().unwrap().bytes.len()) as u64
        );
        let (records, next) = reader.read_from(18, 1 << 20).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[1].exit(), Some(Exit::Signal(9)));
        assert_eq!(next, writer.end());
        for cut in 1..(HEADER as u64 + 5) {
            File::options().write(true).open(&path).unwrap().set_len(writer.end() - cut).unwrap();
            let (records, next) = reader.read_from(0, 1 << 20).unwrap();
            assert_eq!((records.len(), next), (2, writer.end() - HEADER as u64 - 5), "cut by {cut}");
        }
    }

    #[test]
    fn absurd_lengths_and_holes_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.journal");
        for (bytes, gone) in [([255u8; 32], false), ([0; 32], true)] {
            std::fs::write(&path, bytes).unwrap();
            let result = Reader::open(&path).unwrap().read_from(0, 100);
            assert_eq!(matches!(result, Err(ReadError::Gone(0))), gone);
            assert!(result.is_err());
        }
    }

    #[test]
    fn old_acknowledged_records_are_given_back() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.journal");
        let mut writer = Writer::create(&path).unwrap();
        while !writer.full() {
            writer.append(Kind::Stdout, &[1; MAX_RECORD]).unwrap();
        }
        writer.acknowledge(writer.end());
        while !writer.full() {
            writer.append(Kind::Stdout, &[1; MAX_RECORD]).unwrap();
        }
        writer.acknowledge(u64::MAX);
        assert!(!writer.full());
        let reader = Reader::open(&path).unwrap();
        let held = path.metadata().unwrap().blocks() * 512;
        assert!(held < writer.end(), "{held} of {}", writer.end());
        assert!(matches!(reader.read_from(0, 1), Err(ReadError::Gone(0))));
        let record = (HEADER + MAX_RECORD) as u64;
        let kept = (writer.end() / record - 10) * record;
        assert_eq!(reader.read_from(kept, 1 << 20).unwrap().0.len(), 10);
    }
}
