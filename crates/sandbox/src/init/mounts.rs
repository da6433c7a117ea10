//! Puts the file system together out of the specification's mounts, on a fresh tmpfs, and makes it the root.
//!
//! Host paths are opened in [`open_sources`], once, as the user who started the environment; [`assemble`] runs as the
//! sandbox's identity and names everything by descriptor (`/proc/self/fd/N`), so that neither a racing rename nor a
//! symbolic link can lead elsewhere, and no host path shows in the mount table inside. Targets are resolved with
//! RESOLVE_IN_ROOT: a symbolic link left by an earlier run stays inside the new root.

use std::{
    ffi::{CString, OsStr},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags},
};

use super::{SetupError, Step};
use crate::{
    spec::{Mount, SandboxSpec, Weakness},
    sys,
};

/// Host devices that exist inside.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// Room for the directories and small files of the root itself.
const ROOT_BYTES: u64 = 16 << 20;

/// The host paths of one mount, opened.
pub(super) enum Source {
    Nothing,
    Missing,
    Bind(OwnedFd),
    Overlay { lowers: Vec<OwnedFd>, upper: OwnedFd, work: OwnedFd },
}

/// Everything that has to be opened before the identity changes.
pub(super) struct Sources {
    mounts: Vec<Source>,
    devices: Vec<(&'static str, OwnedFd)>,
    exe: Option<OwnedFd>,
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Cuts the mount namespace off from the host's and opens all host paths.
pub(super) fn open_sources(spec: &SandboxSpec) -> Result<Sources, SetupError> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(|| "make mounts private".into())?;
    let open = |path: &Path| open_path(path).step(|| format!("open {}", path.display()));
    let mut mounts = Vec::with_capacity(spec.mounts.len());
    for mount in &spec.mounts {
        mounts.push(match mount {
            Mount::Bind { source, optional, .. } => match open_path(source) {
                Ok(fd) => Source::Bind(fd),
                Err(_) if *optional => Source::Missing,
                Err(e) => return Err(e).step(|| format!("open {}", source.display())),
            },
            Mount::Overlay { lowers, upper, work, .. } => Source::Overlay {
                lowers: lowers.iter().map(|p| open(p)).collect::<Result<_, _>>()?,
                upper: open(upper)?,
                work: open(work)?,
            },
            _ => Source::Nothing,
        });
    }
    let devices = DEVICES
        .iter()
        .map(|name| Ok((*name, open(&Path::new("/dev").join(name))?)))
        .collect::<Result<_, SetupError>>()?;
    Ok(Sources { mounts, devices, exe: open_exe().ok() })
}

/// This program's file, for its role inside. By its path, since what /proc names is in another mount namespace.
fn open_exe() -> io::Result<OwnedFd> {
    let link = Path::new("/proc/self/exe");
    let identity = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|s| (s.st_dev, s.st_ino));
    let exe = open_path(&std::fs::read_link(link)?)?;
    if identity(&exe)? == identity(&open_path(link)?)? {
        Ok(exe)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

impl Sources {
    /// This program's file on a read-only mount that is nowhere: to be executed inside, never to be written, whoever
    /// owns it. None when it was replaced meanwhile.
    pub fn take_exe(&mut self) -> Result<Option<OwnedFd>, SetupError> {
        let Some(exe) = self.exe.take() else { return Ok(None) };
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = rustix::mount::open_tree(&exe, "", flags).step(|| "open this program".into())?;
        sys::restrict_mount(mount.as_fd(), true, false).step(|| "protect this program".into())?;
        Ok(Some(mount))
    }
}

/// The new root while it is being filled, and the roots that services have in it.
struct Root {
    fd: OwnedFd,
    own: Vec<(PathBuf, OwnedFd)>,
}

impl Root {
    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // The deepest root that `path` is in, and the rest of the path.
        let own = self.own.iter().filter_map(|(root, fd)| Some((fd, path.strip_prefix(root).ok()?)));
        let deepest = own.min_by_key(|(_, rest)| rest.as_os_str().len());
        let (root, inside) = deepest.unwrap_or((&self.fd, path.strip_prefix("/").unwrap_or(path)));
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(root, inside, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Opens a directory, making it and its parents if they are missing.
    fn directory(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let mut at = PathBuf::from("/");
        let mut fd = self.open(&at, OFlags::PATH | OFlags::DIRECTORY)?;
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            let name = match component {
                Component::Normal(name) => name,
                Component::RootDir => continue,
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            };
            at.push(name);
            fd = match self.open(&at, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    let bits = if components.peek().is_none() { mode } else { 0o755 };
                    rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(bits))?;
                    self.open(&at, OFlags::PATH | OFlags::DIRECTORY)?
                }
                result => result?,
            };
        }
        Ok(fd)
    }

    fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("/")), 0o755)?, name))
    }

    /// The place to mount a file on.
    fn file_place(&self, path: &Path) -> io::Result<OwnedFd> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let make = || match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o444)) {
            Ok(_) | Err(Errno::EXIST) => self.open(path, OFlags::PATH),
            Err(e) => Err(e),
        };
        match make() {
            // A link that leads nowhere, such as an image's /etc/resolv.conf: something is to be here.
            Err(Errno::NOENT) => {
                rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
                Ok(make()?)
            }
            made => Ok(made?),
        }
    }

    fn write_file(&self, path: &Path, content: &str, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(mode))?;
        io::Write::write_all(&mut std::fs::File::from(fd), content.as_bytes())
    }

    fn symlink(&self, path: &Path, to: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::symlinkat(to, &parent, name) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn share(&self, source: &Path, target: &Path, writable: bool) -> io::Result<()> {
        // What the source's mounts forbid stays forbidden, also where devices are concerned.
        self.bind(&self.open(source, OFlags::PATH)?, target, writable, true)
    }

    fn bind(&self, source: &OwnedFd, target: &Path, writable: bool, devices: bool) -> io::Result<()> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode);
        let place = if kind == FileType::Directory {
            self.directory(target, 0o755)?
        } else {
            self.file_place(target)?
        };
        rustix::mount::mount_bind_recursive(fd_path(source), fd_path(&place))?;
        sys::restrict_mount(self.open(target, OFlags::PATH)?.as_fd(), !writable, devices)
    }

    fn file_system(&self, target: &Path, kind: &str, flags: MountFlags, options: &str) -> io::Result<()> {
        let place = self.directory(target, 0o755)?;
        let options = CString::new(options)?;
        Ok(rustix::mount::mount(kind, fd_path(&place), kind, flags, Some(options.as_c_str()))?)
    }

    fn tmpfs(&self, target: &Path, bytes: u64, mode: u32) -> io::Result<()> {
        // One inode for each 8 KiB: kernel memory for empty files does not count as size.
        let options = format!("mode={mode:o},size={bytes},nr_inodes={}", (bytes / 8192).max(1024));
        self.file_system(target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, &options)
    }

    fn overlay(
        &self,
        target: &Path,
        lowers: &[OwnedFd],
        upper: &OwnedFd,
        work: &OwnedFd,
        paths: bool,
    ) -> io::Result<()> {
        if lowers.is_empty() {
            return self.bind(upper, target, true, false);
        }
        let name = |fd: &OwnedFd| match paths {
            true => std::fs::read_link(fd_path(fd)).map(|p| p.display().to_string()),
            false => Ok(fd_path(fd)),
        };
        let lowers = lowers.iter().map(name).collect::<io::Result<Vec<_>>>()?.join(":");
        let options =
            format!("lowerdir={lowers},upperdir={},workdir={},userxattr", name(upper)?, name(work)?);
        self.file_system(target, "overlay", MountFlags::NOSUID | MountFlags::NODEV, &options)
    }
}

/// Builds the root and moves into it.
pub(super) fn assemble(spec: &SandboxSpec, sources: &Sources) -> Result<(), SetupError> {
    let bytes = if spec.weak(Weakness::TmpLimit) { 1 << 40 } else { ROOT_BYTES };
    let options = CString::new(format!("mode=0755,size={bytes}")).step(|| "root".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    // Any directory will do to hang the new root from: after pivot_root its name is gone.
    let place = ["/mnt", "/tmp", "/var"].into_iter().find(|p| Path::new(p).is_dir()).unwrap_or("/");
    rustix::mount::mount("tmpfs", place, "tmpfs", flags, Some(options.as_c_str()))
        .step(|| format!("mount the root on {place}"))?;
    let root =
        rustix::fs::openat(CWD, place, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step(|| "open the root".into())?;
    let mut root = Root { fd: root, own: Vec::new() };
    proc(&root, spec).step(|| "mount /proc".into())?;
    devices(&root, spec, sources).step(|| "make /dev".into())?;
    for (mount, source) in spec.mounts.iter().zip(&sources.mounts) {
        offshoot_core::fault::point("init.mount");
        match (mount, source) {
            (Mount::Bind { target, writable, .. }, Source::Bind(fd)) => {
                let writable = *writable || spec.weak(Weakness::ReadOnlySystem);
                root.bind(fd, target, writable, false).step(|| format!("bind {}", target.display()))?;
            }
            (Mount::Overlay { target, root: own, .. }, Source::Overlay { lowers, upper, work }) => {
                root.overlay(target, lowers, upper, work, spec.weak(Weakness::LayerPaths))
                    .step(|| format!("mount the overlay at {}", target.display()))?;
                if *own {
                    let fd = root.open(target, OFlags::PATH | OFlags::DIRECTORY);
                    root.own.push((target.clone(), fd.step(|| format!("open {}", target.display()))?));
                }
            }
            (Mount::Share { source, target, writable }, _) => {
                root.share(source, target, *writable)
                    .step(|| format!("share {} at {}", source.display(), target.display()))?;
            }
            (Mount::Tmpfs { target, bytes, mode }, _) => {
                let bytes = if spec.weak(Weakness::TmpLimit) { 1 << 40 } else { *bytes };
                root.tmpfs(target, bytes, *mode).step(|| format!("mount tmpfs at {}", target.display()))?;
            }
            (Mount::File { target, content, mode }, _) => {
                root.write_file(target, content, *mode).step(|| format!("write {}", target.display()))?;
            }
            (Mount::Symlink { target, to }, _) => {
                root.symlink(target, to).step(|| format!("link {}", target.display()))?;
            }
            (Mount::Dir { target, mode }, _) => {
                root.directory(target, *mode).step(|| format!("make {}", target.display()))?;
            }
            _ => {}
        }
    }
    root.directory(&spec.workdir, 0o755).step(|| format!("make {}", spec.workdir.display()))?;
    if spec.weak(Weakness::PrivateRoot) {
        let host = open_path(Path::new("/")).step(|| "open the host's root".into())?;
        root.bind(&host, Path::new("/host"), true, true).step(|| "bind the host's root".into())?;
    }
    enter(&root, spec).step(|| "change the root".into())
}

fn proc(root: &Root, spec: &SandboxSpec) -> io::Result<()> {
    if spec.weak(Weakness::OwnProc) {
        return root.bind(&open_path(Path::new("/proc"))?, Path::new("/proc"), true, false);
    }
    // Nothing in it is masked: the kernel would then refuse a new /proc to nested sandboxes.
    root.file_system(
        Path::new("/proc"),
        "proc",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        "",
    )
}

fn devices(root: &Root, spec: &SandboxSpec, sources: &Sources) -> io::Result<()> {
    let dev = Path::new("/dev");
    if spec.weak(Weakness::OwnDevices) {
        return root.bind(&open_path(dev)?, dev, true, true);
    }
    root.tmpfs(dev, 1 << 20, 0o755)?;
    for (name, source) in &sources.devices {
        root.bind(source, &dev.join(name), true, true)?;
    }
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    root.file_system(&dev.join("pts"), "devpts", quiet, "newinstance,ptmxmode=0666,mode=0620")?;
    let shm = if spec.weak(Weakness::TmpLimit) { 1 << 40 } else { spec.limits.tmp_bytes };
    root.tmpfs(&dev.join("shm"), shm, 0o1777)?;
    if !spec.weak(Weakness::IpcNamespace) {
        root.file_system(&dev.join("mqueue"), "mqueue", quiet | MountFlags::NODEV, "")?;
    }
    for (name, to) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        root.symlink(&dev.join(name), Path::new(to))?;
    }
    if spec.weak(Weakness::ReadOnlySystem) {
        return Ok(());
    }
    read_only(&root.open(dev, OFlags::PATH)?)
}

/// Makes one mount (not those below it) read-only.
fn read_only(mount: &OwnedFd) -> io::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount_remount(fd_path(mount), flags, "")?)
}

fn enter(root: &Root, spec: &SandboxSpec) -> io::Result<()> {
    if !spec.weak(Weakness::ReadOnlyRoot) {
        read_only(&root.fd)?;
    }
    rustix::process::fchdir(&root.fd)?;
    if spec.weak(Weakness::PivotRoot) {
        rustix::process::chroot(".")?;
        return Ok(rustix::process::chdir("/")?);
    }
    // Both "." (pivot_root(2), NOTES): the old root ends up on top of the new one and is taken off at once.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}
