//! Fault points: places where a test can have a process killed, to prove that a restart leaves a true state.
//!
//! A point is named `room.step`. `OFFSHOOT_FAULT=name` (or the value a spawned role is handed) makes the process
//! end as if by `kill -9` when it reaches that point; `name#3` when it reaches it for the third time. Only builds with
//! debug assertions have them; in a release build every call compiles to nothing.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

static ARMED: OnceLock<Option<String>> = OnceLock::new();
/// How often the armed point was reached.
static REACHED: AtomicU64 = AtomicU64::new(0);

/// Arms one point by name in this process. The first call wins; a role that starts with an empty environment
/// is told its fault by whoever starts it.
pub fn arm(name: Option<String>) {
    let _ = ARMED.set(name);
}

/// The armed point, to hand to a process started from here.
pub fn armed() -> Option<String> {
    if !cfg!(debug_assertions) {
        return None;
    }
    ARMED.get_or_init(|| std::env::var("OFFSHOOT_FAULT").ok()).clone()
}

/// Ends this process here and now if the point is armed: no destructor runs, nothing is flushed or answered.
/// (Abort rather than SIGKILL, because a process that is pid 1 of its namespace cannot kill itself.)
pub fn point(name: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(armed) = ARMED.get_or_init(|| std::env::var("OFFSHOOT_FAULT").ok()) else { return };
    let (armed, nth) = armed.split_once('#').unwrap_or((armed, "1"));
    if armed == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == nth.parse().unwrap_or(1) {
        std::process::abort();
    }
}
