//! `offshoot-scripted-agent`: an ACP agent on stdin and stdout that does what the `@` lines of its prompt say.
//! Sessions are kept in `$SCRIPTED_AGENT_HOME`, by default `~/.scripted-agent`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--version") {
        println!("offshoot-scripted-agent {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let home = std::env::var_os("SCRIPTED_AGENT_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".scripted-agent")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match (runtime, home) {
        (Ok(runtime), Some(home)) => {
            runtime.block_on(offshoot_testkit::scripted_agent::serve(home)).map_err(|error| error.to_string())
        }
        (Err(error), _) => Err(error.to_string()),
        (_, None) => Err("no home directory".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("offshoot-scripted-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
