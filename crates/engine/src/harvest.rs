//! Bringing a run's commits out: committed inside, carried out as a bundle, checked, and only then put on the task's
//! branch in the user's repository. Whatever goes wrong on the way, the workspace is still there.

use std::{fs::File, path::PathBuf};

use offshoot_core::{
    event::{Changes, Event, Harvested},
    fault,
    id::TaskId,
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_environment::machine::{self, Command};
use offshoot_git::{
    import::{ImportError, Limits},
    inside::{self, Finished},
    oid::Oid,
    publish::publish,
    repository::Repository,
};
use offshoot_sandbox::Exit;

use crate::{
    clock,
    engine::Engine,
    environments::Live,
    project::{self, Project},
};

/// How long git may take to commit or to bundle a large tree.
const SECONDS: u64 = 600;

/// What becomes of the processes inside when work is brought out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processes {
    /// They end first: a run is over, and nobody finishes a turn alone.
    End,
    /// They go on: a person is looking, perhaps from a shell inside.
    Keep,
}

impl Engine {
    /// Brings out what the task's environment holds.
    pub(crate) async fn harvest(&self, task: TaskId, processes: Processes) -> Result<(), Problem> {
        let record = self.inner.ledger.task(task)?;
        let live = self.ready(task).await?;
        fault::point("harvest.start");
        if processes == Processes::End {
            live.sandbox
                .kill_all()
                .await
                .map_err(|e| Problem::internal("could not end the agent's processes", &e))?;
        }
        if let Some(run) = record.run() {
            let title = if run.prompt.is_empty() { "by hand" } else { "end of the turn" };
            if let Err(problem) = self.checkpoint(task, run.id, &live, title).await {
                tracing::debug!(%task, %problem, "no last checkpoint");
            }
        }
        // Before anything is committed: what a person writes from now on counts as not brought out.
        let lease = live.lease.clone();
        let written = tokio::task::spawn_blocking(move || lease.written())
            .await
            .map_err(|e| Problem::internal("looking at the workspace was interrupted", &e))?;
        let repository = project::repository_of(&record.root)?;
        let project = self.inner.projects.open(record.project, &repository)?;
        // An adopted worktree is somebody's own: it is looked at as it is, and nothing is committed in it.
        let (leftovers, as_it_is) = if record.adopted.is_some() {
            (false, Some(self.as_it_is(&record, &live).await?))
        } else {
            (self.finish(&record, &repository, &project, &live, processes).await?.leftovers, None)
        };
        fault::point("harvest.committed");
        let bundle = self.bundle(&record, &live, "harvest").await?;
        fault::point("harvest.bundled");
        let engine = self.clone();
        let harvested = tokio::task::spawn_blocking(move || {
            engine
                .take_over(&record, &repository, &project, &bundle, leftovers, as_it_is)
                .map(|h| (record, h))
        })
        .await
        .map_err(|e| Problem::internal("the harvest was interrupted", &e))?;
        let (record, harvested) = harvested?;
        self.inner.ledger.append(task, record.run().map(|r| r.id), vec![Event::Harvested(harvested)])?;
        fault::point("harvest.recorded");
        self.inner.environments.measured(live.lease.terms().environment, written.bytes);
        self.inner.environments.harvested(live.lease.terms().environment, written.signature);
        Ok(())
    }

    /// What a workspace holds as a commit beside its branch, or its branch's own.
    async fn as_it_is(&self, record: &TaskRecord, live: &Live) -> Result<Oid, Problem> {
        let number = record.checkpoints.last().map_or(1, |c| c.number + 1);
        let script = inside::checkpoint(number, "as it is");
        let report = self.report(live, "checkpoint", script, SECONDS).await?;
        let taken = inside::Checkpointed::read(&report)
            .map_err(|e| Problem::internal("the checkpoint's report makes no sense", &e))?;
        Ok(taken.commit)
    }

    /// Commits what was left uncommitted, inside.
    async fn finish(
        &self,
        record: &TaskRecord,
        repository: &Repository,
        project: &Project,
        live: &Live,
        processes: Processes,
    ) -> Result<Finished, Problem> {
        let person = project::person(repository);
        let base = base_of(live)?;
        let subject =
            record.run().map(|r| r.prompt.lines().next().unwrap_or_default().to_owned()).unwrap_or_default();
        let subject: String = subject.chars().take(72).collect();
        let message = if subject.trim().is_empty() { "Work left uncommitted".to_owned() } else { subject };
        let ended = processes == Processes::End;
        let script = inside::finish(&record.branch, &base, &person, &message, ended);
        let report = match self.report(live, "commit", script.clone(), SECONDS).await {
            Ok(report) => report,
            // In the user's own repository there is nothing that would be ours to make anew.
            Err(problem) if !ended || live.lease.worktree().is_some() => return Err(problem),
            Err(problem) => {
                // Its own repository is broken beyond git's help: a new one over the same files.
                tracing::warn!(task = %record.id, %problem, "rescuing the files");
                let start = inside::Base {
                    commit: base,
                    branch: record.target.clone(),
                    objects: inside::OBJECTS.to_owned(),
                    person,
                    shallow: project.objects.shallow(),
                };
                self.report(live, "rescue", inside::rescue(&start, &record.branch), SECONDS).await?;
                self.report(live, "commit", script, SECONDS).await?
            }
        };
        Finished::read(&report).map_err(|e| Problem::internal("the commit's report makes no sense", &e))
    }

    /// Writes the bundle, inside, to a file that only the host can name.
    pub(crate) async fn bundle(
        &self,
        record: &TaskRecord,
        live: &Live,
        name: &str,
    ) -> Result<PathBuf, Problem> {
        let base = base_of(live)?;
        let path = live.lease.dir().join(format!("{name}.bundle"));
        let errors = live.lease.dir().join("bundle.err");
        let failed = |e: std::io::Error| Problem::internal("could not write the bundle", &e);
        let command = Command {
            id: format!("bundle-{}", clock::id()),
            argv: inside::bundle(base.format(), &base, &record.branch),
            env: live.lease.git_variables(),
            seconds: SECONDS,
        };
        let (out, err) = (File::create(&path).map_err(failed)?, File::create(&errors).map_err(failed)?);
        match machine::run_inside(&live.sandbox, command, out, err).await {
            Ok(Exit::Code(0)) => Ok(path),
            Ok(exit) => {
                let end = crate::run::tail(&errors, 2000).unwrap_or_default();
                Err(Problem::new(
                    ProblemKind::Failed,
                    "bundle_failed",
                    format!("the commits could not be bundled: {exit:?}"),
                )
                .detail(String::from_utf8_lossy(&end)))
            }
            Err(error) => Err(Problem::internal("the commits could not be bundled", &error)),
        }
    }

    /// Checks a bundle, takes its commits over and publishes the task's branch.
    fn take_over(
        &self,
        record: &TaskRecord,
        repository: &Repository,
        project: &Project,
        bundle: &std::path::Path,
        leftovers: bool,
        as_it_is: Option<Oid>,
    ) -> Result<Harvested, Problem> {
        let file = File::open(bundle).map_err(|e| Problem::internal("could not read the bundle", &e))?;
        let name = record.run().map_or_else(|| record.id.to_string(), |run| run.id.to_string());
        let mut imported = project.objects.import(&file, &name, &Limits::default()).map_err(refused)?;
        fault::point("harvest.imported");
        let base: Oid =
            record.base.parse().map_err(|e| Problem::internal("the task's base is no commit", &e))?;
        let mut unpublished = None;
        let own = as_it_is.is_some();
        imported.head = as_it_is.unwrap_or(imported.head);
        if imported.head != base && !own {
            let expected =
                record.head.as_ref().and_then(|head| head.parse::<Oid>().ok()).filter(|head| *head != base);
            let published =
                publish(&project.objects, repository, &record.branch, &imported.head, expected.as_ref());
            if let Err(error) = published {
                unpublished = Some(format!("{}; the commits are kept in Offshoot's store", chain(&error)));
            }
        }
        let _ = std::fs::remove_file(bundle);
        let git = |e| project::git_problem("the harvest could not be counted", &e);
        let files = project.objects.files(&base, &imported.head).map_err(git)?;
        let commits = project.objects.commits(&base, &imported.head).map_err(git)?;
        Ok(Harvested {
            head: imported.head.to_string(),
            commits: u32::try_from(commits.len()).unwrap_or(u32::MAX),
            changes: Changes {
                files: u32::try_from(files.len()).unwrap_or(u32::MAX),
                added: files.iter().map(|f| f.added).sum(),
                deleted: files.iter().map(|f| f.deleted).sum(),
                latest_commit: commits.first().map(|commit| commit.subject.clone()),
            },
            leftovers,
            unpublished,
        })
    }
}

/// What it means that a bundle was refused.
pub(crate) fn refused(error: ImportError) -> Problem {
    match error {
        ImportError::Git(error) => project::git_problem("the bundle could not be taken over", &error),
        error => Problem::new(
            ProblemKind::Failed,
            "bundle_refused",
            format!("what the environment handed out was refused: {}", chain(&error)),
        )
        .hint("the workspace is kept; look into it with `offshoot shell`"),
    }
}

/// The commit that an environment started from.
fn base_of(live: &Live) -> Result<Oid, Problem> {
    live.lease.terms().base.parse().map_err(|e| Problem::internal("the environment's base is no commit", &e))
}
