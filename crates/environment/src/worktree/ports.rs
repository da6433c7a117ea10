//! Ports of the host for environments without a network of their own: a block each, that no other environment of this
//! machine's user has, free again when the environment goes.
//!
//! A block is a file that is made exclusively, named after its first port, holding the environment's id. Before it is
//! given out, each of its ports is tried: what somebody else listens at is passed over.

use std::{
    fs, io,
    io::Write,
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use offshoot_core::id::EnvironmentId;

/// Where blocks begin and end: below the ports that Linux gives out by itself (32768 on), above what services use.
const RANGE: std::ops::Range<u16> = 30000..32700;
/// A front end, an API, a debugger, and some more.
pub const COUNT: u16 = 10;

/// The first port of the environment's block of [`COUNT`] in `dir`; the same again if it has one. `None` if none is free.
pub fn reserve(dir: &Path, id: EnvironmentId) -> io::Result<Option<u16>> {
    fs::create_dir_all(dir)?;
    if let Some(known) = blocks(dir)?.into_iter().find(|(_, owner)| *owner == id.to_string()) {
        return Ok(Some(known.0));
    }
    for first in RANGE.step_by(usize::from(COUNT)) {
        let path = dir.join(first.to_string());
        if path.exists() || !(first..first + COUNT).all(is_free) {
            continue;
        }
        match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(id.to_string().as_bytes())?;
                return Ok(Some(first));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Gives an environment's block back.
pub fn release(dir: &Path, id: EnvironmentId) -> io::Result<()> {
    for (first, owner) in blocks(dir)? {
        if owner == id.to_string() {
            fs::remove_file(dir.join(first.to_string()))?;
        }
    }
    Ok(())
}

fn blocks(dir: &Path) -> io::Result<Vec<(u16, String)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let known = entries.flatten().filter_map(|entry| {
        let first = entry.file_name().to_str()?.parse().ok()?;
        Some((first, fs::read_to_string(entry.path()).ok()?))
    });
    Ok(known.collect())
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_own_and_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let id = |n: u32| format!("00000000-0000-7000-8000-00000000000{n}").parse::<EnvironmentId>().unwrap();
        let first = reserve(dir.path(), id(1)).unwrap().unwrap();
        assert_eq!(reserve(dir.path(), id(1)).unwrap(), Some(first), "the same again");
        let second = reserve(dir.path(), id(2)).unwrap().unwrap();
        assert!(second >= first + COUNT || first >= second + COUNT);
        // Somebody listens in what would be the next one.
        release(dir.path(), id(2)).unwrap();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, second + 3)).unwrap();
        let third = reserve(dir.path(), id(3)).unwrap().unwrap();
        assert!(third > second, "{third}");
        drop(taken);
        assert_eq!(reserve(dir.path(), id(4)).unwrap(), Some(second), "used again");
    }
}
