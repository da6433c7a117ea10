//! What people look at, as their clients say. Forgotten with the daemon: whoever still looks says so again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use offshoot_core::{
    api::PresenceParams,
    id::TaskId,
    problem::{Problem, ProblemKind},
};

use crate::engine::{Engine, TaskRef};

/// For how long a client's word holds: it is said again every 20 seconds, and may be late once.
const HOLDS: Duration = Duration::from_secs(45);
/// Clients whose word is kept; more windows than a person has open.
const CLIENTS: usize = 64;
/// Longest name of a client, in bytes.
const NAME: usize = 64;

/// Who looks at what, and since when.
#[derive(Default)]
pub struct Presence(Mutex<HashMap<String, (TaskId, Instant)>>);

impl Presence {
    /// Whether somebody looks at a task.
    pub fn looks_at(&self, task: TaskId) -> bool {
        let clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.values().any(|(at, said)| *at == task && said.elapsed() < HOLDS)
    }

    fn says(&self, client: String, task: Option<TaskId>) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|name, (_, said)| *name != client && said.elapsed() < HOLDS);
        if let Some(task) = task.filter(|_| clients.len() < CLIENTS) {
            clients.insert(client, (task, Instant::now()));
        }
    }
}

impl Engine {
    /// Takes note of what a client's person looks at.
    pub async fn present(&self, params: PresenceParams) -> Result<(), Problem> {
        if params.client.is_empty() || params.client.len() > NAME {
            let message = format!("a client's name has 1 to {NAME} bytes");
            return Err(Problem::new(ProblemKind::Invalid, "bad_client", message));
        }
        let task = params.task.map(|task| self.find(&TaskRef { task, path: params.path })).transpose()?;
        self.inner.presence.says(params.client, task.map(|record| record.id));
        Ok(())
    }
}
