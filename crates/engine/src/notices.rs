//! What a person should know about where a task starts: found beside its start, never on its way.
//!
//! On a tree of 80,000 files git needs a quarter of a second to say whether the checkout is clean, so that is asked
//! once for all tasks that came meanwhile, and told as an event of its own. Whoever looks at one task waits for it.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use offshoot_core::{
    event::Event,
    id::{RunId, TaskId},
};
use offshoot_git::{oid::Oid, repository::Repository};
use tokio::sync::watch;

use crate::engine::Engine;

/// Commits whose content is remembered; they never change, so this only bounds memory.
const COMMITS: usize = 256;

/// What was found about a checkout, and when the search began.
type Round = Arc<tokio::sync::Mutex<Option<(Instant, Option<String>)>>>;

/// Searches that go on, and what is known already.
#[derive(Default)]
pub struct Notices {
    rounds: Mutex<HashMap<PathBuf, Round>>,
    commits: Mutex<HashMap<Oid, Vec<String>>>,
    pending: Mutex<HashMap<TaskId, watch::Receiver<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Looks at what a new task does not take along from its repositories, and records it; each with what stands before it.
    pub(crate) fn look_around(&self, task: TaskId, run: RunId, repositories: Vec<(String, Repository, Oid)>) {
        let (done, pending) = watch::channel(());
        lock(&self.inner.notices.pending).insert(task, pending);
        let engine = self.clone();
        tokio::spawn(async move {
            let found = engine.seen_around(repositories).await;
            if !found.is_empty()
                && let Err(problem) =
                    engine.inner.ledger.append(task, Some(run), vec![Event::Noticed { notices: found }])
            {
                tracing::warn!(%task, %problem, "could not record what was noticed");
            }
            lock(&engine.inner.notices.pending).remove(&task);
            drop(done);
        });
    }

    /// What a task that starts from these does not take along.
    pub(crate) async fn seen_around(&self, repositories: Vec<(String, Repository, Oid)>) -> Vec<String> {
        let asked = Instant::now();
        let mut found = Vec::new();
        for (before, repository, base) in repositories {
            let notices = self.noticed(asked, repository, base).await;
            found.extend(notices.into_iter().map(|notice| format!("{before}{notice}")));
        }
        found
    }

    async fn noticed(&self, asked: Instant, repository: Repository, base: Oid) -> Vec<String> {
        let mut found = Vec::new();
        let round = lock(&self.inner.notices.rounds).entry(repository.root().to_owned()).or_default().clone();
        let mut round = round.lock().await;
        // One that began after this task came sees all that this task could have left behind.
        if round.as_ref().is_none_or(|(began, _)| *began < asked) {
            let (began, repository) = (Instant::now(), repository.clone());
            let dirty = tokio::task::spawn_blocking(move || checkout(&repository)).await;
            *round = Some((began, dirty.unwrap_or_default()));
        }
        found.extend(round.as_ref().and_then(|(_, dirty)| dirty.clone()));
        let known = lock(&self.inner.notices.commits).get(&base).cloned();
        match known {
            Some(known) => found.extend(known),
            None => {
                let of = base.clone();
                let content = tokio::task::spawn_blocking(move || content(&repository, &of)).await;
                let content = content.unwrap_or_default();
                let mut commits = lock(&self.inner.notices.commits);
                if commits.len() >= COMMITS {
                    commits.clear();
                }
                commits.insert(base, content.clone());
                found.extend(content);
            }
        }
        found
    }

    /// Waits until everything is known about where the task starts.
    pub(crate) async fn looked_around(&self, task: TaskId) {
        let pending = lock(&self.inner.notices.pending).get(&task).cloned();
        if let Some(mut pending) = pending {
            // Its end is the news.
            let _ = pending.changed().await;
        }
    }
}

fn checkout(repository: &Repository) -> Option<String> {
    let dirty = repository.dirty().ok().filter(|dirty| !dirty.is_clean())?;
    Some(format!(
        "your checkout has uncommitted changes ({} staged, {} modified, {} untracked); they are not part of this task",
        dirty.staged, dirty.modified, dirty.untracked
    ))
}

fn content(repository: &Repository, base: &Oid) -> Vec<String> {
    let Ok(extras) = repository.extras(base) else { return Vec::new() };
    let mut notices = Vec::new();
    if !extras.submodules.is_empty() {
        notices.push("submodules are not checked out inside the environment".to_owned());
    }
    if extras.lfs {
        notices.push("files kept by git-lfs are pointers inside the environment".to_owned());
    }
    notices
}
