//! The services of environments: planned before one is made, looked after for as long as it has processes, and waited for
//! by whoever needs them.

mod led;
mod shown;

use std::{path::Path, sync::Arc};

use offshoot_core::{
    event::Event,
    id::{EnvironmentId, TaskId},
    lifecycle::{EnvironmentState, RunState, ServiceState, TaskState},
    problem::{Problem, ProblemKind, chain},
    record::ServiceRecord,
    service::Services,
};
use offshoot_environment::{
    lease::Lease,
    sandbox::Sandbox,
    service::{
        data::DataError,
        plan::{PlanError, Plans, Sources},
        supervise::{Failure, Supervisor, Told},
    },
    tools::Tools,
};
use offshoot_image::{Images, Progress};

use crate::{
    engine::Engine,
    environments::{Live, layer_problem},
    ledger::Ledger,
    project,
};

pub(crate) use self::led::lead_to_services;

/// Name of the file in which a project says what it runs on.
pub const SERVICES_FILE: &str = "services.json";

/// The project's services; none without a `services.json`.
pub(crate) fn read(root: &Path) -> Result<Services, Problem> {
    let path = root.join(SERVICES_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Services::default()),
        Err(error) => {
            return Err(Problem::new(
                ProblemKind::Unavailable,
                "config_unreadable",
                format!("could not read {}: {error}", path.display()),
            ));
        }
    };
    Services::parse(&text).map_err(|error| {
        project::config_problem(&path, &text, &error).hint("docs/services.md says what a service can have")
    })
}

/// What a repository's services are beside, in an environment of several.
pub(crate) struct Beside<'a> {
    /// How many services come before them.
    pub before: usize,
    /// Ports at which those are found on `localhost`.
    pub taken: &'a [u16],
    /// Where their repository's workspace is, if it is not the main one.
    pub workspace: Option<&'a Path>,
}

/// What those with a server of their own come to on this machine.
pub(crate) async fn plans(
    services: &Services,
    root: &Path,
    tools: &Tools,
    images: &Images,
    beside: &Beside<'_>,
    progress: Progress<'_>,
) -> Result<Plans, Problem> {
    let Beside { before, taken, workspace } = *beside;
    let sources = Sources { tools, repository: root, images, progress, before, taken, workspace };
    Plans::make(services, &sources).await.map_err(|error| plan_problem(&error))
}

fn plan_problem(error: &PlanError) -> Problem {
    let (code, hint) = match error {
        PlanError::NoProgram { .. } => (
            "service_not_installed",
            "install it, or name an image instead of \"use\": \"host\" in services.json",
        ),
        PlanError::Image { .. } => {
            ("image_unavailable", "check the image's name and that its registry answers")
        }
    };
    Problem::new(ProblemKind::Unavailable, code, chain(error)).hint(hint)
}

/// What it means to a person that a service's first data could not be made.
pub(crate) fn data_problem(error: DataError) -> Problem {
    match error {
        DataError::Layer(error) => layer_problem(error),
        DataError::Failed { service, failure } => failed(&service, &failure),
        error => Problem::new(ProblemKind::Invalid, "bad_seed", chain(&error))
            .hint("commit what it is seeded with, or change \"seed\" in services.json"),
    }
}

pub(crate) fn failed(service: &str, failure: &Failure) -> Problem {
    Problem::new(
        ProblemKind::Failed,
        "service_failed",
        format!("the service {service} does not run: {}", failure.reason),
    )
    .hint("the end of what it said is below; services.json says how it is started")
    .detail(failure.log.clone())
}

impl Engine {
    /// Takes up or starts the services of an environment that has processes.
    pub(crate) fn supervise(&self, task: TaskId, lease: &Lease, sandbox: &Sandbox) -> Arc<Supervisor> {
        let (ledger, environment) = (self.inner.ledger.clone(), lease.terms().environment);
        let known = ledger.task(task).ok().and_then(|record| record.environment);
        let stopped = |s: &&ServiceRecord| s.state == ServiceState::Stopped;
        let services = known.iter().filter(|e| e.id == environment).flat_map(|e| &e.services);
        let stopped = services.filter(stopped).map(|s| s.service.name.clone()).collect();
        if known.as_ref().is_some_and(|e| e.state == EnvironmentState::Suspended) {
            sandbox.is_frozen();
        }
        let sink = move |service: &str, told: Told| record(&ledger, task, environment, service, told);
        Arc::new(Supervisor::start(sandbox, &lease.terms().services, &stopped, &(Arc::new(sink) as _)))
    }

    /// Waits until the services of a task's environment are ready.
    pub(crate) async fn services_ready(&self, live: &Live) -> Result<(), Problem> {
        live.services.ready().await.map_err(|(service, failure)| failed(&service, &failure))?;
        live.parts.ready().await
    }
}

/// Records what happened to a service.
pub(crate) fn record(ledger: &Ledger, task: TaskId, environment: EnvironmentId, service: &str, told: Told) {
    let record = ledger.task(task).ok();
    let known = record.iter().filter_map(|record| record.environment.as_ref()).flat_map(|e| &e.services);
    let ready = known.filter(|s| s.state == ServiceState::Ready).any(|s| s.service.name == service);
    if ready && told == Told::Healthy {
        return;
    }
    let service = service.to_owned();
    let event = match told {
        Told::Starting(exec) => Event::ServiceStarting { environment, service, exec },
        Told::Unhealthy(reason) => Event::ServiceUnhealthy { environment, service, reason },
        Told::Healthy => Event::ServiceHealthy { environment, service },
        Told::Stopped => Event::ServiceStopped { environment, service },
        Told::Ready(took) => Event::ServiceReady {
            environment,
            service,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        },
        Told::Completed => Event::ServiceCompleted { environment, service },
        Told::Restarting(Failure { reason, log }) => {
            Event::ServiceFailed { environment, service, reason, log, again: true }
        }
        Told::Failed(Failure { reason, log }) => {
            Event::ServiceFailed { environment, service, reason, log, again: false }
        }
    };
    let mut events = vec![event];
    let run = record.as_ref().and_then(|record| record.run().map(|run| run.id));
    let at_work =
        record.as_ref().is_some_and(|record| matches!(record.state, TaskState::Running | TaskState::Idle));
    let working = record.as_ref().and_then(|r| r.run()).is_some_and(|run| run.state == RunState::Working);
    if let Event::ServiceFailed { service, reason, again: false, .. } = &events[0]
        && at_work
        && working
    {
        // Whoever works there goes on without it; a person may want to know.
        events.push(Event::AttentionNeeded { reason: format!("the service {service} failed: {reason}") });
    }
    if let Err(problem) = ledger.append(task, run, events) {
        tracing::warn!(%problem, "could not record what happened to a service");
    }
}
