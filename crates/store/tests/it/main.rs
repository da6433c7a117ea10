//! The store as its callers see it, on real files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crash;
mod damage;
mod history;
mod questions;
mod support;
