//! What a run wrote, read from its upper directory: the cost is the changes, not the tree.
//!
//! Hostile ground: entries are only listed and stat'ed, never opened, never followed.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// Entries looked at before giving up: a build directory of a large project has 50,000; beyond that the numbers are
/// lower bounds and the signature is taken to have changed.
pub const MAX_ENTRIES: u64 = 200_000;

/// A summary of an upper directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files, links and deletions, without directories and without `.git`.
    pub entries: u64,
    /// Disk they take, with `.git`, in bytes.
    pub bytes: u64,
    /// Changes when a file outside `.git` is written, made or deleted; equal otherwise.
    pub signature: u64,
}

/// Looks through `upper`.
pub fn written(upper: &Path) -> Written {
    let mut written = Written::default();
    let mut seen = 0;
    let mut pending = vec![(upper.to_owned(), false)];
    while let Some((dir, in_git)) = pending.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MAX_ENTRIES {
                return written;
            }
            let Ok(meta) = entry.metadata() else { continue };
            written.bytes += meta.blocks() * 512;
            let in_git = in_git || (entry.file_name() == ".git" && dir == upper);
            if meta.is_dir() {
                pending.push((entry.path(), in_git));
            } else if !in_git {
                written.entries += 1;
                let mut hasher = DefaultHasher::new();
                (entry.path(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino()).hash(&mut hasher);
                // Order of a directory's entries does not matter, so the parts are added up.
                written.signature = written.signature.wrapping_add(hasher.finish());
            }
        }
    }
    written
}
