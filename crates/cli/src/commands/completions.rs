//! `offshoot completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{arguments::Cli, failure::Outcome, session::Session};

/// Print completions for a shell, to be sourced from its start-up file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// bash, zsh, fish, elvish or powershell
    shell: Shell,
}

pub(crate) fn run(args: Args, session: &Session) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "offshoot", &mut text);
    session.screen.print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
