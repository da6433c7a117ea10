//! The system calls that no safe wrapper covers. All unsafe code of the project lives here.
//!
//! Called by shim and init, which are single-threaded; each function says where that matters. Decides nothing.
#![expect(unsafe_code, reason = "raw system calls; every block says why it is sound")]

use std::{
    ffi::{CStr, c_int, c_long},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What [`clone_into`] returns to each of the two processes.
pub(crate) enum Cloned {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// `fork` with new namespaces, a pidfd and, where given, a control group to start in.
/// The caller is single-threaded, so the child may go on using everything.
pub(crate) fn clone_into(namespaces: c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: c_int = -1;
    let mut flags = namespaces as u64 | libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        // CLONE_INTO_CGROUP of linux/sched.h; libc's own constant is too narrow.
        flags |= 0x2_0000_0000;
    }
    // SAFETY: clone_args is plain integers; all zero means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: args is valid for its size; without CLONE_VM this is a fork, and the caller has no other threads.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match check(pid)? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel stored a new descriptor there that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}

/// Closes every descriptor from `first` up. Only for a process that holds no owned descriptor in that range.
pub(crate) fn close_from(first: u32) {
    // SAFETY: takes integers only; the caller owns none of these descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Closes every descriptor but the standard ones and these. Only for a process that uses no other any more.
pub(crate) fn close_all_but(kept: &[c_int]) {
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept {
        if fd > first {
            // SAFETY: takes integers only; by this function's contract nobody uses these descriptors.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = first.max(fd + 1);
    }
    close_from(first);
}

/// Takes a descriptor number that this process was started with. At most once per number.
pub(crate) fn adopt(fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks whether the number is open.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    // SAFETY: the number is open and, by this function's contract, owned by nothing else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `/dev/null` in place of the standard descriptors, for a process that does not use them.
pub(crate) fn forget_standard() {
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        for fd in 0..3 {
            // SAFETY: integers only; nothing here owns the standard descriptors.
            unsafe { libc::dup2(null.as_raw_fd(), fd) };
        }
    }
}

/// Ends the process without running anything.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// `kill(-1, signal)`: every process of the pid namespace but its init (the caller).
pub(crate) fn signal_all(signal: c_int) {
    // SAFETY: integers only.
    unsafe { libc::kill(-1, signal) };
}

/// Sends a signal to the process group of `pid`, or to the process when it leads no group.
pub(crate) fn signal_group(pid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: integers only.
    if check(unsafe { libc::kill(-pid, signal) }.into()).is_ok() {
        return Ok(());
    }
    signal_one(pid, signal)
}

/// Sends a signal to one process.
pub(crate) fn signal_one(pid: i32, signal: c_int) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::kill(pid, signal) }.into()).map(|_| ())
}

/// Blocks SIGCHLD and returns a descriptor that becomes readable when a child changes.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use and lives through the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(fd as c_int))
    }
}

/// Makes the mount at `tree` (and all below it) read-only, without set-uid programs, and without devices unless told.
pub(crate) fn restrict_mount(tree: BorrowedFd<'_>, read_only: bool, devices: bool) -> io::Result<()> {
    let mut attr_set = libc::MOUNT_ATTR_NOSUID;
    if read_only {
        attr_set |= libc::MOUNT_ATTR_RDONLY;
    }
    if !devices {
        attr_set |= libc::MOUNT_ATTR_NODEV;
    }
    let attr = libc::mount_attr { attr_set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the empty string and attr live through the call; the size is attr's own.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(|_| ())
}

/// Installs a system call filter in this (only) thread and all it will ever start. Needs no_new_privs.
pub(crate) fn install_filter(program: &mut [libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: filter points to `length` instructions that live through the call; the kernel copies them.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) })
        .map(|_| ())
}

/// Installs a filter like [`install_filter`] whose notifications are to be answered on the returned descriptor. A process
/// that waits for an answer takes no signal but a deadly one.
pub(crate) fn install_listening_filter(program: &mut [libc::sock_filter]) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: filter points to `length` instructions that live through the call; the kernel copies them.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
    })?;
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as c_int) };
    // The one who is woken by a notification runs where the one who waits did: half the time. Since Linux 6.6.
    const SET_FLAGS: libc::Ioctl = 0x4008_2104_u32 as libc::Ioctl;
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: takes integers only; an unknown request is refused.
    unsafe { libc::ioctl(fd.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
    Ok(fd)
}

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    pub id: u64,
    /// Number of the thread, as the listener's pid namespace counts.
    pub thread: u32,
    pub call: c_long,
    pub arguments: [u64; 6],
}

/// Takes the next notification. To be called when the descriptor is readable; else it waits.
pub(crate) fn next_notification(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    // SAFETY: plain integers; the kernel wants them zeroed.
    let mut got: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: got is of the type the request is made for and lives through the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut got) }.into())?;
    Ok(Notification { id: got.id, thread: got.pid, call: got.data.nr.into(), arguments: got.data.args })
}

/// Answers a notification: with a result (0 or a negative error number), or by letting the kernel go on with the call.
pub(crate) fn answer_notification(listener: BorrowedFd<'_>, id: u64, result: Option<i32>) {
    let flags = if result.is_none() { libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32 } else { 0 };
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: result.unwrap_or(0), flags };
    // SAFETY: answer is of the type the request is made for and lives through the call. Who waited may be gone.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
}

/// Whether who waits for this answer still does.
pub(crate) fn notification_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: id lives through the call, which reads it.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Lets the command's process lead a session of its own, with its standard input as controlling terminal if asked, and
/// take every signal: what init blocks would be inherited, and a shell that waits for its jobs would wait forever.
pub(crate) fn own_session(command: &mut Command, terminal: bool) {
    // SAFETY: the closure makes a few system calls and allocates nothing, so it may run between fork and exec.
    unsafe {
        command.pre_exec(move || {
            unblock_signals();
            rustix::process::setsid()?;
            if terminal {
                rustix::process::ioctl_tiocsctty(BorrowedFd::borrow_raw(0))?;
            }
            Ok(())
        });
    }
}

/// Lets the command's process take every signal, whatever this one blocks.
pub(crate) fn take_signals(command: &mut Command) {
    // SAFETY: the closure makes one system call and allocates nothing, so it may run between fork and exec.
    unsafe {
        command.pre_exec(|| {
            unblock_signals();
            Ok(())
        });
    }
}

/// Lets the command's process keep these descriptors, at the numbers they have here.
pub(crate) fn keep_open(command: &mut Command, fds: Vec<OwnedFd>) {
    // SAFETY: the closure makes system calls and allocates nothing, so it may run between fork and exec.
    unsafe {
        command.pre_exec(move || {
            Ok(fds.iter().try_for_each(|fd| rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()))?)
        });
    }
}

/// Moves this process into a network namespace of its own. The caller is single-threaded.
pub(crate) fn own_network() -> io::Result<()> {
    // SAFETY: no memory or descriptor is unshared.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }.into()).map(|_| ())
}

/// Moves this process into a user and a mount namespace of its own. The caller is single-threaded.
pub(crate) fn own_user_and_mounts() -> io::Result<()> {
    // SAFETY: no memory or descriptor is unshared.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) }.into()).map(|_| ())
}

/// Processor time used so far by a process's children that were waited for, plus itself, microseconds.
pub(crate) fn cpu_of_children() -> u64 {
    // SAFETY: rusage is plain data which getrusage fills in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
    micros(usage.ru_utime) + micros(usage.ru_stime)
}

/// Ends this process as if by the signal.
pub(crate) fn end_by(signal: c_int) -> ! {
    // SAFETY: the set is initialised by sigfillset before use; what the signal ends has nothing left to do.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::signal(signal, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
    exit_now(128 + signal)
}

/// Blocks every signal that can be.
pub(crate) fn block_signals() {
    // SAFETY: the set is initialised by sigfillset before use and lives through the call.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// The opposite: what a program expects to begin with.
pub(crate) fn unblock_signals() {
    // SAFETY: the set is initialised by sigemptyset before use and lives through the call.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// What whoever started this process ignores, as `nohup` does, is not ignored by what it starts.
pub(crate) fn default_signals() {
    // A broken pipe is an error here, and a signal again in what is started; both are the standard library's doing.
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: integers only; no handler is installed. Refused for signals that cannot be set.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Gives memory that the allocator holds but does not use back to the kernel.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer; safe to call at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes the control group this process is in the root of what it and its children see of control groups.
pub(crate) fn new_cgroup_view() -> io::Result<()> {
    // SAFETY: CLONE_NEWCGROUP changes only what /proc/self/cgroup says; no memory or descriptor is unshared.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into()).map(|_| ())
}

/// Registers a descriptor with the current tokio runtime.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names the same open descriptor for as long as it lives, and AsyncFd owns it.
    unsafe { tokio::io::unix::AsyncFd::register(fd) }.map_err(Into::into)
}

/// Whether a child can have namespaces of its own and become its own user in them.
pub(crate) fn try_namespaces() -> io::Result<()> {
    in_child(
        libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS,
        // AppArmor lets the namespace be made and takes its rights away: only using one tells.
        c"tmpfs",
        c"/tmp",
        c"",
    )
}

/// Whether an overlay can be mounted with `lower`, `upper`, `work` and `merged` below `dir`.
pub(crate) fn try_overlay(dir: &std::path::Path) -> io::Result<()> {
    let text = |name: &str| dir.join(name).display().to_string();
    let options =
        format!("lowerdir={},upperdir={},workdir={},userxattr", text("lower"), text("upper"), text("work"));
    let (options, target) = (std::ffi::CString::new(options)?, std::ffi::CString::new(text("merged"))?);
    in_child(libc::CLONE_NEWUSER | libc::CLONE_NEWNS, c"overlay", &target, &options)
}

/// Tries one mount in new namespaces. The child may come from a process with other threads, so it makes system calls
/// only and allocates nothing.
fn in_child(namespaces: c_int, kind: &CStr, target: &CStr, options: &CStr) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // The child may map itself, and only itself, without anybody's help.
    let maps = [
        (c"/proc/self/setgroups", "deny".to_owned()),
        (c"/proc/self/uid_map", format!("{uid} {uid} 1")),
        (c"/proc/self/gid_map", format!("{gid} {gid} 1")),
    ];
    // SAFETY: clone_args is plain integers; all zero means "not used".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: a fork; the child below only makes system calls on memory prepared before and then _exits.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        // SAFETY: all pointers are to strings that the parent prepared; _exit does not return.
        unsafe {
            for (file, text) in &maps {
                let fd = libc::open(file.as_ptr(), libc::O_WRONLY);
                if fd < 0 || libc::write(fd, text.as_ptr().cast(), text.len()) < 0 {
                    libc::_exit(*libc::__errno_location());
                }
            }
            let slash = c"/".as_ptr();
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let null = std::ptr::null();
            let failed = libc::mount(null, slash, null, private, null.cast()) != 0
                || libc::mount(
                    kind.as_ptr(),
                    target.as_ptr(),
                    kind.as_ptr(),
                    libc::MS_NOSUID,
                    options.as_ptr().cast(),
                ) != 0;
            libc::_exit(if failed { *libc::__errno_location() } else { 0 });
        }
    }
    let mut status = 0;
    // SAFETY: status lives through the call.
    while unsafe { libc::waitpid(pid as i32, &raw mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    match libc::WEXITSTATUS(status) {
        _ if !libc::WIFEXITED(status) => Err(io::Error::other("the attempt was killed")),
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
