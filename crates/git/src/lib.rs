//! Hermetic git: object stores, bundles, diffs, landing.
