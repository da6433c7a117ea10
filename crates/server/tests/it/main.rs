//! The API at its edges: over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod document;
mod events;
mod guard;
