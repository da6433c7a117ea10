//! What a new task would be, for people.

use offshoot_core::{api::PlanView, isolation::Isolation};

use crate::text::{escape_line, short, size};

/// One fact a line; notices last.
pub(crate) fn plan(plan: &PlanView) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<13}{}\n", escape_line(value)));
        }
    };
    let agent = plan.agent.as_deref().unwrap_or("none, by hand");
    let model = plan.model.as_ref().map(|model| format!(", model {model}")).unwrap_or_default();
    fact("task", plan.name.as_str());
    fact("agent", &format!("{agent}{model}"));
    fact("repository", &plan.root);
    fact("with", &plan.repositories.join(", "));
    let files = if plan.prepared { "laid out already" } else { "to be checked out first" };
    fact("from", &format!("{}, {files}", short(&plan.base)));
    fact("branch", &plan.branch);
    fact("lands in", plan.target.as_deref().unwrap_or_default());
    fact("check", plan.check.as_deref().unwrap_or_default());
    fact(
        "isolation",
        match plan.isolation {
            Isolation::Sandbox => "sandbox",
            Isolation::Worktree => "worktree, no process isolation",
        },
    );
    fact("setup", &plan.setups.join(", "));
    fact("services", &plan.services.join(", "));
    let hosts: Vec<_> = plan.egress.iter().map(ToString::to_string).collect();
    fact("hosts", &hosts.join(", "));
    let (limits, counted) = (&plan.limits, size(plan.counted_bytes));
    fact("memory", &format!("at most {}, counted as {counted}", size(limits.memory_bytes)));
    fact(
        "starts",
        &match (&plan.queue_place, &plan.waits_for) {
            (Some(place), Some(reason)) => format!("place {place} in the queue: {reason}"),
            _ => "at once".to_owned(),
        },
    );
    for notice in &plan.notices {
        text.push_str(&format!("note: {}\n", escape_line(notice)));
    }
    text
}
