//! Tasks and their runs.

use std::path::PathBuf;

use axum::{
    Json,
    extract::{Path, State},
};
use offshoot_core::api::{
    DiscardParams, FollowUpParams, LandParams, LandView, PlanView, PruneView, TaskList, TaskParams, TaskView,
};
use offshoot_engine::{Engine, TaskRef};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::answer::{Answer, Body, Params, to_its_end};

/// Where a task's name is looked for.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scope {
    /// Any directory of a repository: of two tasks with one name, the one of this project is meant.
    #[param(value_type = Option<String>)]
    pub path: Option<PathBuf>,
}

/// The task that a path and a query mean.
pub(crate) fn reference(task: String, scope: Scope) -> TaskRef {
    TaskRef { task, path: scope.path }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only tasks of the repository that this directory lies in.
    #[param(value_type = Option<String>)]
    path: Option<PathBuf>,
    /// Also those that are landed or discarded.
    #[serde(default)]
    all: bool,
}

/// All tasks, newest first.
#[utoipa::path(get, path = "/v1/tasks", operation_id = "tasks_list", tag = "tasks", params(ListQuery),
    responses((status = 200, body = TaskList)))]
pub(crate) async fn list(State(engine): State<Engine>, Params(query): Params<ListQuery>) -> Answer<TaskList> {
    Ok(Json(engine.tasks(query.path.as_deref(), query.all).await?))
}

/// A new task with its first run.
#[utoipa::path(post, path = "/v1/tasks", operation_id = "task_create", tag = "tasks", request_body = TaskParams,
    responses((status = 200, body = TaskView)))]
pub(crate) async fn create(State(engine): State<Engine>, Body(params): Body<TaskParams>) -> Answer<TaskView> {
    to_its_end(async move { engine.create_task(params).await }).await
}

/// What a new task would be and what it would wait for. Nothing is recorded; what creating it would refuse is refused.
#[utoipa::path(post, path = "/v1/plan", operation_id = "task_plan", tag = "tasks", request_body = TaskParams,
    responses((status = 200, body = PlanView)))]
pub(crate) async fn plan(State(engine): State<Engine>, Body(params): Body<TaskParams>) -> Answer<PlanView> {
    Ok(Json(engine.plan(params).await?))
}

/// One task.
#[utoipa::path(get, path = "/v1/tasks/{task}", operation_id = "task_show", tag = "tasks",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    responses((status = 200, body = TaskView)))]
pub(crate) async fn show(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
) -> Answer<TaskView> {
    Ok(Json(engine.task(&reference(task, scope)).await?))
}

/// Another run on the same branch.
#[utoipa::path(post, path = "/v1/tasks/{task}/runs", operation_id = "task_follow_up", tag = "tasks",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    request_body = FollowUpParams, responses((status = 200, body = TaskView)))]
pub(crate) async fn follow_up(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
    Body(params): Body<FollowUpParams>,
) -> Answer<TaskView> {
    to_its_end(async move { engine.follow_up(&reference(task, scope), params).await }).await
}

/// Interrupts the task's run. What it did is kept.
#[utoipa::path(post, path = "/v1/tasks/{task}/stop", operation_id = "task_stop", tag = "tasks",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    responses((status = 200, body = TaskView)))]
pub(crate) async fn stop(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
) -> Answer<TaskView> {
    to_its_end(async move { engine.stop(&reference(task, scope)).await }).await
}

/// Brings the task's branch into its target, when that is clean.
#[utoipa::path(post, path = "/v1/tasks/{task}/land", operation_id = "task_land", tag = "tasks",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    request_body = LandParams, responses((status = 200, body = LandView)))]
pub(crate) async fn land(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
    Body(params): Body<LandParams>,
) -> Answer<LandView> {
    to_its_end(async move { engine.land(&reference(task, scope), params).await }).await
}

/// Throws the task away.
#[utoipa::path(post, path = "/v1/tasks/{task}/discard", operation_id = "task_discard", tag = "tasks",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    request_body = DiscardParams, responses((status = 200, body = PruneView)))]
pub(crate) async fn discard(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
    Body(params): Body<DiscardParams>,
) -> Answer<PruneView> {
    to_its_end(async move { engine.discard(&reference(task, scope), params).await }).await
}

/// Takes away what nobody needs any more. Never unlanded work.
#[utoipa::path(post, path = "/v1/prune", operation_id = "prune", tag = "tasks",
    responses((status = 200, body = PruneView)))]
pub(crate) async fn prune(State(engine): State<Engine>) -> Answer<PruneView> {
    to_its_end(async move { engine.prune().await }).await
}
