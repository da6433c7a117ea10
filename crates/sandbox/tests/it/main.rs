//! The sandbox as its callers see it: real environments, run by the `offshoot-shim` program of this crate.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod host;
mod inside;
mod lifecycle;
mod moves;
mod ordinary;
mod probe;
mod roots;
mod stage;
mod trees;
