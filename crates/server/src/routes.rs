//! The router. Each route stands here once and is in the OpenAPI document by that alone; every operation of the
//! document can answer with a problem.

use std::time::Duration;

use axum::{
    Router,
    extract::{FromRef, Request},
    http::{HeaderValue, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use offshoot_core::{
    api::API_VERSION,
    problem::{Problem, ProblemKind},
};
use offshoot_engine::Engine;
use tokio_util::sync::CancellationToken;
use utoipa::{
    OpenApi, PartialSchema, ToSchema,
    openapi::{Content, Ref, RefOr, ResponseBuilder},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    answer::{ProblemBody, Refusal, require_json},
    approvals, apps,
    dashboard::{self, access::Access, listeners::Listeners},
    events, exec, review, service, services, tasks, worktrees,
};

/// Header with [`version_tag`], in every answer, and in a client's request if it wants to be refused by a daemon of
/// another version.
pub const VERSION_HEADER: &str = "offshoot-version";

/// Longest time for an answer. The slowest are landings and clean-ups of large repositories; streams are exempt, since
/// their answer begins at once.
const ANSWER_TIME: Duration = Duration::from_secs(900);

/// What handlers work with.
#[derive(Clone)]
pub(crate) struct App {
    pub engine: Engine,
    pub stopping: CancellationToken,
    pub listeners: Listeners,
    pub access: Access,
}

impl FromRef<App> for Engine {
    fn from_ref(app: &App) -> Self {
        app.engine.clone()
    }
}

/// Version of the API and of the program, as one text.
pub fn version_tag() -> String {
    format!("{API_VERSION}/{}", env!("CARGO_PKG_VERSION"))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Offshoot",
        description = "The API of the Offshoot daemon, over its Unix socket and, when asked, over loopback TCP with \
                       a token or, for browsers, a session. Times are milliseconds since 1970-01-01T00:00:00Z. Every POST needs Content-Type: \
                       application/json. Every refusal is application/problem+json."
    ),
    components(schemas(offshoot_core::api::StreamRequest, offshoot_core::api::StreamNotice))
)]
struct Document;

fn described() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(service::show))
        .routes(routes!(service::stop))
        .routes(routes!(service::agents))
        .routes(routes!(service::capacity))
        .routes(routes!(service::layers))
        .routes(routes!(service::document))
        .routes(routes!(tasks::list, tasks::create))
        .routes(routes!(tasks::plan))
        .routes(routes!(tasks::show))
        .routes(routes!(tasks::follow_up))
        .routes(routes!(tasks::stop))
        .routes(routes!(tasks::land))
        .routes(routes!(tasks::discard))
        .routes(routes!(tasks::prune))
        .routes(routes!(review::diff))
        .routes(routes!(review::file))
        .routes(routes!(review::scope))
        .routes(routes!(review::comments, review::comment))
        .routes(routes!(review::send_comments))
        .routes(routes!(review::change_comment))
        .routes(routes!(review::remove_comment))
        .routes(routes!(review::check))
        .routes(routes!(review::restore))
        .routes(routes!(review::landing))
        .routes(routes!(worktrees::list))
        .routes(routes!(worktrees::adopt))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::answer))
        .routes(routes!(approvals::rules))
        .routes(routes!(approvals::remove_rule))
        .routes(routes!(approvals::presence))
        .routes(routes!(service::test_notifications))
        .routes(routes!(apps::list))
        .routes(routes!(apps::change))
        .routes(routes!(apps::log))
        .routes(routes!(services::list))
        .routes(routes!(services::change))
        .routes(routes!(services::log))
        .routes(routes!(exec::start))
        .routes(routes!(exec::attach))
        .routes(routes!(exec::stream))
        .routes(routes!(dashboard::routes::open))
        .routes(routes!(dashboard::routes::log_in))
        .routes(routes!(dashboard::routes::log_out))
        .routes(routes!(dashboard::routes::devices, dashboard::routes::pair))
        .routes(routes!(dashboard::routes::revoke))
        .routes(routes!(events::all))
        .routes(routes!(events::of_task))
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = described().split_for_parts();
    let name = ProblemBody::name().into_owned();
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(&name))));
    let problem = ResponseBuilder::new()
        .description("A problem; its `code` is stable")
        .content("application/problem+json", content)
        .build();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), problem.clone().into());
        }
    }
    let components = document.components.get_or_insert_default();
    components.schemas.insert(name, ProblemBody::schema());
    let mut referenced = Vec::new();
    ProblemBody::schemas(&mut referenced);
    components.schemas.extend(referenced);
    document
}

/// The router with everything that holds for each request.
pub(crate) fn router(app: App) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(async || {
            Refusal::from(Problem::new(ProblemKind::NotFound, "no_such_route", "the API has no such path"))
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "no_such_method",
                "the path does not take this method",
            )
        })
        .layer(middleware::from_fn(for_each_request))
        .with_state(app)
}

async fn for_each_request(request: Request, next: Next) -> Response {
    let mut response = match admit(&request) {
        Err(refusal) => refusal.into_response(),
        Ok(()) => match tokio::time::timeout(ANSWER_TIME, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Refusal::from(
                Problem::new(ProblemKind::Unavailable, "timeout", "the daemon took too long to answer")
                    .hint("what was begun goes on; offshoot ps shows how it stands"),
            )
            .into_response(),
        },
    };
    if let Ok(version) = HeaderValue::from_str(&version_tag()) {
        response.headers_mut().insert(VERSION_HEADER, version);
    }
    response
}

fn admit(request: &Request) -> Result<(), Refusal> {
    require_json(request.method(), request.headers())?;
    // Whoever wants to see or stop a daemon of another version must be able to.
    let about_daemon = request.uri().path().starts_with("/v1/daemon");
    let Some(client) = request.headers().get(VERSION_HEADER) else { return Ok(()) };
    if about_daemon || client.as_bytes() == version_tag().as_bytes() {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::Incompatible,
        "version_differs",
        format!("the daemon is {}, you are {}", version_tag(), client.to_str().unwrap_or("unknown")),
    )
    .hint("offshoot daemon stop, then go on; runs are not disturbed")
    .into())
}
