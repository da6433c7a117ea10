//! What this machine can do, tried rather than guessed. (Being filled.)

use std::path::Path;

/// Placeholder for the report.
pub fn examine(_state: &Path) {}
