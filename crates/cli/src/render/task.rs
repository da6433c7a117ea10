//! One task with its history.

use offshoot_core::{
    api::TaskView,
    event::Entry,
    lifecycle::EnvironmentState,
    part::PartRecord,
    record::{EnvironmentRecord, RunRecord, ServiceRecord},
};

use super::{
    approval,
    colour::Paint,
    event::{Printer, cost, limits},
};
use crate::commands::app;
use crate::text::{count, escape_block, escape_line, first_line, moment, short, size, span};

/// Facts first, then runs, checkpoints, and what happened.
pub(crate) fn history(view: &TaskView, events: &[Entry], colour: bool) -> String {
    let paint = Paint(colour);
    let task = &view.task;
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        text.push_str(&format!("{name:<12}{value}\n"));
    };
    let reason = task.reason.as_deref().map(|r| format!(": {}", first_line(r))).unwrap_or_default();
    fact("task", format!("{} ({})", paint.bold(task.name.as_str()), task.id));
    fact("state", paint.state(task.state, &format!("{}{reason}", task.state.word())));
    if let Some(place) = view.queue_place {
        let what = view.waits_for.as_deref().unwrap_or("waits for room");
        fact("queue", format!("place {place}: {}", escape_line(what)));
    }
    let by_hand =
        if task.shared.is_some() { "none, shared by tasks that are not about it" } else { "none, by hand" };
    fact("agent", task.agent.as_deref().map_or(by_hand.to_owned(), escape_line));
    fact("repository", escape_line(&task.root));
    fact("branch", escape_line(&task.branch));
    let target = task.target.as_deref().map(|t| format!(", from {}", escape_line(t))).unwrap_or_default();
    fact("base", format!("{}{target}", short(&task.base)));
    if let Some(head) = &task.head {
        fact("head", short(head).to_owned());
    }
    if let Some(commit) = &task.landed {
        fact("landed", short(commit).to_owned());
    }
    if task.changes.files > 0 {
        let changes = &task.changes;
        fact(
            "changes",
            format!("{}, +{} −{}", count(changes.files.into(), "file"), changes.added, changes.deleted),
        );
    }
    for other in &task.others {
        fact("and", describe_other(other, &task.branch));
        if let Some(why) = &other.unpublished {
            fact(
                "note",
                format!("{}: not in your repository yet: {}", escape_line(&other.name), escape_line(why)),
            );
        }
    }
    if let Some(environment) = &task.environment {
        fact("environment", describe(environment, view));
        for service in &environment.services {
            fact("service", describe_service(service));
        }
    }
    for view in &view.apps {
        fact("app", app::line(view));
    }
    for port in view.ports.iter().filter(|port| !view.apps.iter().any(|app| app.name == port.name)) {
        fact("port", format!("{} is {}", escape_line(&port.address), escape_line(&port.name)));
    }
    if let Some(why) = &task.unpublished {
        fact("note", format!("not in your repository yet: {}", escape_line(why)));
    }
    if !task.scope.is_empty() {
        fact("scope", escape_line(&task.scope.join(", ")));
    }
    let (drafts, sent) = (task.drafts().count() as u64, task.comments.len() as u64);
    if sent > 0 {
        fact("comments", format!("{sent}, of them {}", count(drafts, "draft")));
    }
    if let Some(prompt) = &view.suggested_prompt {
        let said = escape_line(prompt);
        fact("next", format!("{said} (offshoot follow-up {} --from-denial)", task.name));
    }
    for notice in &task.notices {
        fact("note", escape_line(notice));
    }
    for approval in task.waiting() {
        let name = format!("{}/{}", task.name, approval.number);
        text.push_str(&format!("\n{}\n", paint.bold(&format!("{name} waits for you"))));
        text.push_str(&approval::body(&name, approval, paint));
    }
    for run in &task.runs {
        text.push('\n');
        text.push_str(&describe_run(run, paint));
    }
    if !task.checkpoints.is_empty() {
        text.push_str(&format!(
            "\n{}\n",
            paint.bold("checkpoints (offshoot diff TASK --step NUMBER, offshoot restore TASK NUMBER)")
        ));
        for checkpoint in &task.checkpoints {
            text.push_str(&format!(
                "  {:>3}  {}  {}  {}\n",
                checkpoint.number,
                moment(checkpoint.at),
                count(checkpoint.changed.into(), "file"),
                escape_line(&checkpoint.title)
            ));
        }
    }
    if !events.is_empty() {
        text.push_str(&format!("\n{}\n", paint.bold("what happened")));
        let mut printer = Printer::new(colour);
        let stamped = |at, said: &str, text: &mut String| {
            for (n, line) in said.lines().enumerate() {
                let stamp = if n == 0 { moment(at) } else { " ".repeat(19) };
                text.push_str(&format!("  {}  {line}\n", paint.faint(&stamp)));
            }
        };
        for entry in events {
            if let Some(said) = printer.print(entry) {
                stamped(entry.at, &said, &mut text);
            }
        }
        if let (Some(said), Some(last)) = (printer.flush(), events.last()) {
            stamped(last.at, &said, &mut text);
        }
    }
    text
}

fn describe(environment: &EnvironmentRecord, view: &TaskView) -> String {
    let state = match environment.state {
        EnvironmentState::Creating => "is made",
        EnvironmentState::Up => "up",
        EnvironmentState::Suspended => "frozen",
        EnvironmentState::Down => "down, its files are kept",
        EnvironmentState::Removed => "removed",
    };
    let mut parts = vec![state.to_owned()];
    parts.extend(environment.tier.as_deref().map(|tier| format!("isolation {}", escape_line(tier))));
    parts.extend(environment.up_us.map(|us| format!("came up in {}", span(us.div_ceil(1000)))));
    parts.extend(view.memory_bytes.map(|b| format!("{} memory", size(b))));
    parts.extend(
        view.processes.map(|n| if n == 1 { "1 process".to_owned() } else { format!("{n} processes") }),
    );
    parts.extend(view.disk_bytes.map(|b| format!("{} disk", size(b))));
    if !environment.soft_limits.is_empty() {
        parts.push(format!("watched only: {}", escape_line(&environment.soft_limits.join(", "))));
    }
    parts.join(", ")
}

fn describe_other(other: &PartRecord, branch: &str) -> String {
    let mut parts = vec![format!("{} in {}", escape_line(&other.name), escape_line(&other.root))];
    if other.read_only {
        parts.push(format!("shown at {}, for reading only", short(&other.base)));
        return parts.join(", ");
    }
    let target = other.target.as_deref().map(|t| format!(" of {}", escape_line(t))).unwrap_or_default();
    parts.push(format!("branch {} from {}{target}", escape_line(branch), short(&other.base)));
    parts.extend(other.head.as_deref().map(|head| format!("head {}", short(head))));
    if other.changes.files > 0 {
        let changes = &other.changes;
        let files = count(changes.files.into(), "file");
        parts.push(format!("{files}, +{} −{}", changes.added, changes.deleted));
    }
    parts.extend(other.landed.as_deref().map(|commit| format!("landed as {}", short(commit))));
    parts.join(", ")
}

fn describe_service(record: &ServiceRecord) -> String {
    let service = &record.service;
    let ports: Vec<_> = service.ports.iter().map(ToString::to_string).collect();
    let place = if ports.is_empty() { String::new() } else { format!(":{}", ports.join(",")) };
    let mut parts = vec![format!("{}{place} {}", escape_line(&service.name), record.state.word())];
    parts.push(escape_line(&service.runs));
    parts.extend(record.ready_ms.map(|ms| format!("ready after {}", span(ms))));
    if record.restarts > 0 {
        parts.push(format!("started again {}", times(record.restarts)));
    }
    parts.extend(record.reason.as_deref().map(first_line));
    parts.join(", ")
}

fn times(n: u32) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}

fn describe_run(run: &RunRecord, paint: Paint) -> String {
    let mut text =
        format!("{}\n", paint.bold(&format!("run {}, asked {}", run.number, moment(run.queued_at))));
    for line in escape_block(run.prompt.trim()).lines() {
        text.push_str(&format!("  {line}\n"));
    }
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<10}{value}\n"));
        }
    };
    fact("model", run.model.as_deref().map(escape_line).unwrap_or_default());
    let names: Vec<String> = run.pass_env.iter().map(|n| escape_line(n)).collect();
    fact("let in", names.join(", "));
    let hosts: Vec<String> = run.egress.iter().map(ToString::to_string).collect();
    fact("may reach", hosts.join(", "));
    fact("limits", limits(&run.limits));
    fact("cost", cost(run.input_tokens, run.output_tokens, run.cost_usd));
    if let Some(check) = &run.check {
        let outcome = match run.check_code {
            None => String::new(),
            Some(0) => " passed".to_owned(),
            Some(-1) => " was killed or took too long".to_owned(),
            Some(code) => format!(" failed with {code}"),
        };
        fact("check", format!("{}{outcome}", escape_line(check)));
    }
    if let (Some(ended), Some(started)) = (run.ended_at, run.started_at) {
        fact("took", span(ended.since(started)));
    }
    fact("ended", run.reason.as_deref().map(first_line).unwrap_or_default());
    text
}
