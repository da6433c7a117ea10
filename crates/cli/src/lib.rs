//! The command line of Offshoot: arguments in, requests to the daemon, words and exit codes out.
//!
//! ```text
//! arguments.rs  what can be typed        commands/     one file a command: its arguments and what it does
//! session.rs    what a command works with (place, screen, client)
//! client.rs     HTTP, server-sent events and WebSockets over the daemon's Unix socket
//! failure.rs    how a command ends badly, and its exit code
//! screen.rs     stdout, stderr, progress, colour       text.rs  escaping, widths, ages, sizes
//! render/       tasks, events, diffs as text: pure     watching.rs  waiting for a task with its progress shown
//! terminal.rs · filter.rs · keys.rs · wire.rs   a terminal in an environment, and what it may not do to this one
//! project.rs    the repository of the caller, its offshoot.toml    survey.rs  what `init` finds in it
//! reference.rs  the generated pages of docs/reference
//! ```
//!
//! Invariant: whatever came out of an environment is escaped or filtered before it reaches a terminal.

mod arguments;
mod browser;
mod client;
mod commands;
mod entry;
mod failure;
mod filter;
mod keys;
mod presence;
mod project;
pub mod reference;
mod render;
mod screen;
mod session;
mod survey;
mod terminal;
mod text;
mod watching;
mod wire;

pub use entry::cli_main;
