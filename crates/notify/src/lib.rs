//! Word to a person who is not looking: what to say is the engine's to decide, how it gets there is decided here.
//!
//! | file | what |
//! |---|---|
//! | `notice` | what is said: bounded, without anything that a screen or a service would interpret |
//! | `sink` | where it goes: one of what the user's configuration names |
//! | `payload` | a notice in each sink's language. Pure |
//! | `post` | HTTP out of this machine |
//! | `desktop` | the desktop's own notifications |
//! | `outbox` | queues, retries, and what became of each notice in the daemon's log |
//!
//! Knows nothing of the log, of tasks' lives, or of who looks at what.

mod desktop;
mod notice;
mod outbox;
mod payload;
mod post;
mod sink;

pub use notice::Notice;
pub use outbox::{Outbox, deliver_once};
pub use sink::{SendError, Sink};
