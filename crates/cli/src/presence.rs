//! Says, for as long as this terminal shows a task, that somebody looks at it: nobody is sent word of it meanwhile. And rings
//! the terminal's bell when it begins to need somebody.

use std::{convert::Infallible, time::Duration};

use offshoot_core::{
    api::PresenceParams,
    event::{Entry, Event},
};

use crate::{screen::Screen, session::Session};

/// How often it is said again; it holds for 45 seconds.
const AGAIN: Duration = Duration::from_secs(20);

/// Says that somebody looks at `task` while `work` goes on, if a terminal shows it.
pub(crate) async fn looking<T>(session: &Session, task: &str, work: impl Future<Output = T>) -> T {
    if !session.screen.stdout_tty {
        return work.await;
    }
    let client = format!("terminal-{}", std::process::id());
    let result = tokio::select! {
        result = work => result,
        never = again(session, &client, task) => match never {},
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), say(session, &client, None)).await;
    result
}

async fn again(session: &Session, client: &str, task: &str) -> Infallible {
    let mut tick = tokio::time::interval(AGAIN);
    loop {
        tick.tick().await;
        say(session, client, Some(task)).await;
    }
}

async fn say(session: &Session, client: &str, task: Option<&str>) {
    let params = PresenceParams { client: client.to_owned(), task: task.map(str::to_owned), path: None };
    // A daemon that stops is told by the next time.
    let _ = session.client.post::<serde_json::Value>("/v1/presence", &params).await;
}

/// Rings the bell if an entry is something that a person has to see to.
pub(crate) fn ring(screen: &Screen, entry: &Entry) {
    if matches!(entry.event, Event::ApprovalRequested(_) | Event::AttentionNeeded { .. }) {
        screen.ring();
    }
}
