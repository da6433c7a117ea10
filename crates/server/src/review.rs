//! Looking at a task's work: diffs, files, comments on lines, checks, checkpoints, and what a landing would do.

use std::path::PathBuf;

use axum::{
    Json,
    extract::{Path, State},
};
use offshoot_core::api::{
    CheckView, CommentChangeParams, CommentList, CommentParams, CommentView, DiffView, FileText, LandingView,
    RestoreParams, ScopeParams, SendCommentsParams, TaskView,
};
use offshoot_engine::{DiffRequest, Engine, FileRequest, LandingRequest, TaskRef};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    answer::{Answer, Body, Params, to_its_end},
    tasks::{Scope, reference},
};

/// What becomes of differences in whitespace.
#[derive(Clone, Copy, Deserialize, ToSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Whitespace {
    /// They are shown like all others.
    Show,
    /// Lines that differ in whitespace only are the same.
    Ignore,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffQuery {
    /// Any directory of a repository: of two tasks with one name, the one of this project is meant.
    #[param(value_type = Option<String>)]
    path: Option<PathBuf>,
    /// Only what this checkpoint changed against the one before.
    step: Option<u32>,
    /// Only this commit of the task, against its first parent: its id, or the beginning of it.
    commit: Option<String>,
    /// Only in this repository of a task over several. Paths then begin inside it.
    repository: Option<String>,
    /// Only this file, as the list of files names it; with room for a patch that is too long for the whole.
    file: Option<String>,
    /// What becomes of differences in whitespace.
    #[param(inline)]
    whitespace: Option<Whitespace>,
    /// Lines around a change: 3 if not said, at most 1,000.
    context: Option<u32>,
    /// Only the lists of files and commits, without the patch.
    #[serde(default)]
    stat: bool,
}

/// What the task changed against its base.
#[utoipa::path(get, path = "/v1/tasks/{task}/diff", operation_id = "task_diff", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), DiffQuery),
    responses((status = 200, body = DiffView)))]
pub(crate) async fn diff(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(query): Params<DiffQuery>,
) -> Answer<DiffView> {
    let task = TaskRef { task, path: query.path };
    let request = DiffRequest {
        step: query.step,
        commit: query.commit,
        repository: query.repository,
        file: query.file,
        ignore_whitespace: query.whitespace == Some(Whitespace::Ignore),
        context: query.context,
        stat: query.stat,
    };
    Ok(Json(engine.diff(&task, request).await?))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileQuery {
    /// Any directory of a repository: of two tasks with one name, the one of this project is meant.
    #[param(value_type = Option<String>)]
    path: Option<PathBuf>,
    /// The file, as a diff names it.
    file: String,
    /// Only in this repository of a task over several. The file's path then begins inside it.
    repository: Option<String>,
    /// `base`, `head`, or the id of a commit that diffs of this task name; `head` if not said.
    commit: Option<String>,
    /// As it was at this checkpoint, instead of in a commit.
    step: Option<u32>,
}

/// One file as it is in one commit, out of git's objects: nothing is read in the workspace, no link is followed.
#[utoipa::path(get, path = "/v1/tasks/{task}/file", operation_id = "task_file", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), FileQuery),
    responses((status = 200, body = FileText)))]
pub(crate) async fn file(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(query): Params<FileQuery>,
) -> Answer<FileText> {
    let task = TaskRef { task, path: query.path };
    let request = FileRequest {
        file: query.file,
        repository: query.repository,
        commit: query.commit,
        step: query.step,
    };
    Ok(Json(engine.file(&task, request).await?))
}

/// Says anew which paths the task is to touch.
#[utoipa::path(post, path = "/v1/tasks/{task}/scope", operation_id = "task_scope", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    request_body = ScopeParams, responses((status = 200, body = TaskView)))]
pub(crate) async fn scope(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
    Body(params): Body<ScopeParams>,
) -> Answer<TaskView> {
    Ok(Json(engine.set_scope(&reference(task, scope), params.scope).await?))
}

/// Comments on lines, with where these are now.
#[utoipa::path(get, path = "/v1/tasks/{task}/comments", operation_id = "comments_list", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    responses((status = 200, body = CommentList)))]
pub(crate) async fn comments(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
) -> Answer<CommentList> {
    Ok(Json(engine.comments(&reference(task, scope)).await?))
}

/// A comment on a line, as a draft.
#[utoipa::path(post, path = "/v1/tasks/{task}/comments", operation_id = "comment_add", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    request_body = CommentParams, responses((status = 200, body = CommentView)))]
pub(crate) async fn comment(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
    Body(params): Body<CommentParams>,
) -> Answer<CommentView> {
    to_its_end(async move { engine.comment(&reference(task, scope), params).await }).await
}

/// A draft is to say something else.
#[utoipa::path(post, path = "/v1/tasks/{task}/comments/{comment}", operation_id = "comment_change", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"),
        ("comment" = u32, Path, description = "Its number"), Scope),
    request_body = CommentChangeParams, responses((status = 200, body = CommentView)))]
pub(crate) async fn change_comment(
    State(engine): State<Engine>,
    Path((task, comment)): Path<(String, u32)>,
    Params(scope): Params<Scope>,
    Body(params): Body<CommentChangeParams>,
) -> Answer<CommentView> {
    to_its_end(async move { engine.change_comment(&reference(task, scope), comment, params.text).await })
        .await
}

/// Takes a comment away.
#[utoipa::path(post, path = "/v1/tasks/{task}/comments/{comment}/remove", operation_id = "comment_remove",
    tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"),
        ("comment" = u32, Path, description = "Its number"), Scope),
    responses((status = 200, body = CommentList)))]
pub(crate) async fn remove_comment(
    State(engine): State<Engine>,
    Path((task, comment)): Path<(String, u32)>,
    Params(scope): Params<Scope>,
) -> Answer<CommentList> {
    to_its_end(async move { engine.remove_comment(&reference(task, scope), comment).await }).await
}

/// Gives all drafts to the agent, as one follow-up.
#[utoipa::path(post, path = "/v1/tasks/{task}/comments/send", operation_id = "comments_send", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    request_body = SendCommentsParams, responses((status = 200, body = TaskView)))]
pub(crate) async fn send_comments(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
    Body(params): Body<SendCommentsParams>,
) -> Answer<TaskView> {
    to_its_end(async move { engine.send_comments(&reference(task, scope), params).await }).await
}

/// What the check of a run said: all of it as long as the environment is there, then its end.
#[utoipa::path(get, path = "/v1/tasks/{task}/runs/{run}/check", operation_id = "run_check", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"),
        ("run" = u32, Path, description = "Number of the run"), Scope),
    responses((status = 200, body = CheckView)))]
pub(crate) async fn check(
    State(engine): State<Engine>,
    Path((task, run)): Path<(String, u32)>,
    Params(scope): Params<Scope>,
) -> Answer<CheckView> {
    Ok(Json(engine.check_log(&reference(task, scope), run).await?))
}

/// Brings the workspace back to a checkpoint. What it is now is a checkpoint before that.
#[utoipa::path(post, path = "/v1/tasks/{task}/restore", operation_id = "task_restore", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    request_body = RestoreParams, responses((status = 200, body = TaskView)))]
pub(crate) async fn restore(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
    Body(params): Body<RestoreParams>,
) -> Answer<TaskView> {
    to_its_end(async move { engine.restore(&reference(task, scope), params.step).await }).await
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct LandingQuery {
    /// Any directory of a repository: of two tasks with one name, the one of this project is meant.
    #[param(value_type = Option<String>)]
    path: Option<PathBuf>,
    /// As one commit.
    #[serde(default)]
    squash: bool,
    /// Into this branch; the one the task was started from if not named. `NAME=BRANCH`, with commas between several, for
    /// repositories of a task over several.
    into: Option<String>,
}

/// What a landing would do now. Nothing is changed by asking.
#[utoipa::path(get, path = "/v1/tasks/{task}/landing", operation_id = "task_landing", tag = "review",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), LandingQuery),
    responses((status = 200, body = LandingView)))]
pub(crate) async fn landing(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(query): Params<LandingQuery>,
) -> Answer<LandingView> {
    let task = TaskRef { task, path: query.path };
    let request = LandingRequest { squash: query.squash, into: query.into };
    Ok(Json(engine.landing(&task, request).await?))
}
