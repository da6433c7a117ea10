//! The event log and its projections in SQLite.
