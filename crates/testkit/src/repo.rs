//! Git repositories to work on: always the same identity and dates, so that the same files give the same commits;
//! none of the machine's git configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

/// A repository could not be made or used.
#[derive(Debug, Error)]
pub enum RepoError {
    /// Git failed.
    #[error("git {arguments} failed: {message}")]
    Git {
        /// Its arguments.
        arguments: String,
        /// What it said.
        message: String,
    },
    /// A file could not be written or git not be started.
    #[error("cannot prepare the repository")]
    Io(#[from] std::io::Error),
}

/// A repository with a working tree.
#[derive(Debug)]
pub struct TestRepo {
    path: PathBuf,
    /// Seconds since the first commit.
    clock: std::cell::Cell<u64>,
}

/// The date of the first commit: 2026-01-01T00:00:00Z.
const EPOCH: u64 = 1_767_225_600;

impl TestRepo {
    /// An empty repository with the branch `main`, in a directory that is made if it is not there.
    pub fn init(path: &Path) -> Result<Self, RepoError> {
        std::fs::create_dir_all(path)?;
        let repo = Self { path: path.to_owned(), clock: std::cell::Cell::new(0) };
        repo.git(&["init", "-q", "-b", "main"])?;
        repo.git(&["config", "user.name", "Tess Tester"])?;
        repo.git(&["config", "user.email", "tess@example.com"])?;
        // Git would tidy up in the background after a large commit, and still be at it when the test is over.
        repo.git(&["config", "maintenance.auto", "false"])?;
        Ok(repo)
    }

    /// A small project with a commit: a README, a source file and a passing `test.sh`.
    pub fn small(path: &Path) -> Result<Self, RepoError> {
        let repo = Self::init(path)?;
        repo.write("README.md", "# Small\n\nA project to try things on.\n")?;
        repo.write("src/greet.sh", "echo hello\n")?;
        repo.write("test.sh", "[ \"$(sh src/greet.sh)\" = hello ] && echo ok\n")?;
        repo.commit("Begin")?;
        Ok(repo)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, with the directories it needs.
    pub fn write(&self, path: &str, text: &str) -> Result<(), RepoError> {
        let file = self.path.join(path);
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        Ok(std::fs::write(file, text)?)
    }

    /// Commits everything; each commit is a minute later than the one before. Returns its id.
    pub fn commit(&self, message: &str) -> Result<String, RepoError> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "--allow-empty", "-m", message])?;
        self.clock.set(self.clock.get() + 60);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in it and returns what it printed, trimmed.
    pub fn git(&self, arguments: &[&str]) -> Result<String, RepoError> {
        let date = format!("{} +0000", EPOCH + self.clock.get());
        let output = Command::new("git")
            .current_dir(&self.path)
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_DATE", &date)
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            let arguments = arguments.join(" ");
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(RepoError::Git { arguments, message })
        }
    }
}
