//! Hermetic git: object stores, bundles, diffs, landing. The only crate that runs git on the host.
//!
//! | room | what it owns |
//! |---|---|
//! | `command` | the one way git is started here: clean environment, nothing of a repository's config is run, limits |
//! | [`oid`], [`path`], [`branch`], [`patch`] | object names, file names as text, branch names, patches taken apart: pure |
//! | [`repository`] | the user's repository, read only |
//! | [`store`], [`import`], [`view`] | a project's own object store: what goes in, what comes out of a run, how it is shown |
//! | [`publish`] | a task's branch in the user's repository |
//! | [`merge`], [`land`], `checkout` | conflict forecast, landing, and a checked-out target brought along |
//! | [`prepared`] | landings made first and shown later, for several repositories at once |
//! | [`worktree`] | real worktrees of the user's repository, for environments without a boundary |
//! | [`inside`] | the scripts that run git within a sandbox, and the reading of their reports |
//!
//! Everything is synchronous and may block for seconds. Needs git 2.38 or newer.

pub mod branch;
mod checkout;
mod command;
pub mod import;
pub mod inside;
pub mod land;
pub mod merge;
pub mod oid;
pub mod patch;
pub mod path;
pub mod prepared;
pub mod publish;
pub mod repository;
pub mod store;
mod tree;
pub mod view;
pub mod worktree;

pub use command::{GitError, check_version};
