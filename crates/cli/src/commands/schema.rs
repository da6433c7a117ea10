//! `offshoot schema`.

use std::process::ExitCode;

use crate::{failure::Outcome, reference, session::Session};

/// Print the JSON schema of a file, for editors and other programs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of which file
    file: File,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum File {
    /// services.json
    Services,
}

pub(crate) fn run(args: Args, session: &Session) -> Outcome {
    let text = match args.file {
        File::Services => reference::services_schema(),
    };
    session.screen.print(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
