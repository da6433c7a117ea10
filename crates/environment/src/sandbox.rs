//! A running sandbox with its events told to any number of listeners.

use std::ops::Deref;

use offshoot_sandbox::{Connection, ConnectionError, Event, Exit};
use tokio::sync::{broadcast, watch};

/// Events a slow listener may fall behind by; then it asks for the state instead.
const BEHIND: usize = 1024;

/// A running sandbox; a cheap handle. Everything a [`Connection`] does, and its events for many.
#[derive(Clone)]
pub struct Sandbox {
    connection: Connection,
    events: broadcast::Sender<Event>,
    frozen: watch::Sender<Frozen>,
}

/// Whether its processes are frozen, and how often they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frozen {
    now: bool,
    times: u64,
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
        Ok(Self { connection, events, frozen: watch::Sender::default() })
    }

    /// Stops all its processes where they are.
    pub async fn freeze(&self) -> Result<(), ConnectionError> {
        self.is_frozen();
        self.connection.freeze().await
    }

    /// Lets them go on.
    pub async fn thaw(&self) -> Result<(), ConnectionError> {
        self.connection.thaw().await?;
        self.frozen.send_modify(|frozen| frozen.now = false);
        Ok(())
    }

    /// Notes that they are frozen; whoever takes up a sandbox that was frozen before says so.
    pub fn is_frozen(&self) {
        self.frozen.send_modify(|frozen| *frozen = Frozen { now: true, times: frozen.times + 1 });
    }

    /// Waits until its processes are not frozen. What comes back tells whether they were since ([`Self::froze_since`]).
    pub async fn thawed(&self) -> u64 {
        let mut frozen = self.frozen.subscribe();
        // The sender is `self`'s own.
        frozen.wait_for(|frozen| !frozen.now).await.map_or(0, |frozen| frozen.times)
    }

    /// Whether its processes were frozen since [`Self::thawed`] said this.
    pub fn froze_since(&self, thawed: u64) -> bool {
        self.frozen.borrow().times != thawed
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
