//! The daemon's HTTP API, and the daemon's own life.
//!
//! ```text
//! start.rs   what a client does to have a daemon        daemon.rs  what the daemon does from start to end
//! place.rs   where everything of a user is kept         log.rs     its log, bounded
//! listen.rs  connections: Unix socket, TCP, TLS         guard.rs   who may ask over TCP, and how
//! dashboard/ browsers: pages, logins, devices, what is listened at for them
//! routes.rs  the router with its OpenAPI document       answer.rs  bodies, queries and problems on the wire
//! tasks.rs · review.rs · approvals.rs · exec.rs · events.rs · services.rs · service.rs   the handlers; each only translates to the engine and back
//! ```
//!
//! Decides nothing: every rule about tasks is the engine's.

mod answer;
mod approvals;
mod apps;
mod daemon;
mod dashboard;
mod events;
mod exec;
pub mod guard;
mod listen;
mod log;
pub mod place;
mod review;
mod routes;
mod service;
mod services;
mod start;
mod tasks;
mod worktrees;

pub use answer::Refusal;
pub use daemon::daemon_main;
pub use dashboard::{access::Access, page::Asset, site::Site};
pub use events::event_stream;
pub use listen::{Connection, serve_tcp, serve_tls, serve_unix};
pub use offshoot_engine::{MONITOR_HOOK, monitor_main};
pub use routes::{VERSION_HEADER, document, version_tag};
pub use start::{StartOptions, connectable, ensure, wait_until_gone};
