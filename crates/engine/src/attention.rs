//! Who is told what happens: follows the log and decides what a person who is not looking wants to know. How it gets there
//! is `notify`'s.
//!
//! Invariants: nothing here is waited for by a run; nobody is told of a task that somebody looks at; what a standing rule
//! answered in the same moment is told to nobody; a task that asks in a loop is told of [`BURST`] times and then once every
//! [`PAUSE`]. What happens while no daemon runs, or was on its way when it ended, is in the inbox only.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use offshoot_core::{
    api::NotificationTest,
    approval::ApprovalRequested,
    config::{NotificationKind, NotificationsConfig},
    event::{Entry, Event},
    id::TaskId,
    lifecycle::RunEnd,
    problem::Problem,
    record::TaskRecord,
};
use offshoot_notify::{Notice, Sink, deliver_once};

use crate::{
    approvals::name,
    engine::{Engine, Inner},
};

/// Notifications of one task that may come at once, and the time after which there may be one more.
const BURST: u32 = 5;
const PAUSE: Duration = Duration::from_secs(30);

impl Engine {
    /// Tells people, for as long as the engine lives.
    pub(crate) async fn keep_telling(&self) {
        let ledger = &self.inner.ledger;
        let mut entries = ledger.follow(ledger.store().last_seq(), None);
        let engine: Weak<Inner> = Arc::downgrade(&self.inner);
        let mut told: HashMap<TaskId, (u32, Instant)> = HashMap::new();
        while let Some(entry) = entries.recv().await {
            let Some(inner) = engine.upgrade() else { return };
            if !may_matter(&entry.event) {
                continue;
            }
            if let Err(problem) = (Engine { inner }).tell_people(&entry, &mut told) {
                tracing::warn!(%problem, "could not tell what happened");
            }
        }
    }

    fn tell_people(&self, entry: &Entry, told: &mut HashMap<TaskId, (u32, Instant)>) -> Result<(), Problem> {
        let config = self.user_config()?.notifications;
        let sinks = Sink::all(&config);
        if sinks.is_empty() || self.inner.presence.looks_at(entry.task) {
            return Ok(());
        }
        let record = self.inner.ledger.task(entry.task)?;
        let Some(notice) = notice(&record, &entry.event, &config) else { return Ok(()) };
        told.retain(|_, (_, last)| last.elapsed() < PAUSE * BURST);
        let (number, last) = told.entry(entry.task).or_insert((0, Instant::now()));
        let regained = u32::try_from(last.elapsed().as_secs() / PAUSE.as_secs()).unwrap_or(u32::MAX);
        if regained > 0 {
            (*number, *last) = (number.saturating_sub(regained), Instant::now());
        }
        if *number >= BURST {
            tracing::info!(task = %record.name, "a notification is left out: there were many of this task");
            return Ok(());
        }
        *number += 1;
        for sink in sinks {
            self.inner.outbox.send(sink, notice.clone());
        }
        Ok(())
    }

    /// Sends a message to everything that is configured, and tells what became of it.
    pub async fn test_notifications(&self) -> Result<NotificationTest, Problem> {
        let config = self.user_config()?.notifications;
        let notice = Notice {
            kind: None,
            task: None,
            root: String::new(),
            what: "Offshoot can reach you here".to_owned(),
            text: "This is a test; nothing waits for you.".to_owned(),
            approval: None,
            link: config.link.clone(),
        };
        let mut sending = tokio::task::JoinSet::new();
        for (place, sink) in Sink::all(&config).into_iter().enumerate() {
            let notice = notice.clone();
            sending.spawn(async move { (place, deliver_once(&sink, &notice).await) });
        }
        let mut sent = sending.join_all().await;
        sent.sort_by_key(|(place, _)| *place);
        Ok(NotificationTest { sent: sent.into_iter().map(|(_, sent)| sent).collect() })
    }
}

/// Most entries are of no interest to somebody who is not looking.
fn may_matter(event: &Event) -> bool {
    matches!(
        event,
        Event::ApprovalRequested(_)
            | Event::AttentionNeeded { .. }
            | Event::RunEnded { end: RunEnd::Complete | RunEnd::Failed, .. }
    )
}

/// What a person is told of an event; nothing if it is settled by now, or not wanted.
fn notice(record: &TaskRecord, event: &Event, config: &NotificationsConfig) -> Option<Notice> {
    let (kind, what, text) = match event {
        Event::ApprovalRequested(ApprovalRequested { approval, title, .. }) => {
            record.waiting().find(|waiting| waiting.id == *approval)?;
            (NotificationKind::Approval, "asks", title.clone())
        }
        Event::AttentionNeeded { reason } => (NotificationKind::Attention, "needs attention", reason.clone()),
        Event::RunEnded { end: RunEnd::Complete, reason } => {
            (NotificationKind::Complete, "is complete", reason.clone())
        }
        Event::RunEnded { end: RunEnd::Failed, reason } => {
            let first = reason.lines().next().unwrap_or_default();
            (NotificationKind::Failed, "has failed", first.to_owned())
        }
        _ => return None,
    };
    if !config.tells(kind) {
        return None;
    }
    let page = match kind {
        NotificationKind::Approval => "approvals".to_owned(),
        _ => format!("tasks/{}", record.id),
    };
    let approval = match event {
        Event::ApprovalRequested(asked) => Some(name(record, asked.number)),
        _ => None,
    };
    Some(Notice {
        kind: Some(kind),
        task: Some((record.id.to_string(), record.name.clone())),
        root: record.root.clone(),
        what: what.to_owned(),
        text,
        approval,
        link: config.link.as_ref().map(|link| format!("{}/{page}", link.trim_end_matches('/'))),
    })
}
