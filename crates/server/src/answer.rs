//! What goes over the wire besides the shapes of `core::api`: problems as `application/problem+json` (RFC 9457), JSON
//! bodies and query strings read strictly. Every refusal of the server has this one form.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use offshoot_core::problem::{Problem, ProblemKind};
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

/// Longest body: prompt and instructions of one task, far above what a person writes or an agent can read.
pub(crate) const MAX_BODY: usize = 4 << 20;

/// What every handler returns.
pub(crate) type Answer<T> = Result<Json<T>, Refusal>;

/// A problem with the status it is sent with.
#[derive(Debug)]
pub struct Refusal {
    /// What is wrong.
    pub problem: Problem,
    /// The status.
    pub status: StatusCode,
}

impl Refusal {
    /// A refusal with a status of its own, where the kind's is too coarse (401, 403, 405, 413, 415).
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { problem: Problem::new(ProblemKind::Invalid, code, message), status }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: &str) -> Self {
        self.problem.hint = Some(hint.to_owned());
        self
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let status =
            StatusCode::from_u16(problem.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { problem, status }
    }
}

/// A problem on the wire: the members of RFC 9457 and Offshoot's own.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProblemBody<'a> {
    /// What the kind means.
    title: &'a str,
    /// The HTTP status again.
    status: u16,
    /// The kind; decides the exit code of the CLI.
    kind: ProblemKind,
    /// Stable and searchable, as in `name_taken`.
    code: &'a str,
    /// One sentence.
    message: &'a str,
    /// What to do next, if there is something.
    hint: Option<&'a str>,
    /// More to read: conflicting hunks, the end of a log.
    detail: Option<&'a str>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if self.problem.kind == ProblemKind::Internal {
            tracing::error!(code = self.problem.code, "{}", self.problem.message);
        }
        let body = ProblemBody {
            title: self.problem.kind.meaning(),
            status: self.status.as_u16(),
            kind: self.problem.kind,
            code: &self.problem.code,
            message: &self.problem.message,
            hint: self.problem.hint.as_deref(),
            detail: self.problem.detail.as_deref(),
        };
        let mut response = (self.status, Json(body)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        response
    }
}

/// Whether a request says its body is JSON. Every POST has to, also one without a body: a web page cannot send that
/// header across origins without asking first, and is never answered when it asks.
pub(crate) fn require_json(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    if *method == Method::GET || *method == Method::HEAD {
        return Ok(());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "json_only",
        "the API takes only Content-Type: application/json",
    ))
}

/// A JSON body, read strictly; an empty one counts as `{}`.
pub(crate) struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = axum::body::to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| {
            Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("a body has at most {MAX_BODY} bytes"),
            )
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Body).map_err(|error| {
            Problem::new(ProblemKind::Invalid, "body_invalid", format!("the body does not fit: {error}"))
                .into()
        })
    }
}

/// A query string, read strictly: unknown keys are refused.
pub(crate) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Query::<T>::try_from_uri(&parts.uri).map(|Query(value)| Params(value)).map_err(|error| {
            Problem::new(ProblemKind::Invalid, "query_invalid", format!("the query does not fit: {error}"))
                .into()
        })
    }
}

/// Runs a change to its end even if the client hangs up: a dropped connection must not leave half of it.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Answer<T> {
    match tokio::spawn(work).await {
        Ok(Ok(value)) => Ok(Json(value)),
        Ok(Err(problem)) => Err(problem.into()),
        Err(error) => Err(Problem::internal("the request's task ended badly", &error).into()),
    }
}
