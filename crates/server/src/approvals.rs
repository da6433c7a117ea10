//! What waits for a person: lists, answers, standing rules.

use std::path::PathBuf;

use axum::{
    Json,
    extract::{Path, State},
};
use offshoot_core::api::{AnswerParams, ApprovalList, ApprovalView, RuleList, RuleView};
use offshoot_engine::{Engine, TaskRef};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    answer::{Answer, Body, Params, to_its_end},
    tasks::{Scope, reference},
};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only of the repository that this directory lies in.
    #[param(value_type = Option<String>)]
    path: Option<PathBuf>,
    /// Only of this task: id, beginning of an id, or name.
    task: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleQuery {
    /// Only of the repository that this directory lies in.
    #[param(value_type = Option<String>)]
    path: Option<PathBuf>,
}

/// What waits for a person, of all tasks, the longest first.
#[utoipa::path(get, path = "/v1/approvals", operation_id = "approvals_list", tag = "approvals", params(ListQuery),
    responses((status = 200, body = ApprovalList)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Params(query): Params<ListQuery>,
) -> Answer<ApprovalList> {
    let task = query.task.map(|task| TaskRef { task, path: query.path.clone() });
    // With a task the directory only says which one is meant.
    let path = query.path.as_deref().filter(|_| task.is_none());
    Ok(Json(engine.approvals(path, task.as_ref()).await?))
}

/// Answers what waits. Nothing is answered twice.
#[utoipa::path(post, path = "/v1/approvals/{approval}", operation_id = "approval_answer", tag = "approvals",
    params(("approval" = String, Path, description = "TASK/NUMBER, a task of which one waits, or an id"), Scope),
    request_body = AnswerParams, responses((status = 200, body = ApprovalView)))]
pub(crate) async fn answer(
    State(engine): State<Engine>,
    Path(approval): Path<String>,
    Params(scope): Params<Scope>,
    Body(params): Body<AnswerParams>,
) -> Answer<ApprovalView> {
    to_its_end(async move { engine.answer(&reference(approval, scope), params).await }).await
}

/// Standing rules, the newest first.
#[utoipa::path(get, path = "/v1/approvals/rules", operation_id = "rules_list", tag = "approvals", params(RuleQuery),
    responses((status = 200, body = RuleList)))]
pub(crate) async fn rules(
    State(engine): State<Engine>,
    Params(query): Params<RuleQuery>,
) -> Answer<RuleList> {
    Ok(Json(engine.rules(query.path.as_deref()).await?))
}

/// Takes a standing rule back.
#[utoipa::path(post, path = "/v1/approvals/rules/{rule}/remove", operation_id = "rule_remove", tag = "approvals",
    params(("rule" = String, Path, description = "TASK/NUMBER or an id"), Scope),
    responses((status = 200, body = RuleView)))]
pub(crate) async fn remove_rule(
    State(engine): State<Engine>,
    Path(rule): Path<String>,
    Params(scope): Params<Scope>,
) -> Answer<RuleView> {
    to_its_end(async move { engine.remove_rule(&reference(rule, scope)).await }).await
}
