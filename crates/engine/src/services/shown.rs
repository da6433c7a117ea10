//! The services of a task as they are shown, and what a person makes of them: started, stopped, their words read.
//!
//! A service that is a part of a shared server is shown as the others are, and is not the environment's to stop.

use std::{collections::BTreeMap, time::SystemTime};

use offshoot_core::{
    api::{AppChange, AppLog, HealthView, PortView, ServiceList, ServiceStatus},
    event::Event,
    lifecycle::EnvironmentState,
    problem::{Problem, ProblemKind},
    record::{EnvironmentRecord, ServiceRecord, TaskRecord},
    time::Timestamp,
};
use offshoot_environment::service::supervise::{Health, Standing};

use crate::{
    apps::{gone, present, read_log},
    capacity::service_of,
    engine::{Engine, TaskRef},
};

impl Engine {
    /// The services of a task's environment. Wakes nothing.
    pub async fn services(&self, task: &TaskRef) -> Result<ServiceList, Problem> {
        let record = self.find(task)?;
        let Some(environment) = record.environment.as_ref().filter(|e| e.state != EnvironmentState::Removed)
        else {
            return Ok(ServiceList { services: Vec::new() });
        };
        Ok(ServiceList { services: self.service_statuses(environment).await })
    }

    /// Starts, stops or restarts a service; answers when it is ready, or will not be. Wakes the environment.
    pub async fn change_service(
        &self,
        task: &TaskRef,
        service: &str,
        change: AppChange,
    ) -> Result<ServiceStatus, Problem> {
        let record = self.find(task)?;
        let (environment, known) = found(&record, service)?;
        let id = environment.id;
        let terms = self.lease_of(id).map(|lease| lease.terms().clone());
        if !terms.is_some_and(|terms| terms.services.iter().any(|plan| plan.service.name.as_str() == service))
        {
            return Err(not_own(&record, service));
        }
        if change == AppChange::Stop && environment.state == EnvironmentState::Down {
            // It does not run; it is not started with the others when they are.
            let stopped = Event::ServiceStopped { environment: id, service: known.service.name.clone() };
            self.inner.ledger.append(record.id, record.run().map(|run| run.id), vec![stopped])?;
        } else {
            let live = self.ready_as(record.id, Some(id)).await?;
            match change {
                AppChange::Start => live.services.run(service, false).await,
                AppChange::Restart => live.services.run(service, true).await,
                AppChange::Stop => live.services.stop(service).await,
            };
        }
        let record = self.inner.ledger.task(record.id)?;
        let (environment, _) = found(&record, service)?;
        let shown = self.service_statuses(environment).await;
        shown.into_iter().find(|status| status.name == service).ok_or_else(|| unknown(&record, service))
    }

    /// The end of what a service said last. Wakes nothing.
    pub async fn service_log(&self, task: &TaskRef, service: &str) -> Result<AppLog, Problem> {
        let record = self.find(task)?;
        let (environment, known) = found(&record, service)?;
        let Some((lease, exec)) = self.lease_of(environment.id).zip(known.exec.clone()) else {
            return Err(Problem::new(
                ProblemKind::NotFound,
                "no_output",
                format!("{service} was not started in {}", record.name),
            )
            .hint(format!("start it with `offshoot service start {} {service}`", record.name)));
        };
        let from = self.standing(environment).get(service).map_or(0, |standing| standing.log_from);
        let journal = lease.journal(&exec);
        read_log(exec, journal, from).await
    }

    fn standing(&self, environment: &EnvironmentRecord) -> BTreeMap<String, Standing> {
        let live = self.inner.environments.live(environment.id);
        live.map(|live| live.services.standings()).unwrap_or_default()
    }

    async fn service_statuses(&self, environment: &EnvironmentRecord) -> Vec<ServiceStatus> {
        if environment.services.is_empty() {
            return Vec::new();
        }
        let standing = self.standing(environment);
        let stats = self.inner.environments.usage(environment.id).await.unwrap_or_default();
        let used: BTreeMap<String, u64> =
            stats.trees.iter().filter_map(|(exec, bytes)| Some((service_of(exec)?, *bytes))).collect();
        let lease = self.lease_of(environment.id);
        let plans = lease.as_ref().map(|lease| lease.terms().services.as_slice()).unwrap_or_default();
        let ports = lease.as_ref().map(|lease| lease.terms().ports.as_slice()).unwrap_or_default();
        let status = |record: &ServiceRecord| {
            let ServiceRecord { service, state, since, exec, ready_ms, restarts, reason, log: _ } = record;
            let plan = plans.iter().find(|plan| plan.service.name.as_str() == service.name);
            let leads = ports.iter().filter(|leads| leads.name == service.name);
            ServiceStatus {
                name: service.name.clone(),
                state: *state,
                since: *since,
                address: service.address.clone(),
                ports: service.ports.clone(),
                host: leads
                    .map(|leads| PortView {
                        name: leads.name.clone(),
                        address: format!("127.0.0.1:{}", leads.host),
                        port: leads.port,
                    })
                    .collect(),
                runs: service.runs.clone(),
                memory_bytes: used.get(&service.name).copied(),
                memory_limit_bytes: plan.and_then(|plan| plan.service.memory()).map(|memory| memory.0),
                health: standing.get(&service.name).and_then(|standing| standing.health).map(health),
                ready_ms: *ready_ms,
                restarts: *restarts,
                exec: exec.clone(),
                reason: reason.clone(),
            }
        };
        environment.services.iter().map(status).collect()
    }
}

fn health(health: Health) -> HealthView {
    let since = health.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    HealthView { passed: health.passed, at: Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)) }
}

/// A service of the task's environment.
fn found<'a>(
    record: &'a TaskRecord,
    service: &str,
) -> Result<(&'a EnvironmentRecord, &'a ServiceRecord), Problem> {
    let environment = record.environment.as_ref().filter(|_| present(record).is_some());
    let environment = environment.ok_or_else(|| gone(record))?;
    let known = environment.services.iter().find(|known| known.service.name == service);
    Ok((environment, known.ok_or_else(|| unknown(record, service))?))
}

fn unknown(record: &TaskRecord, service: &str) -> Problem {
    let what = format!("{} has no service {service:?}", record.name);
    Problem::new(ProblemKind::NotFound, "no_such_service", what).hint(format!(
        "`offshoot service ls {}` lists them; services.json adds one to new environments",
        record.name
    ))
}

fn not_own(record: &TaskRecord, service: &str) -> Problem {
    let what = format!("{service} of {} is a part of a server that runs elsewhere", record.name);
    Problem::new(ProblemKind::Conflict, "service_elsewhere", what)
        .hint("start and stop that server where it runs")
}
