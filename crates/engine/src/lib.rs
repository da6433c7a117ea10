//! The heart: what the daemon decides and does. Everything a client may ask for is a method of [`Engine`].

mod engine;
mod stream;

pub use engine::{Engine, Options, TaskRef};
pub use stream::{ExecStream, StreamInput, StreamItem};
