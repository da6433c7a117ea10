//! Other processes: those of the host, and the init that guards this environment.

use std::fs::{self, File};

use crate::{Attack, Blocked, Canaries, Outcome, Reached, Skipped, call, in_child, nested};

pub const ATTACKS: &[Attack] = &[
    // First, before others leave descriptors open.
    ("inherited_descriptors", inherited),
    ("environments", environments),
    ("host_processes", host_processes),
    ("init_memory", |_| Outcome::of(File::open("/proc/1/mem"))),
    ("init_maps", |_| Outcome::of(fs::read_to_string("/proc/1/maps"))),
    ("init_root", |_| Outcome::of(fs::read_link("/proc/1/root"))),
    ("init_descriptors", |_| Outcome::of(fs::read_dir("/proc/1/fd"))),
    ("init_executable", |_| Outcome::of(File::options().write(true).open("/proc/1/exe"))),
    ("init_ptrace", |_| Outcome::of(seize())),
    ("init_nested_ptrace", nested_ptrace),
    ("init_getfd", getfd),
    ("init_kill", kill_init),
    ("init_namespaces", join_init),
    ("capabilities", capabilities),
    ("new_privileges", new_privileges),
    ("become_root", |_| alone(libc::SYS_setresuid, &[0, 0, 0])),
    ("drop_groups", |_| alone(libc::SYS_setgroups, &[0, 0])),
    ("shared_memory", shared_memory),
    ("host_name", host_name),
    ("terminal_input", terminal_input),
];

fn numbers() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

fn holding(file: &str, text: &str) -> Option<String> {
    let own = std::process::id().to_string();
    numbers().filter(|n| *n != own).find(|n| {
        let bytes = fs::read(format!("/proc/{n}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(text)
    })
}

fn environments(canaries: &Canaries) -> Outcome {
    let Some(text) = canaries.get("environment") else { return Skipped("no variable") };
    match holding("environ", text) {
        Some(pid) => Reached(format!("of process {pid}")),
        None => Blocked("nowhere".into()),
    }
}

fn host_processes(canaries: &Canaries) -> Outcome {
    let Some(text) = canaries.get("process") else { return Skipped("no process") };
    match holding("cmdline", text) {
        Some(pid) => Reached(format!("process {pid}")),
        None => Blocked("not seen".into()),
    }
}

fn seize() -> std::io::Result<usize> {
    call(libc::SYS_ptrace, &[libc::PTRACE_SEIZE as usize, 1])
}

fn nested_ptrace(_: &Canaries) -> Outcome {
    match nested(0, || i32::from(seize().is_err() && File::open("/proc/1/mem").is_err())) {
        0 => Reached("with the rights of a nested namespace".into()),
        code => Blocked(format!("step {code}")),
    }
}

fn getfd(_: &Canaries) -> Outcome {
    let init = match call(libc::SYS_pidfd_open, &[1, 0]) {
        Ok(fd) => fd,
        Err(e) => return Blocked(e.to_string()),
    };
    let stolen = (0..16).find(|fd| call(libc::SYS_pidfd_getfd, &[init, *fd, 0]).is_ok());
    stolen.map_or_else(|| Blocked("none".into()), |fd| Reached(format!("descriptor {fd}")))
}

fn kill_init(_: &Canaries) -> Outcome {
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV] {
        let _ = call(libc::SYS_kill, &[1, signal as usize]);
    }
    // This process would be gone with it.
    let state = fs::read_to_string("/proc/1/stat").unwrap_or_default();
    if state.contains(" T ") { Reached("init is stopped".into()) } else { Blocked("init goes on".into()) }
}

fn join_init(_: &Canaries) -> Outcome {
    let names = ["mnt", "net", "user", "pid"];
    match names.iter().find(|n| File::open(format!("/proc/1/ns/{n}")).is_ok()) {
        Some(name) => Reached((*name).to_owned()),
        None => Blocked("none".into()),
    }
}

fn inherited(_: &Canaries) -> Outcome {
    let open = (3..1024).find(|fd| call(libc::SYS_fcntl, &[*fd, libc::F_GETFD as usize]).is_ok());
    let name = |fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    open.map_or_else(|| Blocked("none".into()), |fd| Reached(format!("descriptor {fd}: {:?}", name(fd))))
}

fn status(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim().to_owned()
}

fn capabilities(_: &Canaries) -> Outcome {
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapBnd:", "CapAmb:"] {
        let value = status(set);
        if value.bytes().any(|b| b != b'0') {
            return Reached(format!("{set} {value}"));
        }
    }
    Blocked("all empty".into())
}

fn new_privileges(_: &Canaries) -> Outcome {
    match status("NoNewPrivs:").as_str() {
        "1" => Blocked("no_new_privs is set".into()),
        _ => Reached("set-uid programs take effect".into()),
    }
}

/// In a child: other attacks are made as who this is.
fn alone(number: libc::c_long, arguments: &[usize]) -> Outcome {
    match in_child(|| call(number, arguments).map_or_else(|e| e.raw_os_error().unwrap_or(1), |_| 0)) {
        0 => Reached("allowed".into()),
        code => Blocked(std::io::Error::from_raw_os_error(code).to_string()),
    }
}

fn shared_memory(canaries: &Canaries) -> Outcome {
    let Some(id) = canaries.number("shared_memory") else { return Skipped("no segment") };
    Outcome::of(call(libc::SYS_shmat, &[id as usize, 0, libc::SHM_RDONLY as usize]))
}

fn host_name(canaries: &Canaries) -> Outcome {
    let Some(name) = canaries.get("host_name") else { return Skipped("no name") };
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if own.trim() == name { Reached(name.to_owned()) } else { Blocked(own.trim().to_owned()) }
}

/// Puts input into the controlling terminal, as if the user had typed it.
fn terminal_input(_: &Canaries) -> Outcome {
    let code = in_child(|| {
        let flags = (libc::O_RDWR | libc::O_NOCTTY) as usize;
        let _ = call(libc::SYS_setsid, &[]);
        let at = libc::AT_FDCWD as usize;
        let Ok(master) = call(libc::SYS_openat, &[at, c"/dev/ptmx".as_ptr() as usize, flags]) else {
            return 2;
        };
        let unlock = 0i32;
        let _ = call(libc::SYS_ioctl, &[master, libc::TIOCSPTLCK as usize, (&raw const unlock) as usize]);
        let Ok(slave) = call(libc::SYS_ioctl, &[master, libc::TIOCGPTPEER as usize, flags]) else { return 3 };
        if call(libc::SYS_ioctl, &[slave, libc::TIOCSCTTY as usize, 0]).is_err() {
            return 4;
        }
        let letter = b'x';
        i32::from(
            call(libc::SYS_ioctl, &[slave, libc::TIOCSTI as usize, (&raw const letter) as usize]).is_err(),
        )
    });
    if code == 0 { Reached("typed".into()) } else { Blocked(format!("step {code}")) }
}
