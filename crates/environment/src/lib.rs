//! One lease: workspace layers, sandbox, limits.
//!
//! - [`database`]: parts of database servers that run already
//! - [`disk`]: what a tree takes
//! - [`layout`]: where things lie below the state directory
//! - [`machine`]: starting sandboxes with the allow-list root file system, and running commands in them
//! - [`layers`]: immutable trees shared by environments, each made in a builder sandbox
//! - [`lease`]: one environment, from up to remove
//! - [`monitor`]: git inside is told what changed
//! - [`other`]: further repositories of an environment
//! - [`ports`]: ports of the host that no other environment has
//! - [`sandbox`]: a running sandbox, its events told to many
//! - [`service`]: databases and the like, private to an environment
//! - [`shared`]: apps of other environments, found under their names
//! - [`tail`]: the end of what a process said
//! - [`tools`]: the person's tools, shown inside
//! - [`worktree`]: environments without a boundary, in worktrees of the user's repository
//! - [`written`]: what a run wrote
//! - [`remove`]: deleting what hostile processes wrote

pub mod database;
pub mod disk;
pub mod layers;
pub mod layout;
pub mod lease;
pub mod machine;
pub mod monitor;
pub mod other;
pub mod ports;
pub mod remove;
pub mod sandbox;
pub mod service;
pub mod shared;
pub mod tail;
pub mod tools;
pub mod worktree;
pub mod written;
