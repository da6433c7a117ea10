//! What this machine can do for environments: tried, not guessed from version numbers, and for what is missing the
//! cause and the remedy by name. Changes nothing that lasts; never lowers anything by itself.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use crate::{cgroup, spec::Identity, sys};

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There, in full.
    Ok,
    /// There in a weaker form, or missing without being needed.
    Soft,
    /// Needed and missing.
    Missing,
}

/// The strongest isolation that environments can have here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Namespaces, overlay, a network of their own.
    Sandbox,
    /// None of ours: a container runtime, or plain worktrees, and only if the user says so.
    None,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it, if something is to be done.
    pub remedy: Option<String>,
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What environments get.
    pub tier: Tier,
    /// The checks, most important first.
    pub checks: Vec<Check>,
}

/// Oldest kernel with overlays in user namespaces that can delete directories (`userxattr`, 5.11) and with
/// recursive read-only mounts (`mount_setattr`, 5.12).
const OLDEST: (u32, u32) = (5, 12);
/// From here on the process limit is counted per user namespace, not per user.
const COUNTS_PROCESSES: (u32, u32) = (5, 14);

/// Looks at this machine; `state` is the directory that layers and environments are to live in (made if missing).
pub fn examine(state: &Path) -> Report {
    let namespaces = namespaces();
    let overlay = match namespaces.state {
        State::Missing => check("overlay", State::Missing, "not tried: it needs namespaces", None),
        _ => overlay(state),
    };
    let checks = vec![kernel(), namespaces, overlay, seccomp(), terminals(), limits(), git(), copies(state)];
    let tier = if checks.iter().any(|c| c.state == State::Missing) { Tier::None } else { Tier::Sandbox };
    Report { tier, checks }
}

/// What keeps environments from being made here at all, with its remedy: asked for each one, so that nothing is begun
/// that cannot be. Tried until it works once: about two milliseconds, then nothing.
pub fn obstacle() -> Result<(), Box<Check>> {
    static WORKS: OnceLock<()> = OnceLock::new();
    if WORKS.get().is_some() {
        return Ok(());
    }
    match namespaces() {
        check if check.state == State::Missing => Err(Box::new(check)),
        _ => {
            let _ = WORKS.set(());
            Ok(())
        }
    }
}

fn check(name: &str, state: State, found: impl Into<String>, remedy: Option<&str>) -> Check {
    Check { name: name.to_owned(), state, found: found.into(), remedy: remedy.map(str::to_owned) }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|s| s.trim().to_owned())
}

fn kernel() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version {
        v if v < OLDEST => check("kernel", State::Missing, release, Some("Linux 5.12 or newer is needed")),
        v if v < COUNTS_PROCESSES => check(
            "kernel",
            State::Soft,
            release,
            Some("from Linux 5.14 on, the process limit is counted per environment"),
        ),
        _ => check("kernel", State::Ok, release, None),
    }
}

fn namespaces() -> Check {
    let name = "namespaces";
    let error = match sys::try_namespaces() {
        Ok(()) if !identity_exists() => {
            return check(
                name,
                State::Missing,
                "this is a user namespace that has no user but root, and environments need another one",
                Some("run Offshoot as an ordinary user, or map a range of users into the namespace"),
            );
        }
        Ok(()) => {
            return check(
                name,
                State::Ok,
                "user, mount, pid, network, ipc and uts namespaces can be made",
                None,
            );
        }
        Err(e) => e,
    };
    let found = match error.raw_os_error() {
        // What the kernel says for the limit on their number.
        Some(libc::ENOSPC) => "cannot be made: the limit on their number is reached".to_owned(),
        _ => format!("cannot be made: {error}"),
    };
    let remedy = if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        "AppArmor forbids them to unconfined programs (Ubuntu 23.10 and later): install the AppArmor profile of \
         docs/isolation.md, or as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    } else if read("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        "switched off by Debian's switch; as root: sysctl -w kernel.unprivileged_userns_clone=1"
    } else if read("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        "none are allowed; as root: sysctl -w user.max_user_namespaces=15000"
    } else if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
        "this is a container whose seccomp profile forbids them: run it with --security-opt seccomp=unconfined \
         --security-opt systempaths=unconfined"
    } else if read("/proc/self/status").is_some_and(|s| s.contains("Seccomp:\t2")) {
        "a seccomp filter around this program forbids them: run it outside of that sandbox"
    } else {
        "the kernel needs CONFIG_USER_NS"
    };
    check(name, State::Missing, found, Some(remedy))
}

/// Whether the user and the group that environments run as exist in the user namespace that this process is in.
fn identity_exists() -> bool {
    let identity = Identity::for_this_process();
    let mapped = |file: &str, id: u32| {
        let Ok(map) = fs::read_to_string(file) else { return true };
        map.lines().any(|line| {
            let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
            let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
            first.zip(count).is_some_and(|(first, count)| (first..first + count).contains(&u64::from(id)))
        })
    };
    mapped("/proc/self/uid_map", identity.uid) && mapped("/proc/self/gid_map", identity.gid)
}

fn overlay(state: &Path) -> Check {
    let name = "overlay";
    let attempt = fs::create_dir_all(state).and_then(|()| {
        let dir = state.join(format!(".doctor-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for part in ["lower/d", "upper", "work", "merged"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let result = sys::try_overlay(&dir);
        // The kernel leaves a directory without permissions in `work`.
        let _ =
            fs::set_permissions(dir.join("work/work"), std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let _ = fs::remove_dir_all(&dir);
        result
    });
    let kind = fs_name(state);
    match attempt {
        Ok(()) => check(name, State::Ok, format!("works on {} ({kind})", state.display()), None),
        Err(e) => check(
            name,
            State::Missing,
            format!("does not work on {} ({kind}): {e}", state.display()),
            Some(
                "keep Offshoot's state on a local ext4, XFS or btrfs, and load the kernel module: modprobe overlay",
            ),
        ),
    }
}

/// Magic numbers of linux/magic.h.
fn fs_name(path: &Path) -> String {
    match rustix::fs::statfs(path).map(|s| s.f_type as u32) {
        Ok(0xEF53) => "ext4".into(),
        Ok(0x5846_5342) => "XFS".into(),
        Ok(0x9123_683E) => "btrfs".into(),
        Ok(0x0102_1994) => "tmpfs".into(),
        Ok(0x794C_7630) => "overlay".into(),
        Ok(0x2FC1_2FC1) => "ZFS".into(),
        Ok(0x6969) => "NFS".into(),
        Ok(number) => format!("file system {number:#x}"),
        Err(e) => e.to_string(),
    }
}

fn seccomp() -> Check {
    match read("/proc/sys/kernel/seccomp/actions_avail") {
        Some(actions) if actions.contains("errno") => {
            check("seccomp", State::Ok, "system calls can be filtered", None)
        }
        _ => check("seccomp", State::Missing, "not there", Some("the kernel needs CONFIG_SECCOMP_FILTER")),
    }
}

fn terminals() -> Check {
    match rustix::fs::open(
        "/dev/ptmx",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    ) {
        Ok(_) => check("terminals", State::Ok, "/dev/ptmx can be opened", None),
        Err(e) => check("terminals", State::Soft, format!("/dev/ptmx: {e}"), Some("mount devpts")),
    }
}

fn limits() -> Check {
    let hard = cgroup::available();
    if ["memory", "processes"].iter().all(|l| hard.iter().any(|h| h == l)) {
        return check("limits", State::Ok, format!("held by control groups: {}", hard.join(", ")), None);
    }
    check(
        "limits",
        State::Soft,
        "no control group is delegated to this user: processes are limited by the kernel, memory by a watchdog",
        Some(
            "with systemd, start the daemon in a delegated scope: systemd-run --user --scope -p Delegate=yes offshoot daemon start",
        ),
    )
}

fn git() -> Check {
    let output = Command::new("git").arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(o) if o.status.success() => {
            check("git", State::Ok, String::from_utf8_lossy(&o.stdout).trim().to_owned(), None)
        }
        _ => check("git", State::Missing, "not found", Some("install git 2.38 or newer")),
    }
}

fn copies(state: &Path) -> Check {
    let (a, b) = (state.join(".doctor-a"), state.join(".doctor-b"));
    let attempt = || -> std::io::Result<()> {
        fs::write(&a, [0; 8192])?;
        let (from, to) = (fs::File::open(&a)?, fs::File::create(&b)?);
        Ok(rustix::fs::ioctl_ficlone(to, from)?)
    };
    let result = attempt();
    let _ = fs::remove_file(&a);
    let _ = fs::remove_file(&b);
    match result {
        Ok(()) => check("copies", State::Ok, "files can share their blocks (reflink)", None),
        Err(_) => check("copies", State::Soft, "files cannot share blocks; layers do not need it", None),
    }
}
