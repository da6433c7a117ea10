//! One layer's tar written as a directory that the kernel's overlay takes as a lower one, mounted with `userxattr`.
//!
//! Invariants: nothing outside the directory is read, written or linked to, whatever names and links the tar has (the
//! kernel resolves every parent as if the directory were the root: `RESOLVE_IN_ROOT`, and nothing is opened through
//! a link that is a path's last component). Everything belongs to one owner; no file is set-uid or set-gid; there is no
//! device but whiteouts; there are no extended attributes but those that whiteouts and opaque directories need.
//!
//! Deliberately as the engines do: a name with a leading slash is taken as below the root, a link is followed
//! where it stands for a parent directory, what is there is replaced, except a directory by a directory.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
};

use offshoot_core::fault;
use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
        fchmod, fchown, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, openat2, statat, symlinkat,
        unlinkat, utimensat,
    },
    io::Errno,
};

use crate::{
    images::Owner,
    limits::Limits,
    tar::{Entry, Kind, Reader, TarError},
};

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The tar is broken or hostile. The image is of no use here; take another.
    #[error("the layer is not a tar that can be unpacked")]
    Tar(#[from] TarError),
    /// A path leads out, or has a name that no layer has. The image is hostile or broken; take another.
    #[error("the layer has a path that is refused, {path:?}: {why}")]
    Path {
        /// As written, escaped, shortened.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More than [`Limits`] allow.
    #[error("the layer goes too far: {0}")]
    Limit(&'static str),
    /// This machine's file system refused: it is full, or the directory is not ours.
    #[error("could not {operation} {path:?}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The path in the layer, escaped, shortened.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

const OPAQUE: &str = "user.overlay.opaque";
const WHITEOUT: &str = "user.overlay.whiteout";
/// What a layer's tar marks deleted things with.
const PREFIX: &[u8] = b".wh.";
/// Bytes copied at once.
const BUFFER: usize = 256 << 10;
/// Files between two looks at whether the work is still wanted.
const LOOK_EVERY: u64 = 64;

/// Writes the layer into `root`, an empty directory of ours. `wanted` is asked now and then; when it says no, the work
/// ends with [`io::ErrorKind::Interrupted`].
pub fn unpack(
    tar: impl Read,
    root: &OwnedFd,
    owner: Option<Owner>,
    limits: &Limits,
    wanted: &dyn Fn() -> bool,
) -> Result<(), UnpackError> {
    let mut reader = Reader::new(tar, limits);
    let mut it = Unpacking {
        root,
        owner,
        limits,
        entries: 0,
        parent: None,
        replaced: false,
        directories: BTreeMap::new(),
        buffer: vec![0; BUFFER],
    };
    it.own(root).map_err(io_error("own", b"/"))?;
    while let Some(entry) = reader.next_entry()? {
        it.count()?;
        if it.entries.is_multiple_of(LOOK_EVERY) && !wanted() {
            return Err(io_error("go on after", &entry.path)(io::ErrorKind::Interrupted.into()));
        }
        fault::point("image.entry");
        it.entry(&entry, &mut reader)?;
    }
    it.finish();
    // What follows the end belongs to the digest.
    Ok(reader.drain()?)
}

struct Unpacking<'a> {
    root: &'a OwnedFd,
    owner: Option<Owner>,
    limits: &'a Limits,
    entries: u64,
    /// The directory that the last entry was in. Most are in the same; forgotten when anything is replaced.
    parent: Option<(Vec<u8>, OwnedFd)>,
    replaced: bool,
    /// Times of directories, set when nothing is put into them any more.
    directories: BTreeMap<Vec<u8>, (i64, u32)>,
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn entry(&mut self, entry: &Entry, reader: &mut Reader<impl Read>) -> Result<(), UnpackError> {
        self.replaced = false;
        let parts = clean(&entry.path, self.limits)?;
        let Some((name, parents)) = parts.split_last() else {
            // The root itself.
            if entry.kind == Kind::Directory {
                self.dress_directory(
                    &self.root.try_clone().map_err(io_error("open", b"/"))?,
                    entry,
                    Vec::new(),
                )
                .map_err(io_error("set the attributes of", b"/"))?;
            }
            return Ok(());
        };
        if parents.iter().any(|part| part.starts_with(PREFIX)) {
            // Older engines' own directories; anything else below a deleted thing makes no sense.
            return match parents.iter().any(|part| part.starts_with(b".wh..wh.")) {
                true => Ok(()),
                false => Err(refused(&entry.path, "something below a deleted file")),
            };
        }
        let path = parts.join(&b'/');
        let parent = self.parent(parents, &entry.path)?;
        if let Some(deleted) = name.strip_prefix(PREFIX) {
            let done = match deleted {
                b".wh..opq" => self.opaque(&parent),
                _ if deleted.starts_with(b".wh.") => Ok(()),
                b"" | b"." | b".." => return Err(refused(&entry.path, "it deletes what has no name")),
                _ => self.whiteout(&parent, deleted, parents),
            };
            self.parent = Some((parents.join(&b'/'), parent));
            return done.map_err(io_error("mark as deleted", &entry.path));
        }
        let failed = |operation| io_error(operation, &entry.path);
        let name = OsStr::from_bytes(name);
        match entry.kind {
            Kind::Directory => self.directory(&parent, name, entry, path).map_err(failed("make"))?,
            Kind::File => self.file(&parent, name, entry, reader)?,
            Kind::Symlink => self.symlink(&parent, name, entry).map_err(failed("make"))?,
            Kind::HardLink => self.link(&parent, name, entry)?,
            Kind::Fifo => self.fifo(&parent, name, entry).map_err(failed("make"))?,
            Kind::Device | Kind::Other => {}
        }
        // What was replaced may have been a link on the way to this very directory.
        self.parent = (!self.replaced).then(|| (parents.join(&b'/'), parent));
        Ok(())
    }

    /// Opens the directory that something is to be in, and makes it where it is missing. Takes the remembered one, which
    /// the caller gives back unless something was replaced.
    fn parent(&mut self, parents: &[&[u8]], whole: &[u8]) -> Result<OwnedFd, UnpackError> {
        let path = parents.join(&b'/');
        if let Some((known, fd)) = self.parent.take()
            && known == path
        {
            return Ok(fd);
        }
        let failed = || io_error("open the directory of", whole);
        match self.open(&path) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) if self.whiteouts_among(parents) => {}
            Err(error) => return Err(failed()(error.into())),
        }
        let mut at = self.root.try_clone().map_err(failed())?;
        for end in 1..=parents.len() {
            let here = parents[..end].join(&b'/');
            at = match self.open(&here) {
                Ok(fd) => fd,
                Err(error @ (Errno::NOENT | Errno::NOTDIR)) => {
                    let name = OsStr::from_bytes(parents[end - 1]);
                    let replaced = self.is_whiteout(&at, name);
                    if error == Errno::NOTDIR && !replaced {
                        return Err(failed()(error.into()));
                    }
                    if replaced {
                        unlinkat(&at, name, AtFlags::empty()).map_err(|error| failed()(error.into()))?;
                    }
                    self.count()?;
                    // A link that leads nowhere is there, and this says so.
                    mkdirat(&at, name, Mode::from_raw_mode(0o755)).map_err(|error| failed()(error.into()))?;
                    let made = self.open(&here).map_err(|error| failed()(error.into()))?;
                    fchmod(&made, Mode::from_raw_mode(0o755)).map_err(|error| failed()(error.into()))?;
                    self.own(&made).map_err(failed())?;
                    if replaced {
                        self.opaque(&made).map_err(failed())?;
                    }
                    made
                }
                Err(error) => return Err(failed()(error.into())),
            };
        }
        Ok(at)
    }

    fn whiteouts_among(&self, parents: &[&[u8]]) -> bool {
        (1..=parents.len()).any(|end| {
            let (name, above) = (parents[end - 1], parents[..end - 1].join(&b'/'));
            self.open(&above).is_ok_and(|at| self.is_whiteout(&at, OsStr::from_bytes(name)))
        })
    }

    /// A directory by its path from the root, links within the root followed.
    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        openat2(self.root, OsStr::from_bytes(path), flags, Mode::empty(), resolve)
    }

    fn directory(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry, path: Vec<u8>) -> io::Result<()> {
        let mut opaque = false;
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Ok(_) => {
                // Deleted and made anew: nothing of what was below is to be seen.
                opaque = self.is_whiteout(parent, name);
                self.replace(parent, name)?;
                mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
            }
            Err(_) => mkdirat(parent, name, Mode::from_raw_mode(0o700))?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty())?;
        if opaque {
            self.opaque(&fd)?;
        }
        self.dress_directory(&fd, entry, path)
    }

    fn dress_directory(&mut self, fd: &OwnedFd, entry: &Entry, path: Vec<u8>) -> io::Result<()> {
        self.own(fd)?;
        // The sticky bit stays: /tmp has it.
        fchmod(fd, Mode::from_raw_mode(entry.mode & 0o1777 | 0o700))?;
        self.directories.insert(path, entry.mtime);
        Ok(())
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &Entry,
        reader: &mut Reader<impl Read>,
    ) -> Result<(), UnpackError> {
        let failed = |operation| io_error(operation, &entry.path);
        self.clear(parent, name).map_err(failed("replace"))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| failed("make")(error.into()))?;
        let mut file = File::from(fd);
        let mut contents = reader.contents();
        loop {
            let count = match contents.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(UnpackError::Tar(TarError::Read { entry: self.entries, source: error }));
                }
            };
            file.write_all(&self.buffer[..count]).map_err(failed("write"))?;
        }
        let dress = || {
            self.own(&file)?;
            // The owner reads what in the image only root may read; it is nobody's secret.
            fchmod(&file, Mode::from_raw_mode(entry.mode & 0o777 | 0o400))?;
            Ok(futimens(&file, &times(entry.mtime))?)
        };
        dress().map_err(failed("set the attributes of"))
    }

    fn symlink(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<()> {
        self.clear(parent, name)?;
        symlinkat(OsStr::from_bytes(&entry.link), parent, name)?;
        self.own_at(parent, name)?;
        Ok(utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn link(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<(), UnpackError> {
        let failed = || io_error("link to", &entry.link);
        let parts = clean(&entry.link, self.limits)?;
        let Some((target, above)) = parts.split_last() else {
            return Err(refused(&entry.link, "a hard link to a directory"));
        };
        let from = self.open(&above.join(&b'/')).map_err(|error| failed()(error.into()))?;
        let target = OsStr::from_bytes(target);
        let stat =
            statat(&from, target, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| failed()(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory || self.is_whiteout(&from, target) {
            return Err(refused(&entry.link, "a hard link to a directory or a deleted file"));
        }
        let same = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|it| (it.st_dev, it.st_ino) == (stat.st_dev, stat.st_ino));
        if same {
            return Ok(());
        }
        self.clear(parent, name).map_err(failed())?;
        linkat(&from, target, parent, name, AtFlags::empty()).map_err(|error| failed()(error.into()))
    }

    fn fifo(&mut self, parent: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<()> {
        self.clear(parent, name)?;
        mknodat(parent, name, FileType::Fifo, Mode::from_raw_mode(entry.mode & 0o777), 0)?;
        self.own_at(parent, name)?;
        Ok(utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Says that what lower layers have of this name is gone. What this layer itself has of it stays.
    fn whiteout(&mut self, parent: &OwnedFd, name: &[u8], parents: &[&[u8]]) -> io::Result<()> {
        let name = OsStr::from_bytes(name);
        if let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let path = [parents, &[name.as_bytes()]].concat().join(&b'/');
                self.opaque(&self.open(&path)?)?;
            }
            return Ok(());
        }
        match mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => self.own_at(parent, name),
            // Not allowed here, so by attributes: Linux knows these since 6.7, where their directory says that it has some.
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => self.whiteout_by_attribute(parent, name),
            Err(error) => Err(error.into()),
        }
    }

    fn whiteout_by_attribute(&self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
        self.own(&file)?;
        fsetxattr(&file, WHITEOUT, b"y", XattrFlags::empty())?;
        match fsetxattr(parent, OPAQUE, b"x", XattrFlags::CREATE) {
            // An opaque directory hides all there is below anyway.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn is_whiteout(&self, parent: &OwnedFd, name: &OsStr) -> bool {
        let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        match FileType::from_raw_mode(stat.st_mode) {
            // Devices of the image are not made, so it is one of ours.
            FileType::CharacterDevice => true,
            FileType::RegularFile if stat.st_size == 0 => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                openat(parent, name, flags, Mode::empty())
                    .is_ok_and(|file| rustix::fs::fgetxattr(&file, WHITEOUT, &mut [0_u8; 8]).is_ok())
            }
            _ => false,
        }
    }

    fn opaque(&self, directory: &OwnedFd) -> io::Result<()> {
        Ok(fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())?)
    }

    /// Makes room for something that is not a directory.
    fn clear(&mut self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => self.replace(parent, name),
            Err(_) => Ok(()),
        }
    }

    fn replace(&mut self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        self.replaced = true;
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                let parent = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
                std::fs::remove_dir_all(parent.join(name))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn own(&self, file: impl AsFd) -> io::Result<()> {
        let Some(owner) = self.owner else { return Ok(()) };
        Ok(fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?)
    }

    fn own_at(&self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let Some(Owner { uid, gid }) = self.owner else { return Ok(()) };
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn count(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::Limit("the number of files"));
        }
        Ok(())
    }

    fn finish(&self) {
        for (path, mtime) in &self.directories {
            // Gone or replaced since: then its time does not matter.
            if let Ok(fd) = self.open(path) {
                let _ = futimens(&fd, &times(*mtime));
            }
        }
    }
}

/// The components of a path, from the layer's root.
fn clean<'a>(path: &'a [u8], limits: &Limits) -> Result<Vec<&'a [u8]>, UnpackError> {
    let parts: Vec<_> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(refused(path, "it has `..` in it"));
    }
    if parts.iter().any(|part| part.len() > 255 + PREFIX.len()) || parts.len() > limits.depth {
        return Err(refused(path, "it is too long or too deep"));
    }
    Ok(parts)
}

/// Seconds that every file system can keep (1970 to 2446 is what ext4 has).
fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let tv_sec = seconds.clamp(0, (1 << 34) - 1);
    let time = Timespec { tv_sec, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    match text.chars().count() {
        0..=200 => text.into_owned(),
        _ => text.chars().take(200).chain(['…']).collect(),
    }
}

fn refused(path: &[u8], why: &'static str) -> UnpackError {
    UnpackError::Path { path: shown(path), why }
}

fn io_error<'a>(operation: &'static str, path: &'a [u8]) -> impl FnOnce(io::Error) -> UnpackError + 'a {
    move |source| UnpackError::Io { operation, path: shown(path), source }
}
