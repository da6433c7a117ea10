//! The services of an environment: what a project's `services.json` comes to on this machine, and their life in a sandbox.
//!
//! - [`plan`]: one service worked out to the last detail, stored with the lease
//! - `recipe`: how this machine's own programs are run as services
//! - `image`: how images are run as services
//! - [`probe`]: whether a service is ready
//! - [`supervise`]: started in order, found ready, started again within bounds
//! - [`data`]: what a service holds at first, made once and shared copy-on-write

pub mod data;
mod image;
pub mod plan;
pub mod probe;
mod recipe;
pub mod supervise;
