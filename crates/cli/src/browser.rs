//! The person's browser.

use std::{
    env,
    process::{Command, Stdio},
};

/// Hands it an address, if there is a screen to show one on. Says whether it did.
pub(crate) fn show(url: &str) -> bool {
    let screen =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some_and(|v| !v.is_empty()));
    let null = Stdio::null;
    screen && Command::new("xdg-open").arg(url).stdin(null()).stdout(null()).stderr(null()).spawn().is_ok()
}
