//! The shim: one process per environment, outside the sandbox, that owns it and outlives the daemon. A dumb, durable
//! pipe: it knows nothing of agents, tasks or git.
//!
//! `start` makes the environment, `serve` is the loop, `exec` is one executed process with its journal, `peers` are
//! the connected daemons.

mod exec;
mod peers;
mod serve;
mod start;

pub use start::shim_main;
