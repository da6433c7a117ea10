//! Landings that are made first and shown later: what a landing over several repositories is put together from.
//!
//! [`prepare`] does everything that can be refused, up to a dry run of the checkout, and changes nothing that a person
//! sees: objects without a ref are all that it leaves. [`carry_out`] moves the target, or finds that it was moved.
//! [`take_back`] moves it to where it was, if nobody went on from there. The caller writes down what was prepared before it
//! carries anything out; then each of the two may be repeated, also after a kill.

use offshoot_core::fault;

use crate::{
    checkout::{self, Advance},
    land::{How, LandError, LandOptions, Landed, Record, complete, make, place, recover_one},
    oid::Oid,
    publish::deliver,
    repository::Repository,
    store::Store,
};

/// A landing that only has to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The branch.
    pub target: String,
    /// Where it was.
    pub old: Oid,
    /// Where it goes.
    pub new: Oid,
    /// The task's commit.
    pub task: Oid,
    /// By which way.
    pub how: How,
}

/// Makes the landing of `task_head` on `target`, and refuses whatever stands against it now.
pub fn prepare(
    store: &Store,
    repo: &Repository,
    task_head: &Oid,
    target: &str,
    options: &LandOptions,
) -> Result<Prepared, LandError> {
    let _one_at_a_time = store.lock("land", true)?;
    recover_one(store, repo, target)?;
    let old = repo.branch_commit(target)?.ok_or_else(|| LandError::NoTarget(target.to_owned()))?;
    let (new, how) = make(store, repo, task_head, target, &old, options)?;
    let prepared = Prepared { target: target.to_owned(), old, new, task: task_head.clone(), how };
    if prepared.new == prepared.old {
        return Ok(prepared);
    }
    let place = place(repo, target)?;
    deliver(store, repo, &prepared.new)?;
    if let Some(place) = place {
        let step = Advance { branch: target, old: &prepared.old, new: &prepared.new, resumed: false };
        checkout::check(&place.path, &step).map_err(|error| error.about(place.path))?;
    }
    Ok(prepared)
}

/// Moves the target of a prepared landing. Doing it twice is doing it once, also if somebody has gone on from it meanwhile.
pub fn carry_out(store: &Store, repo: &Repository, prepared: &Prepared) -> Result<Landed, LandError> {
    let Prepared { target, old, new, task, how } = prepared.clone();
    let moved = step(store, repo, Record { target, old: old.clone(), new: new.clone(), task, how });
    match moved {
        Err(LandError::TargetMoved { found: Some(found), .. }) if has(store, repo, &found, &new)? => {
            Ok(Landed { commit: new, old, how, worktree: None })
        }
        moved => moved,
    }
}

/// Whether a commit of the user's repository has this one in its history.
fn has(store: &Store, repo: &Repository, found: &Oid, commit: &Oid) -> Result<bool, LandError> {
    store.export(repo, found)?;
    Ok(store.is_ancestor(commit, found)?)
}

/// Moves the target of a landing back to where it was before it, with its checkout. Refuses if somebody went on from it, and
/// if files that would have to be written have local changes. Doing it twice is doing it once.
pub fn take_back(store: &Store, repo: &Repository, prepared: &Prepared) -> Result<(), LandError> {
    let Prepared { target, old, new, .. } = prepared;
    let back = Record {
        target: target.clone(),
        old: new.clone(),
        new: old.clone(),
        task: old.clone(),
        how: How::FastForward,
    };
    step(store, repo, back).map(drop)
}

fn step(store: &Store, repo: &Repository, record: Record) -> Result<Landed, LandError> {
    let _one_at_a_time = store.lock("land", true)?;
    recover_one(store, repo, &record.target)?;
    let found = repo.branch_commit(&record.target)?;
    if found.as_ref() == Some(&record.new) {
        return Ok(Landed { commit: record.new, old: record.old, how: record.how, worktree: None });
    }
    if found.as_ref() != Some(&record.old) {
        return Err(LandError::TargetMoved { target: record.target, found });
    }
    let place = place(repo, &record.target)?;
    deliver(store, repo, &record.new)?;
    record.write(store, repo)?;
    fault::point("land.record");
    complete(store, repo, &record, place, false)
}
