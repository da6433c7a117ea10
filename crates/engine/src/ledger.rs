//! Writing to the log, and telling those who follow it. Everything the engine does begins here.

use std::{path::Path, sync::Arc};

use offshoot_core::{
    event::{Entry, Event},
    id::{RunId, TaskId},
    problem::{Problem, ProblemKind},
    record::TaskRecord,
};
use offshoot_store::{AppendError, NewEntry, Store, StoreError};
use tokio::sync::{mpsc, watch};

use crate::clock;

/// Entries read from the store at a time by a follower.
const PAGE: usize = 500;
/// Entries on their way to a follower; a slow one makes its reader wait, not the writer.
const FOLLOWED: usize = 64;

/// The log with its followers.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<Store>,
    newest: watch::Sender<u64>,
}

impl Ledger {
    /// The log in `store`.
    pub fn new(store: Arc<Store>) -> Self {
        let newest = watch::Sender::new(store.last_seq());
        Self { store, newest }
    }

    /// The store, to read from.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Writes events of one task in one step: all or none. Followers hear of it afterwards.
    pub fn append(&self, task: TaskId, run: Option<RunId>, events: Vec<Event>) -> Result<(), Problem> {
        let at = clock::now();
        let entries: Vec<_> = events.into_iter().map(|event| NewEntry { task, run, at, event }).collect();
        let written = self.store.append(&entries).map_err(problem)?;
        if let Some(last) = written.last() {
            self.newest.send_replace(last.seq);
        }
        Ok(())
    }

    /// A task as the log tells now.
    pub fn task(&self, task: TaskId) -> Result<TaskRecord, Problem> {
        self.store.task(task).map_err(|e| store_problem(&e))?.ok_or_else(|| {
            Problem::new(ProblemKind::NotFound, "no_such_task", format!("there is no task {task}"))
        })
    }

    /// Changes whenever something was written.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// All entries after `after`, then those to come: none lost, none twice.
    pub fn follow(&self, after: u64, task: Option<TaskId>) -> mpsc::Receiver<Entry> {
        let (sender, receiver) = mpsc::channel(FOLLOWED);
        let (store, mut newest) = (self.store.clone(), self.watch());
        tokio::spawn(async move {
            let mut after = after;
            loop {
                newest.borrow_and_update();
                loop {
                    let reader = store.clone();
                    let page = tokio::task::spawn_blocking(move || reader.entries(after, task, PAGE)).await;
                    let Ok(Ok(page)) = page else { return };
                    let full = page.len() == PAGE;
                    for entry in page {
                        after = entry.seq;
                        if sender.send(entry).await.is_err() {
                            return;
                        }
                    }
                    if !full {
                        break;
                    }
                }
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }
}

fn problem(error: AppendError) -> Problem {
    match error {
        AppendError::NameTaken { name, .. } => name_taken(&name),
        AppendError::Fold { source, .. } => {
            Problem::new(ProblemKind::Conflict, "wrong_state", format!("that cannot be done now: {source}"))
        }
        AppendError::Store(error) => store_problem(&error),
    }
}

/// A task of the project that is neither landed nor discarded has the name.
pub(crate) fn name_taken(name: impl std::fmt::Display) -> Problem {
    Problem::new(ProblemKind::Conflict, "name_taken", format!("a task named {name} exists already"))
        .hint("choose another with --name, or land or discard that one first")
}

/// What a failure of the store means to a person.
pub fn store_problem(error: &StoreError) -> Problem {
    match error {
        StoreError::DiskFull { .. } => Problem::new(
            ProblemKind::Unavailable,
            "disk_full",
            "the disk is full; nothing more can be recorded, so nothing more is done",
        )
        .hint("free some space, for instance with `offshoot prune`"),
        StoreError::Corrupt { path, backup, detail } => corrupt(path, backup.as_deref(), detail),
        error => Problem::internal("the store failed", error),
    }
}

/// A damaged store: refused, never repaired or deleted unasked.
pub fn corrupt(path: &Path, backup: Option<&Path>, detail: &str) -> Problem {
    let hint = match backup {
        Some(backup) => {
            format!("nothing was changed; the newest copy is {}: put it in its place", backup.display())
        }
        None => "nothing was changed; there is no copy yet. Move the file aside to begin anew".to_owned(),
    };
    Problem::new(
        ProblemKind::Incompatible,
        "store_damaged",
        format!("{} is damaged: {detail}", path.display()),
    )
    .hint(hint)
}
