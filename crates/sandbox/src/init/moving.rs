//! Moves one directory of an overlay as rename(2) would, by copying: out of the way first, then to the new name in one
//! rename, then the old one is removed. A name is never missing, and a crash loses nothing.
//!
//! Runs in a process of its own, forked by `moves`, which returns an error number as its exit code. What changes in the old
//! directory while it is copied is copied again before it is removed. What cannot be the same afterwards: open files and
//! working directories in it stay with the removed ones.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, OsStr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Stat, StatxFlags, Timespec, Timestamps,
        XattrFlags,
    },
    io::{Errno, Result},
    time::ClockId,
};

use super::moves::Move;

/// Exit code for "nothing was done, let the kernel say why".
pub(super) const NOT_DONE: i32 = 255;
/// Most entries of a tree. More than any source directory has; a tree that is larger is refused as it always was.
const MAX_ENTRIES: usize = 200_000;
/// Most bytes, for the same reason: copying them keeps the caller waiting and fills the writable layer.
const MAX_BYTES: u64 = 8 << 30;
/// Deepest nesting; each level holds two descriptors.
const MAX_DEPTH: usize = 512;
/// Rounds of removing, while others go on making files in what is removed.
const ROUNDS: usize = 8;

/// Does it; the exit code.
pub(super) fn run(wanted: &Move) -> i32 {
    match relocate(wanted) {
        Ok(()) => 0,
        Err(Errno::XDEV) => NOT_DONE,
        Err(e) => e.raw_os_error(),
    }
}

/// A name in a directory.
struct Place {
    parent: OwnedFd,
    name: CString,
}

impl Place {
    fn find(base: &OwnedFd, path: &CStr) -> Result<Self> {
        let bytes = path.to_bytes();
        let end = bytes.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
        let path = Path::new(OsStr::from_bytes(&bytes[..end]));
        let relative = path.strip_prefix("/").unwrap_or(path);
        // "", ".", "..", "/": the kernel knows what to say.
        let name = relative.file_name().ok_or(Errno::XDEV)?;
        if !bytes[..end].ends_with(name.as_bytes()) {
            return Err(Errno::XDEV);
        }
        let parent = relative.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // What a link of /proc means depends on who asks: this is not who asked.
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let parent =
            rustix::fs::openat2(base, parent, flags, Mode::empty(), resolve).map_err(|e| match e {
                Errno::LOOP => Errno::XDEV,
                e => e,
            })?;
        Ok(Self { parent, name: CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)? })
    }
}

fn relocate(wanted: &Move) -> Result<()> {
    let from = Place::find(&wanted.bases[0], &wanted.from)?;
    let to = Place::find(&wanted.bases[1], &wanted.to)?;
    let rename = |old: &Place, name: &CStr| {
        rustix::fs::renameat_with(&old.parent, name, &to.parent, &to.name, wanted.flags)
    };
    // Most directories are new ones, and everything that is wrong with the request is found here as well.
    match rename(&from, &from.name) {
        Err(Errno::XDEV) => {}
        result => return result,
    }
    let mount = mount_of(from.parent.as_fd())?;
    if mount != mount_of(to.parent.as_fd())? {
        return Err(Errno::XDEV);
    }
    if let Ok(there) = open_dir(to.parent.as_fd(), &to.name)
        && entries(there.as_fd())?.next().is_some()
    {
        return Err(Errno::NOTEMPTY);
    }
    let old = open_dir(from.parent.as_fd(), &from.name)?;
    let there = scratch(wanted, &to, mount)?;
    rustix::fs::mkdirat(&there.parent, &there.name, Mode::RWXU)?;
    let new = open_dir(there.parent.as_fd(), &there.name)?;
    let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
    let mut copy =
        Copy { mount, root: new, began: now, links: BTreeMap::new(), entries: 0, bytes: 0, shares: true };
    let result = copy.directory(old.as_fd(), Path::new(""), 0).and_then(|()| rename(&there, &there.name));
    if let Err(e) = result {
        copy.discard(there.parent.as_fd(), &there.name, 0);
        return Err(e);
    }
    for _ in 0..ROUNDS {
        copy.remove(old.as_fd(), Path::new(""), 0);
        let gone = rustix::fs::unlinkat(&from.parent, &from.name, AtFlags::REMOVEDIR);
        if !matches!(gone, Err(Errno::NOTEMPTY | Errno::EXIST)) {
            break;
        }
    }
    Ok(())
}

/// Where the copy is made: in the repository's own directory, where neither git nor whoever watches the files looks, else
/// beside the new name. What a crash leaves there is in nobody's way.
fn scratch(wanted: &Move, to: &Place, mount: u64) -> Result<Place> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let repository = wanted.roots.iter().find_map(|root| {
        let dir = rustix::fs::open(root.join(".git"), flags, Mode::empty()).ok()?;
        (mount_of(dir.as_fd()).ok()? == mount).then_some(dir)
    });
    let parent = match repository {
        Some(dir) => dir,
        None => to.parent.try_clone().map_err(|_| Errno::MFILE)?,
    };
    let name = CString::new(format!(".offshoot-moving-{}", std::process::id())).map_err(|_| Errno::INVAL)?;
    Ok(Place { parent, name })
}

fn mount_of(fd: BorrowedFd<'_>) -> Result<u64> {
    Ok(rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

fn open_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        // Its owner may rename a directory that he may not read.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(parent, name, flags, Mode::empty())
        }
        result => result,
    }
}

fn entries(dir: BorrowedFd<'_>) -> Result<impl Iterator<Item = Result<CString>> + use<>> {
    let names = Dir::read_from(dir)?.filter_map(|entry| match entry {
        Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => None,
        entry => Some(entry.map(|e| e.file_name().to_owned())),
    });
    Ok(names)
}

fn stat(dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn times(of: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    Timestamps {
        last_access: time(of.st_atime as _, of.st_atime_nsec),
        last_modification: time(of.st_mtime as _, of.st_mtime_nsec),
    }
}

/// The work on one tree.
struct Copy {
    mount: u64,
    /// The new tree.
    root: OwnedFd,
    /// What changed later than this may not have been copied as it is.
    began: Timespec,
    /// New paths of files with several names, by their old identity.
    links: BTreeMap<(u64, u64), PathBuf>,
    entries: usize,
    bytes: u64,
    /// Whether the file system lets files share their blocks, as far as is known.
    shares: bool,
}

impl Copy {
    /// Copies what is in `old` to `path` of the new tree, then gives that the old one's properties.
    fn directory(&mut self, old: BorrowedFd<'_>, path: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH || mount_of(old)? != self.mount {
            return Err(Errno::XDEV);
        }
        let new = self.open_new(path)?;
        for name in entries(old)? {
            let name = name?;
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            self.entry(old, new.as_fd(), &name, &path, depth)?;
        }
        let was = rustix::fs::fstat(old)?;
        attributes(old, new.as_fd())?;
        rustix::fs::fchmod(&new, Mode::from_raw_mode(was.st_mode))?;
        rustix::fs::futimens(&new, &times(&was))
    }

    fn open_new(&self, path: &Path) -> Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, path, flags, Mode::empty())
    }

    fn entry(
        &mut self,
        old: BorrowedFd<'_>,
        new: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        depth: usize,
    ) -> Result<()> {
        let was = match stat(old, name) {
            // Gone meanwhile.
            Err(Errno::NOENT) => return Ok(()),
            was => was?,
        };
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(Errno::XDEV);
        }
        let kind = FileType::from_raw_mode(was.st_mode);
        if kind == FileType::Directory {
            rustix::fs::mkdirat(new, name, Mode::RWXU)?;
            let old = open_dir(old, name)?;
            return self.directory(old.as_fd(), path, depth + 1);
        }
        if was.st_nlink > 1 {
            let known = self.links.entry((was.st_dev, was.st_ino));
            if let std::collections::btree_map::Entry::Occupied(first) = &known {
                return rustix::fs::linkat(&self.root, first.get(), new, name, AtFlags::empty());
            }
            known.or_insert_with(|| path.to_owned());
        }
        match kind {
            FileType::RegularFile => return self.file(old, new, name, &was),
            FileType::Symlink => {
                let to = rustix::fs::readlinkat(old, name, Vec::new())?;
                rustix::fs::symlinkat(&to, new, name)?;
            }
            FileType::Fifo | FileType::Socket => {
                rustix::fs::mknodat(new, name, kind, Mode::from_raw_mode(was.st_mode), 0)?;
                rustix::fs::chmodat(new, name, Mode::from_raw_mode(was.st_mode), AtFlags::empty())?;
            }
            _ => return Err(Errno::XDEV),
        }
        rustix::fs::utimensat(new, name, &times(&was), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn file(&mut self, old: BorrowedFd<'_>, new: BorrowedFd<'_>, name: &CStr, was: &Stat) -> Result<()> {
        self.bytes = self.bytes.saturating_add(was.st_blocks as u64 * 512);
        if self.bytes > MAX_BYTES {
            return Err(Errno::XDEV);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = match rustix::fs::openat(old, name, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(old, name, Mode::RUSR | Mode::WUSR, AtFlags::empty())?;
                rustix::fs::openat(old, name, flags, Mode::empty())?
            }
            opened => opened?,
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let to = rustix::fs::openat(new, name, flags, Mode::RUSR | Mode::WUSR)?;
        if self.shares && rustix::fs::ioctl_ficlone(&to, &from).is_err() {
            self.shares = false;
        }
        if !self.shares {
            contents(&from, &to, was)?;
        }
        attributes(from.as_fd(), to.as_fd())?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(was.st_mode))?;
        rustix::fs::futimens(&to, &times(was))
    }

    /// Removes what is in the old directory, after bringing over what has changed since it was copied. What cannot be
    /// removed stays.
    fn remove(&mut self, old: BorrowedFd<'_>, path: &Path, depth: usize) {
        let Ok(names) = entries(old) else { return };
        let _ = rustix::fs::fchmod(old, Mode::RWXU);
        for name in names.flatten() {
            let Ok(was) = stat(old, &name) else { continue };
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            if FileType::from_raw_mode(was.st_mode) == FileType::Directory {
                if let Ok(dir) = open_dir(old, &name)
                    && depth < MAX_DEPTH
                {
                    if self.changed(&was) && self.open_new(&path).is_err() {
                        let _ = rustix::fs::mkdirat(&self.root, &path, Mode::from_raw_mode(was.st_mode));
                    }
                    self.remove(dir.as_fd(), &path, depth + 1);
                }
                let _ = rustix::fs::unlinkat(old, &name, AtFlags::REMOVEDIR);
            } else if !self.changed(&was) || !self.bring(old, &name, &was, &path) {
                let _ = rustix::fs::unlinkat(old, &name, AtFlags::empty());
            }
        }
    }

    /// Whether something may have changed after it was copied, or come into being.
    fn changed(&self, was: &Stat) -> bool {
        (was.st_ctime, was.st_ctime_nsec as i64) >= (self.began.tv_sec, self.began.tv_nsec)
    }

    /// Puts a file in the place of its copy if that is older, or was never made. It is in the writable layer by now, so
    /// this is one rename, and whoever still writes to it goes on.
    fn bring(&self, old: BorrowedFd<'_>, name: &CStr, was: &Stat, path: &Path) -> bool {
        let modified = |s: &Stat| (s.st_mtime, s.st_mtime_nsec);
        let newer = match rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(copy) => {
                modified(was) > modified(&copy)
                    || (modified(was) == modified(&copy) && was.st_size != copy.st_size)
            }
            Err(_) => true,
        };
        newer && rustix::fs::renameat(old, name, &self.root, path).is_ok()
    }

    /// Removes a copy that is not wanted.
    fn discard(&self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) {
        if let Ok(dir) = open_dir(parent, name)
            && let Ok(names) = entries(dir.as_fd())
        {
            let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
            for name in names.flatten() {
                if rustix::fs::unlinkat(&dir, &name, AtFlags::empty()).is_err() && depth <= MAX_DEPTH {
                    self.discard(dir.as_fd(), &name, depth + 1);
                }
            }
        }
        let _ = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    }
}

/// Copies a file's bytes, in the kernel, leaving holes.
fn contents(from: &OwnedFd, to: &OwnedFd, was: &Stat) -> Result<()> {
    let size = was.st_size as u64;
    let holes = (was.st_blocks as u64) * 512 < size;
    let (mut read, mut written) = (0, 0);
    while read < size {
        let mut end = size;
        if holes {
            read = match rustix::fs::seek(from, SeekFrom::Data(read)) {
                Err(Errno::NXIO) => break,
                data => data?,
            };
            end = rustix::fs::seek(from, SeekFrom::Hole(read))?;
            written = read;
        }
        while read < end {
            let part = usize::try_from(end - read).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), part) {
                // Shorter than it was.
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
    if holes { rustix::fs::ftruncate(to, size) } else { Ok(()) }
}

/// Extended attributes that may be set: the user's.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        length => length?,
    };
    for name in names[..length].split(|b| *b == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}
