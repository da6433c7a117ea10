//! The shapes of looking at a task's work: diffs and what stands out in them, files, comments on lines, checks, going
//! back to a checkpoint, and landing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    comment::{CommentRecord, Side},
    host::RunsOnHost,
    part::PartLanded,
    problem::Problem,
    time::Timestamp,
};

/// `GET /v1/tasks/{task}/diff`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffView {
    /// The commit compared with.
    pub base: String,
    /// The commit that holds what is compared.
    pub head: String,
    /// What differs.
    pub files: Vec<FileView>,
    /// The commits between, oldest first.
    pub commits: Vec<CommitView>,
    /// Of a task over several repositories: which are shown. Paths then begin with the repository's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<RepositoryDiff>,
    /// Unified diff; bytes that are not UTF-8 are replaced. It ends with a whole section: what did not fit is left out
    /// whole, and its files say so.
    pub patch: String,
    /// Whether the patch lacks anything.
    pub truncated: bool,
}

/// A repository that a diff shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryDiff {
    /// Its name.
    pub name: String,
    /// The commit compared with.
    pub base: String,
    /// The commit that holds what is compared.
    pub head: String,
    /// Files that differ.
    pub files: u32,
}

/// One file of a diff.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Its path. Printable UTF-8 stands for itself, a backslash is doubled, any other byte is `\xHH`.
    pub path: String,
    /// Its former path, if it was renamed.
    pub old_path: Option<String>,
    /// `A`, `M`, `D`, `R`, `C` or `T`, as git says.
    pub status: String,
    /// Lines added; `None` for a binary file.
    pub added: Option<u64>,
    /// Lines deleted; `None` for a binary file.
    pub deleted: Option<u64>,
    /// The repository it is in, if the task has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// It has no lines.
    #[serde(default)]
    pub binary: bool,
    /// Its mode before, as git writes it: `100644`, `100755`, `120000` (a link), `160000` (a submodule).
    #[serde(default)]
    pub old_mode: Option<String>,
    /// Its mode after.
    #[serde(default)]
    pub new_mode: Option<String>,
    /// Its size before, in bytes.
    #[serde(default)]
    pub old_bytes: Option<u64>,
    /// Its size after, in bytes.
    #[serde(default)]
    pub new_bytes: Option<u64>,
    /// Which sections of the patch are its own: each begins with a line `diff --git `, the first is 0. None if nothing
    /// is shown of it. Where file and link took each other's place there are two.
    #[serde(default)]
    pub sections: Vec<u32>,
    /// The patch leaves it out, as it is too long; `file=` shows it alone.
    #[serde(default)]
    pub truncated: bool,
    /// The task was to touch other paths.
    #[serde(default)]
    pub outside_scope: bool,
    /// Why it would run, or change what runs, on the machine of whoever checks the branch out.
    #[serde(default)]
    pub runs_on_host: Vec<RunsOnHost>,
}

/// One commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitView {
    /// Its id.
    pub commit: String,
    /// First line of its message.
    pub subject: String,
    /// Author's name.
    pub author: String,
    /// When it was made.
    pub at: Timestamp,
    /// The repository it is in, if the task has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

/// `GET /v1/tasks/{task}/file`: one file as it is in one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileText {
    /// Its path, as asked for.
    pub path: String,
    /// The commit it is shown of.
    pub commit: String,
    /// Its mode: `100644`, `100755`, `120000` (the text is where the link points), `160000` (a submodule: no text).
    pub mode: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// It has no lines; there is no text.
    pub binary: bool,
    /// Its text; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether there is more of it.
    pub truncated: bool,
}

/// `POST /v1/tasks/{task}/scope`: which paths the task is to touch, from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScopeParams {
    /// Patterns as in `.gitignore`; none for everything.
    pub scope: Vec<String>,
}

/// `POST /v1/tasks/{task}/restore`: the workspace becomes again what it was at a checkpoint. What it is now is kept as
/// a checkpoint before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreParams {
    /// Number of the checkpoint; 0 is what the task started from.
    pub step: u32,
}

/// `POST /v1/tasks/{task}/comments`: a comment on a line, kept as a draft until it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommentParams {
    /// The repository, of a task over several; the path then begins inside it. Else as diffs show the path.
    #[serde(default)]
    pub repository: Option<String>,
    /// The file, as diffs name it; of a line before the change, its former path.
    pub path: String,
    /// The line, from 1, in that commit's file.
    pub line: u32,
    /// Whether the line is one of before or of after the change.
    pub side: Side,
    /// What is to be said, at most 4,000 bytes.
    pub text: String,
    /// The commit whose file was looked at: the diff's `head` for a line of after the change, its `base` for one of
    /// before. The newest if not named.
    #[serde(default)]
    pub commit: Option<String>,
}

/// `POST /v1/tasks/{task}/comments/{comment}`: a draft is to say something else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommentChangeParams {
    /// What it is to say.
    pub text: String,
}

/// A comment, and where its line is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommentView {
    /// What the log tells.
    pub comment: CommentRecord,
    /// Its file as diffs name it now.
    pub path: String,
    /// The line in the newest state of that side; `None` if it is not found any more.
    pub line_now: Option<u32>,
    /// Its line is not there any more.
    pub stale: bool,
}

/// `GET /v1/tasks/{task}/comments`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommentList {
    /// Oldest first, drafts and sent ones.
    pub comments: Vec<CommentView>,
    /// How many were not sent yet.
    pub drafts: u32,
}

/// `POST /v1/tasks/{task}/comments/send`: all drafts as one follow-up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SendCommentsParams {
    /// What is asked besides.
    pub text: Option<String>,
    /// The caller's PATH, to find agents and tools on.
    pub search_path: Option<String>,
}

/// `GET /v1/tasks/{task}/runs/{run}/check`: what the check of a run said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// Number of the run.
    pub run: u32,
    /// The command.
    pub command: String,
    /// Exit code; -1 if it was killed or took too long; `None` while it is not over.
    pub code: Option<i32>,
    /// What it said, both outputs in order; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Whether there was more before.
    pub truncated: bool,
}

/// `POST /v1/tasks/{task}/land`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LandParams {
    /// As one commit.
    pub squash: bool,
    /// Into this branch; the one the task was started from if not named.
    pub target: Option<String>,
    /// The same for other repositories, by their names.
    pub targets: BTreeMap<String, String>,
    /// The message of the commit that is made, if one is made.
    pub message: Option<String>,
}

/// `POST /v1/tasks/{task}/land` answers with this when the work is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LandView {
    /// The branch.
    pub target: String,
    /// Its new tip.
    pub commit: String,
    /// `up_to_date`, `fast_forward`, `merge` or `squash`.
    pub how: String,
    /// Of a task over several repositories: all that landed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<PartLanded>,
}

/// `GET /v1/tasks/{task}/landing`: what a landing would do now. Nothing is changed by asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LandingView {
    /// Whether it would land now.
    pub clean: bool,
    /// Why not, as the landing would say it; about the first obstacle if there are several.
    pub problem: Option<Problem>,
    /// One for each repository that has commits of the task.
    pub repositories: Vec<LandingPart>,
    /// The message that a squash has if no other is given; made from the commits.
    pub squash_message: String,
    /// The same for a merge commit.
    pub merge_message: String,
    /// Changed files outside of the task's scope.
    pub outside_scope: u32,
    /// Changed files that would run on the machine of whoever checks the branch out.
    pub runs_on_host: u32,
    /// Comments that were not sent.
    pub unsent_comments: u32,
}

/// What a landing would do in one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LandingPart {
    /// Its name; empty if it is the only one.
    pub repository: String,
    /// The branch it would go to; `None` if the task was not started from one and none is named.
    pub target: Option<String>,
    /// Where that branch is.
    pub target_commit: Option<String>,
    /// The task's commit.
    pub head: String,
    /// `up_to_date`, `fast_forward`, `merge` or `squash`; `None` if it would be refused.
    pub how: Option<String>,
    /// Commits that the task has and the target has not.
    pub ahead: u32,
    /// Commits that the target has and the task has not.
    pub behind: u32,
    /// Where both changed the same.
    pub conflicts: Vec<ConflictView>,
    /// Why it would be refused.
    pub problem: Option<Problem>,
}

/// A file that does not merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConflictView {
    /// Its path, as in a [`FileView`].
    pub path: String,
    /// Git's word for it: `contents`, `modify/delete`, `rename/rename` …
    pub kind: String,
    /// Git's sentence about it.
    pub message: String,
    /// The clashing lines with conflict markers and some around.
    pub hunks: String,
}
