//! The engine in the real daemon: what survives crashes, what stays true under load, what never gets lost.
//!
//! Each test has a daemon, a state directory and a repository of its own (`stage`) and ends by making sure that nothing
//! is left (`leaks`).

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod approvals;
mod audit;
mod databases;
mod doors;
mod faults;
mod hostile;
mod hosts;
mod http;
mod keep;
mod kills;
mod leaks;
mod limits;
mod load;
mod monitor;
mod notify;
mod ordinary;
mod outlive;
mod repositories;
mod review;
mod shared;
mod stage;
mod worktrees;
