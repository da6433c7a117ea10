//! Entries to append.

use offshoot_core::{
    agent::{AgentEvent, PermissionPolicy},
    event::{Event, Limits, RunQueued, TaskCreated},
    id::{ProjectId, RunId, TaskId},
    lifecycle::RunEnd,
    time::Timestamp,
};
use offshoot_store::NewEntry;
use uuid::Uuid;

pub fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number)
}

pub fn task(number: u128) -> TaskId {
    TaskId(id(number))
}

pub fn run(number: u128) -> RunId {
    RunId(id(number << 32))
}

pub fn project(number: u128) -> ProjectId {
    ProjectId(id(number << 64))
}

pub fn entry(task: TaskId, run: Option<RunId>, event: Event) -> NewEntry {
    NewEntry { task, run, at: Timestamp(1_000), event }
}

pub fn created(project: ProjectId, name: &str) -> Event {
    Event::TaskCreated(TaskCreated {
        name: name.parse().unwrap(),
        project,
        root: "/home/u/r".to_owned(),
        base: "b".repeat(40),
        target: Some("main".to_owned()),
        branch: format!("offshoot/{name}"),
        agent: Some("claude".to_owned()),
        isolation: offshoot_core::isolation::Isolation::Sandbox,
        adopted: None,
        repository: String::new(),
        others: Vec::new(),
        scope: Vec::new(),
        shared: None,
        notices: vec!["the checkout has 3 changed files; they are not part of this task".to_owned()],
    })
}

pub fn queued(number: u32) -> Event {
    Event::RunQueued(RunQueued {
        number,
        prompt: "Add a \"date\" filter\0\n— and test it".to_owned(),
        model: None,
        check: Some("cargo test".to_owned()),
        pass_env: vec!["TOKEN".to_owned()],
        permission: PermissionPolicy::Allow,
        instructions: None,
        egress: vec!["example.org".parse().unwrap(), "host:8080".parse().unwrap()],
        limits: Limits { memory_bytes: 1 << 32, processes: 100, cpu_percent: None, disk_bytes: 1 << 34 },
    })
}

pub fn message(offset: u64) -> Event {
    let agent = AgentEvent::Message {
        role: offshoot_core::agent::Role::Assistant,
        text: "Now I will look at the parser, which is in src/parser.rs.".to_owned(),
    };
    Event::Agent { agent, offset }
}

pub fn ended(end: RunEnd) -> Event {
    Event::RunEnded { end, reason: "because".to_owned() }
}

/// A new task with its first run at work.
pub fn at_work(number: u128) -> Vec<NewEntry> {
    let (task, run) = (task(number), run(number));
    [
        created(project(1), &format!("task-{number}")),
        queued(1),
        Event::RunAdmitted,
        Event::AgentStarted { exec: "agent-1".to_owned() },
    ]
    .into_iter()
    .map(|event| entry(task, Some(run), event))
    .collect()
}
