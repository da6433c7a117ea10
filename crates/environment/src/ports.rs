//! Ports of the host: a block each for environments that need some, which no other environment of this machine's user
//! has, free again when the environment goes.
//!
//! A block is a file that is made exclusively, named after its first port, holding the environment's id. Before it is
//! given out, each of its ports is tried: what somebody else listens at is passed over. Called by the lease and by the
//! engine; knows nothing of what the ports are for.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    io::Write,
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::Path,
};

use offshoot_core::id::EnvironmentId;
use serde::{Deserialize, Serialize};

/// Where blocks begin and end: below the ports that Linux gives out by itself (32768 on), above what services use.
const RANGE: std::ops::Range<u16> = 20000..30000;
/// Blocks begin at multiples of this, so a file for each is enough to tell what is taken.
const STEP: u16 = 10;
/// Ports of an environment that says nothing else: a front end, an API, a debugger, and some more.
pub const COUNT: u16 = STEP;

/// A port of the host that leads to one inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// What it is for: the name of an app, a service or a variable.
    pub name: String,
    /// The port of the host's loopback.
    pub host: u16,
    /// The address inside, a loopback address.
    pub address: IpAddr,
    /// The port inside.
    pub port: u16,
}

/// The first port of the environment's block of `count` in `dir`; the same again if it has one. `None` if none is free.
pub fn reserve(dir: &Path, id: EnvironmentId, count: u16) -> io::Result<Option<u16>> {
    fs::create_dir_all(dir)?;
    let known = blocks(dir)?;
    let mut own: Vec<u16> =
        known.iter().filter(|(_, owner)| *owner == id.to_string()).map(|(first, _)| *first).collect();
    own.sort_unstable();
    match own.first() {
        Some(first) if own.len() >= usize::from(count.div_ceil(STEP)) => return Ok(Some(*first)),
        // Killed while it took them.
        Some(_) => release(dir, id)?,
        None => {}
    }
    let taken = |step: u16| known.iter().any(|(first, _)| *first == step);
    for first in order(dir) {
        let Some(end) = first.checked_add(count).filter(|end| *end <= RANGE.end) else { break };
        let steps = || (first..end).step_by(usize::from(STEP));
        if steps().any(taken) || !(first..end).all(is_free) {
            continue;
        }
        if hold(dir, steps(), id)? {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// Where blocks can begin, from a place that differs between state directories: daemons of other users give out ports
/// that nobody listens at while their own daemon rests.
fn order(dir: &Path) -> impl Iterator<Item = u16> {
    let mut hasher = DefaultHasher::new();
    dir.hash(&mut hasher);
    let steps = (RANGE.end - RANGE.start) / STEP;
    let begin = u16::try_from(hasher.finish() % u64::from(steps)).unwrap_or_default();
    (0..steps).map(move |n| RANGE.start + (begin + n) % steps * STEP)
}

/// Makes the files of a block; none of them if somebody else has made one meanwhile.
fn hold(dir: &Path, steps: impl Iterator<Item = u16>, id: EnvironmentId) -> io::Result<bool> {
    let mut made = Vec::new();
    for step in steps {
        let path = dir.join(step.to_string());
        match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                made.push(path);
                file.write_all(id.to_string().as_bytes())?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                for path in made {
                    fs::remove_file(path)?;
                }
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
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

/// Gives back the blocks of all environments that are not `known`: a crash may have kept one from being made.
pub fn sweep(dir: &Path, known: impl Fn(&str) -> bool) -> io::Result<()> {
    for (first, owner) in blocks(dir)? {
        if !known(&owner) {
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

    fn id(n: u32) -> EnvironmentId {
        format!("00000000-0000-7000-8000-00000000000{n}").parse().unwrap()
    }

    #[test]
    fn blocks_are_own_and_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = reserve(dir.path(), id(1), COUNT).unwrap().unwrap();
        assert_eq!(reserve(dir.path(), id(1), COUNT).unwrap(), Some(first), "the same again");
        let second = reserve(dir.path(), id(2), COUNT).unwrap().unwrap();
        assert!(second >= first + COUNT || first >= second + COUNT);
        // Somebody listens in what would be the next one.
        release(dir.path(), id(2)).unwrap();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, second + 3)).unwrap();
        let third = reserve(dir.path(), id(3), COUNT).unwrap().unwrap();
        assert!(third.abs_diff(second) >= COUNT, "{third}");
        drop(taken);
        assert_eq!(reserve(dir.path(), id(4), COUNT).unwrap(), Some(second), "used again");
    }

    #[test]
    fn large_blocks_do_not_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let counts = [25, 1, 10, 100, 11];
        let mut blocks: Vec<_> = (1..)
            .zip(counts)
            .map(|(n, count)| (reserve(dir.path(), id(n), count).unwrap().unwrap(), count))
            .collect();
        blocks.sort_unstable();
        assert!(blocks.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{blocks:?}");
        release(dir.path(), id(1)).unwrap();
        assert!(reserve(dir.path(), id(9), 25).unwrap().is_some());
        assert_eq!(reserve(dir.path(), id(8), u16::MAX).unwrap(), None);
    }
}
