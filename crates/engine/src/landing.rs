//! What a landing would do, without doing it, and the message that it would have.

use offshoot_core::{
    api::{ConflictView, LandingPart, LandingView},
    lifecycle::TaskChange,
    problem::Problem,
    record::TaskRecord,
};
use offshoot_git::{
    land::{LandError, forecast},
    oid::Oid,
    view::CommitView,
};

use crate::{
    diff::DiffRequest,
    engine::{Engine, TaskRef},
    harvest::Processes,
    parts::{Part, parts},
    project,
    restore::refuse_restoring,
    review::{land_problem, no_target, not_landable, nothing_to_land, word},
};

/// Commits that a message names.
const NAMED: usize = 50;
/// Longest subject of a message, in characters: what git's own tools show whole.
const SUBJECT: usize = 72;

/// Which landing is to be foretold.
#[derive(Clone, Debug, Default)]
pub struct LandingRequest {
    /// As one commit.
    pub squash: bool,
    /// Into which branch; `NAME=BRANCH`, with commas between several, for repositories of a task over several.
    pub into: Option<String>,
}

impl Engine {
    /// What a landing would do now.
    pub async fn landing(&self, task: &TaskRef, request: LandingRequest) -> Result<LandingView, Problem> {
        let record = self.find(task)?;
        let record = self.brought_out(record, Processes::Keep).await?;
        let engine = self.clone();
        tokio::task::spawn_blocking(move || engine.foretold(&record, &request))
            .await
            .map_err(|e| Problem::internal("the forecast was interrupted", &e))?
    }

    fn foretold(&self, record: &TaskRecord, request: &LandingRequest) -> Result<LandingView, Problem> {
        let (squash_message, merge_message) = self.messages(record)?;
        let files = self.diff_of(record, &DiffRequest { stat: true, ..DiffRequest::default() })?.files;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut view = LandingView {
            squash_message,
            merge_message,
            outside_scope: count(files.iter().filter(|file| file.outside_scope).count()),
            runs_on_host: count(files.iter().filter(|file| !file.runs_on_host.is_empty()).count()),
            unsent_comments: count(record.drafts().count()),
            ..LandingView::default()
        };
        if !record.state.is_settled() || record.state.after(TaskChange::Land).is_some() {
            for part in parts(record).into_iter().filter(Part::has_commits) {
                view.repositories.push(self.foretold_in(record, &part, request)?);
            }
        }
        let state = record.state.after(TaskChange::Land).is_none().then(|| not_landable(record));
        let nothing = view.repositories.is_empty().then(|| nothing_to_land(record));
        let own = record.head.as_deref().and_then(|head| self.refuse_uncommitted(record, head).err());
        let parts = view.repositories.iter().find_map(|part| part.problem.clone());
        view.problem = state.or(refuse_restoring(record).err()).or(nothing).or(own).or(parts);
        view.clean = view.problem.is_none();
        Ok(view)
    }

    fn foretold_in(
        &self,
        record: &TaskRecord,
        part: &Part,
        request: &LandingRequest,
    ) -> Result<LandingPart, Problem> {
        let head = part.head.clone().unwrap_or_else(|| part.base.clone());
        let mut view =
            LandingPart { repository: part.name.clone(), head: head.clone(), ..LandingPart::default() };
        view.target = into(request, part).or_else(|| part.target.clone());
        let Some(target) = &view.target else {
            view.problem = Some(no_target(record));
            return Ok(view);
        };
        let repository = project::repository_of(&part.root)?;
        let objects = self.inner.projects.open(part.project, &repository)?.objects;
        let head: Oid = head.parse().map_err(|e| Problem::internal("not a commit", &e))?;
        match forecast(&objects, &repository, &head, target, request.squash) {
            Err(error) => view.problem = Some(land_problem(record, error)),
            Ok(found) => {
                view.target_commit = Some(found.target.to_string());
                view.ahead = u32::try_from(found.ahead).unwrap_or(u32::MAX);
                view.behind = u32::try_from(found.behind).unwrap_or(u32::MAX);
                match found.outcome {
                    Ok(how) => view.how = Some(word(how).to_owned()),
                    Err(error) => {
                        view.conflicts = conflicts(&error, &part.prefix());
                        view.problem = Some(land_problem(record, error));
                    }
                }
            }
        }
        Ok(view)
    }

    /// The messages of a squash and of a merge, if no other is given: made from the task's commits.
    pub(crate) fn messages(&self, record: &TaskRecord) -> Result<(String, String), Problem> {
        let git = |e| project::git_problem("the commits could not be listed", &e);
        let mut commits: Vec<CommitView> = Vec::new();
        let mut whole = None;
        for part in parts(record).iter().filter(|part| part.has_commits()) {
            let objects = self.inner.projects.of_part(part.project, &part.root)?.objects;
            let parse = |text: &str| text.parse::<Oid>().map_err(|e| Problem::internal("not a commit", &e));
            let (base, head) = (parse(&part.base)?, parse(part.head.as_ref().unwrap_or(&part.base))?);
            let own = objects.commits(&base, &head).map_err(git)?;
            if let [only] = &own[..] {
                whole = Some(objects.message(&only.oid).map_err(git)?);
            }
            commits.extend(own.into_iter().rev());
        }
        Ok(composed(record, &commits, whole.filter(|_| commits.len() == 1)))
    }
}

/// Messages over these commits, oldest first; `whole` is that of the only one.
fn composed(record: &TaskRecord, commits: &[CommitView], whole: Option<String>) -> (String, String) {
    let asked = record.runs.first().map(|run| run.prompt.trim()).unwrap_or_default();
    let subject: String = asked.lines().next().unwrap_or_default().chars().take(SUBJECT).collect();
    let subject = if subject.trim().is_empty() { record.name.to_string() } else { subject };
    let mut list: Vec<_> = commits.iter().take(NAMED).map(|commit| format!("* {}", commit.subject)).collect();
    if commits.len() > NAMED {
        list.push(format!("* and {} more", commits.len() - NAMED));
    }
    let list = list.join("\n");
    let squash = whole.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| match list.is_empty() {
        true => subject.clone(),
        false => format!("{subject}\n\n{list}"),
    });
    let merge = format!("Merge {}\n\n{subject}\n\n{list}", record.branch);
    (squash, merge.trim_end().to_owned())
}

/// The branch that was named for a repository.
fn into(request: &LandingRequest, part: &Part) -> Option<String> {
    let named = request.into.as_deref()?.split(',');
    let mut found = None;
    for one in named {
        match one.split_once('=') {
            Some((name, branch)) if name == part.name => return Some(branch.to_owned()),
            None if part.main => found = Some(one.to_owned()),
            _ => {}
        }
    }
    found
}

fn conflicts(error: &LandError, prefix: &str) -> Vec<ConflictView> {
    let LandError::Conflicts { files, .. } = error else { return Vec::new() };
    let view = |file: &offshoot_git::merge::Conflict| ConflictView {
        path: format!("{prefix}{}", file.path),
        kind: file.kind.clone(),
        message: file.message.clone(),
        hunks: file.hunks.clone(),
    };
    files.iter().map(view).collect()
}
