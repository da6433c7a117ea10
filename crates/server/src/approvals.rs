//! What waits for a person: lists, answers, standing rules.

use std::path::PathBuf;

use axum::{
    Json,
    extract::{Path, State},
};
use offshoot_core::api::{AnswerParams, ApprovalList, ApprovalView, PresenceParams, RuleList, RuleView};
use offshoot_engine::{Engine, TaskRef};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

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
    /// `waiting`, which it is if not given: what waits for a person, the longest first. `all`: whatever became of it, the
    /// newest first.
    #[serde(default)]
    #[param(inline)]
    state: Wanted,
    /// With `state=all`: only those asked for before this sequence number, which `next` of the page before tells.
    before: Option<u64>,
    /// With `state=all`: most of one page (100 if not given, at most 500).
    limit: Option<usize>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Wanted {
    #[default]
    Waiting,
    All,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleQuery {
    /// Only of the repository that this directory lies in.
    #[param(value_type = Option<String>)]
    path: Option<PathBuf>,
}

/// What waits for a person, or all approvals there ever were.
#[utoipa::path(get, path = "/v1/approvals", operation_id = "approvals_list", tag = "approvals", params(ListQuery),
    responses((status = 200, body = ApprovalList)))]
pub(crate) async fn list(
    State(engine): State<Engine>,
    Params(query): Params<ListQuery>,
) -> Answer<ApprovalList> {
    let task = query.task.map(|task| TaskRef { task, path: query.path.clone() });
    // With a task the directory only says which one is meant.
    let path = query.path.as_deref().filter(|_| task.is_none());
    Ok(Json(match query.state {
        Wanted::Waiting => engine.approvals(path, task.as_ref()).await?,
        Wanted::All => engine.past_approvals(path, task.as_ref(), query.before, query.limit).await?,
    }))
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

/// What a person looks at: of that task nothing is sent to them meanwhile.
#[utoipa::path(post, path = "/v1/presence", operation_id = "presence", tag = "approvals",
    request_body = PresenceParams, responses((status = 200, body = PresenceParams)))]
pub(crate) async fn presence(
    State(engine): State<Engine>,
    Body(params): Body<PresenceParams>,
) -> Answer<PresenceParams> {
    engine.present(params.clone()).await?;
    Ok(Json(params))
}
