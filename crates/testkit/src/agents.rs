//! The real agent CLIs in exact versions, installed by `install-agents.sh` into a cache that survives.

use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

/// An agent could not be installed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The script could not be started.
    #[error("cannot start the installation of {name}")]
    Start {
        /// Which agent.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The script failed.
    #[error("{name} could not be installed: {message}")]
    Failed {
        /// Which agent.
        name: String,
        /// What the script said.
        message: String,
    },
}

/// An installed agent.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Its executable.
    pub program: PathBuf,
    /// Directories it needs on its `PATH`, for its interpreter.
    pub path_dirs: Vec<PathBuf>,
}

/// The cache: `$OFFSHOOT_TEST_CACHE`, or `~/.cache/offshoot-test`.
#[must_use]
pub fn cache() -> PathBuf {
    std::env::var_os("OFFSHOOT_TEST_CACHE")
        .map_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache/offshoot-test"), PathBuf::from)
}

/// Installs an agent (`claude`, `codex`, `gemini`, `opencode` or `aider`) if it is not there yet.
pub fn install(name: &str) -> Result<Installed, InstallError> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("install-agents.sh");
    let output = Command::new(script)
        .arg(name)
        .output()
        .map_err(|source| InstallError::Start { name: name.to_owned(), source })?;
    let printed = String::from_utf8_lossy(&output.stdout);
    match printed.lines().last() {
        Some(program) if output.status.success() => {
            let node = cache().join("node-22/bin");
            let path_dirs = if node.is_dir() { vec![node] } else { Vec::new() };
            Ok(Installed { program: PathBuf::from(program), path_dirs })
        }
        _ => {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(InstallError::Failed { name: name.to_owned(), message })
        }
    }
}
