//! Events in plain words, one after the other. Pieces of one message are put together before they are shown.

use offshoot_core::{
    agent::{AgentEvent, AnsweredBy, Role, ToolStatus, TurnEnd},
    event::{Entry, Event},
    lifecycle::RunEnd,
};

use super::{approval::Teller, colour::Paint};
use crate::text::{count, escape_block, escape_line, short, size, span};

/// Makes lines of entries. Holds back a message until it is whole.
#[derive(Debug)]
pub(crate) struct Printer {
    paint: Paint,
    message: Option<(Role, String)>,
    approvals: Teller,
}

/// Longest message held back before its beginning is shown: some screens of text.
const MAX_HELD: usize = 16 << 10;

impl Printer {
    /// With or without colour.
    pub(crate) fn new(colour: bool) -> Self {
        Self { paint: Paint(colour), message: None, approvals: Teller::default() }
    }

    /// For somebody who may want to answer what this task asks.
    pub(crate) fn of_task(mut self, name: &str) -> Self {
        self.approvals.task = Some(name.to_owned());
        self
    }

    /// What to show now that this entry is known.
    pub(crate) fn print(&mut self, entry: &Entry) -> Option<String> {
        if let Event::Agent { agent: AgentEvent::Message { role, text }, .. } = &entry.event {
            let mut before = None;
            match &mut self.message {
                Some((held, message)) if held == role && message.len() < MAX_HELD => message.push_str(text),
                _ => {
                    before = self.flush();
                    self.message = Some((*role, text.clone()));
                }
            }
            return before;
        }
        let about = self.approvals.tell(&entry.event, self.paint);
        let line = about.or_else(|| line(&entry.event, self.paint));
        line.as_ref()?;
        let lines: Vec<String> = self.flush().into_iter().chain(line).collect();
        Some(lines.join("\n"))
    }

    /// What is held back.
    pub(crate) fn flush(&mut self) -> Option<String> {
        let (role, text) = self.message.take()?;
        let text = escape_block(text.trim());
        if text.is_empty() {
            return None;
        }
        Some(match role {
            Role::Assistant => text,
            Role::Thought => self.paint.faint(&text),
        })
    }
}

/// One event in words; `None` if it says nothing to a person.
fn line(event: &Event, paint: Paint) -> Option<String> {
    let text = match event {
        Event::TaskCreated(created) => {
            let target = created.target.as_deref().map(escape_line).unwrap_or_else(|| "no branch".to_owned());
            let mut text = format!("created from {target} at {}", short(&created.base));
            for other in &created.others {
                let target =
                    other.target.as_deref().map(escape_line).unwrap_or_else(|| "no branch".to_owned());
                text.push_str(&format!(
                    "\n{} from {target} at {}",
                    escape_line(&other.name),
                    short(&other.base)
                ));
            }
            text
        }
        Event::RunQueued(queued) if queued.prompt.is_empty() => "asked for an environment".to_owned(),
        Event::RunQueued(queued) => {
            return Some(paint.bold(&format!(
                "run {}: {}",
                queued.number,
                escape_block(queued.prompt.trim())
            )));
        }
        Event::RunAdmitted => return None,
        Event::EnvironmentCreating(_) => return None,
        Event::EgressRefused { host, port, reason } => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("refused {}{port}: {}", escape_line(host), escape_line(reason))
        }
        Event::ServiceStarting { .. } => return None,
        Event::ServiceReady { service, took_ms, .. } => {
            format!("{} is ready after {}", escape_line(service), span(*took_ms))
        }
        Event::ServiceCompleted { service, .. } => format!("{} is done", escape_line(service)),
        Event::ServiceUnhealthy { service, reason, .. } => {
            paint.red(&format!("{} is unhealthy: {}", escape_line(service), escape_line(reason)))
        }
        Event::ServiceHealthy { service, .. } => format!("{} is healthy", escape_line(service)),
        Event::ServiceStopped { service, .. } => format!("{} was stopped", escape_line(service)),
        Event::ServiceFailed { service, reason, log, again, .. } => {
            let next = if *again { "; it is started again" } else { "" };
            let what = paint.red(&format!("{}: {}{next}", escape_line(service), escape_line(reason)));
            [what, paint.faint(&escape_block(log.trim_end()))].join("\n").trim_end().to_owned()
        }
        Event::Noticed { notices } => {
            notices.iter().map(|n| format!("note: {}", escape_line(n))).collect::<Vec<_>>().join("\n")
        }
        Event::Preparing { step } => escape_line(step),
        Event::EnvironmentUp { tier, soft_limits, took_us, .. } => {
            let soft = if soft_limits.is_empty() {
                String::new()
            } else {
                format!("; watched only: {}", escape_line(&soft_limits.join(", ")))
            };
            format!("environment up in {} ({}{soft})", span(took_us.div_ceil(1000)), escape_line(tier))
        }
        Event::EnvironmentSuspended { .. } => "environment frozen: nothing happened in it".to_owned(),
        Event::EnvironmentResumed { .. } => "environment thawed".to_owned(),
        Event::EnvironmentLost { reason, .. } => {
            format!("environment lost: {}; its files are kept", escape_line(reason))
        }
        Event::EnvironmentRemoved { reason, .. } => format!("environment removed: {}", escape_line(reason)),
        Event::AppStarted { app, .. } => format!("app {} started", escape_line(app)),
        Event::AppEnded { app, reason, asked, .. } => {
            let what = format!("app {}: {}", escape_line(app), escape_line(reason));
            return Some(if *asked { paint.faint(&what) } else { paint.red(&what) });
        }
        Event::AgentFailed { reason, .. } => {
            return Some(paint.red(&format!("agent failed: {}", escape_line(reason))));
        }
        Event::AgentStarted { .. } => "agent started".to_owned(),
        Event::Agent { agent, .. } => return agent_line(agent, paint),
        Event::Checkpoint { number, title, changed, .. } => {
            format!("checkpoint {number}: {} ({})", escape_line(title), count((*changed).into(), "file"))
        }
        Event::Changes(_) => return None,
        // `Teller` says these.
        Event::ApprovalRequested(_)
        | Event::ApprovalAnswered(_)
        | Event::ApprovalWithdrawn { .. }
        | Event::RuleRemoved { .. } => return None,
        Event::AttentionNeeded { reason } => {
            return Some(paint.red(&format!("needs attention: {}", escape_line(reason))));
        }
        Event::AttentionSettled => "settled, goes on".to_owned(),
        Event::AgentResting => "agent rests".to_owned(),
        Event::SessionLost => "its session is not known any more; it begins a new one".to_owned(),
        Event::StopRequested => "asked to stop".to_owned(),
        Event::CheckStarted { command, .. } => format!("check: {}", escape_line(command)),
        Event::CheckEnded { code: Some(0), .. } => return Some(paint.green("check passed")),
        Event::CheckEnded { code, output } => {
            let how = code.map_or("was killed or took too long".to_owned(), |c| format!("failed with {c}"));
            return Some(format!(
                "{}\n{}",
                paint.red(&format!("check {how}")),
                escape_block(output.trim_end())
            ));
        }
        Event::Harvesting => return None,
        Event::Harvested(harvested) => {
            let line = |commits: u32, files: u32, leftovers: bool, unpublished: Option<&str>| {
                let leftovers = if leftovers { ", what was left uncommitted among them" } else { "" };
                let unpublished = unpublished
                    .map(|why| format!("\nnot in your repository yet: {}", escape_line(why)))
                    .unwrap_or_default();
                let (commits, files) = (count(commits.into(), "commit"), count(files.into(), "file"));
                format!("{commits} on the branch, {files} changed{leftovers}{unpublished}")
            };
            let main = harvested;
            let own = main.unpublished.as_deref();
            let mut text = line(main.commits, main.changes.files, main.leftovers, own);
            for other in &harvested.others {
                let said =
                    line(other.commits, other.changes.files, other.leftovers, other.unpublished.as_deref());
                text.push_str(&format!("\n{}: {said}", escape_line(&other.name)));
            }
            text
        }
        Event::RunEnded { end, reason } => {
            let reason = escape_block(reason.trim());
            return Some(match end {
                RunEnd::Complete => paint.green(&format!("complete: {reason}")),
                RunEnd::Failed => paint.red(&format!("failed: {reason}")),
                RunEnd::Stopped => format!("stopped: {reason}"),
            });
        }
        Event::ScopeChanged { scope } if scope.is_empty() => "scope: everything".to_owned(),
        Event::ScopeChanged { scope } => format!("scope: {}", escape_line(&scope.join(", "))),
        Event::CommentAdded(added) => {
            let place = format!("{}:{}", escape_line(&added.path), added.line);
            format!("comment {} on {place}: {}", added.number, escape_line(&added.text))
        }
        Event::CommentChanged { number, text } => format!("comment {number} now: {}", escape_line(text)),
        Event::CommentRemoved { number } => format!("comment {number} taken away"),
        Event::CommentsSent { numbers } => format!("{} sent", count(numbers.len() as u64, "comment")),
        Event::RestoreStarted { step } => format!("going back to checkpoint {step}"),
        Event::Restored { step } => format!("the files are those of checkpoint {step} again"),
        Event::RestoreFailed { reason } => {
            return Some(paint.red(&format!("could not go back: {}", escape_line(reason))));
        }
        Event::LandingStarted { moves, .. } if !moves.is_empty() => {
            let places: Vec<_> = moves.iter().map(|one| place(&one.repository, &one.target)).collect();
            format!("landing in {}", places.join(", "))
        }
        Event::LandingStarted { target, .. } => format!("landing in {}", escape_line(target)),
        Event::LandingRefused { reason } => format!("not landed: {}", escape_line(reason)),
        Event::Landed { repositories, .. } if !repositories.is_empty() => {
            let places = repositories.iter();
            let places = places
                .map(|one| format!("{} as {}", place(&one.repository, &one.target), short(&one.commit)));
            return Some(paint.green(&format!("landed in {}", places.collect::<Vec<_>>().join(", "))));
        }
        Event::Landed { target, commit, .. } => {
            return Some(paint.green(&format!("landed in {} as {}", escape_line(target), short(commit))));
        }
        Event::Discarded { reason } => format!("discarded: {}", escape_line(reason)),
    };
    Some(paint.faint(&text))
}

/// A branch of one of several repositories.
fn place(repository: &str, branch: &str) -> String {
    format!("{} of {}", escape_line(branch), escape_line(repository))
}

fn agent_line(event: &AgentEvent, paint: Paint) -> Option<String> {
    Some(match event {
        AgentEvent::SessionOpened { .. }
        | AgentEvent::TurnStarted { .. }
        | AgentEvent::Message { .. }
        | AgentEvent::Usage { .. }
        | AgentEvent::Idle => return None,
        AgentEvent::ToolCall { title, status, detail, .. } => {
            let title = escape_line(title);
            match status {
                ToolStatus::Pending | ToolStatus::Running if title.is_empty() => return None,
                ToolStatus::Pending => return None,
                ToolStatus::Running => paint.cyan(&format!("→ {title}")),
                ToolStatus::Completed => paint.faint(&format!("✓ {title}")),
                ToolStatus::Failed => {
                    let detail =
                        detail.as_deref().map(|d| format!(": {}", escape_line(d))).unwrap_or_default();
                    paint.red(&format!("✗ {title}{detail}"))
                }
            }
        }
        // The approval that it is says so.
        AgentEvent::Asked { waits: true, .. } => return None,
        AgentEvent::Asked { title, .. } => paint.faint(&format!("asks: {}", escape_line(title))),
        AgentEvent::Answered { option, by, .. } => {
            let what = if option.is_empty() { "nothing".to_owned() } else { escape_line(option) };
            paint.faint(&match by {
                AnsweredBy::Policy => format!("answered by policy: {what}"),
                AnsweredBy::Person => format!("the agent was told: {what}"),
            })
        }
        AgentEvent::Trouble { text, retrying } => {
            let retrying = if *retrying { " (tries again)" } else { "" };
            paint.red(&format!("trouble: {}{retrying}", escape_line(text)))
        }
        AgentEvent::TurnEnded { reason, text, .. } => {
            let text = text.as_deref().map(escape_block).unwrap_or_default();
            match reason {
                TurnEnd::Completed if text.is_empty() => return None,
                TurnEnd::Completed => text,
                TurnEnd::Cancelled => paint.faint("turn cancelled"),
                TurnEnd::Refused => paint.red(&format!("refused: {text}")),
                TurnEnd::Limit => paint.red(&format!("a limit was reached: {text}")),
                TurnEnd::Failed => paint.red(&format!("turn failed: {text}")),
            }
        }
        AgentEvent::Attention { reason } => paint.red(&format!("attention: {}", escape_line(reason))),
    })
}

/// What a run has cost, in words; empty if the agent does not tell.
pub(crate) fn cost(input: u64, output: u64, dollars: Option<f64>) -> String {
    if input == 0 && output == 0 && dollars.is_none() {
        return String::new();
    }
    let dollars = dollars.map(|d| format!(", about ${d:.2}")).unwrap_or_default();
    format!("{input} tokens in, {output} out{dollars}")
}

/// Limits in words.
pub(crate) fn limits(limits: &offshoot_core::event::Limits) -> String {
    let cpu = limits.cpu_percent.map(|p| format!(", {p} % of a core")).unwrap_or_default();
    format!(
        "{} memory, {} processes, {} disk{cpu}",
        size(limits.memory_bytes),
        limits.processes,
        size(limits.disk_bytes)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(event: serde_json::Value) -> Entry {
        serde_json::from_value(json!({
            "seq": 1, "at": 0, "task": "01900000-0000-7000-8000-000000000001", "run": null, "event": event
        }))
        .unwrap()
    }

    #[test]
    fn pieces_of_a_message_become_one() {
        let mut printer = Printer::new(false);
        let piece = |text: &str, role: &str| {
            entry(
                json!({"type": "agent", "offset": 1, "agent": {"type": "message", "role": role, "text": text}}),
            )
        };
        assert_eq!(printer.print(&piece("I look", "thought")), None);
        assert_eq!(printer.print(&piece("Hel", "assistant")).as_deref(), Some("I look"));
        assert_eq!(printer.print(&piece("lo\x1b[2J\n", "assistant")), None);
        assert_eq!(printer.print(&entry(json!({"type": "run_admitted"}))), None);
        let tool = entry(json!({"type": "agent", "offset": 1, "agent": {"type": "tool_call", "id": "1",
            "title": "cargo test\nrm", "kind": "execute", "status": "failed", "locations": [], "detail": "exit 1"}}));
        assert_eq!(printer.print(&tool).as_deref(), Some("Hello␛[2J\n✗ cargo test rm: exit 1"));
    }

    #[test]
    fn ends_say_why() {
        let mut printer = Printer::new(false);
        let ended = entry(json!({"type": "run_ended", "end": "failed", "reason": "the check failed"}));
        assert_eq!(printer.print(&ended).as_deref(), Some("failed: the check failed"));
        let check = entry(json!({"type": "check_ended", "code": 2, "output": "1 test failed\n"}));
        assert_eq!(printer.print(&check).as_deref(), Some("check failed with 2\n1 test failed"));
    }
}
