//! The end of what a process said: out of its journal, whose beginning may have been given back to the file system.
//!
//! Whoever reads a journal as it grows keeps [`Marks`], so that the end is found without what was before it.

use std::{collections::VecDeque, path::Path};

use offshoot_sandbox::journal::{Kind, ReadError, Reader};

/// The end of what a process said, for people.
pub const LOG: usize = 256 * 1024;
/// Between the places in a journal that are remembered.
const STRIDE: u64 = 32 * 1024;
/// Places that are remembered: twice what is shown, as headers of records are among it.
const MARKS: usize = 2 * LOG / STRIDE as usize;
/// Bytes of a journal read at a time.
const READ: usize = 1 << 20;

/// Where records of a journal begin, every 32 KiB or so near its end.
#[derive(Clone, Debug, Default)]
pub struct Marks(VecDeque<u64>);

impl Marks {
    /// Notes that a record ends there.
    pub fn note(&mut self, at: u64) {
        if self.0.back().is_none_or(|last| at >= last + STRIDE) {
            self.0.push_back(at);
            if self.0.len() > MARKS {
                self.0.pop_front();
            }
        }
    }

    /// Where to begin reading for the end.
    pub fn near_end(&self) -> u64 {
        // All of a journal that was never longer than that is still there.
        self.0.front().copied().filter(|_| self.0.len() >= MARKS).unwrap_or(0)
    }
}

/// The end of what a process said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Both outputs in order; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether there was more before.
    pub truncated: bool,
    /// Where the journal goes on.
    pub next: u64,
}

/// The end of what was said in a journal, read from one of its [`Marks`] on.
pub fn said(journal: &Path, from: u64) -> Said {
    let Ok(reader) = Reader::open(journal) else { return Said::default() };
    let (mut at, mut end, mut truncated) = (from, Vec::new(), from > 0);
    loop {
        match reader.read_from(at, READ) {
            Ok((records, next)) if !records.is_empty() => {
                for record in records {
                    if matches!(record.kind, Kind::Stdout | Kind::Stderr | Kind::Terminal) {
                        end.extend_from_slice(&record.bytes);
                    }
                }
                let surplus = end.len().saturating_sub(LOG);
                truncated |= surplus > 0;
                end.drain(..surplus);
                at = next;
            }
            // Its beginning was given back, by a daemon that is no more.
            Err(ReadError::Gone(_)) => {
                truncated = true;
                break;
            }
            Ok(_) | Err(_) => break,
        }
    }
    Said { text: String::from_utf8_lossy(&end).into_owned(), truncated, next: at }
}
