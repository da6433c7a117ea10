//! How git inside is told what changed, instead of looking at every file: names that its configuration, the layers'
//! indexes and whoever shows the hook agree on.
//!
//! Only for trees above 10,000 files (`base_checkout.sh`): below, starting the hook costs more than it saves.

/// What a sandbox runs for git as `core.fsmonitor`, with the arguments of its protocol, version 2.
pub const HOOK: &str = "/run/offshoot/monitor/fsmonitor";
/// The name of that program, by which it knows what it is to do.
pub const NAME: &str = "fsmonitor";
/// The workspace's own writable layer, read-only.
pub const UPPER: &str = "/run/offshoot/monitor/upper";
/// How the environment began: the hook's own record.
pub const BEGAN: &str = "/run/offshoot/monitor/began";
/// The token in a layer's index: nothing was written over the layers yet.
pub const BASE: &str = "base";
/// A file of layers whose index is prepared.
pub const MARK: &str = ".git/offshoot-monitored";
