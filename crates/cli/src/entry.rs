//! From the arguments to the exit code.

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};
use offshoot_core::problem::ProblemKind;

use crate::{arguments::Cli, commands, failure::Failure, screen::Screen, session::Session};

/// The command line, from arguments to exit code.
pub fn cli_main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help that nobody reads to the end (`| head`) is no mistake.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(ProblemKind::Invalid.exit_code()),
            };
        }
    };
    let screen = Screen::of_process(cli.json);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(&screen),
    };
    let result = runtime.block_on(async {
        let session = Session::new(screen.clone())?;
        commands::run(cli.command, &session).await
    });
    // A thread may still wait for standard input; it must not keep the process.
    runtime.shutdown_background();
    screen.end_progress();
    match result {
        Ok(code) => code,
        Err(failure) => failure.report(&screen),
    }
}
