//! The API at its edges: over real sockets.

mod document;
mod events;
mod guard;
