//! The files of a worktree besides its commit's: what a fresh checkout lacks is brought in once, and what is generated there
//! is never committed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use offshoot_core::{
    event::Event,
    fault,
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_environment::{
    lease::Lease,
    machine::{self, Command},
    worktree::{
        EXCLUDE, copy,
        variables::{self, Own},
    },
};
use offshoot_git::{inside, worktree as git_worktree};
use offshoot_sandbox::Exit;

use crate::{clock, engine::Engine, environments::Live, project};

/// How long git may take to check out a large tree.
const CHECKOUT: u64 = 1800;
/// How long one setup command may take.
const SETUP: u64 = 3600;
/// The file for variables if nobody says otherwise: the one that most tools read last, and most projects ignore.
const ENV_FILE: &str = ".env.local";
/// A file of patterns: which ignored files of the main checkout a worktree needs.
const INCLUDE: &str = ".worktreeinclude";
/// File in a lease's directory that says that a worktree is ready to work in.
const POPULATED: &str = "populated";

impl Engine {
    /// What git in the worktree ignores besides what the project says: as the user has it, and what is generated.
    pub(super) fn write_exclude(&self, record: &TaskRecord, lease: &Lease) -> Result<(), Problem> {
        let repository = project::repository_of(&record.root)?;
        let own = repository.user_ignore_file().and_then(|file| fs::read(file).ok()).unwrap_or_default();
        let mut text = own;
        text.extend_from_slice(b"\n# offshoot\n");
        if let Some(file) = self.env_file(record)? {
            text.extend_from_slice(format!("/{}\n", file.display()).as_bytes());
        }
        let definition = record.agent.as_deref().and_then(|agent| self.inner.catalog.get(agent));
        for pattern in definition.map(|d| d.git_exclude.clone()).unwrap_or_default() {
            text.extend_from_slice(format!("{pattern}\n").as_bytes());
        }
        fs::write(lease.dir().join(EXCLUDE), text)
            .map_err(|e| Problem::internal("could not write the list of ignored files", &e))
    }

    /// The file for variables, if there is to be one.
    fn env_file(&self, record: &TaskRecord) -> Result<Option<PathBuf>, Problem> {
        let (config, user) = (project::config(Path::new(&record.root))?, self.user_config()?);
        let wanted =
            user.worktree.env_file.or(config.worktree.env_file).unwrap_or_else(|| ENV_FILE.to_owned());
        if wanted.is_empty() || record.adopted.is_some() {
            return Ok(None);
        }
        variables::file_name(&wanted).map(Some).ok_or_else(|| {
            Problem::new(
                ProblemKind::Invalid,
                "bad_env_file",
                format!("{wanted:?} cannot be the file for variables: it has to be within the worktree"),
            )
        })
    }

    /// Sees to it that the commit's files are in the worktree; a sandbox has them by its layers.
    pub(crate) async fn files_there(&self, record: &TaskRecord, live: &Live) -> Result<(), Problem> {
        if live.lease.is_checked_out() {
            return Ok(());
        }
        self.tell(record, format!("checking out {}", short(&live.lease.terms().base)));
        self.report(live, "checkout", inside::worktree_checkout(), CHECKOUT).await?;
        fault::point("worktree.files");
        live.lease.checked_out().map_err(|e| Problem::internal("could not note the checkout", &e))
    }

    /// Brings in what a fresh checkout lacks: ignored files of the main checkout, variables, what the setup commands make.
    pub(crate) async fn populated(&self, record: &TaskRecord, live: &Live) -> Result<(), Problem> {
        let Some(place) = live.lease.worktree() else { return Ok(()) };
        let marker = live.lease.dir().join(POPULATED);
        if place.adopted || marker.exists() {
            return Ok(());
        }
        let (engine, of, path, lease) =
            (self.clone(), record.clone(), place.path.clone(), live.lease.clone());
        let told = tokio::task::spawn_blocking(move || {
            let told = copy_included(&of, &path)?;
            engine.write_env_file(&of, &path, &lease)?;
            Ok::<_, Problem>(told)
        })
        .await
        .map_err(|e| Problem::internal("preparing the worktree was interrupted", &e))??;
        if let Some(told) = told {
            self.tell(record, told);
        }
        for setup in project::config(Path::new(&record.root))?.setup.into_values() {
            for command in setup.commands {
                self.tell(record, command.clone());
                self.set_up(live, &command).await?;
            }
        }
        fs::write(&marker, "").map_err(|e| Problem::internal("could not note that the worktree is ready", &e))
    }

    async fn set_up(&self, live: &Live, command: &str) -> Result<(), Problem> {
        let path = live.lease.dir().join("setup.log");
        let failed = |e: std::io::Error| Problem::internal("could not keep the setup's output", &e);
        let file = fs::File::create(&path).map_err(failed)?;
        let both = file.try_clone().map_err(failed)?;
        let argv = ["sh", "-c", command].map(str::to_owned).to_vec();
        let id = format!("setup-{}", clock::id());
        let ran = Command { id, argv, env: BTreeMap::new(), seconds: SETUP };
        let said = match machine::run_inside(&live.sandbox, ran, file, both).await {
            Ok(Exit::Code(0)) => return Ok(()),
            Ok(exit) => format!("{command:?} ended with {exit:?}"),
            Err(error) => chain(&error),
        };
        let end = crate::run::tail(&path, 4000).unwrap_or_default();
        Err(Problem::new(ProblemKind::Failed, "setup_failed", format!("the setup could not be made: {said}"))
            .hint("run the command yourself to see more, or change [setup] in offshoot.toml")
            .detail(String::from_utf8_lossy(&end)))
    }

    fn write_env_file(&self, record: &TaskRecord, path: &Path, lease: &Lease) -> Result<(), Problem> {
        let Some(name) = self.env_file(record)? else { return Ok(()) };
        let file = path.join(&name);
        let failed = |e: std::io::Error| Problem::internal("could not write the file for variables", &e);
        let there = match fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(failed)?,
        };
        if !there.is_empty() && is_tracked(lease, path, &name) {
            self.tell(
                record,
                format!("{} is committed, so PORT and the like are not written there", name.display()),
            );
            return Ok(());
        }
        let config = project::config(Path::new(&record.root))?;
        let terms = lease.terms();
        let mut env = terms.service_env();
        env.extend(config.environment.env.clone());
        let own = Own {
            environment: terms.environment,
            task: record.name.as_str(),
            port: terms.env.get("PORT").and_then(|port| port.parse().ok()),
            ports: &config.ports,
            env: &env,
            exclude: Path::new(""),
        };
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(&file, variables::file_text(&there, &variables::in_file(&own))).map_err(failed)?;
        if !git_worktree::is_ignored(path, &name).unwrap_or(true) {
            self.tell(
                record,
                format!("{0} is kept out of commits made here; add it to .gitignore, so that tools started elsewhere do not offer to commit it", name.display()),
            );
        }
        Ok(())
    }

    fn tell(&self, record: &TaskRecord, step: String) {
        let run = record.run().map(|r| r.id);
        if let Err(problem) = self.inner.ledger.append(record.id, run, vec![Event::Preparing { step }]) {
            tracing::warn!(%problem, "could not record progress");
        }
    }
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

/// Copies what `.worktreeinclude` of the main checkout names. What was done, in words, if anything was.
fn copy_included(record: &TaskRecord, path: &Path) -> Result<Option<String>, Problem> {
    let git = |e| project::git_problem("the files to copy could not be listed", &e);
    let repository = project::repository_of(&record.root)?;
    let root = repository.main_root().map_err(git)?;
    let list = root.join(INCLUDE);
    if repository.is_bare() || !list.is_file() {
        return Ok(None);
    }
    let main = project::discover(&root)?;
    let (paths, more) = git_worktree::included(&main, &list).map_err(git)?;
    let copied = copy::files(&root, path, &paths)
        .map_err(|e| Problem::internal("could not copy ignored files of the checkout", &e))?;
    let mut told = format!("copied {} files named in {INCLUDE}", copied.files);
    if copied.shared > 0 {
        told.push_str(&format!(", {} KiB by reflink (no space taken)", copied.shared >> 10));
    }
    if copied.bytes > 0 {
        told.push_str(&format!(", {} KiB as bytes", copied.bytes >> 10));
    }
    if copied.too_much > 0 || more {
        told.push_str(&format!(
            "; {} left out: more than {} MiB, and this file system has no reflinks",
            copied.too_much,
            copy::MAX_BYTES >> 20
        ));
    }
    Ok(Some(told))
}

/// Whether git has the file in its index.
fn is_tracked(lease: &Lease, path: &Path, name: &Path) -> bool {
    let git_dir = lease.git_variables().remove(inside::GIT_DIR_VARIABLE);
    git_dir.is_some_and(|git_dir| git_worktree::is_tracked(path, Path::new(&git_dir), name).unwrap_or(true))
}
