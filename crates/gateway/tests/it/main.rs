//! The egress proxy as the inside sees it, previews as the outside does, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod dialling;
mod load;
mod preview;
mod requests;
mod spellings;
mod support;
mod transparent;
mod tunnels;
