//! The real agent CLIs in exact versions, installed by `install-agents.sh` into a cache that survives; and which of them
//! the tests of this process are meant to run.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

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

/// All that can be installed.
pub const ALL: [&str; 5] = ["claude", "codex", "gemini", "opencode", "aider"];

/// Those that tests run if nobody says which: the ones people use most.
pub const DEFAULT: [&str; 3] = ["claude", "codex", "gemini"];

/// Which agents the tests are to run: those that `OFFSHOOT_TEST_AGENTS` names, [`DEFAULT`] if it is not set, none if it
/// is empty. A name that is not one of [`ALL`] is an error: a slip would otherwise pass for a test.
pub fn meant(named: Option<&str>) -> Result<Vec<&'static str>, String> {
    let Some(named) = named else { return Ok(DEFAULT.to_vec()) };
    let names = named.split([' ', ',']).filter(|name| !name.is_empty());
    let known = |name: &str| ALL.into_iter().find(|one| *one == name);
    names.map(|name| known(name).ok_or_else(|| format!("OFFSHOOT_TEST_AGENTS: no agent {name:?}"))).collect()
}

/// For a test with a real agent: installs it and says that it runs; or, if it is not meant, says that its tests do not
/// run. Both once for each agent, past the test runner, which would keep it to itself.
///
/// # Panics
/// If the agent is meant and cannot be installed, or if the variable is wrong.
#[must_use]
pub fn for_test(name: &'static str) -> Option<Installed> {
    static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
    let variable = std::env::var("OFFSHOOT_TEST_AGENTS").ok();
    let meant = match meant(variable.as_deref()) {
        Ok(meant) => meant,
        Err(error) => panic!("{error}"),
    };
    let runs = meant.contains(&name);
    if SAID.lock().is_ok_and(|mut said| said.insert(name)) {
        let what = if runs { "run" } else { "NOT RUN" };
        let _ = writeln!(
            std::io::stderr(),
            "real agent {name}: its tests are {what} (meant: {})",
            meant.join(" ")
        );
    }
    runs.then(|| install(name).unwrap_or_else(|error| panic!("{error}")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_or_missing_variable_does_not_pass_for_a_test() {
        assert_eq!(meant(None).as_deref(), Ok(&DEFAULT[..]));
        assert_eq!(meant(Some("aider, claude")).as_deref(), Ok(&["aider", "claude"][..]));
        assert_eq!(meant(Some("")).as_deref(), Ok(&[][..]));
        assert!(meant(Some("claude coedx")).is_err());
    }
}
