//! What a run wrote, read from its upper directory: the cost is the changes, not the tree.
//!
//! Hostile ground: entries are listed and stat'ed, never followed; only `untouched` opens any, and those that it expects.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Read,
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
    /// Changes when a file outside `.git` is written, made or deleted; equal otherwise. 0 if there are too many.
    pub signature: u64,
}

impl Written {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let unknown = self.signature == 0 || other.signature == 0;
        // Rotated, so that the same file in one or the other is not the same.
        let signature = self.signature.rotate_left(7).wrapping_add(other.signature).max(1);
        Self {
            entries: self.entries + other.entries,
            bytes: self.bytes + other.bytes,
            signature: if unknown { 0 } else { signature },
        }
    }
}

/// Looks through `upper`.
pub fn written(upper: &Path) -> Written {
    let mut written = Written { signature: 1, ..Written::default() };
    let mut seen = 0;
    let mut pending = vec![(upper.to_owned(), false)];
    while let Some((dir, in_git)) = pending.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MAX_ENTRIES {
                written.signature = 0;
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

/// Whether `upper` holds these files, the directories on their way, and nothing else: no deletion, no emptied directory.
pub fn untouched(upper: &Path, files: &[(String, Vec<u8>)]) -> bool {
    let mut left = files.len();
    let mut pending = vec![upper.to_owned()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { return false };
        for entry in entries {
            let Ok(entry) = entry else { return false };
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { return false };
            let Ok(inside) = path.strip_prefix(upper) else { return false };
            if kind.is_dir() {
                if !files.iter().any(|(file, _)| Path::new(file).starts_with(inside)) {
                    return false;
                }
                pending.push(path);
            } else {
                let Some((_, content)) = files.iter().find(|(file, _)| Path::new(file) == inside) else {
                    return false;
                };
                if !kind.is_file() || !has_content(&path, content) {
                    return false;
                }
                left = left.saturating_sub(1);
            }
        }
    }
    left == 0
}

/// Reads what may be anything by now: never a link, never a pipe, never more than is expected.
fn has_content(path: &Path, content: &[u8]) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = open(path, flags, Mode::empty()) else { return false };
    let mut read = Vec::with_capacity(content.len() + 1);
    let mut file = fs::File::from(file).take(content.len() as u64 + 1);
    file.read_to_end(&mut read).is_ok() && read == content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_there_is_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let upper = dir.path();
        let files = [
            (".git/HEAD".to_owned(), b"ref: x\n".to_vec()),
            (".git/refs/heads/x".to_owned(), b"1\n".to_vec()),
        ];
        fs::create_dir_all(upper.join(".git/refs/heads")).unwrap();
        for (path, content) in &files {
            fs::write(upper.join(path), content).unwrap();
        }
        assert!(untouched(upper, &files));
        for made in ["a", ".git/index", ".git/refs/heads/y"] {
            fs::write(upper.join(made), "").unwrap();
            assert!(!untouched(upper, &files), "{made}");
            fs::remove_file(upper.join(made)).unwrap();
        }
        fs::create_dir(upper.join("emptied")).unwrap();
        assert!(!untouched(upper, &files));
        fs::remove_dir(upper.join("emptied")).unwrap();
        fs::write(upper.join(".git/refs/heads/x"), "2\n").unwrap();
        assert!(!untouched(upper, &files));
        fs::remove_file(upper.join(".git/refs/heads/x")).unwrap();
        assert!(!untouched(upper, &files));
        std::os::unix::fs::symlink("/dev/null", upper.join(".git/refs/heads/x")).unwrap();
        assert!(!untouched(upper, &files));
    }
}
