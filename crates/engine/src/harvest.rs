//! Bringing a run's commits out: committed inside, carried out as a bundle, checked, and only then put on the task's
//! branch in the user's repository. Whatever goes wrong on the way, the workspace is still there.

use std::{fs::File, path::PathBuf};

use offshoot_core::{
    event::{Changes, Event, Harvested},
    fault,
    id::TaskId,
    part::PartHarvested,
    problem::{Problem, ProblemKind, chain},
    record::TaskRecord,
};
use offshoot_environment::machine::{self, Command};
use offshoot_git::{
    import::{ImportError, Limits},
    inside::{self, Finished},
    oid::Oid,
    publish::publish,
};
use offshoot_sandbox::Exit;

use crate::{
    clock,
    engine::Engine,
    environments::Live,
    parts::{Held, Part},
    project,
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
        let held = self.held(&record)?;
        let mut leftovers = Vec::with_capacity(held.len());
        // An adopted worktree is somebody's own: it is looked at as it is, and nothing is committed in it.
        let as_it_is = match record.adopted {
            Some(_) => Some(self.as_it_is(&record, &live).await?),
            None => None,
        };
        for held in held.iter().filter(|_| as_it_is.is_none()) {
            leftovers.push(self.finish(&record, held, &live, processes).await?.leftovers);
        }
        fault::point("harvest.committed");
        let mut bundles = Vec::with_capacity(held.len());
        for held in &held {
            bundles.push(self.bundle(&held.part, &live, "harvest").await?);
        }
        fault::point("harvest.bundled");
        let run = record.run().map(|run| run.id);
        let harvested =
            tokio::task::spawn_blocking(move || take_over(&record, &held, &bundles, &leftovers, as_it_is))
                .await
                .map_err(|e| Problem::internal("the harvest was interrupted", &e))??;
        self.inner.ledger.append(task, run, vec![Event::Harvested(harvested)])?;
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
        held: &Held,
        live: &Live,
        processes: Processes,
    ) -> Result<Finished, Problem> {
        let Held { part, repository, project } = held;
        let person = project::person(repository);
        let base = part.start(live)?;
        let subject =
            record.run().map(|r| r.prompt.lines().next().unwrap_or_default().to_owned()).unwrap_or_default();
        let subject: String = subject.chars().take(72).collect();
        let message = match record.restoring {
            Some(step) => format!("Go back to checkpoint {step}"),
            None if subject.trim().is_empty() => "Work left uncommitted".to_owned(),
            None => subject,
        };
        let ended = processes == Processes::End;
        let script = inside::finish(&part.branch, &base, &person, &message, ended);
        let report = match self.report_of(part, live, "commit", script.clone(), SECONDS).await {
            Ok(report) => report,
            // In the user's own repository there is nothing that would be ours to make anew.
            Err(problem) if !ended || live.lease.worktree().is_some() => return Err(problem),
            Err(problem) => {
                // Its own repository is broken beyond git's help: a new one over the same files.
                tracing::warn!(task = %record.id, %problem, "rescuing the files");
                let start = inside::Base {
                    commit: base,
                    branch: part.target.clone(),
                    objects: part.objects(),
                    person,
                    shallow: project.objects.shallow(),
                };
                self.report_of(part, live, "rescue", inside::rescue(&start, &part.branch), SECONDS).await?;
                self.report_of(part, live, "commit", script, SECONDS).await?
            }
        };
        Finished::read(&report).map_err(|e| Problem::internal("the commit's report makes no sense", &e))
    }

    /// Writes the bundle, inside, to a file that only the host can name.
    pub(crate) async fn bundle(&self, part: &Part, live: &Live, name: &str) -> Result<PathBuf, Problem> {
        let base = part.start(live)?;
        let path = live.lease.dir().join(format!("{}.bundle", part.file(name)));
        let errors = live.lease.dir().join("bundle.err");
        let failed = |e: std::io::Error| Problem::internal("could not write the bundle", &e);
        let command = Command {
            id: format!("bundle-{}", clock::id()),
            argv: inside::bundle(base.format(), &base, &part.branch),
            env: live.lease.git_variables(),
            seconds: SECONDS,
        };
        let (out, err) = (File::create(&path).map_err(failed)?, File::create(&errors).map_err(failed)?);
        match machine::run_inside_at(&live.sandbox, part.cwd(live).as_deref(), command, out, err).await {
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
}

/// Checks the bundles, takes their commits over and publishes the task's branches. No branch is written before the commits of
/// all repositories are safe in their stores.
fn take_over(
    record: &TaskRecord,
    held: &[Held],
    bundles: &[PathBuf],
    leftovers: &[bool],
    as_it_is: Option<Oid>,
) -> Result<Harvested, Problem> {
    let name = record.run().map_or_else(|| record.id.to_string(), |run| run.id.to_string());
    let mut heads = Vec::with_capacity(held.len());
    for (held, bundle) in held.iter().zip(bundles) {
        let file = File::open(bundle).map_err(|e| Problem::internal("could not read the bundle", &e))?;
        let imported = held.project.objects.import(&file, &name, &Limits::default()).map_err(refused)?;
        fault::point("harvest.imported");
        heads.push(imported.head);
    }
    let own = as_it_is.is_some();
    if let (Some(head), Some(main)) = (as_it_is, heads.first_mut()) {
        *main = head;
    }
    let mut main = Harvested::default();
    for (n, (held, head)) in held.iter().zip(&heads).enumerate() {
        let unpublished = if own { None } else { published(held, head)? };
        let leftovers = leftovers.get(n).copied().unwrap_or_default();
        let part = counted(held, head, leftovers, unpublished)?;
        if held.part.main {
            let PartHarvested { head, commits, changes, leftovers, unpublished, .. } = part;
            main = Harvested { head, commits, changes, leftovers, unpublished, others: Vec::new() };
        } else {
            main.others.push(part);
        }
    }
    for bundle in bundles {
        let _ = std::fs::remove_file(bundle);
    }
    Ok(main)
}

/// Publishes one repository's branch; if that cannot be, why not.
fn published(held: &Held, head: &Oid) -> Result<Option<String>, Problem> {
    let Held { part, repository, project } = held;
    let base: Oid = part.base.parse().map_err(|e| Problem::internal("the task's base is no commit", &e))?;
    if *head == base {
        return Ok(None);
    }
    let expected = part.head.as_ref().and_then(|head| head.parse::<Oid>().ok()).filter(|head| *head != base);
    let published = publish(&project.objects, repository, &part.branch, head, expected.as_ref());
    fault::point("harvest.published");
    Ok(published.err().map(|error| format!("{}; the commits are kept in Offshoot's store", chain(&error))))
}

/// What is on one repository's branch.
fn counted(
    held: &Held,
    head: &Oid,
    leftovers: bool,
    unpublished: Option<String>,
) -> Result<PartHarvested, Problem> {
    let Held { part, project, .. } = held;
    let base: Oid = part.base.parse().map_err(|e| Problem::internal("the task's base is no commit", &e))?;
    let git = |e| project::git_problem("the harvest could not be counted", &e);
    let files = project.objects.files(&base, head).map_err(git)?;
    let commits = project.objects.commits(&base, head).map_err(git)?;
    Ok(PartHarvested {
        name: part.name.clone(),
        head: head.to_string(),
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
