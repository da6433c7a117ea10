//! The egress proxy as the inside sees it, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod dialling;
mod load;
mod requests;
mod spellings;
mod support;
mod transparent;
mod tunnels;
