//! An ordinary user to test as. Tests run as root on some machines; much of what is tested is different then.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The uid and gid that tests take when root: nobody's, and not the one of any service.
pub const ORDINARY: u32 = 65_432;

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes a command run as an ordinary user, if this process is root; else it already does.
pub fn drop_root(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(ORDINARY).gid(ORDINARY).env_remove("SUDO_USER");
    }
    command
}

/// Gives a directory and what is in it to the ordinary user, if this process is root.
pub fn give(path: &Path) -> std::io::Result<()> {
    if !is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(ORDINARY), Some(ORDINARY))?;
    if path.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    Ok(())
}
