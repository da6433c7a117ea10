//! Apps in environments.

use axum::{
    Json,
    extract::{Path, State},
};
use offshoot_core::api::{AppList, AppLog, AppParams, AppView};
use offshoot_engine::Engine;

use crate::{
    answer::{Answer, Body, Params, to_its_end},
    tasks::{Scope, reference},
};

/// The apps of a task: those of the project's configuration, and those that were started.
#[utoipa::path(get, path = "/v1/tasks/{task}/apps", operation_id = "apps_list", tag = "apps",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    responses((status = 200, body = AppList)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
) -> Answer<AppList> {
    Ok(Json(engine.apps(&reference(task, scope)).await?))
}

/// Starts, stops or restarts an app. Starting wakes the environment if need be.
#[utoipa::path(post, path = "/v1/tasks/{task}/apps/{app}", operation_id = "app_change", tag = "apps",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"),
        ("app" = String, Path, description = "Its name"), Scope),
    request_body = AppParams, responses((status = 200, body = AppView)))]
pub(crate) async fn change(
    State(engine): State<Engine>,
    Path((task, app)): Path<(String, String)>,
    Params(scope): Params<Scope>,
    Body(params): Body<AppParams>,
) -> Answer<AppView> {
    to_its_end(async move { engine.change_app(&reference(task, scope), &app, params.change).await }).await
}

/// The end of what an app said last.
#[utoipa::path(get, path = "/v1/tasks/{task}/apps/{app}/log", operation_id = "app_log", tag = "apps",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"),
        ("app" = String, Path, description = "Its name"), Scope),
    responses((status = 200, body = AppLog)))]
pub(crate) async fn log(
    State(engine): State<Engine>,
    Path((task, app)): Path<(String, String)>,
    Params(scope): Params<Scope>,
) -> Answer<AppLog> {
    Ok(Json(engine.app_log(&reference(task, scope), &app).await?))
}
