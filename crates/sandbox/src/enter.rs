//! The role between init and a program that gets a root and numbers of its own ([`ExecRoot`]): moves itself there, gives up
//! the rights that took, and becomes the program.
//!
//! A program of its own and not a part of init's child, because a process that is to map its numbers has to be one that
//! its equals may look into: exec'ed with an empty environment, it holds nothing of init's memory and only the descriptors
//! it is told. Everything here runs inside the sandbox with no right that an agent does not have. It is told what to do in
//! a memory file, and answers on a pipe: a [`Refusal`], or nothing when the program runs.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Command, ExitCode},
};

use rustix::{
    fs::MemfdFlags,
    io::FdFlags,
    mount::UnmountFlags,
    thread::{CapabilitySet, CapabilitySets},
};
use serde::{Deserialize, Serialize};

use crate::{
    message::{ExecRoot, Refusal},
    seccomp, sys,
};

/// Second argument of the program (the first is the shim's) in this role; the descriptors' numbers follow.
const ROLE: &str = "enter";

/// What to become.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entering {
    pub root: ExecRoot,
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
}

impl Entering {
    /// The command that starts this role from the program at `exe`. `tell` ends when the program runs, or says why it does
    /// not.
    pub fn command(&self, exe: &OwnedFd, tell: OwnedFd) -> io::Result<Command> {
        let mut what = File::from(rustix::fs::memfd_create("enter", MemfdFlags::CLOEXEC)?);
        serde_json::to_writer(&what, self)?;
        io::Seek::rewind(&mut what)?;
        let mut command = Command::new(format!("/proc/self/fd/{}", exe.as_raw_fd()));
        let numbers = [what.as_raw_fd(), tell.as_raw_fd()].map(|n| n.to_string());
        command.arg0("offshoot").args(["__shim", ROLE]).args(numbers).env_clear().current_dir("/");
        sys::keep_open(&mut command, vec![what.into(), tell]);
        Ok(command)
    }
}

/// Runs this role if the arguments (without the program's name) say so.
pub(crate) fn role(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.skip(1);
    if arguments.next()? != ROLE {
        return None;
    }
    let mut descriptor = || sys::adopt(arguments.next()?.to_str()?.parse().ok()?).ok();
    let (Some(what), Some(tell)) = (descriptor(), descriptor()) else { return Some(ExitCode::FAILURE) };
    let text = serde_json::to_vec(&become_it(what, &tell)).unwrap_or_default();
    // Init may be gone; then this is, too.
    let _ = File::from(tell).write_all(&text);
    Some(ExitCode::FAILURE)
}

fn system(step: &str, error: &io::Error) -> Refusal {
    Refusal::System(format!("{step}: {error}"))
}

/// Returns only when it could not be done.
fn become_it(what: OwnedFd, tell: &OwnedFd) -> Refusal {
    if let Err(e) = rustix::io::fcntl_setfd(tell, FdFlags::CLOEXEC) {
        return system("prepare", &e.into());
    }
    let mut text = Vec::new();
    let read = File::from(what).read_to_end(&mut text);
    let what: Entering = match read.and_then(|_| Ok(serde_json::from_slice(&text)?)) {
        Ok(what) => what,
        Err(e) => return system("read what to start", &e),
    };
    let Entering { root, argv, env, cwd } = what;
    if let Err(e) = change_root(&root) {
        return system(&format!("change the root to {}", root.path.display()), &e);
    }
    if let Err(e) = rustix::process::chdir(&cwd) {
        return Refusal::NotFound(format!("{}: {}", cwd.display(), io::Error::from(e)));
    }
    if let Err(e) = give_up(root.uid) {
        return system("give up rights", &e);
    }
    let Some((name, arguments)) = argv.split_first() else { return Refusal::Invalid("no program".into()) };
    let error = Command::new(name).args(arguments).env_clear().envs(env).exec();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            Refusal::NotFound(format!("{name}: {error}"))
        }
        _ => system(name, &error),
    }
}

/// Changes into a user namespace where the sandbox's identity has other numbers, and into the root.
fn change_root(root: &ExecRoot) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::own_user_and_mounts()?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{} {uid} 1", root.uid))?;
    fs::write("/proc/self/gid_map", format!("{} {gid} 1", root.gid))?;
    // Not chroot(2): who is in one cannot make namespaces, as a browser in a service does. The new root has to be a
    // mount that this namespace made.
    rustix::mount::mount_bind_recursive(&root.path, &root.path)?;
    rustix::process::chdir(&root.path)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// Gives up what the namespace gave. The sandbox's filter and no_new_privs hold already.
fn give_up(uid: u32) -> io::Result<()> {
    for capability in CapabilitySet::all() {
        // EINVAL: a capability this kernel does not have.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    if uid == 0 {
        seccomp::install_nominal_root()?;
    }
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?;
    Ok(())
}
