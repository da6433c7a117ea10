//! Copies ignored files of the main checkout into a new worktree: by reflink where the file system has it (nothing is
//! copied until somebody writes), else as bytes, within limits.
//!
//! Never overwrites, never follows a link; links are made anew as they are. Reflinks are Linux only; elsewhere everything
//! is bytes.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Bytes that are copied where there are no reflinks: some seconds on a slow disk. Beyond that the setup commands of the
/// project are the better way, and it is said so.
pub const MAX_BYTES: u64 = 1 << 30;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files and links.
    pub files: u64,
    /// Bytes that took no space.
    pub shared: u64,
    /// Bytes that did.
    pub bytes: u64,
    /// Files that were there already, or that are neither files nor links.
    pub passed_over: u64,
    /// Files left out because there was too much.
    pub too_much: u64,
}

/// Copies these paths, relative to both directories.
pub fn files(from: &Path, to: &Path, paths: &[PathBuf]) -> io::Result<Copied> {
    let mut copied = Copied::default();
    let mut reflinks = true;
    for path in paths {
        let (source, target) = (from.join(path), to.join(path));
        let Ok(meta) = fs::symlink_metadata(&source) else { continue };
        if fs::symlink_metadata(&target).is_ok() || !(meta.is_file() || meta.is_symlink()) {
            copied.passed_over += 1;
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        if meta.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
            copied.files += 1;
            continue;
        }
        if !reflinks && copied.bytes + meta.len() > MAX_BYTES {
            copied.too_much += 1;
            continue;
        }
        let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let input = File::options().read(true).custom_flags(no_follow).open(&source)?;
        let mut output = File::options().write(true).create_new(true).open(&target)?;
        reflinks = reflinks && share(&output, &input);
        if reflinks {
            copied.shared += meta.len();
        } else if copied.bytes + meta.len() > MAX_BYTES {
            drop(output);
            fs::remove_file(&target)?;
            copied.too_much += 1;
            continue;
        } else {
            copied.bytes += io::copy(&mut &input, &mut output)?;
        }
        output.set_permissions(fs::Permissions::from_mode(meta.permissions().mode() & 0o777))?;
        copied.files += 1;
    }
    Ok(copied)
}

#[cfg(target_os = "linux")]
fn share(to: &File, from: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn share(_to: &File, _from: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_once_and_follows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join(".env"), "SECRET=1\n").unwrap();
        fs::set_permissions(from.join(".env"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(from.join("deep/er/x"), "x").unwrap();
        fs::write(to.join("there"), "theirs").unwrap();
        fs::write(from.join("there"), "ours").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
        let paths = [".env", "deep/er/x", "there", "link", "missing"].map(PathBuf::from);
        let copied = files(&from, &to, &paths).unwrap();
        assert_eq!((copied.files, copied.passed_over), (3, 1), "{copied:?}");
        assert_eq!(copied.shared + copied.bytes, 10);
        assert_eq!(fs::read_to_string(to.join(".env")).unwrap(), "SECRET=1\n");
        assert_eq!(fs::metadata(to.join(".env")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read_to_string(to.join("there")).unwrap(), "theirs");
        assert_eq!(files(&from, &to, &paths).unwrap().files, 0, "again is nothing");
    }
}
