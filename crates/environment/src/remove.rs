//! Deleting directories that were written by somebody hostile: moved aside in one step, then taken apart.
//!
//! Never follows a symbolic link. Nothing may run in the directory any more.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::layout::Layout;

/// Moves `dir` into the trash, which takes one rename however large it is. `None` if there was nothing.
pub fn to_trash(layout: &Layout, dir: &Path, unique: &str) -> io::Result<Option<PathBuf>> {
    let trash = layout.trash();
    fs::create_dir_all(&trash)?;
    let target = trash.join(unique);
    match fs::rename(dir, &target) {
        Ok(()) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes everything in the trash.
pub fn empty_trash(layout: &Layout) -> io::Result<()> {
    match fs::read_dir(layout.trash()) {
        Ok(entries) => entries.flatten().try_for_each(|entry| tree(&entry.path())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes a directory tree, also where permissions were taken away (the kernel itself leaves a directory of mode 0
/// in an overlay's work directory).
pub fn tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(dir)?;
            fs::remove_dir_all(dir)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn open_up(dir: &Path) -> io::Result<()> {
    // Depth is bounded by the path length that could be made from inside, not by the call stack: an explicit list.
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        if !fs::symlink_metadata(&dir)?.is_dir() {
            continue;
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(())
}
