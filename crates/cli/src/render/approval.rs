//! What waits for a person, and standing rules, in words. Everything an agent wrote is escaped and cut here.

use std::collections::BTreeMap;

use offshoot_core::{
    agent::{AskOption, AskOptionKind, ToolKind},
    api::{ApprovalList, ApprovalView, RuleList},
    approval::{Answerer, ApprovalAnswered, ApprovalRecord, ApprovalRequested, Subject, Verdict},
    event::Event,
    id::ApprovalId,
    rule::{RuleMatch, RuleRecord, RuleScope},
};

use super::colour::Paint;
use crate::text::{age, cut, escape_block, escape_line, moment, pad};

/// Most lines of a detail that are shown in a list; `--json` has all of it.
const LINES: usize = 12;
/// Longest line of a detail, in columns.
const COLUMNS: usize = 200;

/// The list of what waits.
pub(crate) fn list(list: &ApprovalList, colour: bool) -> String {
    if list.approvals.is_empty() {
        return "nothing waits for you\n".to_owned();
    }
    let paint = Paint(colour);
    let blocks: Vec<_> = list
        .approvals
        .iter()
        .map(|view| {
            let approval = &view.approval;
            let agent =
                view.agent.as_deref().map(|agent| format!("{}, ", escape_line(agent))).unwrap_or_default();
            let head = format!(
                "  {agent}waits for {}, counts as denied from {}",
                age(list.now, approval.asked_at),
                moment(approval.deadline)
            );
            let task = cut(&escape_line(&view.prompt), 100);
            let place = paint.faint(&format!("  {} ({})", task, escape_line(&view.root)));
            format!("{}{head}\n{place}\n{}", paint.bold(&view.name), body(&view.name, approval, paint))
        })
        .collect();
    blocks.join("\n")
}

/// What is asked, and how to answer it.
pub(crate) fn body(name: &str, approval: &ApprovalRecord, paint: Paint) -> String {
    let mut text = format!("  {}\n", paint.red(&escape_line(&approval.title)));
    for line in detail(approval.detail.as_deref(), &approval.title) {
        text.push_str(&format!("    {line}\n"));
    }
    for line in commands(name, &approval.subject, &approval.options) {
        text.push_str(&format!("  {}\n", paint.faint(&line)));
    }
    text
}

/// The first lines of a detail; none if it says no more than the title.
fn detail(detail: Option<&str>, title: &str) -> Vec<String> {
    let Some(detail) = detail.filter(|detail| detail.trim() != title.trim()) else { return Vec::new() };
    let detail = escape_block(detail.trim_end());
    let mut lines: Vec<_> = detail.lines().take(LINES).map(|line| cut(line, COLUMNS)).collect();
    let more = detail.lines().count().saturating_sub(LINES);
    if more > 0 {
        lines.push(format!("… and {more} more lines"));
    }
    lines
}

fn commands(name: &str, subject: &Subject, options: &[AskOption]) -> Vec<String> {
    let question = *subject == Subject::Question;
    let yes = options.iter().filter(|option| option.kind == AskOptionKind::AllowOnce).count();
    if question || yes != 1 {
        let labels: Vec<_> = options.iter().map(|one| format!("{:?}", escape_line(&one.label))).collect();
        let mut lines = vec![format!("offshoot approve {name} --option, with one of: {}", labels.join(", "))];
        if question {
            lines.push(format!("offshoot approve {name} --text \"…\""));
        }
        lines.push(format!("offshoot deny {name} --reason \"…\""));
        return lines;
    }
    let mut lines = vec![format!("offshoot approve {name}, or offshoot deny {name} --reason \"…\"")];
    if let Subject::Host { .. } = subject {
        lines.push("with --for-task or --always: also from now on".to_owned());
    }
    lines
}

/// That an answer was taken.
pub(crate) fn answered(view: &ApprovalView) -> String {
    let rule = view.approval.answer.as_ref().and_then(|answer| answer.rule.as_ref());
    let rule = rule
        .map(|rule| format!("; from now on also when {}", holds(rule.scope, &rule.matches)))
        .unwrap_or_default();
    let title = cut(&escape_line(&view.approval.title), 100);
    format!("{} {}: {title}{rule}", view.name, view.approval.state.word())
}

/// What there ever was, a line each.
pub(crate) fn past(list: &ApprovalList) -> String {
    if list.approvals.is_empty() {
        return "nothing was ever asked\n".to_owned();
    }
    let rows: Vec<_> = list
        .approvals
        .iter()
        .map(|view| {
            let approval = &view.approval;
            let at = moment(approval.settled_at.unwrap_or(approval.asked_at));
            let title = cut(&escape_line(&approval.title), 100);
            (at, view.name.as_str(), approval.state.word(), title, why(approval, &list.approvals))
        })
        .collect();
    let width = rows.iter().map(|row| row.1.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (at, name, state, title, why) in rows {
        text.push_str(&format!("{at}  {}  {}  {title}{why}\n", pad(name, width), pad(state, 9)));
    }
    if let Some(next) = list.next {
        text.push_str(&format!("(there are older ones: --limit, or before={next} over HTTP)\n"));
    }
    text
}

/// Who settled it, and with which words.
fn why(approval: &ApprovalRecord, known: &[ApprovalView]) -> String {
    let Some(answer) = &approval.answer else {
        let withdrawn = approval.withdrawn.as_deref();
        return withdrawn.map(|why| format!(" ({})", cut(&escape_line(why), 100))).unwrap_or_default();
    };
    let by = match answer.by {
        Answerer::Person => "by a person".to_owned(),
        Answerer::Rule { rule } => {
            let name = known.iter().find(|view| view.approval.id == rule).map(|view| view.name.clone());
            format!("by standing rule {}", name.unwrap_or_else(|| rule.to_string()))
        }
        Answerer::Deadline => return " (nobody answered in time)".to_owned(),
    };
    let text = answer.text.as_deref().map(|text| format!(": {}", cut(&escape_line(text), 100)));
    let rule = answer.rule.as_ref().map(|rule| match rule.scope {
        RuleScope::Task => ", from then on in this task",
        RuleScope::Project => ", from then on in this project",
    });
    format!(" ({by}{}{})", rule.unwrap_or_default(), text.unwrap_or_default())
}

/// The list of standing rules.
pub(crate) fn rules(list: &RuleList) -> String {
    if list.rules.is_empty() {
        return "no standing rules; offshoot approve NAME --for-task or --always makes one\n".to_owned();
    }
    let width = list.rules.iter().map(|view| view.name.len()).max().unwrap_or_default().max(4);
    let mut text = format!("{}  SAYS   WHEN\n", pad("RULE", width));
    for view in &list.rules {
        let RuleRecord { verdict, scope, matches, .. } = &view.rule;
        let says = match verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny ",
        };
        let when = holds(*scope, matches);
        let last = view.last_answered.map(|at| format!(", last {}", moment(at))).unwrap_or_default();
        let times = if view.answered == 1 { "time" } else { "times" };
        text.push_str(&format!(
            "{}  {says}  {when} ({})\n{}answered {} {times}{last}\n",
            pad(&view.name, width),
            escape_line(&view.root),
            " ".repeat(width + 9),
            view.answered,
        ));
    }
    text
}

fn holds(scope: RuleScope, matches: &RuleMatch) -> String {
    let who = match scope {
        RuleScope::Task => "this task",
        RuleScope::Project => "any task of the project",
    };
    let quoted = |text: &str| cut(&escape_line(text), COLUMNS);
    let what = match matches {
        RuleMatch::Command { command } => format!("runs exactly: {}", quoted(command)),
        RuleMatch::CommandPrefix { words } => {
            format!("runs a plain command that begins with: {}", quoted(&words.join(" ")))
        }
        RuleMatch::Files { kind, paths } => format!("{} exactly: {}", does(*kind), quoted(&paths.join(", "))),
        RuleMatch::FilesBelow { kind, directory } => {
            format!("{} files below {}", does(*kind), quoted(directory))
        }
        RuleMatch::Tool { name, input } => format!("uses exactly: {} {}", quoted(name), quoted(input)),
        RuleMatch::Host { host, port } => format!("reaches {}:{port}", quoted(host.as_str())),
    };
    format!("{who} {what}")
}

fn does(kind: ToolKind) -> &'static str {
    match kind {
        ToolKind::Read => "reads",
        ToolKind::Edit => "edits",
        ToolKind::Delete => "deletes",
        ToolKind::Move => "moves",
        ToolKind::Search => "searches",
        _ => "touches",
    }
}

/// Says what happens to approvals, one event after the other.
#[derive(Debug, Default)]
pub(crate) struct Teller {
    /// The task, if whoever reads may want to answer.
    pub(crate) task: Option<String>,
    numbers: BTreeMap<ApprovalId, u32>,
}

impl Teller {
    /// An event in words; `None` if it is about something else.
    pub(crate) fn tell(&mut self, event: &Event, paint: Paint) -> Option<String> {
        Some(match event {
            Event::ApprovalRequested(asked) => {
                self.numbers.insert(asked.approval, asked.number);
                self.asked(asked, paint)
            }
            Event::ApprovalAnswered(answer) => {
                let text = format!("{} {}", self.name(answer.approval), self.how(answer));
                match answer.verdict {
                    Verdict::Allow => paint.green(&text),
                    Verdict::Deny => paint.red(&text),
                }
            }
            Event::ApprovalWithdrawn { approval, reason } => {
                paint.faint(&format!("{} withdrawn: {}", self.name(*approval), escape_line(reason)))
            }
            Event::RuleRemoved { rule } => {
                paint.faint(&format!("standing rule {} taken back", self.name(*rule)))
            }
            _ => return None,
        })
    }

    fn asked(&self, asked: &ApprovalRequested, paint: Paint) -> String {
        let name = self.name(asked.approval);
        let mut lines = vec![paint.red(&format!("{name} asks: {}", escape_line(&asked.title)))];
        lines.extend(detail(asked.detail.as_deref(), &asked.title).iter().map(|line| format!("  {line}")));
        if self.task.is_some() {
            let commands = commands(&name, &asked.subject, &asked.options);
            lines.extend(commands.iter().map(|line| paint.faint(&format!("  {line}"))));
        }
        lines.join("\n")
    }

    fn how(&self, answer: &ApprovalAnswered) -> String {
        let says = match answer.verdict {
            Verdict::Allow => "allowed",
            Verdict::Deny => "denied",
        };
        let by = match answer.by {
            Answerer::Person => String::new(),
            Answerer::Rule { rule } => format!(" by standing rule {}", self.name(rule)),
            Answerer::Deadline => ", because nobody answered in time".to_owned(),
        };
        let text = answer.text.as_deref().filter(|_| answer.by == Answerer::Person);
        let text = text.map(|text| format!(": {}", escape_line(text))).unwrap_or_default();
        let rule = answer
            .rule
            .as_ref()
            .map(|rule| format!("; from now on also when {}", holds(rule.scope, &rule.matches)));
        format!("{says}{by}{text}{}", rule.unwrap_or_default())
    }

    /// What people call it; an id, if it is of another task.
    fn name(&self, approval: ApprovalId) -> String {
        match (self.numbers.get(&approval), &self.task) {
            (Some(number), Some(task)) => format!("{task}/{number}"),
            (Some(number), None) => format!("approval {number}"),
            (None, _) => approval.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_asked_cannot_hide_how_to_answer() {
        let hostile = "rm -rf /\u{1b}[2K\r\u{202e}";
        let asked = json!({
            "type": "approval_requested", "approval": "01900000-0000-7000-8000-000000000001", "number": 2,
            "source": {"type": "agent", "exec": "run-1", "question": "ask-1"}, "title": hostile,
            "detail": format!("{hostile}\n{}", "x\n".repeat(40)), "deadline": 0,
            "options": [{"id": "y", "label": "Yes", "kind": "allow_once"}],
            "subject": {"type": "command", "command": hostile},
        });
        let answered = json!({
            "type": "approval_answered", "approval": "01900000-0000-7000-8000-000000000001", "verdict": "deny",
            "option": "no", "text": "not\nhere", "by": {"type": "person"}, "rule": null,
        });
        let mut teller = Teller { task: Some("work".to_owned()), ..Teller::default() };
        let said = teller.tell(&serde_json::from_value(asked).unwrap(), Paint(false)).unwrap();
        assert!(said.starts_with("work/2 asks: rm -rf /␛[2K\\u{202e}\n  rm -rf"), "{said}");
        assert!(said.contains("… and 29 more lines"), "{said}");
        assert!(said.ends_with("offshoot approve work/2, or offshoot deny work/2 --reason \"…\""), "{said}");
        let said = teller.tell(&serde_json::from_value(answered).unwrap(), Paint(false)).unwrap();
        assert_eq!(said, "work/2 denied: not here");
    }
}
