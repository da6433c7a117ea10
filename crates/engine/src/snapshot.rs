//! Checkpoints: the workspace as it was after a turn or after a tool call that changed files, as commits on hidden
//! refs. Taken inside, beside the agent's own branch and index, which are never touched.

use std::{fs::File, io::Read, path::Path};

use offshoot_core::{
    event::{Changes, Event},
    fault,
    id::{RunId, TaskId},
    part::PartCheckpoint,
    problem::Problem,
};
use offshoot_environment::machine::{self, Command};
use offshoot_git::inside::{self, Checkpointed};
use offshoot_sandbox::Exit;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    clock,
    engine::Engine,
    environments::Live,
    parts::{Part, parts},
};

/// How long git may take for a checkpoint of a large tree.
const SECONDS: u64 = 120;
/// How much of a report is read; one has a few hundred bytes.
const REPORT: u64 = 64 * 1024;
/// Prints, a line each: what differs from the base, what differs from the checkpoint before, and the subject of the
/// newest commit of the task's own.
const COUNT: &str = r#"
cd "${OFFSHOOT_GIT_DIR:-.}"
stat() { git -c core.fsmonitor=false diff --no-ext-diff --no-textconv --shortstat "$1" "$2" -- | tr -d '\n'; echo; }
stat "$1" "$3"; stat "$2" "$3"; git log -1 --format=%s "$1..HEAD" --
"#;

/// Takes checkpoints of one run, one at a time; news that come meanwhile are put together.
pub struct Snapshots {
    news: mpsc::Sender<String>,
    worker: JoinHandle<()>,
}

impl Snapshots {
    /// Starts taking them.
    pub fn start(engine: Engine, task: TaskId, run: RunId, live: Live) -> Self {
        let (news, mut heard) = mpsc::channel::<String>(1);
        let worker = tokio::spawn(async move {
            let mut signature = None;
            while let Some(title) = heard.recv().await {
                let lease = live.lease.clone();
                let Ok(written) = tokio::task::spawn_blocking(move || lease.written()).await else { return };
                engine.inner.environments.measured(live.lease.terms().environment, written.bytes);
                if signature == Some(written.signature) {
                    continue;
                }
                match engine.checkpoint(task, run, &live, &title).await {
                    Ok(()) => signature = Some(written.signature),
                    Err(problem) => tracing::debug!(%task, %problem, "no checkpoint"),
                }
            }
        });
        Self { news, worker }
    }

    /// Where news of tool calls go.
    pub fn sender(&self) -> &mpsc::Sender<String> {
        &self.news
    }

    /// Waits for the one that is being taken.
    pub async fn finish(self) {
        drop(self.news);
        let _ = self.worker.await;
    }
}

impl Engine {
    /// Takes a checkpoint, if anything changed since the last one.
    pub(crate) async fn checkpoint(
        &self,
        task: TaskId,
        run: RunId,
        live: &Live,
        title: &str,
    ) -> Result<(), Problem> {
        let gate = self.inner.environments.gate(task);
        let _one_at_a_time = gate.lock().await;
        let record = self.inner.ledger.task(task)?;
        let number = record.checkpoints.last().map_or(1, |c| c.number + 1);
        let prompt = record.run().map(|r| r.prompt.as_str()).unwrap_or_default();
        let message = format!("{title}\n\n{prompt}");
        let mut taken = Vec::new();
        for part in parts(&record) {
            let script = inside::checkpoint(number, &message);
            let report = self.report_of(&part, live, "checkpoint", script, SECONDS).await?;
            let commit = Checkpointed::read(&report)
                .map_err(|e| Problem::internal("the checkpoint's report makes no sense", &e))?
                .commit
                .to_string();
            taken.push((part, commit));
        }
        // Not made anew means that a commit has these very files: the one before, or one the agent made itself.
        if taken.iter().all(|(part, commit)| part.before() == commit || part.base == *commit) {
            return Ok(());
        }
        fault::point("run.checkpoint");
        let mut counts = Vec::with_capacity(taken.len());
        for (part, commit) in &taken {
            counts.push(self.count(part, live, commit).await);
        }
        let changed = counts.iter().map(|(_, step)| step).sum();
        let (mut taken, mut counts) = (taken.into_iter(), counts.into_iter());
        let (Some((_, commit)), Some((changes, _))) = (taken.next(), counts.next()) else { return Ok(()) };
        let others = taken.zip(counts).map(|((part, commit), (changes, changed))| PartCheckpoint {
            name: part.name,
            commit,
            changed,
            changes,
        });
        tracing::debug!(%task, number, "checkpoint");
        let taken = Event::Checkpoint {
            number,
            commit,
            title: title.chars().take(200).collect(),
            changed,
            others: others.collect(),
        };
        self.inner.ledger.append(task, Some(run), vec![taken, Event::Changes(changes)])
    }

    /// What a checkpoint holds against the base, and how many files it has changed since the one before.
    async fn count(&self, part: &Part, live: &Live, commit: &str) -> (Changes, u32) {
        let argv = ["sh", "-c", COUNT, "offshoot", &part.base, part.before(), commit].map(str::to_owned);
        let counted = self.report_of(part, live, "count", argv.to_vec(), SECONDS).await.unwrap_or_default();
        let counted = String::from_utf8_lossy(&counted);
        let mut lines = counted.lines();
        let mut whole = changes(lines.next().unwrap_or_default());
        let step = changes(lines.next().unwrap_or_default());
        whole.latest_commit = lines.next().map(|subject| subject.chars().take(200).collect());
        (whole, step.files)
    }

    /// Runs one of git's scripts in one of the repositories.
    pub(crate) async fn report_of(
        &self,
        part: &Part,
        live: &Live,
        what: &str,
        argv: Vec<String>,
        seconds: u64,
    ) -> Result<Vec<u8>, Problem> {
        self.report_at(live, part.cwd(live).as_deref(), &part.file(what), argv, seconds).await
    }

    /// Runs one of git's scripts inside and reads what it reports.
    pub(crate) async fn report(
        &self,
        live: &Live,
        what: &str,
        argv: Vec<String>,
        seconds: u64,
    ) -> Result<Vec<u8>, Problem> {
        self.report_at(live, None, what, argv, seconds).await
    }

    async fn report_at(
        &self,
        live: &Live,
        cwd: Option<&Path>,
        what: &str,
        argv: Vec<String>,
        seconds: u64,
    ) -> Result<Vec<u8>, Problem> {
        let out = live.lease.dir().join(format!("{what}.out"));
        let err = live.lease.dir().join(format!("{what}.err"));
        let failed = |e: std::io::Error| Problem::internal("could not keep a report", &e);
        let (stdout, stderr) = (File::create(&out).map_err(failed)?, File::create(&err).map_err(failed)?);
        let env = live.lease.git_variables();
        let command = Command { id: format!("{what}-{}", clock::id()), argv, env, seconds };
        let exit = machine::run_inside_at(&live.sandbox, cwd, command, stdout, stderr)
            .await
            .map_err(|e| Problem::internal(&format!("{what} was not made"), &e))?;
        if exit != Exit::Code(0) {
            let end = crate::run::tail(&err, 2000).unwrap_or_default();
            return Err(Problem::new(
                offshoot_core::problem::ProblemKind::Failed,
                "git_inside_failed",
                format!("git inside the environment failed to make the {what}: {exit:?}"),
            )
            .detail(String::from_utf8_lossy(&end)));
        }
        let mut bytes = Vec::new();
        File::open(&out).map_err(failed)?.take(REPORT).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

/// Reads ` 3 files changed, 5 insertions(+), 1 deletion(-)`.
fn changes(line: &str) -> Changes {
    let mut changes = Changes::default();
    for part in line.trim().split(", ") {
        let number: u64 = part.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default();
        if part.contains("file") {
            changes.files = u32::try_from(number).unwrap_or(u32::MAX);
        } else if part.contains("insertion") {
            changes.added = number;
        } else if part.contains("deletion") {
            changes.deleted = number;
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        for (text, want) in [
            ("", (0, 0, 0)),
            (" 1 file changed, 1 insertion(+)", (1, 1, 0)),
            (" 3 files changed, 5 insertions(+), 2 deletions(-)", (3, 5, 2)),
            ("hostile, text", (0, 0, 0)),
            ("99999999999999999999 files", (0, 0, 0)),
        ] {
            let got = changes(text);
            assert_eq!((got.files, got.added, got.deleted), want, "{text:?}");
        }
    }
}
