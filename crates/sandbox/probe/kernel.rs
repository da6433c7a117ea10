//! System calls that a coding agent has no use for and a kernel exploit has.

use crate::{Attack, Blocked, Canaries, Outcome, Reached, call, nested};

pub const ATTACKS: &[Attack] = &[
    ("keyring", |_| Outcome::of(call(libc::SYS_keyctl, &[0, -3isize as usize, 1]))),
    ("userfaultfd", |_| Outcome::of(call(libc::SYS_userfaultfd, &[1]))),
    ("io_uring", io_uring),
    ("bpf", |_| not_permitted(call(libc::SYS_bpf, &[9999, 0, 0]))),
    ("perf", perf),
    ("process_vm", process_vm),
    ("file_handles", file_handles),
    ("personality", |_| Outcome::of(call(libc::SYS_personality, &[0x0040_0000]))),
    ("modules", |_| not_permitted(call(libc::SYS_init_module, &[0, 0, 0]))),
    ("kexec", |_| not_permitted(call(libc::SYS_kexec_load, &[0, 0, 0, 0]))),
    ("reboot", |_| not_permitted(call(libc::SYS_reboot, &[0, 0, 0, 0]))),
    ("swap", |_| not_permitted(call(libc::SYS_swapon, &[0, 0]))),
    ("clock", set_clock),
    ("cgroup", cgroup),
];

/// Reached when the kernel looked at the arguments at all.
fn not_permitted(result: std::io::Result<usize>) -> Outcome {
    match result {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS)) => {
            Blocked(e.to_string())
        }
        Err(e) => Reached(e.to_string()),
        Ok(_) => Reached("allowed".into()),
    }
}

fn io_uring(_: &Canaries) -> Outcome {
    let parameters = [0u8; 256];
    Outcome::of(call(libc::SYS_io_uring_setup, &[1, parameters.as_ptr() as usize]))
}

fn perf(_: &Canaries) -> Outcome {
    // perf_event_attr, PERF_COUNT_SW_CPU_CLOCK, user space only.
    let mut attributes = [0u64; 16];
    attributes[0] = 1 | (128 << 32);
    attributes[5] = 1 << 5 | 1 << 6;
    Outcome::of(call(
        libc::SYS_perf_event_open,
        &[attributes.as_ptr() as usize, 0, usize::MAX, usize::MAX, 0],
    ))
}

fn process_vm(_: &Canaries) -> Outcome {
    let (from, to) = ([7u8; 8], [0u8; 8]);
    let part = |b: &[u8; 8]| [b.as_ptr() as usize, 8];
    let (remote, local) = (part(&from), part(&to));
    let own = std::process::id() as usize;
    Outcome::of(call(
        libc::SYS_process_vm_readv,
        &[own, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0],
    ))
}

fn file_handles(_: &Canaries) -> Outcome {
    let handle = [128u32; 40];
    let mount = 0i32;
    let path = c"/usr";
    Outcome::of(call(
        libc::SYS_name_to_handle_at,
        &[
            libc::AT_FDCWD as usize,
            path.as_ptr() as usize,
            handle.as_ptr() as usize,
            (&raw const mount) as usize,
            0,
        ],
    ))
}

fn set_clock(_: &Canaries) -> Outcome {
    // Never the real time: the kernel would refuse the address first (EFAULT), the filter does not look at it.
    not_permitted(call(libc::SYS_clock_settime, &[libc::CLOCK_REALTIME as usize, 1]))
}

/// Mounts control groups in a nested namespace and tries to leave its own.
fn cgroup(_: &Canaries) -> Outcome {
    let code = nested(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP, || {
        let _ = std::fs::create_dir("/tmp/probe-cgroup");
        let (target, kind) = (c"/tmp/probe-cgroup", c"cgroup2");
        let flags = libc::MS_NOSUID as usize;
        let address = |s: &std::ffi::CStr| s.as_ptr() as usize;
        if call(libc::SYS_mount, &[address(kind), address(target), address(kind), flags, 0]).is_err() {
            return 2;
        }
        let written = ["cgroup.procs", "cgroup.subtree_control", "memory.max", "pids.max"].iter().any(|f| {
            let file = std::fs::OpenOptions::new().write(true).open(format!("/tmp/probe-cgroup/{f}"));
            file.is_ok()
        });
        i32::from(!written)
    });
    if code == 0 { Reached("written".into()) } else { Blocked(format!("step {code}")) }
}
