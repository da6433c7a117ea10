//! The daemon itself, the agents it knows, and the document of its API.

use std::path::Path;

use axum::{Json, extract::State};
use offshoot_core::api::{AgentView, CapacityView, DaemonView, LayerList, NotificationTest};
use offshoot_engine::Engine;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    answer::{Answer, Params},
    routes::App,
};

async fn view(app: &App) -> DaemonView {
    DaemonView { tcp: app.listeners.local_address(), ..app.engine.daemon().await }
}

/// What the daemon is and how much room it has.
#[utoipa::path(get, path = "/v1/daemon", operation_id = "daemon_show", tag = "daemon",
    responses((status = 200, body = DaemonView)))]
pub(crate) async fn show(State(app): State<App>) -> Json<DaemonView> {
    Json(view(&app).await)
}

/// Stops the daemon. Runs go on without it; the next daemon takes them up again.
#[utoipa::path(post, path = "/v1/daemon/stop", operation_id = "daemon_stop", tag = "daemon",
    responses((status = 200, body = DaemonView)))]
pub(crate) async fn stop(State(app): State<App>) -> Json<DaemonView> {
    let last = view(&app).await;
    app.stopping.cancel();
    Json(last)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct CapacityQuery {
    /// Any directory of the repository whose limits count; the default limits if not given.
    path: Option<String>,
}

/// How many more runs fit this machine, why not more, and what each environment uses.
#[utoipa::path(get, path = "/v1/capacity", operation_id = "capacity", tag = "daemon", params(CapacityQuery),
    responses((status = 200, body = CapacityView)))]
pub(crate) async fn capacity(
    State(engine): State<Engine>,
    Params(query): Params<CapacityQuery>,
) -> Answer<CapacityView> {
    Ok(Json(engine.capacity_view(query.path.as_deref().map(Path::new)).await?))
}

/// What is kept on disk, and who stands on it. What nobody stands on, `POST /v1/prune` takes away.
#[utoipa::path(get, path = "/v1/layers", operation_id = "layers_list", tag = "daemon",
    responses((status = 200, body = LayerList)))]
pub(crate) async fn layers(State(engine): State<Engine>) -> Answer<LayerList> {
    Ok(Json(engine.layers().await?))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentsQuery {
    /// The caller's PATH, to find agents on; the daemon's own if not given.
    search_path: Option<String>,
}

/// The agents, and where each was found.
#[utoipa::path(get, path = "/v1/agents", operation_id = "agents_list", tag = "daemon", params(AgentsQuery),
    responses((status = 200, body = Vec<AgentView>)))]
pub(crate) async fn agents(
    State(engine): State<Engine>,
    Params(query): Params<AgentsQuery>,
) -> Answer<Vec<AgentView>> {
    Ok(Json(engine.agents(query.search_path.as_deref()).await?))
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", operation_id = "openapi", tag = "daemon",
    responses((status = 200, body = serde_json::Value)))]
pub(crate) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(crate::routes::document())
}

/// Sends a test message to everything that the user's `[notifications]` names.
#[utoipa::path(post, path = "/v1/notifications/test", operation_id = "notifications_test", tag = "daemon",
    responses((status = 200, body = NotificationTest)))]
pub(crate) async fn test_notifications(State(engine): State<Engine>) -> Answer<NotificationTest> {
    Ok(Json(engine.test_notifications().await?))
}
