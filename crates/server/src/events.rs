//! The log, as a list or as a stream of server-sent events. The id of an event on the wire is its sequence number in
//! the log, so resuming is reading on: by `Last-Event-ID`, as browsers do, or by `?after=`.

use std::{convert::Infallible, path::PathBuf, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream;
use offshoot_core::{
    api::EventList,
    event::Entry,
    problem::{Problem, ProblemKind},
};
use offshoot_engine::TaskRef;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use crate::{
    answer::{Params, Refusal},
    routes::App,
};

/// Entries of one list if the client does not say, and at most: 2 MB of JSON in an ordinary log.
const LIMIT: usize = 1000;
const MAX_LIMIT: usize = 5000;
/// A comment after this time without events keeps proxies from hanging up, and finds clients that are gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Only events after this sequence number.
    #[serde(default)]
    after: u64,
    /// The newest events before this sequence number, in order, instead of the oldest after one: to read a long log
    /// from its end. Only for a list.
    before: Option<u64>,
    /// Most entries of a list (1000 if not given, at most 5000); a stream has no end.
    limit: Option<usize>,
    /// Any directory of a repository: of two tasks with one name, the one of this project is meant.
    #[param(value_type = Option<String>)]
    path: Option<PathBuf>,
}

/// All events, in order: a list, or with `Accept: text/event-stream` a stream.
#[utoipa::path(get, path = "/v1/events", operation_id = "events_list", tag = "events", params(EventsQuery),
    responses((status = 200, content((EventList = "application/json"), (Entry = "text/event-stream")))))]
pub(crate) async fn all(
    State(app): State<App>,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Result<Response, Refusal> {
    answer(app, &headers, query, None).await
}

/// A task's events, in order: a list, or with `Accept: text/event-stream` a stream.
#[utoipa::path(get, path = "/v1/tasks/{task}/events", operation_id = "task_events", tag = "events",
    params(("task" = String, Path, description = "Id, beginning of an id, or name"), EventsQuery),
    responses((status = 200, content((EventList = "application/json"), (Entry = "text/event-stream")))))]
pub(crate) async fn of_task(
    State(app): State<App>,
    Path(task): Path<String>,
    headers: HeaderMap,
    Params(mut query): Params<EventsQuery>,
) -> Result<Response, Refusal> {
    let task = TaskRef { task, path: query.path.take() };
    answer(app, &headers, query, Some(task)).await
}

async fn answer(
    app: App,
    headers: &HeaderMap,
    query: EventsQuery,
    task: Option<TaskRef>,
) -> Result<Response, Refusal> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let stream = accept.contains("text/event-stream");
    let limit = query.limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT);
    if let Some(before) = query.before {
        if query.after != 0 || stream {
            let why = "`before` reads a list backwards: without `after`, and not as a stream";
            return Err(Problem::new(ProblemKind::Invalid, "before", why).into());
        }
        return Ok(Json(app.engine.events_before(before, task.as_ref(), limit).await?).into_response());
    }
    if !stream {
        return Ok(Json(app.engine.events(query.after, task.as_ref(), limit).await?).into_response());
    }
    let after = match headers.get("last-event-id") {
        None => query.after,
        Some(id) => id.to_str().ok().and_then(|id| id.trim().parse().ok()).ok_or_else(|| {
            Problem::new(ProblemKind::Invalid, "last_event_id", "Last-Event-ID is not a sequence number")
        })?,
    };
    let entries = app.engine.follow_events(after, task.as_ref()).await?;
    Ok(event_stream(entries, app.stopping))
}

/// Entries as server-sent events, until there are no more or the daemon stops.
pub fn event_stream(entries: mpsc::Receiver<Entry>, stopping: CancellationToken) -> Response {
    let events = stream::unfold((entries, stopping), |(mut entries, stopping)| async move {
        let entry = tokio::select! {
            () = stopping.cancelled() => None,
            entry = entries.recv() => entry,
        }?;
        let event = Event::default().id(entry.seq.to_string());
        // What was read from the log can be written as JSON; should it not, the client sees a gap, not silence.
        let event = event.json_data(&entry).unwrap_or_else(|_| Event::default().comment("unreadable entry"));
        Some((Ok::<_, Infallible>(event), (entries, stopping)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}
