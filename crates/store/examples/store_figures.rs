//! Figures: `cargo run --release -p offshoot-store --example store_figures [events]` in a directory on the disk to measure.

use std::{path::Path, time::Instant};

use offshoot_core::{
    agent::{AgentEvent, PermissionPolicy, Role},
    event::{Event, Limits, RunQueued, TaskCreated},
    id::{RunId, TaskId},
    time::Timestamp,
};
use offshoot_store::{NewEntry, Store, TaskFilter};
use uuid::Uuid;

const TASKS: usize = 200;

fn begin(number: usize, store: &Store) -> Result<(TaskId, RunId), Box<dyn std::error::Error>> {
    let (task, run) = (TaskId(Uuid::now_v7()), RunId(Uuid::now_v7()));
    let created = TaskCreated {
        name: format!("task-{number}").parse()?,
        project: store.project("/r/.git", "/r")?,
        root: "/r".to_owned(),
        base: "b".repeat(40),
        target: Some("main".to_owned()),
        branch: format!("offshoot/task-{number}"),
        agent: Some("claude".to_owned()),
        isolation: offshoot_core::isolation::Isolation::Sandbox,
        adopted: None,
        repository: String::new(),
        others: Vec::new(),
        scope: Vec::new(),
        shared: None,
        notices: Vec::new(),
    };
    let queued = RunQueued {
        number: 1,
        prompt: "Add a date filter to the list of invoices. ".repeat(20),
        model: None,
        check: Some("cargo test".to_owned()),
        pass_env: Vec::new(),
        permission: PermissionPolicy::Allow,
        instructions: None,
        egress: Vec::new(),
        limits: Limits { memory_bytes: 1 << 32, processes: 4096, cpu_percent: None, disk_bytes: 1 << 34 },
    };
    let events = [
        Event::TaskCreated(created),
        Event::RunQueued(queued),
        Event::RunAdmitted,
        Event::AgentStarted { exec: "agent-1".to_owned() },
    ];
    store.append(&events.map(|event| NewEntry { task, run: Some(run), at: Timestamp(1), event }))?;
    Ok((task, run))
}

fn message(of: (TaskId, RunId), offset: u64) -> NewEntry {
    let agent = AgentEvent::Message {
        role: Role::Assistant,
        text: "The parser reads one line at a time, so I will add the filter there. ".repeat(3),
    };
    NewEntry { task: of.0, run: Some(of.1), at: Timestamp(1), event: Event::Agent { agent, offset } }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let total: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let dir = tempfile::tempdir_in(".")?;
    let path = dir.path().join("store.db");
    let store = Store::open(&path)?;
    let tasks = (0..TASKS).map(|number| begin(number, &store)).collect::<Result<Vec<_>, _>>()?;
    let of = |n: u64| tasks.get(n as usize % TASKS).copied().unwrap_or(tasks[0]);

    single(&store, of, "empty")?;
    let start = Instant::now();
    let mut slowest = 0.0f64;
    let mut written = 0;
    while store.last_seq() < total {
        let batch: Vec<_> = (0..50).map(|n| message(of(written / 50 + n % 4), written + n)).collect();
        let one = Instant::now();
        store.append(&batch)?;
        slowest = slowest.max(one.elapsed().as_secs_f64());
        written += 50;
        if written % 200_000 == 0 {
            println!(
                "  {written} in batches of 50: {:.0}/s so far",
                written as f64 / start.elapsed().as_secs_f64()
            );
        }
    }
    println!("slowest batch {:.1} ms", slowest * 1e3);
    single(&store, of, "full")?;

    timed("tasks() with 200", 20, || store.tasks(&TaskFilter::default(), 1000).map(|list| list.len()))?;
    timed("task()", 1000, || store.task(tasks[7].0).map(|_| 0))?;
    timed("entries(newest 100)", 100, || {
        store.entries(store.last_seq() - 100, None, 1000).map(|list| list.len())
    })?;
    timed("entries of a task, 500", 100, || store.entries(0, Some(tasks[3].0), 500).map(|list| list.len()))?;
    timed("find(name)", 1000, || store.find("task-77", None).map(|list| list.len()))?;
    timed("queued()", 1000, || store.queued().map(|list| list.len()))?;
    timed("backup()", 1, || store.backup().map(|_| 0))?;
    drop(store);
    println!("{} MiB", std::fs::metadata(&path)?.len() >> 20);
    opened("open", &path)?;
    std::fs::write(dir.path().join("store.db.lock"), "open\n")?;
    opened("open after an unclean end", &path)?;
    let store = Store::open(&path)?;
    timed("rebuild()", 1, || store.rebuild())?;
    Ok(())
}

fn single(
    store: &Store,
    of: impl Fn(u64) -> (TaskId, RunId),
    what: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut times: Vec<f64> = Vec::new();
    for n in 0..20_000 {
        let entry = message(of(n), 1 << 30);
        let start = Instant::now();
        store.append(&[entry])?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let sum: f64 = times.iter().sum();
    times.sort_by(f64::total_cmp);
    println!(
        "single appends, {what}: {:.0}/s, median {:.0} µs, p99 {:.0} µs, slowest {:.0} µs",
        times.len() as f64 / sum * 1e6,
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1]
    );
    Ok(())
}

fn timed<E: std::error::Error + 'static>(
    what: &str,
    times: u32,
    work: impl Fn() -> Result<usize, E>,
) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut got = 0;
    for _ in 0..times {
        got = work()?;
    }
    println!("{what}: {:.3} ms ({got})", start.elapsed().as_secs_f64() * 1e3 / f64::from(times));
    Ok(())
}

fn opened(what: &str, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let store = Store::open(path)?;
    println!("{what}: {:.1} ms ({} events)", start.elapsed().as_secs_f64() * 1e3, store.last_seq());
    Ok(())
}
