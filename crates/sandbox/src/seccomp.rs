//! The system call filter of everything inside: default allow, with a deny list of what a coding agent never needs
//! and a kernel exploit likes. Installed by init before it starts anything, inherited by all.
//!
//! clone and unshare stay allowed: agents bring nested sandboxes (bubblewrap). What needs a capability is refused by
//! the kernel anyway; this list is for calls that do not, or whose code has been a source of holes. Errors are those
//! of a kernel built without the feature where that exists, so that programs fall back.

use std::{io, os::fd::OwnedFd};

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_USER_NOTIF, c_long, sock_filter,
};

use crate::sys;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const THIS_ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const THIS_ARCHITECTURE: u32 = 0xC000_00B7;

/// Calls from here up belong to the x32 ABI on x86-64 (and do not exist elsewhere): a second spelling of every call.
const X32: u32 = 0x4000_0000;

/// Refused whatever the arguments.
const DENIED: &[(c_long, i32)] = &[
    (libc::SYS_io_uring_setup, libc::ENOSYS),
    (libc::SYS_io_uring_enter, libc::ENOSYS),
    (libc::SYS_io_uring_register, libc::ENOSYS),
    (libc::SYS_keyctl, libc::ENOSYS),
    (libc::SYS_add_key, libc::ENOSYS),
    (libc::SYS_request_key, libc::ENOSYS),
    (libc::SYS_bpf, libc::EPERM),
    (libc::SYS_perf_event_open, libc::EACCES),
    (libc::SYS_userfaultfd, libc::ENOSYS),
    (libc::SYS_open_by_handle_at, libc::EPERM),
    (libc::SYS_name_to_handle_at, libc::EOPNOTSUPP),
    (libc::SYS_process_vm_readv, libc::EPERM),
    (libc::SYS_process_vm_writev, libc::EPERM),
    (libc::SYS_kcmp, libc::EPERM),
    (libc::SYS_kexec_load, libc::EPERM),
    (libc::SYS_kexec_file_load, libc::EPERM),
    (libc::SYS_init_module, libc::EPERM),
    (libc::SYS_finit_module, libc::EPERM),
    (libc::SYS_delete_module, libc::EPERM),
    (libc::SYS_reboot, libc::EPERM),
    (libc::SYS_swapon, libc::EPERM),
    (libc::SYS_swapoff, libc::EPERM),
    (libc::SYS_acct, libc::EPERM),
    (libc::SYS_quotactl, libc::EPERM),
    (libc::SYS_quotactl_fd, libc::EPERM),
    (libc::SYS_syslog, libc::EPERM),
    (libc::SYS_settimeofday, libc::EPERM),
    (libc::SYS_clock_settime, libc::EPERM),
    (libc::SYS_clock_adjtime, libc::EPERM),
    (libc::SYS_vhangup, libc::EPERM),
    (libc::SYS_nfsservctl, libc::ENOSYS),
    (libc::SYS_lookup_dcookie, libc::EPERM),
    (libc::SYS_fanotify_init, libc::EPERM),
    (libc::SYS_move_pages, libc::EPERM),
    (libc::SYS_migrate_pages, libc::EPERM),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, libc::EPERM),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, libc::EPERM),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_modify_ldt, libc::ENOSYS),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_uselib, libc::ENOSYS),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ustat, libc::ENOSYS),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_sysfs, libc::ENOSYS),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_vserver, libc::ENOSYS),
];

/// Socket families that exist inside; all others are "not supported by protocol".
const FAMILIES: &[u32] =
    &[libc::AF_UNIX as u32, libc::AF_INET as u32, libc::AF_INET6 as u32, libc::AF_NETLINK as u32];

/// Terminal requests that put input into, or take screen contents from, the terminal's user.
/// (`c_ulong` in one libc and `c_int` in another: the low 32 bits are what the kernel compares.)
const TERMINAL_REQUESTS: &[u32] = &[0x5412 /* TIOCSTI */, 0x541C /* TIOCLINUX */];

/// Personalities that change nothing dangerous: query, plain Linux, 32-bit uname, no address randomisation (debuggers).
const PERSONALITIES: &[u32] = &[0xFFFF_FFFF, 0, 0x0008, 0x0004_0000, 0x0004_0008];

/// Installs the filter. Needs no_new_privs.
pub(crate) fn install() -> io::Result<()> {
    sys::install_filter(&mut program())
}

/// Installs a filter that tells of every rename, and returns where they are told and answered. Fails where a listener is
/// installed already (the kernel allows one), or the kernel is older than 5.19.
pub(crate) fn listen_for_renames() -> io::Result<OwnedFd> {
    let mut program = vec![load(NUMBER)];
    for call in RENAMES {
        program.push(unless(*call as u32, 1));
        program.push(give(SECCOMP_RET_USER_NOTIF));
    }
    program.push(give(SECCOMP_RET_ALLOW));
    sys::install_listening_filter(&mut program)
}

/// All ways to rename.
const RENAMES: &[c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
];

/// Calls with which root changes owners, users and groups: they have no effect for one that is root in name only.
const NOMINAL: &[c_long] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
];

/// Installs a second filter: what only a real root can do succeeds and does nothing, so that installers and servers
/// that begin as root go on. Stricter answers of the first filter stay.
pub(crate) fn install_nominal_root() -> io::Result<()> {
    sys::install_filter(&mut nominal_root())
}

fn nominal_root() -> Vec<sock_filter> {
    // The first filter has ended whoever calls by another architecture's numbers.
    let mut program = vec![load(NUMBER)];
    for call in NOMINAL {
        program.push(unless(*call as u32, 1));
        program.push(errno(0));
    }
    // Device nodes only: named pipes and sockets are everybody's to make.
    for (call, mode) in [
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_mknod, 1),
        (libc::SYS_mknodat, 2),
    ] {
        program.extend([
            load(NUMBER),
            unless(call as u32, 6),
            load(ARGUMENTS + 8 * mode),
            op(BPF_ALU | BPF_AND | BPF_K, 0, 0, libc::S_IFMT),
            op(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, libc::S_IFCHR),
            unless(libc::S_IFBLK, 1),
            errno(0),
            give(SECCOMP_RET_ALLOW),
        ]);
    }
    program.push(give(SECCOMP_RET_ALLOW));
    program
}

const fn op(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

const fn load(offset: u32) -> sock_filter {
    op(BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)
}

const fn give(action: u32) -> sock_filter {
    op(BPF_RET | BPF_K, 0, 0, action)
}

const fn errno(number: i32) -> sock_filter {
    give(SECCOMP_RET_ERRNO | number as u32)
}

/// If the accumulator equals `k` go on with the next instruction, else skip `skip`.
const fn unless(k: u32, skip: u8) -> sock_filter {
    op(BPF_JMP | BPF_JEQ | BPF_K, 0, skip, k)
}

/// The first argument's low half decides: listed values are allowed (or refused), the others the opposite.
fn by_argument(
    program: &mut Vec<sock_filter>,
    call: c_long,
    argument: u32,
    listed: &[u32],
    allow: bool,
    error: i32,
) {
    let (hit, miss) =
        if allow { (give(SECCOMP_RET_ALLOW), errno(error)) } else { (errno(error), give(SECCOMP_RET_ALLOW)) };
    program.push(load(NUMBER));
    program.push(unless(call as u32, (2 * listed.len() + 2) as u8));
    program.push(load(ARGUMENTS + 8 * argument));
    for value in listed {
        program.push(unless(*value, 1));
        program.push(hit);
    }
    program.push(miss);
}

fn program() -> Vec<sock_filter> {
    let mut program = vec![
        load(ARCHITECTURE),
        op(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, THIS_ARCHITECTURE),
        give(SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
        op(BPF_JMP | BPF_JGE | BPF_K, 0, 1, X32),
        errno(libc::ENOSYS),
    ];
    for (call, error) in DENIED {
        program.push(unless(*call as u32, 1));
        program.push(errno(*error));
    }
    by_argument(&mut program, libc::SYS_socket, 0, FAMILIES, true, libc::EAFNOSUPPORT);
    by_argument(&mut program, libc::SYS_socketpair, 0, FAMILIES, true, libc::EAFNOSUPPORT);
    by_argument(&mut program, libc::SYS_ioctl, 1, TERMINAL_REQUESTS, false, libc::EPERM);
    by_argument(&mut program, libc::SYS_personality, 0, PERSONALITIES, true, libc::EPERM);
    program.push(give(SECCOMP_RET_ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on one call, as the kernel would.
    fn run(architecture: u32, number: u32, arguments: [u64; 2]) -> u32 {
        run_one(&program(), architecture, number, &arguments)
    }

    fn run_one(program: &[sock_filter], architecture: u32, number: u32, arguments: &[u64]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&architecture.to_le_bytes());
        for (at, argument) in arguments.iter().enumerate() {
            data[16 + 8 * at..24 + 8 * at].copy_from_slice(&argument.to_le_bytes());
        }
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let i = program[at];
            at += 1;
            match u32::from(i.code) {
                c if c == BPF_LD | BPF_W | BPF_ABS => {
                    let k = i.k as usize;
                    accumulator = u32::from_le_bytes(data[k..k + 4].try_into().unwrap());
                }
                c if c == BPF_JMP | BPF_JEQ | BPF_K => {
                    at += usize::from(if accumulator == i.k { i.jt } else { i.jf });
                }
                c if c == BPF_JMP | BPF_JGE | BPF_K => {
                    at += usize::from(if accumulator >= i.k { i.jt } else { i.jf });
                }
                c if c == BPF_ALU | BPF_AND | BPF_K => accumulator &= i.k,
                _ => return i.k,
            }
        }
    }

    #[test]
    fn the_filter_decides_as_listed() {
        let call = |n: c_long, a: u64, b: u64| run(THIS_ARCHITECTURE, n as u32, [a, b]);
        let refused = |e: i32| SECCOMP_RET_ERRNO | e as u32;
        assert_eq!(run(0x4000_0003, 1, [0, 0]), SECCOMP_RET_KILL_PROCESS);
        assert_eq!(run(THIS_ARCHITECTURE, X32 | libc::SYS_keyctl as u32, [0, 0]), refused(libc::ENOSYS));
        assert_eq!(call(libc::SYS_read, 0, 0), SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_clone, 0, 0), SECCOMP_RET_ALLOW);
        for (number, error) in DENIED {
            assert_eq!(call(*number, 0, 0), refused(*error), "{number}");
        }
        assert_eq!(call(libc::SYS_socket, libc::AF_INET as u64, 0), SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_socket, libc::AF_NETLINK as u64, 0), SECCOMP_RET_ALLOW);
        for family in [libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG, libc::AF_BLUETOOTH] {
            assert_eq!(call(libc::SYS_socket, family as u64, 0), refused(libc::EAFNOSUPPORT));
        }
        assert_eq!(call(libc::SYS_ioctl, 0, 0x5412), refused(libc::EPERM));
        assert_eq!(
            call(libc::SYS_ioctl, 0, 0xdead_0000_5412),
            refused(libc::EPERM),
            "the kernel ignores the high half"
        );
        assert_eq!(call(libc::SYS_ioctl, 0, 0x5413), SECCOMP_RET_ALLOW);
        assert_eq!(call(libc::SYS_personality, 0x0040_0000, 0), refused(libc::EPERM));
        assert_eq!(call(libc::SYS_personality, 0xFFFF_FFFF, 0), SECCOMP_RET_ALLOW);
    }

    #[test]
    fn root_in_name_only_makes_no_devices_and_still_makes_pipes() {
        let program = nominal_root();
        let call =
            |n: c_long, arguments: [u64; 3]| run_one(&program, THIS_ARCHITECTURE, n as u32, &arguments);
        let nothing = SECCOMP_RET_ERRNO;
        for number in NOMINAL {
            assert_eq!(call(*number, [0, 0, 0]), nothing, "{number}");
        }
        for (kind, answer) in [
            (libc::S_IFCHR, nothing),
            (libc::S_IFBLK, nothing),
            (libc::S_IFIFO, SECCOMP_RET_ALLOW),
            (libc::S_IFREG, SECCOMP_RET_ALLOW),
        ] {
            let mode = u64::from(kind | 0o644);
            assert_eq!(call(libc::SYS_mknodat, [0, 0, mode]), answer);
            #[cfg(target_arch = "x86_64")]
            assert_eq!(call(libc::SYS_mknod, [0, mode, 0]), answer);
        }
        assert_eq!(call(libc::SYS_openat, [0, 0, u64::from(libc::S_IFCHR)]), SECCOMP_RET_ALLOW);
    }
}
