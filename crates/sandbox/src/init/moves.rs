//! Renames of directories that are in a lower layer, which a kernel overlay without redirects refuses (EXDEV).
//!
//! Every rename inside waits here until it is told to go on: at once, unless it is of a directory of one of the
//! environment's overlays, by a process that has no sandbox of its own. For those a worker is forked that does it
//! (`moving`), and the caller gets the worker's result. Whatever is not understood goes on as if nobody had been asked.
//!
//! Runs in init because nobody inside can end that: a call that waits for somebody who is gone fails. Init itself renames
//! nothing; its workers' renames go on at once. Everything is done with the rights that every process inside has.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Statx, StatxFlags};

use super::moving;
use crate::{
    seccomp,
    spec::{Mount, SandboxSpec},
    sys::{self, Cloned, Notification},
};

/// Workers at once; the rest go on and are refused by the kernel. A person's tools rename one directory at a time.
const MAX_WORKERS: usize = 8;
/// Longest path (PATH_MAX).
const MAX_PATH: usize = 4096;
/// First part of a path that is read: nearly always the whole.
const USUAL_PATH: usize = 256;

/// What is looked at in a source.
const SEEN: StatxFlags = StatxFlags::TYPE.union(StatxFlags::NLINK).union(StatxFlags::BTIME);

/// A rename that was asked for.
pub(super) struct Move {
    /// Where `from` is looked up, and `to`.
    pub bases: [OwnedFd; 2],
    pub from: CString,
    pub to: CString,
    pub flags: RenameFlags,
    /// Roots of the environment's overlays.
    pub roots: Vec<PathBuf>,
}

/// Where renames are told, and who works on some.
pub(super) struct Moves {
    listener: Rc<OwnedFd>,
    overlays: Vec<Overlay>,
    /// Of a process without a sandbox of its own.
    ordinary: Ordinary,
    /// Workers by process number, with what waits for them.
    workers: BTreeMap<u32, u64>,
    /// The memory of the thread that asked last: it asks again.
    memory: Option<(u32, File)>,
}

/// An overlay as its directories show it.
struct Overlay {
    root: PathBuf,
    device: (u32, u32),
    /// When its writable layer was made, if the file system tells.
    born: Option<(i64, u32)>,
}

fn born(of: &Statx) -> Option<(i64, u32)> {
    (of.stx_mask & StatxFlags::BTIME.bits() != 0).then_some((of.stx_btime.tv_sec, of.stx_btime.tv_nsec))
}

impl Overlay {
    fn at(target: &Path) -> Option<Self> {
        let root = rustix::fs::statx(CWD, target, AtFlags::empty(), SEEN).ok()?;
        let device = (root.stx_dev_major, root.stx_dev_minor);
        Some(Self { root: target.to_owned(), device, born: born(&root) })
    }

    /// Whether the kernel would refuse to rename this directory: one that is in several layers shows no links, one that is
    /// in a lower layer only is not younger than the writable layer. Most are neither, made by somebody inside.
    fn refuses(&self, dir: &Statx) -> bool {
        let old = born(dir).zip(self.born).is_none_or(|(dir, upper)| dir <= upper);
        self.device == (dir.stx_dev_major, dir.stx_dev_minor) && (dir.stx_nlink == 1 || old)
    }
}

/// A process's own restrictions.
#[derive(PartialEq, Eq)]
struct Ordinary {
    filters: Vec<u8>,
    namespaces: [Vec<u8>; 2],
    root: (u64, u64),
}

impl Ordinary {
    fn of(thread: &str) -> io::Result<Self> {
        let status = std::fs::read(format!("/proc/{thread}/status"))?;
        let filters = status.split(|b| *b == b'\n').find(|l| l.starts_with(b"Seccomp_filters:"));
        let namespace = |name| rustix::fs::readlink(format!("/proc/{thread}/ns/{name}"), Vec::new());
        let root = rustix::fs::stat(format!("/proc/{thread}/root"))?;
        Ok(Self {
            filters: filters.unwrap_or_default().to_vec(),
            namespaces: [namespace("mnt")?.into_bytes(), namespace("user")?.into_bytes()],
            root: (root.st_dev, root.st_ino),
        })
    }
}

impl Moves {
    /// Begins to listen, if there is anything to do and the kernel lets us. The last filter that init installs.
    pub fn listen(spec: &SandboxSpec) -> Option<Self> {
        let layered = |mount: &Mount| match mount {
            Mount::Overlay { target, lowers, root: false, .. } if !lowers.is_empty() => Overlay::at(target),
            _ => None,
        };
        let overlays: Vec<_> = spec.mounts.iter().filter_map(layered).collect();
        if overlays.is_empty() {
            return None;
        }
        let listener = Rc::new(seccomp::listen_for_renames().ok()?);
        let ordinary = Ordinary::of("self").ok()?;
        Some(Self { listener, overlays, ordinary, workers: BTreeMap::new(), memory: None })
    }

    /// What to wait on.
    pub fn socket(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.listener)
    }

    /// Takes one notification, which must be there.
    pub fn serve(&mut self) {
        let Ok(asked) = sys::next_notification(self.listener.as_fd()) else { return };
        match self.look(&asked) {
            Some(wanted) => self.work(&asked, wanted),
            None => sys::answer_notification(self.listener.as_fd(), asked.id, None),
        }
    }

    /// The rename, if it is one to be helped with.
    fn look(&mut self, asked: &Notification) -> Option<Move> {
        let thread = asked.thread;
        if self.workers.contains_key(&thread) {
            return None;
        }
        let [a, b, c, d, e, _] = asked.arguments;
        let here = libc::AT_FDCWD as u64;
        let (from, to, flags) = match asked.call {
            libc::SYS_renameat2 => ((a, b), (c, d), e),
            libc::SYS_renameat => ((a, b), (c, d), 0),
            _ => ((here, a), (here, b), 0),
        };
        let flags = RenameFlags::from_bits(flags as u32)?;
        if !RenameFlags::NOREPLACE.contains(flags) {
            return None;
        }
        let path = self.string(thread, from.1)?;
        let base = |fd: u64, path: &CStr| match (path.to_bytes().first(), fd as i32) {
            (Some(b'/'), _) => format!("/proc/{thread}/root"),
            (_, libc::AT_FDCWD) => format!("/proc/{thread}/cwd"),
            (_, fd) => format!("/proc/{thread}/fd/{fd}"),
        };
        let whole = [base(from.0, &path).as_bytes(), b"/", path.to_bytes()].concat();
        let found = rustix::fs::statx(CWD, whole, AtFlags::SYMLINK_NOFOLLOW, SEEN).ok()?;
        let kind = FileType::from_raw_mode(found.stx_mode.into());
        if kind != FileType::Directory || !self.overlays.iter().any(|overlay| overlay.refuses(&found)) {
            return None;
        }
        let target = self.string(thread, to.1)?;
        if self.workers.len() >= MAX_WORKERS || Ordinary::of(&thread.to_string()).ok()? != self.ordinary {
            return None;
        }
        let open = |path: String| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        let bases = [open(base(from.0, &path))?, open(base(to.0, &target))?];
        // Only now it is certain that all this was the thread's that asked.
        sys::notification_waits(self.listener.as_fd(), asked.id).then(|| {
            let roots = self.overlays.iter().map(|overlay| overlay.root.clone()).collect();
            Move { bases, from: path, to: target, flags, roots }
        })
    }

    fn work(&mut self, asked: &Notification, wanted: Move) {
        match sys::clone_into(0, None) {
            Ok(Cloned::Child) => sys::exit_now(moving::run(&wanted)),
            Ok(Cloned::Parent { pid, .. }) => drop(self.workers.insert(pid as u32, asked.id)),
            Err(_) => sys::answer_notification(self.listener.as_fd(), asked.id, None),
        }
    }

    /// Answers for a worker that has ended; whether this was one. `code` is none when it was killed.
    pub fn ended(&mut self, pid: u32, code: Option<i32>) -> bool {
        let Some(id) = self.workers.remove(&pid) else { return false };
        let result = code.filter(|code| *code != moving::NOT_DONE).map(|errno| -errno);
        sys::answer_notification(self.listener.as_fd(), id, result);
        true
    }

    /// A string in a thread's memory.
    fn string(&mut self, thread: u32, address: u64) -> Option<CString> {
        let mut buffer = [0; MAX_PATH];
        let mut read = |memory: &File| {
            let mut length = 0;
            while length < MAX_PATH {
                let part = if length == 0 { USUAL_PATH } else { MAX_PATH };
                match memory.read_at(&mut buffer[length..part], address + length as u64) {
                    Ok(n) if n > 0 => length += n,
                    _ => return None,
                }
                if let Ok(text) = CStr::from_bytes_until_nul(&buffer[..length]) {
                    return Some(text.to_owned());
                }
            }
            None
        };
        if let Some((_, memory)) = self.memory.as_ref().filter(|(of, _)| *of == thread)
            && let Some(text) = read(memory)
        {
            return Some(text);
        }
        // The first time, or it has executed something else since.
        let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
        let text = read(&memory);
        self.memory = Some((thread, memory));
        text
    }
}
