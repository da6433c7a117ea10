//! Processes are killed at random moments while four tasks are at work. `OFFSHOOT_SOAK_SECONDS` for how long,
//! `OFFSHOOT_SOAK_SEED` to have one round again.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    audit::{self, WORK},
    stage::{Stage, pid_in},
};

const TASKS: usize = 4;

/// Xorshift: random enough, and the same for the same seed.
pub struct Random(pub u64);

impl Random {
    /// Less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn at_random_moments() {
    let time = Duration::from_secs(number("OFFSHOOT_SOAK_SECONDS").unwrap_or(20));
    let now = || u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() & 0xffff_ffff).unwrap();
    let from = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || from.elapsed() < time {
        let seed = number("OFFSHOOT_SOAK_SEED").unwrap_or_else(now).max(1);
        eprintln!("OFFSHOOT_SOAK_SEED={seed}");
        round(&mut Random(seed));
        rounds += 1;
        if number("OFFSHOOT_SOAK_SEED").is_some() {
            break;
        }
    }
    eprintln!("{rounds} rounds");
}

fn round(random: &mut Random) {
    let stage = Stage::new();
    stage.configure("[machine]\nmax-runs = 4\nmemory = \"100g\"\n");
    stage.start(None);
    let names: Vec<String> = (0..TASKS).map(|n| format!("work-{n}")).collect();
    for name in &names {
        stage.dispatch(name, WORK);
    }
    let mut hurt = false;
    let mut at = 0;
    for _ in 0..=random.below(4) {
        // A moment is the time just after something was recorded, and up to 20 ms more.
        at += 1 + random.below(90);
        let mut left = at;
        let mut over = 0;
        stage.wait("moment", |entry| {
            left -= 1;
            over += usize::from(entry["event"]["type"] == "run_ended");
            left == 0 || over == TASKS
        });
        let more = Duration::from_micros(random.below(20_000) as u64);
        let moment = Instant::now();
        while moment.elapsed() < more {
            std::thread::yield_now();
        }
        match random.below(6) {
            0..3 => {
                stage.kill();
                stage.start(None);
            }
            what => {
                let dirs = stage.sandboxes();
                let Some(shim) = dirs.get(random.below(dirs.len().max(1))).and_then(|dir| pid_in(dir)) else {
                    continue;
                };
                let victim = match what {
                    3 => Some(shim),
                    4 => children(shim).first().copied(),
                    _ => agent_below(shim),
                };
                if let Some(victim) = victim {
                    // It may just have ended by itself.
                    hurt |= kill_process(victim, Signal::KILL).is_ok();
                    if random.below(2) == 0 {
                        stage.kill();
                        stage.start(None);
                    }
                }
            }
        }
    }
    for name in &names {
        let task = stage.over(name, 1);
        if !hurt || task["state"] == "complete" {
            audit::complete(&stage, name);
            continue;
        }
        assert_eq!(task["state"], "failed", "{name}");
        assert!(
            task["reason"].as_str().is_some_and(|reason| reason.len() > 10),
            "{name}: {}",
            task["reason"]
        );
        kept(&stage, name);
    }
    audit::log(&stage);
    stage.close();
}

/// What a failed run wrote is there, as it wrote it, and brought out.
fn kept(stage: &Stage, name: &str) {
    let task = stage.task(name);
    let Some(id) = task["environment"]["id"].as_str().filter(|_| task["environment"]["state"] != "removed")
    else {
        return;
    };
    let upper = stage.state().join("environments").join(id).join("upper");
    for (file, line) in [("one.txt", "x\n"), ("two.txt", "y\n")] {
        let Ok(text) = fs::read_to_string(upper.join(file)) else { continue };
        assert!(text == line || text.is_empty(), "{name}: {file} is {text:?}");
        if let Some(head) = task["head"].as_str() {
            let out = stage.git(&["show", &format!("offshoot/{name}:{file}")]);
            assert_eq!(out, text.trim_end(), "{name} at {head}");
        }
    }
}

fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero().get().to_string();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&pid))
    })
    .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
    .collect()
}

fn agent_below(shim: Pid) -> Option<Pid> {
    let init = *children(shim).first()?;
    children(init).into_iter().find(|pid| {
        let line = fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        line.is_ok_and(|line| line.contains("offshoot-scripted-agent"))
    })
}
