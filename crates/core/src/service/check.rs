//! What must hold between services, and the order they are started in.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    read::Placed,
    types::{Condition, DataIsolation, Service, Services, Test},
};
use crate::{config::ConfigError, name::Label};

/// Refuses services that contradict each other.
pub(super) fn check(placed: &[Placed<'_>]) -> Result<(), ConfigError> {
    let mut names: BTreeMap<&Label, &Service> = BTreeMap::new();
    for p in placed {
        if names.insert(&p.service.name, &p.service).is_some() {
            return Err(p.name.error(format!("there are two services called {}", p.service.name)));
        }
    }
    for p in placed {
        for (name, at) in &p.depends_on {
            let Some(other) = names.get(name) else {
                return Err(at.error(format!("there is no service called {name}")));
            };
            let condition = p.service.depends_on.get(name).map(|d| d.condition).unwrap_or_default();
            let disabled = other.healthcheck.as_ref().is_some_and(|h| h.test == Some(Test::None));
            if condition == Condition::ServiceHealthy && disabled {
                return Err(at.error(format!("{name} has no health check that could pass")));
            }
            if condition == Condition::ServiceCompletedSuccessfully
                && other.isolation != DataIsolation::Server
            {
                return Err(at.error(format!("{name} is a part of a shared server, which does not end")));
            }
        }
    }
    circle(placed)?;
    local_ports(placed)?;
    injected(placed)
}

fn circle(placed: &[Placed<'_>]) -> Result<(), ConfigError> {
    let services: Vec<&Service> = placed.iter().map(|p| &p.service).collect();
    let ordered: BTreeSet<&Label> = sorted(&services).iter().map(|s| &s.name).collect();
    // Whoever is left waits for somebody who is left; following one of those at each step ends in the circle.
    let left = |name: &Label| !ordered.contains(name);
    let Some(first) = placed.iter().find(|p| left(&p.service.name)) else { return Ok(()) };
    let mut path = vec![&first.service.name];
    while let Some(next) = placed
        .iter()
        .find(|p| Some(&&p.service.name) == path.last())
        .and_then(|p| p.service.depends_on.keys().find(|name| left(name)))
    {
        let Some(start) = path.iter().position(|name| *name == next) else {
            path.push(next);
            continue;
        };
        let ring: Vec<String> = path.iter().skip(start).chain([&next]).map(ToString::to_string).collect();
        let at = placed.iter().find(|p| p.service.name == *next).unwrap_or(first);
        return Err(at.name.error(format!("these wait for each other: {}", ring.join(" → "))));
    }
    Err(first.name.error("services wait for each other"))
}

fn local_ports(placed: &[Placed<'_>]) -> Result<(), ConfigError> {
    let mut taken: BTreeMap<u16, &Label> = BTreeMap::new();
    for p in placed {
        for local in p.service.ports.iter().filter_map(|port| port.local) {
            if let Some(other) = taken.insert(local, &p.service.name) {
                let at = p.ports.as_ref().unwrap_or(&p.whole);
                let who = if *other == p.service.name { "twice by" } else { "by both" };
                let names = if *other == p.service.name {
                    other.to_string()
                } else {
                    format!("{other} and {}", p.service.name)
                };
                return Err(at.error(format!("localhost:{local} is claimed {who} {names}")));
            }
        }
    }
    Ok(())
}

fn injected(placed: &[Placed<'_>]) -> Result<(), ConfigError> {
    let mut taken: BTreeMap<String, &Label> = BTreeMap::new();
    for p in placed {
        for variable in p.service.injected().into_keys() {
            if let Some(other) = taken.insert(variable.clone(), &p.service.name) {
                let at = p.inject.as_ref().unwrap_or(&p.name);
                return Err(at.error(format!(
                    "{variable} is set by both {other} and {}; say in \"inject\" which variables each sets ({{}} for none)",
                    p.service.name
                )));
            }
        }
    }
    Ok(())
}

/// Dependencies first, otherwise in the order given; without those that are in a circle or wait for one.
fn sorted<'s>(services: &[&'s Service]) -> Vec<&'s Service> {
    let mut done: BTreeSet<&Label> = BTreeSet::new();
    let mut order: Vec<&'s Service> = Vec::with_capacity(services.len());
    let known: BTreeSet<&Label> = services.iter().map(|s| &s.name).collect();
    while let Some(next) = services.iter().find(|s| {
        !done.contains(&s.name)
            && s.depends_on.keys().all(|name| done.contains(name) || !known.contains(name))
    }) {
        done.insert(&next.name);
        order.push(next);
    }
    order
}

impl Services {
    /// The order to start them in: dependencies first, otherwise as in the file. Stop them the other way round.
    pub fn order(&self) -> Vec<&Service> {
        sorted(&self.services.iter().collect::<Vec<_>>())
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name.as_str() == name)
    }
}
