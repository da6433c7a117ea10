//! The egress proxy of a sandbox: served on the listeners that were handed out, and what it refused recorded.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use offshoot_core::{egress::EgressRule, event::Event, id::TaskId};
use offshoot_gateway::{Ask, Egress, EgressEvent, EgressPolicy, Options as EgressOptions, Sink};

use crate::ledger::Ledger;

/// Records what an environment was refused, once for each host: a program that asks for ever fills no log.
fn refusals(ledger: Ledger, task: TaskId) -> Sink {
    /// Hosts told of at the most; agents and package managers ask for a handful.
    const HOSTS: usize = 100;
    let told = Mutex::new(HashSet::new());
    Arc::new(move |event| {
        let EgressEvent::Refused { host, port, reason, .. } = event else { return };
        {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= HOSTS || !told.insert((host.clone(), port)) {
                return;
            }
        }
        let run = ledger.task(task).ok().and_then(|record| record.run().map(|run| run.id));
        if let Err(problem) = ledger.append(task, run, vec![Event::EgressRefused { host, port, reason }]) {
            tracing::warn!(%problem, "could not record a refusal");
        }
    })
}

/// Serves the network of a sandbox, be it an environment's or a builder's.
pub(crate) fn serve(
    ledger: Ledger,
    task: TaskId,
    listeners: Vec<offshoot_sandbox::Listener>,
    rules: &[EgressRule],
    ask: Option<Arc<dyn Ask>>,
) -> Result<Egress, offshoot_gateway::ServeError> {
    Egress::serve_with(
        listeners.into_iter().map(gateway_listener).collect(),
        EgressPolicy { rules: rules.to_vec() },
        EgressOptions { sink: refusals(ledger, task), ask, ..EgressOptions::default() },
    )
}

fn gateway_listener(listener: offshoot_sandbox::Listener) -> offshoot_gateway::Listener {
    use offshoot_sandbox::ListenerKind as Inside;
    let kind = match listener.kind {
        Inside::Proxy => offshoot_gateway::ListenerKind::Proxy,
        Inside::Transparent { .. } | Inside::Port { .. } | Inside::Served { .. } => {
            offshoot_gateway::ListenerKind::Transparent
        }
    };
    offshoot_gateway::Listener { kind, socket: std::net::TcpListener::from(listener.fd) }
}
