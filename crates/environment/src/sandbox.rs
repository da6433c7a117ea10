//! A running sandbox with its events told to any number of listeners.

use std::ops::Deref;

use offshoot_sandbox::{Connection, ConnectionError, Event, Exit};
use tokio::sync::broadcast;

/// Events a slow listener may fall behind by; then it asks for the state instead.
const BEHIND: usize = 1024;

/// A running sandbox; a cheap handle. Everything a [`Connection`] does, and its events for many.
#[derive(Clone)]
pub struct Sandbox {
    connection: Connection,
    events: broadcast::Sender<Event>,
}

impl Sandbox {
    /// Takes over a connection and asks for its events. `InitGone` is told once, last.
    pub async fn new(connection: Connection) -> Result<Self, ConnectionError> {
        connection.subscribe().await?;
        let events = broadcast::Sender::new(BEHIND);
        let (source, sink) = (connection.clone(), events.clone());
        tokio::spawn(async move {
            while let Some(event) = source.next_event().await {
                if event == Event::InitGone {
                    break;
                }
                let _ = sink.send(event);
            }
            let _ = sink.send(Event::InitGone);
        });
        Ok(Self { connection, events })
    }

    /// Events from now on. After `Lagged`, ask `execs` for what was missed.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Waits for the end of a process; `None` if the sandbox ended first. `events` was taken before it was started.
    pub async fn exit(&self, exec: &str, mut events: broadcast::Receiver<Event>) -> Option<Exit> {
        loop {
            match events.recv().await {
                Ok(Event::Exited { exec: ended, exit }) if ended == exec => return Some(exit),
                Ok(Event::InitGone) | Err(broadcast::error::RecvError::Closed) => return None,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let state =
                        self.connection.execs().await.ok()?.into_iter().find(|state| state.id == exec)?;
                    if state.exit.is_some() {
                        return state.exit;
                    }
                }
            }
        }
    }
}

impl Deref for Sandbox {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}
