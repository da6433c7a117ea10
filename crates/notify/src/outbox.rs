//! What is on its way. Nobody who has something to say ever waits for it.
//!
//! Bounded: [`QUEUE`] notices for each kind of sink, which one that is dead cannot take from another; [`PAUSES`] between
//! tries; each try bounded by its sink. What becomes of each notice is in the daemon's log. What is on its way when the
//! daemon ends is lost: the log and the inbox have it.

use std::{
    collections::HashMap,
    sync::Mutex,
    sync::PoisonError,
    time::{Duration, Instant},
};

use offshoot_core::api::NotificationSent;
use tokio::sync::mpsc;

use crate::{
    notice::Notice,
    payload,
    sink::{SendError, Sink},
};

/// Notices on their way to one kind of sink.
const QUEUE: usize = 64;
/// Between a try that failed and the next.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];

/// What is on its way.
#[derive(Default)]
pub struct Outbox(Mutex<HashMap<&'static str, mpsc::Sender<(Sink, Notice)>>>);

impl Outbox {
    /// Sends a notice to a sink, later. Call it within a Tokio runtime.
    pub fn send(&self, sink: Sink, notice: Notice) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let to = sink.word();
        let queue = queues.entry(to).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            tokio::spawn(carry(receiver));
            sender
        });
        if queue.try_send((sink, notice)).is_err() {
            tracing::warn!(to, "a notification is left out: {QUEUE} are on their way already");
        }
    }
}

/// One after the other, for as long as there is an outbox.
async fn carry(mut queue: mpsc::Receiver<(Sink, Notice)>) {
    while let Some((sink, notice)) = queue.recv().await {
        let to = sink.word();
        let task = notice.task.as_ref().map(|(_, name)| name.to_string()).unwrap_or_default();
        let kind = payload::word(notice.kind);
        let mut pauses = PAUSES.iter();
        loop {
            let Err(error) = once(&sink, &notice).await else {
                tracing::info!(to, kind, task, "notification sent");
                break;
            };
            match pauses.next().filter(|_| error.may_pass()) {
                Some(pause) => {
                    tracing::info!(to, kind, task, %error, "notification not taken; it is tried again");
                    tokio::time::sleep(*pause).await;
                }
                None => {
                    tracing::warn!(to, kind, task, %error, "notification not sent");
                    break;
                }
            }
        }
    }
}

async fn once(sink: &Sink, notice: &Notice) -> Result<(), SendError> {
    let (sink, notice) = (sink.clone(), notice.clone());
    let sent = tokio::task::spawn_blocking(move || sink.send(&notice)).await;
    sent.unwrap_or_else(|_| Err(SendError::Program("it was interrupted".to_owned())))
}

/// Sends a notice once, without a queue, and tells what became of it.
pub async fn deliver_once(sink: &Sink, notice: &Notice) -> NotificationSent {
    let begun = Instant::now();
    let error = once(sink, notice).await.err();
    let to = sink.word();
    match &error {
        None => tracing::info!(to, kind = payload::word(notice.kind), "notification sent"),
        Some(error) => tracing::warn!(to, kind = payload::word(notice.kind), %error, "notification not sent"),
    }
    NotificationSent {
        to: to.to_owned(),
        host: sink.host(),
        error: error.map(|error| error.to_string()),
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}
