//! Tasks, events and diffs as text. Pure functions of what the daemon answered; all foreign text is escaped here.

pub(crate) mod approval;
pub(crate) mod colour;
pub(crate) mod diff;
pub(crate) mod event;
pub(crate) mod plan;
pub(crate) mod ps;
pub(crate) mod task;
