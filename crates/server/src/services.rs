//! Services in environments.

use axum::{
    Json,
    extract::{Path, State},
};
use offshoot_core::api::{AppLog, AppParams, ServiceList, ServiceStatus};
use offshoot_engine::Engine;

use crate::{
    answer::{Answer, Body, Params, to_its_end},
    tasks::{Scope, reference},
};

/// The services of a task's environment, as they stand now.
#[utoipa::path(get, path = "/v1/tasks/{task}/services", operation_id = "services_list", tag = "services",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), Scope),
    responses((status = 200, body = ServiceList)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Path(task): Path<String>,
    Params(scope): Params<Scope>,
) -> Answer<ServiceList> {
    Ok(Json(engine.services(&reference(task, scope)).await?))
}

/// Starts, stops or restarts a service, and waits until it is ready or will not be. Wakes the environment if need be.
#[utoipa::path(post, path = "/v1/tasks/{task}/services/{service}", operation_id = "service_change", tag = "services",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"),
        ("service" = String, Path, description = "Its name"), Scope),
    request_body = AppParams, responses((status = 200, body = ServiceStatus)))]
pub(crate) async fn change(
    State(engine): State<Engine>,
    Path((task, service)): Path<(String, String)>,
    Params(scope): Params<Scope>,
    Body(params): Body<AppParams>,
) -> Answer<ServiceStatus> {
    to_its_end(async move { engine.change_service(&reference(task, scope), &service, params.change).await })
        .await
}

/// The end of what a service said last.
#[utoipa::path(get, path = "/v1/tasks/{task}/services/{service}/log", operation_id = "service_log", tag = "services",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"),
        ("service" = String, Path, description = "Its name"), Scope),
    responses((status = 200, body = AppLog)))]
pub(crate) async fn log(
    State(engine): State<Engine>,
    Path((task, service)): Path<(String, String)>,
    Params(scope): Params<Scope>,
) -> Answer<AppLog> {
    Ok(Json(engine.service_log(&reference(task, scope), &service).await?))
}
