//! Files of the host, and parts of the environment that are not to be written.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::{Path, PathBuf},
};

use crate::{Attack, Blocked, Canaries, Outcome, Reached, Skipped, call, in_child, nested};

pub const ATTACKS: &[Attack] = &[
    ("host_file", host_file),
    ("host_socket", host_socket),
    ("chroot_escape", chroot_escape),
    ("read_only_bind", read_only_bind),
    ("root_directory", root_directory),
    ("system_directory", system_directory),
    ("layer_paths", layer_paths),
    ("core_pattern", |_| writable("/proc/sys/kernel/core_pattern")),
    ("sysrq", |_| writable("/proc/sysrq-trigger")),
    ("modprobe_path", |_| writable("/proc/sys/kernel/modprobe")),
    ("kernel_memory", |_| Outcome::of(File::open("/proc/kcore"))),
    ("kernel_log", |_| Outcome::of(File::open("/proc/kmsg"))),
    ("devices", devices),
    ("make_device", make_device),
    ("remount", remount),
    ("mount_over", mount_over),
    ("whiteout_forgery", whiteout),
];

fn places(path: &str) -> [PathBuf; 2] {
    [PathBuf::from(path), Path::new("/host").join(path.trim_start_matches('/'))]
}

fn host_file(canaries: &Canaries) -> Outcome {
    let Some(path) = canaries.get("file") else { return Skipped("no file") };
    match places(path).iter().find_map(|p| fs::read_to_string(p).ok()) {
        Some(text) => Reached(text),
        None => Blocked("not there".into()),
    }
}

fn host_socket(canaries: &Canaries) -> Outcome {
    let Some(path) = canaries.get("socket") else { return Skipped("no socket") };
    match places(path).iter().find(|p| UnixStream::connect(p).is_ok()) {
        Some(path) => Reached(path.display().to_string()),
        None => Blocked("not there".into()),
    }
}

/// The classic: leave a chroot through a directory kept open outside of it, with all rights over a nested namespace, or
/// with those that are there.
fn chroot_escape(canaries: &Canaries) -> Outcome {
    let Some(path) = canaries.get("file") else { return Skipped("no file") };
    let inside = PathBuf::from("/tmp/probe-chroot");
    let _ = fs::create_dir(&inside);
    let escape = || {
        let Ok(root) = File::open("/") else { return 2 };
        let to = std::os::fd::AsRawFd::as_raw_fd(&root) as usize;
        let Ok(jail) = CString::new("/tmp/probe-chroot") else { return 2 };
        if call(libc::SYS_chroot, &[jail.as_ptr() as usize]).is_err()
            || call(libc::SYS_fchdir, &[to]).is_err()
        {
            return 3;
        }
        for _ in 0..64 {
            let _ = std::env::set_current_dir("..");
        }
        i32::from(File::open(path.trim_start_matches('/')).is_err())
    };
    let code = match nested(libc::CLONE_NEWNS, escape) {
        0 => 0,
        _ => in_child(escape),
    };
    if code == 0 { Reached("out of the root".into()) } else { Blocked(format!("step {code}")) }
}

fn read_only_bind(canaries: &Canaries) -> Outcome {
    let Some(path) = canaries.get("read_only") else { return Skipped("no directory") };
    Outcome::of(File::create(Path::new(path).join("probe-was-here")))
}

fn root_directory(_: &Canaries) -> Outcome {
    Outcome::of(File::create("/probe-was-here"))
}

fn system_directory(_: &Canaries) -> Outcome {
    let all = ["/usr", "/usr/bin", "/usr/local/bin", "/etc/ssl", "/dev", "/proc/sys/kernel"];
    match all.iter().find(|d| File::create(Path::new(d).join("probe-was-here")).is_ok()) {
        Some(dir) => Reached((*dir).to_owned()),
        None => Blocked("none of them".into()),
    }
}

fn layer_paths(canaries: &Canaries) -> Outcome {
    let Some(name) = canaries.get("stage") else { return Skipped("no name") };
    let text =
        ["mountinfo", "mounts", "maps", "cmdline"].map(|f| fs::read_to_string(format!("/proc/self/{f}")));
    let text = text.into_iter().flatten().collect::<String>();
    match text.lines().find(|line| line.contains(name) && line.contains("overlay")) {
        Some(line) => Reached(line.to_owned()),
        None => Blocked("no host path of a layer".into()),
    }
}

/// As it is, and as root if that can be become.
fn writable(path: &str) -> Outcome {
    let open = || OpenOptions::new().write(true).open(path);
    let code = in_child(|| {
        let _ = call(libc::SYS_setresgid, &[0, 0, 0]);
        let _ = call(libc::SYS_setresuid, &[0, 0, 0]);
        i32::from(open().is_err())
    });
    if code == 0 { Reached("as root".into()) } else { Outcome::of(open()) }
}

fn devices(_: &Canaries) -> Outcome {
    let names = fs::read_dir("/dev").into_iter().flatten().flatten();
    let bad = names.filter(|e| {
        let block = e.file_type().is_ok_and(|t| t.is_block_device());
        block || ["kmsg", "mem", "port", "kvm", "fuse", "vda"].iter().any(|n| e.file_name() == *n)
    });
    match bad.map(|e| e.path().display().to_string()).next() {
        Some(path) => Reached(path),
        None => Blocked("none".into()),
    }
}

fn make_device(_: &Canaries) -> Outcome {
    let device = libc::makedev(1, 1) as usize;
    let mode = (libc::S_IFCHR | 0o666) as usize;
    let path = c"/tmp/probe-device";
    Outcome::of(call(libc::SYS_mknodat, &[libc::AT_FDCWD as usize, path.as_ptr() as usize, mode, device]))
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: &std::ffi::CStr,
    flags: u64,
) -> std::io::Result<usize> {
    let address = |s: &std::ffi::CStr| s.as_ptr() as usize;
    call(libc::SYS_mount, &[address(source), address(target), address(kind), flags as usize, 0])
}

fn remount(_: &Canaries) -> Outcome {
    let direct = mount(c"", c"/", c"", libc::MS_REMOUNT | libc::MS_BIND);
    if direct.is_ok() {
        return Reached("/ is writable".into());
    }
    let code = nested(libc::CLONE_NEWNS, || {
        let read_only = ["/", "/usr"].iter().all(|p| {
            let Ok(p) = CString::new(*p) else { return true };
            mount(c"", &p, c"", libc::MS_REMOUNT | libc::MS_BIND).is_err()
        });
        i32::from(read_only)
    });
    if code == 0 { Reached("in a nested namespace".into()) } else { Blocked("refused".into()) }
}

fn mount_over(_: &Canaries) -> Outcome {
    Outcome::of(mount(c"probe", c"/tmp", c"tmpfs", 0))
}

/// An overlay's own marks set from inside must not take effect in a later mount of the layer.
fn whiteout(_: &Canaries) -> Outcome {
    let _ = fs::create_dir("probe-opaque");
    let (path, name) = (c"probe-opaque", c"trusted.overlay.opaque");
    let value = b"y";
    Outcome::of(call(
        libc::SYS_setxattr,
        &[path.as_ptr() as usize, name.as_ptr() as usize, value.as_ptr() as usize, 1, 0],
    ))
}
