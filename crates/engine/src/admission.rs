//! Who may start now: a pure function of what waits, what works, and what the machine has.
//!
//! Strictly in order: a run that does not fit holds back those behind it, so that none waits forever. A machine on
//! which nothing works admits one run whatever it needs, so that none waits for room that never comes.

pub use offshoot_core::config::counted;
use offshoot_core::event::Limits;

/// What this machine gives to runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Runs at a time.
    pub max_runs: u32,
    /// Memory that they together may count on, in bytes.
    pub memory_bytes: u64,
}

impl Capacity {
    /// The default for a machine: four runs per processor (agents mostly wait for their model), three quarters of
    /// the memory (the rest is for the person).
    pub fn of_machine(processors: usize, memory_bytes: u64) -> Self {
        let processors = u32::try_from(processors).unwrap_or(u32::MAX);
        Self { max_runs: processors.saturating_mul(4).max(4), memory_bytes: memory_bytes / 4 * 3 }
    }
}

/// Why the first in the queue waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// As many runs work as may.
    Runs,
    /// Memory.
    Memory,
}

/// How many of `queued` (in order) may start beside `working`, and what the next one waits for.
pub fn admit(queued: &[Limits], working: &[Limits], capacity: Capacity) -> (usize, Option<WaitsFor>) {
    let mut memory: u64 = working.iter().map(counted).sum();
    for (n, limits) in queued.iter().enumerate() {
        let (runs, needed) = (working.len() + n, counted(limits));
        if runs > 0 && runs >= capacity.max_runs as usize {
            return (n, Some(WaitsFor::Runs));
        }
        if runs > 0 && memory.saturating_add(needed) > capacity.memory_bytes {
            return (n, Some(WaitsFor::Memory));
        }
        memory = memory.saturating_add(needed);
    }
    (queued.len(), None)
}

/// How many more runs with such limits would be admitted.
pub fn room_for(limits: &Limits, working: &[Limits], capacity: Capacity) -> u32 {
    let many = vec![*limits; capacity.max_runs as usize];
    u32::try_from(admit(&many, working, capacity).0).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(gib: u64) -> Limits {
        Limits { memory_bytes: gib << 30, processes: 10, cpu_percent: None, disk_bytes: 0 }
    }

    const ROOM: Capacity = Capacity { max_runs: 3, memory_bytes: 8 << 30 };

    #[test]
    fn the_table() {
        for (queued, working, want) in [
            (vec![], vec![], (0, None)),
            (vec![4, 4], vec![], (2, None)),
            (vec![4, 4, 4, 4], vec![], (3, Some(WaitsFor::Runs))),
            (vec![4], vec![4, 4, 4], (0, Some(WaitsFor::Runs))),
            (vec![16, 16, 4], vec![], (2, Some(WaitsFor::Memory))),
            (vec![64], vec![], (1, None)),
            (vec![64, 4], vec![4], (0, Some(WaitsFor::Memory))),
        ] {
            let [queued, working] = [queued, working].map(|l| l.into_iter().map(limits).collect::<Vec<_>>());
            assert_eq!(admit(&queued, &working, ROOM), want, "{queued:?} {working:?}");
        }
    }

    #[test]
    fn small_limits_count_as_themselves() {
        assert_eq!(counted(&Limits { memory_bytes: 256 << 20, ..limits(1) }), 256 << 20);
        assert_eq!(counted(&limits(2)), 1 << 30);
        assert_eq!(counted(&limits(16)), 4 << 30);
    }
}
