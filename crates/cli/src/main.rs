//! The `offshoot` binary: every role of it, chosen by the first argument.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // Inside an environment git finds the same program under another name.
    if Path::new(&name).file_name().is_some_and(|name| name == offshoot_server::MONITOR_HOOK) {
        return offshoot_server::monitor_main(arguments);
    }
    // The shim comes first and alone: it starts with an empty environment and must stay tiny.
    match arguments.next() {
        Some(role) if role == "__shim" => offshoot_sandbox::shim_main(),
        Some(role) if role == "__daemon" => offshoot_server::daemon_main(arguments),
        _ => offshoot_cli::cli_main(),
    }
}
