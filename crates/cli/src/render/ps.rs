//! The list of tasks: who waits for the person first.

use offshoot_core::{
    api::{DaemonView, TaskList, TaskView},
    event::Changes,
    lifecycle::{AppState, EnvironmentState, ServiceState, TaskState},
    record::TaskRecord,
};

use super::colour::Paint;
use crate::text::{age, count, cut, escape_line, pad, short, size, width};

/// The table with its foot.
pub(crate) fn table(list: &TaskList, daemon: Option<&DaemonView>, columns: usize, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    if list.tasks.is_empty() {
        text.push_str("no tasks; offshoot run \"…\" makes one\n");
    } else {
        let mut tasks: Vec<&TaskView> = list.tasks.iter().collect();
        tasks.sort_by_key(|view| rank(view.task.state));
        let rows: Vec<[String; 8]> = tasks.iter().map(|view| cells(view, list)).collect();
        let widths = widths(&rows, columns);
        text.push_str(&paint.bold(&line(&HEAD.map(str::to_owned), &widths)));
        text.push('\n');
        for (row, view) in rows.iter().zip(&tasks) {
            let mut row = row.clone();
            let state = pad(&row[1], widths[1]);
            // Colour has no columns, so it goes in after everything is measured.
            row[1] = "\u{1}".repeat(widths[1]);
            let plain = line_raw(&row, &widths);
            let coloured = paint.state(view.task.state, &state);
            text.push_str(plain.replacen(&row[1], &coloured, 1).trim_end());
            text.push('\n');
            for line in repositories(&view.task) {
                text.push_str(&paint.faint(&cut(&line, columns)));
                text.push('\n');
            }
        }
    }
    for view in &list.tasks {
        for app in view.apps.iter().filter(|app| app.state == AppState::Running) {
            let Some(url) = &app.url else { continue };
            text.push_str(
                &paint.faint(&cut(
                    &format!("{} runs at {}", escape_line(&app.name), escape_line(url)),
                    columns,
                )),
            );
            text.push('\n');
        }
    }
    for view in &list.tasks {
        for line in services(&view.task) {
            text.push_str(&paint.red(&cut(&line, columns)));
            text.push('\n');
        }
    }
    if let Some(daemon) = daemon {
        for note in foot(list, daemon) {
            text.push_str(&paint.faint(&cut(&note, columns)));
            text.push('\n');
        }
    }
    text
}

const HEAD: [&str; 8] = ["TASK", "STATE", "AGENT", "LATEST", "COMMIT", "FILES", "AGE", "MEM"];
/// Columns that give way when the terminal is narrow, with the least they keep.
const FLEXIBLE: [(usize, usize); 4] = [(3, 8), (4, 6), (2, 6), (0, 12)];

/// Waiting for the person first, then what went wrong, what is done, what rests, what works, what waits.
fn rank(state: TaskState) -> u8 {
    match state {
        TaskState::NeedsAttention => 0,
        TaskState::Failed => 1,
        TaskState::Complete => 2,
        TaskState::Stopped => 3,
        TaskState::Idle => 4,
        TaskState::Running => 5,
        TaskState::Queued => 6,
        TaskState::Landed => 7,
        TaskState::Discarded => 8,
    }
}

/// Of a task over several repositories, a line for each.
fn repositories(task: &TaskRecord) -> Vec<String> {
    if task.shared.is_some() {
        let branch = task.target.as_deref().unwrap_or("a commit");
        return vec![format!(
            "  shared by tasks that are not about it: {} at {}",
            escape_line(branch),
            short(&task.base)
        )];
    }
    if task.others.is_empty() {
        return Vec::new();
    }
    let line = |name: &str, branch: &str, head: Option<&str>, changes: &Changes| {
        let head = head.map(|head| format!(" at {}", short(head))).unwrap_or_default();
        let files = match changes.files {
            0 => "no changes".to_owned(),
            files => format!("{} (+{} −{})", count(files.into(), "file"), changes.added, changes.deleted),
        };
        format!("  {}: {}{head}, {files}", escape_line(name), escape_line(branch))
    };
    let mut lines = vec![line(&task.repository, &task.branch, task.head.as_deref(), &task.changes)];
    lines.extend(task.others.iter().map(|other| match other.read_only {
        true => format!("  {}: for reading only, at {}", escape_line(&other.name), short(&other.base)),
        false => line(&other.name, &task.branch, other.head.as_deref(), &other.changes),
    }));
    lines
}

/// A line for each service that does not do what it should.
fn services(task: &TaskRecord) -> Vec<String> {
    let environment = task.environment.as_ref().filter(|e| e.state.has_processes());
    let services = environment.into_iter().flat_map(|environment| &environment.services);
    let wrong = services.filter(|s| matches!(s.state, ServiceState::Unhealthy | ServiceState::Failed));
    wrong
        .map(|s| {
            let reason = s.reason.as_deref().map(|r| format!(": {}", escape_line(r))).unwrap_or_default();
            format!("{} of {} {}{reason}", escape_line(&s.service.name), task.name, s.state.word())
        })
        .collect()
}

fn cells(view: &TaskView, list: &TaskList) -> [String; 8] {
    let task = &view.task;
    let run = task.run();
    let mut agent = match &task.agent {
        Some(agent) => escape_line(agent),
        None if task.shared.is_some() => "(shared)".to_owned(),
        None => "(by hand)".to_owned(),
    };
    let mut more: Vec<String> = run.and_then(|r| r.model.as_deref()).map(escape_line).into_iter().collect();
    more.extend(run.iter().flat_map(|r| &r.pass_env).map(|name| format!("+{}", escape_line(name))));
    if !more.is_empty() {
        agent.push_str(&format!(" ({})", more.join(", ")));
    }
    let latest = match task.state {
        TaskState::Queued => match (&view.waits_for, view.queue_place) {
            (Some(what), Some(place)) => format!("place {place}: {what}"),
            (Some(what), None) => what.clone(),
            (None, Some(place)) => format!("place {place}"),
            (None, None) => String::new(),
        },
        TaskState::NeedsAttention | TaskState::Failed => task
            .reason
            .as_deref()
            .or(task.latest_tool.as_deref())
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
        // Without an agent it is a step of making the environment, and over.
        TaskState::Idle if task.agent.is_none() => String::new(),
        _ => task.latest_tool.clone().unwrap_or_default(),
    };
    let changes = &task.changes;
    let files = match changes.files {
        0 => "-".to_owned(),
        files => format!("{files} (+{} −{})", changes.added, changes.deleted),
    };
    let memory = match task.environment.as_ref().map(|e| e.state) {
        Some(EnvironmentState::Suspended) => "frozen".to_owned(),
        Some(EnvironmentState::Up | EnvironmentState::Creating) => {
            view.memory_bytes.map_or_else(String::new, size)
        }
        _ => "-".to_owned(),
    };
    [
        task.name.to_string(),
        task.state.word().to_owned(),
        agent,
        escape_line(&latest),
        changes.latest_commit.as_deref().map(escape_line).unwrap_or_default(),
        files,
        age(list.now, task.created_at),
        memory,
    ]
}

fn widths(rows: &[[String; 8]], columns: usize) -> [usize; 8] {
    let mut widths = HEAD.map(width);
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(width(cell));
        }
    }
    // Past these, a column says no more that matters in a list.
    widths[2] = widths[2].min(40);
    widths[3] = widths[3].min(60);
    widths[4] = widths[4].min(50);
    let mut over = (widths.iter().sum::<usize>() + 2 * (widths.len() - 1)).saturating_sub(columns);
    for (column, least) in FLEXIBLE {
        let give = over.min(widths[column].saturating_sub(least));
        widths[column] -= give;
        over -= give;
    }
    widths
}

fn line(cells: &[String; 8], widths: &[usize; 8]) -> String {
    line_raw(cells, widths).trim_end().to_owned()
}

fn line_raw(cells: &[String; 8], widths: &[usize; 8]) -> String {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, w)| if cell.starts_with('\u{1}') { cell.clone() } else { pad(cell, *w) })
        .collect();
    padded.join("  ")
}

fn foot(list: &TaskList, daemon: &DaemonView) -> Vec<String> {
    let mut notes = vec![format!(
        "{} active, {} queued; room for {} more",
        daemon.active_runs, daemon.queued_runs, daemon.room_for
    )];
    match list.tasks.iter().map(|view| view.task.waiting().count()).sum::<usize>() {
        0 => {}
        1 => notes.push("1 question waits for you: offshoot approvals".to_owned()),
        many => notes.push(format!("{many} questions wait for you: offshoot approvals")),
    }
    let live =
        || list.tasks.iter().filter_map(|v| v.task.environment.as_ref()).filter(|e| e.state.has_processes());
    let mut tiers: Vec<&str> = live().filter_map(|e| e.tier.as_deref()).collect();
    tiers.sort_unstable();
    tiers.dedup();
    if !tiers.is_empty() {
        notes.push(format!("isolation: {}", escape_line(&tiers.join(", "))));
    }
    let mut soft: Vec<&str> = live().flat_map(|e| &e.soft_limits).map(String::as_str).collect();
    soft.sort_unstable();
    soft.dedup();
    if !soft.is_empty() {
        notes.push(format!(
            "watched, not enforced by the kernel: {} (offshoot doctor says how to mend it)",
            escape_line(&soft.join(", "))
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use offshoot_core::{event::Limits, time::Timestamp};
    use serde_json::json;

    use super::*;

    fn view(name: &str, state: &str, latest: &str) -> TaskView {
        let at = 1_000_000;
        serde_json::from_value(json!({
            "task": {
                "id": "01900000-0000-7000-8000-000000000001", "name": name,
                "project": "01900000-0000-7000-8000-000000000002", "root": "/r", "base": "b", "target": "main",
                "branch": format!("offshoot/{name}"), "agent": "claude", "notices": [], "state": state,
                "state_since": at, "reason": null, "created_at": at, "updated_at": at, "runs": [{
                    "id": "01900000-0000-7000-8000-000000000003", "number": 1, "prompt": "p", "model": "opus",
                    "check": null, "pass_env": ["ANTHROPIC_API_KEY"], "permission": "allow", "egress": [],
                    "limits": {"memory_bytes": 1, "processes": 1, "cpu_percent": null, "disk_bytes": 1},
                    "state": "working", "queued_at": at, "started_at": at, "ended_at": null, "exec": null,
                    "offset": 0, "stop_requested": false, "check_code": null, "check_output": null,
                    "reason": null, "input_tokens": 0, "output_tokens": 0, "cost_usd": null
                }],
                "environment": {
                    "id": "01900000-0000-7000-8000-000000000004", "base": "b", "setup": null, "state": "up",
                    "since": at, "tier": "namespaces", "soft_limits": ["memory"], "up_us": 9000
                },
                "session": null, "latest_tool": latest,
                "changes": {"files": 3, "added": 40, "deleted": 2, "latest_commit": "Add a\u{1b}[2J filter"},
                "checkpoints": [], "head": null, "unpublished": null, "landed": null, "landing": null
            },
            "queue_place": null, "waits_for": null, "memory_bytes": 340 << 20, "processes": 4, "disk_bytes": 1
        }))
        .unwrap()
    }

    fn list() -> TaskList {
        TaskList {
            tasks: vec![
                view("add-a-date-filter", "running", "Edit src/filter.rs"),
                view("fix-it", "needs_attention", "Bash: cargo test --workspace --all-features 日本語"),
                view("done", "complete", ""),
            ],
            seq: 9,
            now: Timestamp(1_000_000 + 125_000),
        }
    }

    fn daemon() -> DaemonView {
        DaemonView {
            pid: 1,
            version: "0.1.0".into(),
            api_version: 1,
            state_dir: "/s".into(),
            started_at: Timestamp(0),
            active_runs: 2,
            queued_runs: 0,
            room_for: 5,
            max_runs: 8,
            memory_bytes: 1,
            tcp: None,
            preview: None,
            default_limits: Limits { memory_bytes: 1, processes: 1, cpu_percent: None, disk_bytes: 1 },
        }
    }

    #[test]
    fn who_waits_for_the_person_comes_first() {
        let text = table(&list(), Some(&daemon()), 200, false);
        let names: Vec<&str> = text.lines().skip(1).take(3).filter_map(|l| l.split(' ').next()).collect();
        assert_eq!(names, ["fix-it", "done", "add-a-date-filter"]);
        assert!(text.contains("claude (opus, +ANTHROPIC_API_KEY)"), "{text}");
        assert!(text.contains("Add a␛[2J filter") && !text.contains('\x1b'), "{text}");
        assert!(text.contains("3 (+40 −2)  2m   340M"), "{text}");
        assert!(
            text.contains(
                "room for 5 more\nisolation: namespaces\nwatched, not enforced by the kernel: memory"
            )
        );
    }

    #[test]
    fn every_line_fits_the_terminal() {
        for columns in [80, 100, 120, 160] {
            for line in table(&list(), Some(&daemon()), columns, false).lines() {
                assert!(width(line) <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let plain = table(&list(), None, 100, false);
        let mut coloured = table(&list(), None, 100, true);
        for code in ["\x1b[1m", "\x1b[0m", "\x1b[1;33m", "\x1b[32m", "\x1b[36m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(plain, coloured);
    }

    #[test]
    fn no_tasks_say_what_to_do() {
        let empty = TaskList { tasks: vec![], seq: 0, now: Timestamp(0) };
        assert_eq!(table(&empty, None, 80, false), "no tasks; offshoot run \"…\" makes one\n");
    }
}
