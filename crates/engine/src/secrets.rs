//! What is known of a task only while the daemon lives: values of variables the user let in, and the PATH its
//! agent is looked for on. Values are never written anywhere.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use offshoot_core::{api::Variable, id::TaskId};

/// By task.
#[derive(Default)]
pub struct Secrets(Mutex<HashMap<TaskId, Known>>);

#[derive(Default)]
struct Known {
    env: Vec<Variable>,
    path: Option<String>,
    session: Vec<Variable>,
}

impl Secrets {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers variables of a task.
    pub fn put(&self, task: TaskId, env: Vec<Variable>) {
        self.lock().entry(task).or_default().env = env;
    }

    /// Remembers where to look for a task's agent.
    pub fn put_path(&self, task: TaskId, path: Option<String>) {
        if path.is_some() {
            self.lock().entry(task).or_default().path = path;
        }
    }

    /// Remembers the caller's own variables, for what runs without a boundary.
    pub fn put_session(&self, task: TaskId, session: &[Variable]) {
        self.lock().entry(task).or_default().session = session.to_vec();
    }

    /// Those; none after a restart.
    pub fn session(&self, task: TaskId) -> Vec<Variable> {
        self.lock().get(&task).map(|known| known.session.clone()).unwrap_or_default()
    }

    /// A task's variables, and those of `names` whose values are not known any more.
    pub fn env(&self, task: TaskId, names: &[String]) -> (Vec<Variable>, Vec<String>) {
        let lock = self.lock();
        let known = lock.get(&task).map(|k| k.env.clone()).unwrap_or_default();
        let missing = names.iter().filter(|name| !known.iter().any(|v| v.name == **name)).cloned().collect();
        (known, missing)
    }

    /// Where to look for a task's agent.
    pub fn path(&self, task: TaskId) -> String {
        let known = self.lock().get(&task).and_then(|k| k.path.clone());
        known.or_else(|| std::env::var("PATH").ok()).unwrap_or_default()
    }

    /// Forgets a task.
    pub fn forget(&self, task: TaskId) {
        self.lock().remove(&task);
    }
}
