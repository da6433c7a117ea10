//! How many more environments fit this machine, and what those that are there use.

use std::path::Path;

use offshoot_core::{
    api::{CapacityView, UsageView},
    config,
    lifecycle::EnvironmentState,
    problem::Problem,
    record::TaskRecord,
};

use crate::{
    admission::{self, WaitsFor},
    engine::Engine,
    guard::free_space,
    project,
};

impl Engine {
    /// Room for more runs of the project that `path` lies in, or of one with the default limits.
    pub async fn capacity_view(&self, path: Option<&Path>) -> Result<CapacityView, Problem> {
        let capacity = self.capacity()?;
        let (queued, working) = self.load()?;
        let user = self.user_config()?;
        let project = match path {
            Some(path) => project::config(project::discover(path)?.root())?.limits,
            None => config::LimitsConfig::default(),
        };
        let limits = config::limits(&project, &user.limits);
        let working: Vec<_> = working.into_iter().chain(queued.iter().map(|(_, limits)| *limits)).collect();
        let room_for = admission::room_for(&limits, &working, capacity);
        let mut then = working.clone();
        then.extend(std::iter::repeat_n(limits, room_for as usize));
        let then_waits_for = match admission::admit(&[limits], &then, capacity).1 {
            Some(WaitsFor::Runs) => format!("a place: at most {} runs work at a time", capacity.max_runs),
            Some(WaitsFor::Memory) => "memory: another run has to end first".to_owned(),
            None => "nothing".to_owned(),
        };
        let mut environments = Vec::new();
        for task in self.open_tasks()? {
            environments.extend(self.usage_of(&task).await);
        }
        environments.sort_by_key(|usage| std::cmp::Reverse(usage.memory_bytes));
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(CapacityView {
            room_for,
            then_waits_for,
            active_runs: number(working.len() - queued.len()),
            queued_runs: number(queued.len()),
            max_runs: capacity.max_runs,
            memory_bytes: capacity.memory_bytes,
            counted_bytes: working.iter().map(admission::counted).sum(),
            each_bytes: admission::counted(&limits),
            free_memory_bytes: free_memory(),
            free_disk_bytes: free_space(self.inner.layout.root()),
            environments,
        })
    }

    async fn usage_of(&self, task: &TaskRecord) -> Option<UsageView> {
        let environment = task.environment.as_ref().filter(|e| e.state.has_processes())?;
        let live = self.inner.environments.live(environment.id)?;
        let stats = self.inner.environments.usage(environment.id).await?;
        let lease = live.lease.clone();
        let written = tokio::task::spawn_blocking(move || lease.written()).await.ok()?;
        Some(UsageView {
            task: task.name.to_string(),
            suspended: environment.state == EnvironmentState::Suspended,
            memory_bytes: stats.memory_bytes,
            processes: u32::try_from(stats.processes).unwrap_or(u32::MAX),
            disk_bytes: written.bytes,
            services: stats
                .trees
                .iter()
                .filter_map(|(exec, bytes)| Some((service_of(exec)?, *bytes)))
                .collect(),
        })
    }
}

/// The service that a process is one of.
pub(crate) fn service_of(exec: &str) -> Option<String> {
    let (name, _) = exec.strip_prefix("svc-")?.rsplit_once('-')?;
    Some(name.to_owned())
}

/// Memory that new processes can have without anything being pushed out.
fn free_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().map_or(0, |kib| kib << 10)
}
