//! The boundary around a run's processes on Linux.
//!
//! ```text
//! daemon ── Connection (connection.rs) ── shim.sock / socketpair ──► shim (shim/)   one per environment, outlives the daemon
//!                                                                    │ socketpair
//!                                                                    init (init/)   pid 1 inside: set-up, DNS stub, reaping
//! ```
//!
//! [`start`] brings an environment up, [`connect`] adopts one that runs, [`Connection`] talks to it,
//! [`journal`] reads what its processes said, [`examine`] tells what this machine can do.
//! An environment may have no boundary at all ([`Host`]): then `init/host.rs` stands for init, and `tree.rs` for its
//! pid namespace.
//! Knows nothing of git, tasks or agents. The only crate with unsafe code, all of it in `sys.rs`.

#[cfg(fuzzing)]
#[doc(hidden)]
pub use init::answer_dns;

mod cgroup;
mod connection;
pub mod doctor;
mod enter;
mod exec_group;
mod init;
pub mod journal;
mod launch;
mod message;
pub mod network;
mod seccomp;
mod shim;
mod spec;
mod sys;
pub mod system;
mod tree;

pub use cgroup::delegate;
pub use connection::{
    Connection, ConnectionError, Event, ExecError, ExecRequest, ExecRoot, ExecState, Exit, Listener,
    ListenerKind, Started, Stats, Stdio, Terminal,
};
pub use doctor::{Check, Report, State, Tier, examine};
pub use launch::{CleanupError, ConnectError, StartError, cleanup, connect, end, start};
pub use shim::shim_main;
pub use spec::{Host, Identity, Limits, Mount, Network, SandboxSpec, Weakness};
