//! `offshoot capacity`.

use std::process::ExitCode;

use offshoot_core::api::{CapacityView, UsageView};

use crate::{
    failure::Outcome,
    project::root_of,
    session::{Session, encode},
    text::{cut, escape_line, pad, size},
};

/// Say how many more environments fit this machine, why not more, and what each uses
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, session: &Session) -> Outcome {
    // Outside a repository the default limits count.
    let root = std::env::current_dir().ok().and_then(|dir| root_of(&dir));
    let query = root.map(|root| format!("?path={}", encode(&root.to_string_lossy()))).unwrap_or_default();
    let view: CapacityView = session.client.get(&format!("/v1/capacity{query}")).await?;
    if session.screen.json {
        session.screen.print_json(&view)?;
    } else {
        session.screen.print(&text(&view, session.screen.columns()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(view: &CapacityView, columns: usize) -> String {
    let mut text =
        format!("room for {} more; the next would wait for {}\n", view.room_for, view.then_waits_for);
    let mut fact = |name: &str, value: String| text.push_str(&format!("{name:<10}{value}\n"));
    fact("runs", format!("{} of {} work, {} wait", view.active_runs, view.max_runs, view.queued_runs));
    fact(
        "memory",
        format!(
            "{} of {} counted, {} for each more; {} free now",
            size(view.counted_bytes),
            size(view.memory_bytes),
            size(view.each_bytes),
            size(view.free_memory_bytes)
        ),
    );
    fact("disk", format!("{} free", size(view.free_disk_bytes)));
    if !view.environments.is_empty() {
        text.push_str("\nENVIRONMENT               MEM    DISK  PROCESSES  SERVICES\n");
    }
    for usage in &view.environments {
        text.push_str(&cut(&line(usage), columns));
        text.push('\n');
    }
    text
}

fn line(usage: &UsageView) -> String {
    let services: Vec<_> = usage
        .services
        .iter()
        .map(|(name, bytes)| format!("{} {}", escape_line(name), size(*bytes)))
        .collect();
    let frozen = if usage.suspended { "frozen  " } else { "" };
    format!(
        "{}  {:>6}  {:>6}  {:>9}  {frozen}{}",
        pad(&escape_line(&usage.task), 22),
        size(usage.memory_bytes),
        size(usage.disk_bytes),
        usage.processes,
        services.join(", ")
    )
}
