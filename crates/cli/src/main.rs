//! The `offshoot` binary: every role of it, chosen by the first argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    // The shim comes first and alone: it starts with an empty environment and must stay tiny.
    match arguments.next() {
        Some(role) if role == "__shim" => offshoot_sandbox::shim_main(),
        Some(role) if role == "__daemon" => offshoot_server::daemon_main(arguments),
        _ => offshoot_cli::cli_main(),
    }
}
