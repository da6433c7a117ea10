//! Worktrees of a repository, whoever made them.

use std::path::PathBuf;

use axum::{Json, extract::State};
use offshoot_core::api::{AdoptParams, TaskView, WorktreeView};
use offshoot_engine::Engine;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::answer::{Answer, Body, Params, to_its_end};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Any directory of the repository.
    #[param(value_type = String)]
    path: PathBuf,
}

/// All worktrees of a repository, the main one first.
#[utoipa::path(get, path = "/v1/worktrees", operation_id = "worktrees_list", tag = "worktrees", params(ListQuery),
    responses((status = 200, body = Vec<WorktreeView>)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Params(query): Params<ListQuery>,
) -> Answer<Vec<WorktreeView>> {
    Ok(Json(engine.worktrees(&query.path).await?))
}

/// A worktree that a person or another tool made becomes a task by hand.
#[utoipa::path(post, path = "/v1/worktrees/adopt", operation_id = "worktree_adopt", tag = "worktrees",
    request_body = AdoptParams, responses((status = 200, body = TaskView)))]
pub(crate) async fn adopt(State(engine): State<Engine>, Body(params): Body<AdoptParams>) -> Answer<TaskView> {
    to_its_end(async move { engine.adopt_worktree(params).await }).await
}
