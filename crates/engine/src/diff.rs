//! What a task changed, and single files of it: out of git's objects alone, so it is there also when the environment is
//! not. Only commits of the task are shown: its base and what comes after, and its checkpoints.

use std::collections::{HashMap, HashSet};

use offshoot_core::{
    api::{CommitView, DiffView, FileText, FileView, RepositoryDiff},
    host::{Changed, runs_on_host, wants_content},
    problem::{Problem, ProblemKind},
    record::TaskRecord,
    scope::Scope,
    time::Timestamp,
};
use offshoot_git::{
    import::Limits,
    oid::Oid,
    patch::{first_line, header, sections},
    path::unescape,
    store::Store,
    view::{DiffOptions, FileChange, FileKind, Status},
};

use crate::{
    engine::{Engine, TaskRef},
    harvest::{Processes, refused},
    parts::{Part, parts},
    project,
};

/// Which diff of a task is wanted, and how.
#[derive(Clone, Debug, Default)]
pub struct DiffRequest {
    /// What this checkpoint changed against the one before.
    pub step: Option<u32>,
    /// What this commit changed against its first parent.
    pub commit: Option<String>,
    /// Only in this repository.
    pub repository: Option<String>,
    /// Only this file, as the list of files names it.
    pub file: Option<String>,
    /// Lines that differ in whitespace only are the same.
    pub ignore_whitespace: bool,
    /// Lines around a change.
    pub context: Option<u32>,
    /// Without the patch.
    pub stat: bool,
}

/// Which file of a task is wanted.
#[derive(Clone, Debug, Default)]
pub struct FileRequest {
    /// Its path, as a diff names it.
    pub file: String,
    /// The repository it is in; the path then begins there.
    pub repository: Option<String>,
    /// `base`, `head`, or a commit's id.
    pub commit: Option<String>,
    /// As it was at this checkpoint.
    pub step: Option<u32>,
}

/// Most lines around a change: a whole file of usual length.
const MAX_CONTEXT: u32 = 1_000;
/// Where a patch is cut, in bytes: more than a browser shows at once. One repository's share.
const WHOLE: usize = 4 << 20;
/// The longest section of a patch of all files, in bytes. What is longer is asked for alone.
const SECTION: usize = 512 << 10;
/// Where the patch of one file is cut, in bytes.
const ALONE: usize = 16 << 20;
/// Files of this size, both states together in bytes, are left out of a patch of all beforehand: git would spend the whole
/// room on them.
const LARGE: u64 = 8 << 20;
/// How many files there may be for that: they are all named in one command line.
const NAMED: usize = 2_000;
/// Files of which more than path and mode is looked at, and how much of each, in bytes: manifests and links.
const LOOKED_INTO: usize = 64;
const CONTENT: usize = 256 << 10;
/// How much of one file is shown, in bytes.
pub(crate) const TEXT: usize = 1 << 20;
/// Fewest digits that name a commit.
const DIGITS: usize = 4;

/// The two states of a repository that are compared, and what is between.
struct Range {
    base: Oid,
    head: Oid,
    commits: Vec<CommitView>,
}

impl Engine {
    /// What a task changed: against its base, in one commit, or at one checkpoint; in all of its repositories, or in one.
    pub async fn diff(&self, task: &TaskRef, request: DiffRequest) -> Result<DiffView, Problem> {
        let record = self.find(task)?;
        if let Some(name) = &request.repository {
            part_named(&record, name)?;
        }
        if request.step.is_some() && request.commit.is_some() {
            let text = "either a checkpoint or a commit is shown, not both";
            return Err(Problem::new(ProblemKind::Invalid, "step_and_commit", text));
        }
        let mut record = self.brought_out(record, Processes::Keep).await?;
        if record.agent.is_some() && record.state.is_active() {
            record = self.peeked(record).await?;
        }
        let engine = self.clone();
        tokio::task::spawn_blocking(move || engine.diff_of(&record, &request))
            .await
            .map_err(|e| Problem::internal("the diff was interrupted", &e))?
    }

    /// One file of a task in one of its commits. No link is followed.
    pub async fn file(&self, task: &TaskRef, request: FileRequest) -> Result<FileText, Problem> {
        let record = self.find(task)?;
        let engine = self.clone();
        tokio::task::spawn_blocking(move || engine.file_of(&record, &request))
            .await
            .map_err(|e| Problem::internal("looking at the file was interrupted", &e))?
    }

    /// The record of a task at work, with its checkpoints readable and the newest, taken now, for its head. Nothing of
    /// this is recorded as the task's result.
    async fn peeked(&self, record: TaskRecord) -> Result<TaskRecord, Problem> {
        let (Some(environment), Some(run)) = (&record.environment, record.run()) else { return Ok(record) };
        let Some(live) = self.inner.environments.live(environment.id) else { return Ok(record) };
        self.checkpoint(record.id, run.id, &live, "looked at").await?;
        let name = format!("{}-look", run.id);
        let mut record = self.inner.ledger.task(record.id)?;
        for part in parts(&record) {
            let bundle = self.bundle(&part, &live, "look").await?;
            let project = self.inner.projects.of_part(part.project, &part.root)?;
            let name = name.clone();
            let head = tokio::task::spawn_blocking(move || {
                let file = std::fs::File::open(&bundle)
                    .map_err(|e| Problem::internal("could not read the bundle", &e))?;
                project
                    .objects
                    .drop_run(&name)
                    .map_err(|e| project::git_problem("could not look again", &e))?;
                let imported = project.objects.import(&file, &name, &Limits::default()).map_err(refused)?;
                let _ = std::fs::remove_file(&bundle);
                Ok::<_, Problem>(imported.head)
            })
            .await
            .map_err(|e| Problem::internal("looking was interrupted", &e))??;
            let head = Some(part.newest.clone().unwrap_or_else(|| head.to_string()));
            if part.main {
                record.head = head;
            } else if let Some(other) = record.others.iter_mut().find(|other| other.name == part.name) {
                other.head = head;
            }
        }
        Ok(record)
    }

    pub(crate) fn diff_of(&self, record: &TaskRecord, request: &DiffRequest) -> Result<DiffView, Problem> {
        let only = request.repository.as_deref();
        let wanted = parts(record).into_iter().filter(|part| only.is_none_or(|only| part.name == only));
        let scope = scope_of(record)?;
        let mut views = Vec::new();
        let mut missing = None;
        for part in wanted {
            match self.diff_in(record, &part, &scope, request) {
                Ok(view) => views.push(view),
                // A commit is in one repository only, and so is a file.
                Err(problem) if request.commit.is_some() || request.file.is_some() => {
                    if problem.kind != ProblemKind::NotFound {
                        return Err(problem);
                    }
                    missing = missing.or(Some(problem));
                }
                Err(problem) => return Err(problem),
            }
        }
        let mut views = views.into_iter();
        let Some(mut whole) = views.next() else {
            return Err(missing.unwrap_or_else(|| {
                Problem::new(ProblemKind::NotFound, "unknown_repository", "there is none of that name")
            }));
        };
        for view in views {
            let before = u32::try_from(sections(whole.patch.as_bytes()).len()).unwrap_or(u32::MAX);
            whole.files.extend(view.files.into_iter().map(|mut file| {
                file.sections.iter_mut().for_each(|section| *section += before);
                file
            }));
            whole.commits.extend(view.commits);
            whole.repositories.extend(view.repositories);
            whole.patch.push_str(&view.patch);
            whole.truncated |= view.truncated;
        }
        Ok(whole)
    }

    /// The diff of one of a task's repositories.
    fn diff_in(
        &self,
        record: &TaskRecord,
        part: &Part,
        scope: &Scope,
        request: &DiffRequest,
    ) -> Result<DiffView, Problem> {
        let objects = self.inner.projects.of_part(part.project, &part.root)?.objects;
        let git = |e| project::git_problem("the diff could not be made", &e);
        let Range { base, head, commits } = range(&objects, record, part, request)?;
        let prefix = if request.repository.is_some() { String::new() } else { part.prefix() };
        let mut changes = objects.files(&base, &head).map_err(git)?;
        if let Some(file) = &request.file {
            let name = file.strip_prefix(&prefix).ok_or_else(|| no_such_file(file))?;
            changes.retain(|change| change.path == name || change.old_path.as_deref() == Some(name));
            if changes.is_empty() {
                return Err(no_such_file(file));
            }
        }
        let mut files = described(&objects, part, &prefix, scope, &changes).map_err(git)?;
        let patch = match request.stat {
            true => Vec::new(),
            false => {
                patched(&objects, (&base, &head), &changes, &mut files, &prefix, request).map_err(git)?
            }
        };
        let repositories = match part.name.is_empty() {
            true => Vec::new(),
            false => vec![RepositoryDiff {
                name: part.name.clone(),
                base: base.to_string(),
                head: head.to_string(),
                files: u32::try_from(files.len()).unwrap_or(u32::MAX),
            }],
        };
        Ok(DiffView {
            base: base.to_string(),
            head: head.to_string(),
            truncated: files.iter().any(|file| file.truncated),
            files,
            commits,
            repositories,
            patch: String::from_utf8_lossy(&patch).into_owned(),
        })
    }

    fn file_of(&self, record: &TaskRecord, request: &FileRequest) -> Result<FileText, Problem> {
        let (part, name) = located(record, request.repository.as_deref(), &request.file)?;
        let objects = self.inner.projects.of_part(part.project, &part.root)?.objects;
        let commit = match request.step {
            Some(step) => at_step(record, &part, step)?.1,
            None => known_commit(&objects, record, &part, request.commit.as_deref().unwrap_or("head"))?,
        };
        present(&objects, &commit)?;
        let git = |e| project::git_problem("the file could not be read", &e);
        let path = unescape(&name).ok_or_else(|| no_such_file(&request.file))?;
        let blob = objects.blob(&commit, &path, TEXT).map_err(git)?;
        let blob = blob.filter(|blob| blob.kind != FileKind::Directory);
        let blob = blob.ok_or_else(|| no_such_file(&request.file))?;
        let binary = blob.bytes.contains(&0);
        Ok(FileText {
            path: request.file.clone(),
            commit: commit.to_string(),
            mode: blob.mode,
            bytes: blob.size,
            binary,
            text: if binary { String::new() } else { String::from_utf8_lossy(&blob.bytes).into_owned() },
            truncated: blob.truncated,
        })
    }
}

/// The paths that the task is to touch.
pub(crate) fn scope_of(record: &TaskRecord) -> Result<Scope, Problem> {
    Scope::new(&record.scope).map_err(|e| Problem::internal("the task's scope cannot be read", &e))
}

/// A repository of the task, by the name that a person gave.
pub(crate) fn part_named(record: &TaskRecord, name: &str) -> Result<Part, Problem> {
    let all = parts(record);
    let known: Vec<_> = all.iter().map(|part| part.name.clone()).filter(|name| !name.is_empty()).collect();
    all.into_iter().find(|part| !name.is_empty() && part.name == name).ok_or_else(|| {
        let text = format!("{} is not about a repository {name:?}", record.name);
        let problem = Problem::new(ProblemKind::NotFound, "unknown_repository", text);
        match known.is_empty() {
            true => problem.hint("it is about one repository only: leave --repo out"),
            false => problem.hint(format!("it is about {}", known.join(", "))),
        }
    })
}

/// The repository of a path as diffs show it, and its path there.
pub(crate) fn located(
    record: &TaskRecord,
    repository: Option<&str>,
    shown: &str,
) -> Result<(Part, String), Problem> {
    if let Some(name) = repository {
        return Ok((part_named(record, name)?, shown.to_owned()));
    }
    let mut all = parts(record).into_iter();
    all.find_map(|part| Some((shown.strip_prefix(&part.prefix())?.to_owned(), part)))
        .map(|(path, part)| (part, path))
        .ok_or_else(|| no_such_file(shown))
}

/// The commit that a person named, if it is one of the task's in this repository.
pub(crate) fn known_commit(
    objects: &Store,
    record: &TaskRecord,
    part: &Part,
    name: &str,
) -> Result<Oid, Problem> {
    let git = |e| project::git_problem("the commit could not be looked at", &e);
    let newest = newest(objects, record, part)?;
    let commit = match name {
        "head" => return Ok(newest),
        "base" => return parse(&part.base),
        name => name.parse::<Oid>().map_err(|_| no_such_commit(record, name))?,
    };
    let own = part.steps(record).iter().any(|step| *step == name) || part.head.as_deref() == Some(name);
    if objects.has_commit(&commit).map_err(git)?
        && (own || objects.is_ancestor(&commit, &newest).map_err(git)?)
    {
        return Ok(commit);
    }
    Err(no_such_commit(record, name))
}

/// The newest state of a repository that the host has: what was brought out, or of a task at work its last checkpoint.
pub(crate) fn newest(objects: &Store, record: &TaskRecord, part: &Part) -> Result<Oid, Problem> {
    let git = |e| project::git_problem("the commit could not be looked at", &e);
    if record.state.is_active()
        && let Some(newest) = &part.newest
    {
        let newest = parse(newest)?;
        if objects.has_commit(&newest).map_err(git)? {
            return Ok(newest);
        }
    }
    parse(part.head.as_ref().unwrap_or(&part.base))
}

pub(crate) fn no_such_file(name: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, "no_such_file", format!("there is no file {name} there"))
        .hint("files are named as `offshoot diff --stat` names them")
}

fn no_such_commit(record: &TaskRecord, name: &str) -> Problem {
    let text = format!("{} has no commit {name:?}", record.name);
    Problem::new(ProblemKind::NotFound, "no_such_commit", text)
        .hint(format!("`offshoot diff {} --stat` lists them; it may have gone on meanwhile", record.name))
}

fn parse(text: &str) -> Result<Oid, Problem> {
    text.parse().map_err(|e| Problem::internal("not a commit", &e))
}

fn present(objects: &Store, commit: &Oid) -> Result<(), Problem> {
    let git = |e| project::git_problem("the commit could not be looked at", &e);
    if objects.has_commit(commit).map_err(git)? {
        return Ok(());
    }
    let text = "that checkpoint is still inside the environment";
    let problem = Problem::new(ProblemKind::Conflict, "not_brought_out", text);
    Err(problem.hint("it can be looked at when the run is over"))
}

/// A checkpoint's commit in a repository, after that of the one before; checkpoint 0 is the base.
pub(crate) fn at_step(record: &TaskRecord, part: &Part, step: u32) -> Result<(Oid, Oid), Problem> {
    if step == 0 {
        return Ok((parse(&part.base)?, parse(&part.base)?));
    }
    let at = record.checkpoints.iter().position(|c| c.number == step).ok_or_else(|| {
        let text = format!("{} has no checkpoint {step}", record.name);
        Problem::new(ProblemKind::NotFound, "no_such_step", text)
            .hint(format!("`offshoot show {}` lists them", record.name))
    })?;
    let steps = part.steps(record);
    let commit = steps.get(at).unwrap_or(&part.base);
    let before = at.checked_sub(1).and_then(|at| steps.get(at)).unwrap_or(&part.base);
    Ok((parse(before)?, parse(commit)?))
}

/// What is compared.
fn range(objects: &Store, record: &TaskRecord, part: &Part, request: &DiffRequest) -> Result<Range, Problem> {
    let git = |e| project::git_problem("the diff could not be made", &e);
    if let Some(step) = request.step {
        let (base, head) = at_step(record, part, step)?;
        present(objects, &base)?;
        present(objects, &head)?;
        return Ok(Range { base, head, commits: Vec::new() });
    }
    let (base, head) = (parse(&part.base)?, parse(part.head.as_ref().unwrap_or(&part.base))?);
    present(objects, &base)?;
    present(objects, &head)?;
    let commits = objects.commits(&base, &head).map_err(git)?;
    let view = |commit: &offshoot_git::view::CommitView| CommitView {
        commit: commit.oid.to_string(),
        subject: commit.subject.clone(),
        author: commit.author.clone(),
        at: Timestamp(commit.at.saturating_mul(1000)),
        repository: (!part.name.is_empty()).then(|| part.name.clone()),
    };
    let Some(wanted) = &request.commit else {
        return Ok(Range { base, head, commits: commits.iter().rev().map(view).collect() });
    };
    let mut found = commits.iter().filter(|commit| commit.oid.as_str().starts_with(wanted.as_str()));
    let commit = found.next().filter(|_| wanted.len() >= DIGITS && found.next().is_none());
    let commit = commit.ok_or_else(|| no_such_commit(record, wanted))?;
    let before = match commit.parents.first() {
        Some(parent) => parent.clone(),
        None => objects.empty_tree().map_err(git)?,
    };
    Ok(Range { base: before, head: commit.oid.clone(), commits: vec![view(commit)] })
}

/// The changed files as they are shown, with what stands out about them.
fn described(
    objects: &Store,
    part: &Part,
    prefix: &str,
    scope: &Scope,
    changes: &[FileChange],
) -> Result<Vec<FileView>, offshoot_git::GitError> {
    // A submodule's commit is in another repository.
    let sized = |side: &Option<(String, Oid)>| side.clone().filter(|(mode, _)| mode != "160000");
    let sides = changes.iter().flat_map(|change| [sized(&change.old), sized(&change.new)]);
    let asked: Vec<Oid> = sides.flatten().map(|(_, oid)| oid).collect();
    let mut sizes = objects.sizes(&asked)?.into_iter();
    let mut looked_into = 0;
    let mut files = Vec::with_capacity(changes.len());
    for change in changes {
        let mut size = |side: &Option<(String, Oid)>| sized(side).and_then(|_| sizes.next().flatten());
        let (old_bytes, new_bytes) = (size(&change.old), size(&change.new));
        let path = unescape(&change.path).unwrap_or_default();
        let old_path = change.old_path.as_deref().and_then(unescape);
        let mode =
            |side: &Option<(String, Oid)>| side.as_ref().map(|(mode, _)| mode.clone()).unwrap_or_default();
        let (old_mode, new_mode) = (mode(&change.old), mode(&change.new));
        let mut content = [None, None];
        if wants_content(&path, &new_mode) && looked_into < LOOKED_INTO {
            looked_into += 1;
            for (content, side) in content.iter_mut().zip([&change.old, &change.new]) {
                if let Some((_, oid)) = sized(side) {
                    *content = Some(objects.content(&oid, CONTENT)?.0);
                }
            }
        }
        let [old, new] = &content;
        let changed = Changed {
            path: &path,
            old_mode: &old_mode,
            new_mode: &new_mode,
            old: old.as_deref(),
            new: new.as_deref(),
        };
        let within = |path: &[u8]| scope.covers(&[part.prefix().as_bytes(), path].concat());
        files.push(FileView {
            path: format!("{prefix}{}", change.path),
            old_path: change.old_path.as_ref().map(|path| format!("{prefix}{path}")),
            status: letter(change.status).to_owned(),
            added: (!change.binary).then_some(change.added),
            deleted: (!change.binary).then_some(change.deleted),
            repository: (!part.name.is_empty()).then(|| part.name.clone()),
            binary: change.binary,
            outside_scope: !within(&path) || old_path.is_some_and(|path| !within(&path)),
            runs_on_host: runs_on_host(&changed),
            old_mode: Some(old_mode).filter(|mode| !mode.is_empty()),
            new_mode: Some(new_mode).filter(|mode| !mode.is_empty()),
            old_bytes,
            new_bytes,
            sections: Vec::new(),
            truncated: false,
        });
    }
    Ok(files)
}

/// The patch, in whole sections, and in `files` which of them are whose.
fn patched(
    objects: &Store,
    (base, head): (&Oid, &Oid),
    changes: &[FileChange],
    files: &mut [FileView],
    prefix: &str,
    request: &DiffRequest,
) -> Result<Vec<u8>, offshoot_git::GitError> {
    let alone = request.file.is_some();
    let names = |change: &FileChange| -> Vec<Vec<u8>> {
        [change.old_path.as_ref(), Some(&change.path)]
            .into_iter()
            .flatten()
            .filter_map(|p| unescape(p))
            .collect()
    };
    let large =
        |file: &FileView| !file.binary && file.old_bytes.unwrap_or(0) + file.new_bytes.unwrap_or(0) > LARGE;
    let some_are_large = !alone && files.len() <= NAMED && files.iter().any(large);
    let mut paths: Vec<Vec<u8>> = Vec::new();
    if alone || some_are_large {
        let shown = changes.iter().zip(&*files).filter(|(_, file)| alone || !large(file));
        paths = shown.flat_map(|(change, _)| names(change)).collect::<Vec<Vec<u8>>>();
        if paths.is_empty() {
            files.iter_mut().for_each(|file| file.truncated = true);
            return Ok(Vec::new());
        }
    }
    let options = DiffOptions {
        paths,
        context: request.context.unwrap_or(3).min(MAX_CONTEXT),
        ignore_whitespace: request.ignore_whitespace,
        max_bytes: if alone { ALONE } else { WHOLE },
        prefix: prefix.to_owned(),
    };
    let diff = objects.diff(base, head, &options)?;
    let mut found = sections(&diff.patch);
    let cut = if diff.truncated { found.pop() } else { None };
    let headers: Vec<Vec<u8>> = changes
        .iter()
        .map(|change| {
            let new = unescape(&change.path).unwrap_or_default();
            let old = change.old_path.as_deref().and_then(unescape);
            header(prefix, old.as_deref().unwrap_or(&new), &new)
        })
        .collect();
    let whose: HashMap<&[u8], usize> = headers.iter().enumerate().map(|(at, line)| (&line[..], at)).collect();
    let mut patch = Vec::with_capacity(diff.patch.len());
    let (mut number, mut dropped) = (0, HashSet::new());
    for section in found {
        let Some(at) = whose.get(first_line(section)) else { continue };
        if !alone && section.len() > SECTION {
            dropped.insert(*at);
            continue;
        }
        if let Some(file) = files.get_mut(*at) {
            file.sections.push(number);
        }
        patch.extend_from_slice(section);
        number += 1;
    }
    for (at, file) in files.iter_mut().enumerate() {
        let left_out = some_are_large && large(file);
        file.truncated = dropped.contains(&at)
            || (file.sections.is_empty() && (cut.is_some() || diff.truncated || left_out));
    }
    Ok(patch)
}

fn letter(status: Status) -> &'static str {
    match status {
        Status::Added => "A",
        Status::Modified => "M",
        Status::Deleted => "D",
        Status::Renamed => "R",
        Status::TypeChanged => "T",
    }
}
