//! Tells git inside a large workspace what may have changed, so that `git status` need not look at every file.
//!
//! git's fsmonitor hook protocol, version 2: git hands over a token, the answer is a new token and the paths that may have
//! changed since the old one. Everything written in a workspace is in its upper directory, which is shown read-only
//! inside, beside the hook (this binary by another name) and the record that [`prepare`] made. The hook keeps no state.
//!
//! Sound because of `ctime`, which no process can set back:
//! - what was written, or got other permissions, is in the upper directory with a `ctime` not before the token;
//! - what was made, deleted, renamed or hidden changed the `ctime` of its directory. Then everything below is told
//!   (`dir/`), also what is gone without a trace: made here and deleted again. If that directory is the root, the
//!   answer is `/`: look at everything, once;
//! - the layers below never change. Their index ([`offshoot_git::inside`]) carries the token [`BASE`] instead of a time,
//!   which the record translates: everything in the upper directory is told, and what a setup layer adds to the commit.
//!
//! A token of another boot, from before the clock was set back, or of another program is answered with `/`. Whatever
//! is unclear is an error: git then looks for itself. The host never runs the hook and believes nothing of it.
//!
//! Only about files that git tracks. Untracked ones git looks for in each directory, without its untracked cache: that
//! one survives `/` and errors unchecked once a command that lists none (`git stash`) has written the index.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use offshoot_git::inside::monitor::{BASE, BEGAN, UPPER};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    time::{ClockId, clock_gettime},
};

/// Nanoseconds since 1970, of the file system's or the system's clock.
type Nanos = i128;

/// How far the clock may be set back unnoticed: above what it is off by being read in two steps, of which one ticks 100
/// times a second at the least.
const SLACK: Nanos = 30_000_000;
/// How long after the record the workspace is mounted for the first time, which touches its root.
const MOUNTED: Nanos = 2_000_000_000;
/// Entries below a directory that are looked at one by one; of one with more the directory is told. It may well be one that
/// git does not track (`node_modules`, build output): then that costs nothing, and looking would, each time.
const MANY: usize = 5_000;
/// Paths told at the most; beyond that, everything is to be looked at.
const MAX_TOLD: usize = 200_000;
/// Bytes of a record: the directories that a setup layer shares with a commit, and their entries.
const MAX_RECORD: u64 = 16 << 20;

/// How an environment began.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// Times of the upper directory itself, `mtime` and `ctime`.
    root: (Nanos, Nanos),
    /// Where the workspace appears.
    workspace: PathBuf,
    /// What is to be told besides for the token [`BASE`].
    besides: Vec<Vec<u8>>,
}

/// Writes the record of an environment in whose `upper` nothing was written yet. `false` if its layers are not prepared
/// for it (small trees), if the file system's times are too coarse, or if a setup shares too much with the commit.
pub fn prepare(
    record: &Path,
    upper: &Path,
    workspace: &Path,
    setups: &[PathBuf],
    commit: &[PathBuf],
) -> io::Result<bool> {
    if !wanted(commit) {
        return Ok(false);
    }
    let root = rustix::fs::stat(upper)?;
    let times = (modified(&root), changed(&root));
    if times.0 % 1_000_000_000 == 0 && times.1 % 1_000_000_000 == 0 {
        return Ok(false);
    }
    let mut besides = Vec::new();
    for layer in setups {
        added(layer, commit, Path::new(""), &mut besides)?;
    }
    let record_text = Record { root: times, workspace: workspace.to_owned(), besides }.to_bytes();
    if record_text.len() as u64 >= MAX_RECORD {
        return Ok(false);
    }
    let new = record.with_extension("new");
    fs::write(&new, record_text)?;
    fs::rename(new, record)?;
    Ok(true)
}

/// Whether the layers' index is prepared for being monitored.
pub fn wanted(lowers: &[PathBuf]) -> bool {
    lowers.iter().any(|lower| lower.join(offshoot_git::inside::monitor::MARK).exists())
}

/// What a setup layer has besides the files of the commit below it, in directories that both have.
fn added(layer: &Path, commit: &[PathBuf], dir: &Path, told: &mut Vec<Vec<u8>>) -> io::Result<()> {
    if opaque(&layer.join(dir)) {
        told.push([dir.as_os_str().as_bytes(), b"/"].concat());
    }
    for entry in fs::read_dir(layer.join(dir))? {
        let entry = entry?;
        let path = dir.join(entry.file_name());
        let both = entry.file_type()?.is_dir()
            && commit.iter().any(|lower| fs::symlink_metadata(lower.join(&path)).is_ok_and(|m| m.is_dir()));
        if both {
            added(layer, commit, &path, told)?;
        } else if !in_git(path.as_os_str().as_bytes()) {
            told.push(path.into_os_string().into_vec());
        }
    }
    Ok(())
}

fn opaque(dir: &Path) -> bool {
    let mut value = [0; 8];
    ["user.overlay.opaque", "trusted.overlay.opaque"]
        .iter()
        .any(|name| rustix::fs::lgetxattr(dir, *name, &mut value[..]).is_ok())
}

fn in_git(path: &[u8]) -> bool {
    path == b".git" || path.starts_with(b".git/")
}

impl Record {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("1\0{}\0{}\0", self.root.0, self.root.1).into_bytes();
        bytes.extend_from_slice(self.workspace.as_os_str().as_bytes());
        for path in &self.besides {
            bytes.push(0);
            bytes.extend_from_slice(path);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.split(|b| *b == 0);
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<Nanos>().ok();
        if number()? != 1 {
            return None;
        }
        let root = (number()?, number()?);
        let workspace = PathBuf::from(OsStr::from_bytes(parts.next()?));
        Some(Self { root, workspace, besides: parts.map(<[u8]>::to_vec).collect() })
    }
}

/// The system's clock, and what shows whether somebody set it back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Now {
    boot: String,
    /// As the file system's: never ahead of it.
    wall: Nanos,
    /// Since boot, with sleep.
    since_boot: Nanos,
}

impl Now {
    fn read() -> io::Result<Self> {
        let nanos = |clock| {
            let time = clock_gettime(clock);
            Nanos::from(time.tv_sec) * 1_000_000_000 + Nanos::from(time.tv_nsec)
        };
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.chars().take(8).collect();
        Ok(Self { boot, wall: nanos(ClockId::RealtimeCoarse), since_boot: nanos(ClockId::Boottime) })
    }

    fn token(&self) -> String {
        format!("1:{}:{}:{}", self.boot, self.wall, self.since_boot)
    }

    /// From when on changes are to be told, for a token given out earlier.
    fn since(&self, token: &str) -> Since {
        let then = || {
            let mut parts = token.strip_prefix("1:")?.split(':');
            let then = Self {
                boot: parts.next()?.to_owned(),
                wall: parts.next()?.parse().ok()?,
                since_boot: parts.next()?.parse().ok()?,
            };
            // Set forward does no harm: what comes later has a later time.
            let set_back = (then.wall - then.since_boot) - (self.wall - self.since_boot);
            (parts.next().is_none() && then.boot == self.boot && set_back < SLACK)
                .then_some(then.wall - SLACK)
        };
        match token {
            BASE => Since::Beginning,
            _ => then().map_or(Since::Unknown, Since::Time),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Beginning,
    Time(Nanos),
    Unknown,
}

/// The hook: `<program> 2 <token>`, in the root of the work tree that is asked for.
pub fn hook_main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match hook(arguments.collect::<Vec<_>>().as_slice()) {
        Ok(()) => ExitCode::SUCCESS,
        // git looks for itself then; nobody wants to read why.
        Err(_) => ExitCode::FAILURE,
    }
}

fn hook(arguments: &[OsString]) -> io::Result<()> {
    let [version, token] = arguments else { return Err(io::Error::other("arguments")) };
    let mut bytes = Vec::new();
    File::open(BEGAN)?.take(MAX_RECORD).read_to_end(&mut bytes)?;
    let record = Record::read(&bytes).ok_or_else(|| io::Error::other("record"))?;
    // A copy of the workspace, or another work tree of its repository, has the same configuration.
    if version != "2" || std::env::current_dir()? != record.workspace {
        return Err(io::Error::other("another work tree"));
    }
    let answer = answer(Path::new(UPPER), &record, &token.to_string_lossy(), &Now::read()?)?;
    io::stdout().lock().write_all(&answer)
}

/// The new token and what may have changed.
fn answer(upper: &Path, record: &Record, token: &str, now: &Now) -> io::Result<Vec<u8>> {
    let since = now.since(token);
    let root = openat(CWD, upper, OPEN_DIR, Mode::empty())?;
    let stat = fstat(&root)?;
    let mut told = Vec::new();
    let all = match since {
        Since::Unknown => true,
        Since::Time(time) => changed(&stat) >= time,
        // Mounting touches the root's ctime, so its mtime is compared: nobody can have set that back at that time.
        Since::Beginning => {
            told.clone_from(&record.besides);
            modified(&stat) != record.root.0 || changed(&stat) > record.root.1 + MOUNTED
        }
    };
    if !all {
        walk(root, b"", true, since, &mut told)?;
    }
    let mut answer = now.token().into_bytes();
    answer.push(0);
    if all || told.len() > MAX_TOLD {
        answer.push(b'/');
        return Ok(answer);
    }
    for path in &told {
        answer.extend_from_slice(path);
        answer.push(0);
    }
    Ok(answer)
}

const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Everything below one directory of the upper. Answers how many entries were looked at and are told one by one.
fn walk(dir: OwnedFd, path: &[u8], root: bool, since: Since, told: &mut Vec<Vec<u8>>) -> io::Result<usize> {
    let before = told.len();
    let mut entries = 0;
    // What is directly in it need not be told any more.
    let known = !root && is_since(changed(&fstat(&dir)?), since);
    if known {
        told.push([path, b"/"].concat());
    }
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        // Its own, and those of repositories within: git tells those apart by their directory.
        if matches!(name, b"." | b".." | b".git") {
            continue;
        }
        entries += 1;
        if entries > MANY && !root {
            told.truncate(before);
            told.push([path, b"/"].concat());
            return Ok(0);
        }
        let below = if root { name.to_vec() } else { [path, b"/", name].concat() };
        if entry.file_type() == FileType::Directory || entry.file_type() == FileType::Unknown {
            match openat(dir.as_fd(), entry.file_name(), OPEN_DIR, Mode::empty()) {
                Ok(next) => {
                    entries += walk(next, &below, false, since, told)?;
                    continue;
                }
                // Gone, replaced, or closed to everybody.
                Err(_) if entry.file_type() == FileType::Directory => {
                    told.push([below.as_slice(), b"/"].concat());
                    told.push(below);
                    continue;
                }
                Err(_) => {}
            }
        }
        let new = || match statat(dir.as_fd(), entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => is_since(changed(&stat), since),
            Err(_) => true,
        };
        if !known && new() {
            told.push(below);
        }
    }
    Ok(entries)
}

fn is_since(time: Nanos, since: Since) -> bool {
    match since {
        Since::Time(since) => time >= since,
        Since::Beginning | Since::Unknown => true,
    }
}

fn nanos(seconds: impl Into<i128>, nanoseconds: impl Into<i128>) -> Nanos {
    seconds.into() * 1_000_000_000 + nanoseconds.into()
}

fn modified(stat: &Stat) -> Nanos {
    nanos(stat.st_mtime, stat.st_mtime_nsec)
}

fn changed(stat: &Stat) -> Nanos {
    nanos(stat.st_ctime, stat.st_ctime_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn now(wall: Nanos, since_boot: Nanos) -> Now {
        Now { boot: "abcdef01".into(), wall, since_boot }
    }

    #[test]
    fn a_token_counts_while_the_clock_goes_on() {
        let then = now(100 * SECOND, 50 * SECOND);
        let since = |now: &Now| now.since(&then.token());
        let known = Since::Time(100 * SECOND - SLACK);
        assert_eq!(since(&now(110 * SECOND, 60 * SECOND)), known);
        assert_eq!(since(&now(500 * SECOND, 60 * SECOND)), known, "set forward");
        assert_eq!(since(&now(109 * SECOND, 60 * SECOND)), Since::Unknown, "set back");
        assert_eq!(since(&Now { boot: "other".into(), ..now(110 * SECOND, 60 * SECOND) }), Since::Unknown);
        for token in ["", "1", "1:abcdef01:1", "1:abcdef01:x:1", "1795244697570489097", "builtin:fake"] {
            assert_eq!(then.since(token), Since::Unknown, "{token}");
        }
        assert_eq!(then.since(BASE), Since::Beginning);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record {
            root: (5, -7),
            workspace: "/a b/c".into(),
            besides: vec![b"x/".to_vec(), b"y".to_vec()],
        };
        assert_eq!(Record::read(&record.to_bytes()), Some(record.clone()));
        let bare = Record { besides: Vec::new(), ..record };
        assert_eq!(Record::read(&bare.to_bytes()), Some(bare));
        for bytes in [b"".as_slice(), b"2\x001\x001\0/", b"1\x001\x001", b"1\0x\x001\0/"] {
            assert_eq!(Record::read(bytes), None);
        }
    }

    /// What is told of `upper`, without the token.
    fn told(upper: &Path, record: &Record, token: &str, now: &Now) -> Vec<String> {
        let bytes = answer(upper, record, token, now).unwrap();
        let mut parts: Vec<_> =
            bytes.split(|b| *b == 0).map(|p| String::from_utf8_lossy(p).into_owned()).collect();
        parts.remove(0);
        parts.retain(|part| !part.is_empty());
        parts.sort();
        parts
    }

    #[test]
    fn what_was_written_is_told_and_what_is_gone_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let upper = dir.path();
        fs::create_dir_all(upper.join(".git/refs")).unwrap();
        let stat = rustix::fs::stat(upper).unwrap();
        let record = Record {
            root: (modified(&stat), changed(&stat)),
            workspace: "/w".into(),
            besides: vec![b"from/setup".to_vec()],
        };
        let here = Now::read().unwrap();
        assert_eq!(told(upper, &record, BASE, &here), ["from/setup"], "git's own files are not told");
        fs::create_dir_all(upper.join("a/b")).unwrap();
        fs::write(upper.join("a/b/f"), "").unwrap();
        assert_eq!(told(upper, &record, BASE, &here), ["/"], "the root is another");
        let same_root =
            Record { root: (modified(&rustix::fs::stat(upper).unwrap()), i128::MAX / 2), ..record };
        assert_eq!(told(upper, &same_root, BASE, &here), ["a/", "a/b/", "from/setup"]);
        // Times in the files' future and past, so that nothing need be waited for.
        let later = now(here.wall + 100 * SECOND, 0);
        assert_eq!(told(upper, &same_root, &later.token(), &later), [""; 0]);
        let earlier = now(here.wall - 100 * SECOND, 0);
        assert_eq!(told(upper, &same_root, &earlier.token(), &earlier), ["/"]);
    }

    #[test]
    fn of_a_directory_with_very_many_entries_it_is_told_that_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let upper = dir.path();
        for n in 0..3 {
            fs::create_dir_all(upper.join(format!("a/many/{n}"))).unwrap();
            for file in 0..MANY / 2 {
                fs::write(upper.join(format!("a/many/{n}/{file}")), "").unwrap();
            }
        }
        fs::write(upper.join("a/one"), "").unwrap();
        let mut told = Vec::new();
        let root = openat(CWD, upper, OPEN_DIR, Mode::empty()).unwrap();
        // From a time on at which nothing was written any more.
        walk(root, b"", true, Since::Time(i128::MAX), &mut told).unwrap();
        assert_eq!(told, [b"a/many/".to_vec()]);
    }

    #[test]
    fn a_setup_is_told_where_the_commit_has_the_directory_too() {
        let dir = tempfile::tempdir().unwrap();
        let (setup, commit) = (dir.path().join("setup"), dir.path().join("commit"));
        for made in
            ["setup/src/gen", "setup/src/deep", "setup/node_modules/x", "commit/src/deep", "commit/.git"]
        {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        for file in ["setup/src/gen/f", "setup/src/deep/g", "setup/top", "setup/node_modules/x/y"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let mut besides = Vec::new();
        added(&setup, &[commit], Path::new(""), &mut besides).unwrap();
        let mut besides: Vec<_> = besides.into_iter().map(|path| String::from_utf8(path).unwrap()).collect();
        besides.sort();
        assert_eq!(besides, ["node_modules", "src/deep/g", "src/gen", "top"]);
    }
}
