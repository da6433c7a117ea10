//! Taking more than was given.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
};

use crate::{Attack, Blocked, Canaries, Outcome, Reached, Skipped, call, errno, in_child};

pub const ATTACKS: &[Attack] = &[
    ("fork_bomb", fork_bomb),
    ("memory_bomb", memory_bomb),
    ("fill_tmp", |c| fill(c, "/tmp")),
    ("fill_shm", |c| fill(c, "/dev/shm")),
    ("fill_run", |_| fill_up_to("/run", 64 << 20)),
    ("huge_file", huge_file),
    ("core_dump", core_dump),
    ("raise_limits", raise_limits),
];

fn fork_bomb(canaries: &Canaries) -> Outcome {
    let Some(limit) = canaries.number("processes") else { return Skipped("no limit") };
    let mut children = Vec::new();
    let mut stopped = None;
    for _ in 0..limit + 100 {
        // SAFETY: this program has no other threads.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            pid if pid < 0 => {
                stopped = Some(errno());
                break;
            }
            pid => children.push(pid),
        }
    }
    for pid in &children {
        // SAFETY: integers only; these are this process's own children.
        unsafe {
            libc::kill(*pid, libc::SIGKILL);
            libc::waitpid(*pid, std::ptr::null_mut(), 0);
        }
    }
    match stopped {
        Some(error) => {
            Blocked(format!("after {} ({})", children.len(), std::io::Error::from_raw_os_error(error)))
        }
        None => Reached(format!("{} processes", children.len())),
    }
}

fn memory_bomb(canaries: &Canaries) -> Outcome {
    let Some(limit) = canaries.number("memory") else { return Skipped("no limit") };
    let code = in_child(|| {
        let length = (limit + limit / 4) as usize;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let access = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let Ok(at) = call(libc::SYS_mmap, &[0, length, access, flags as usize, usize::MAX, 0]) else {
            return 1;
        };
        for offset in (0..length).step_by(4096) {
            // SAFETY: within the mapping made above.
            unsafe { *((at + offset) as *mut u8) = 1 };
        }
        // Long enough for a watchdog to look.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        0
    });
    if code == 0 {
        Reached(format!("{limit} bytes and a quarter"))
    } else {
        Blocked(format!("ended with {code}"))
    }
}

fn fill(canaries: &Canaries, dir: &str) -> Outcome {
    let Some(limit) = canaries.number("tmp") else { return Skipped("no limit") };
    fill_up_to(dir, limit + limit / 4)
}

fn fill_up_to(dir: &str, bytes: u64) -> Outcome {
    let path = format!("{dir}/probe-fill");
    let result = File::create(&path).and_then(|mut file| {
        let block = vec![1u8; 1 << 20];
        (0..bytes >> 20).try_for_each(|_| file.write_all(&block))
    });
    let _ = fs::remove_file(path);
    Outcome::of(result)
}

fn huge_file(canaries: &Canaries) -> Outcome {
    let Some(limit) = canaries.number("file_bytes") else { return Skipped("no limit") };
    // SAFETY: ignoring a signal; the write then fails instead.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let result = File::create("probe-huge").and_then(|file| file.write_at(b"x", limit + 1));
    let _ = fs::remove_file("probe-huge");
    Outcome::of(result)
}

fn limit(resource: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: limit lives through the call.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

fn core_dump(_: &Canaries) -> Outcome {
    match limit(libc::RLIMIT_CORE) {
        (0 | 1, 0 | 1) => Blocked("no core dumps".into()),
        (_, hard) => Reached(format!("up to {hard} bytes")),
    }
}

fn raise_limits(_: &Canaries) -> Outcome {
    let (_, hard) = limit(libc::RLIMIT_NOFILE);
    let more = libc::rlimit { rlim_cur: hard + 1, rlim_max: hard + 1 };
    // SAFETY: more lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const more) } == 0 {
        Reached("open files".into())
    } else {
        Blocked(std::io::Error::last_os_error().to_string())
    }
}
