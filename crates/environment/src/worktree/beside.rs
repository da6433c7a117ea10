//! The services of a worktree: in a sandbox of their own beside it, as they would be in any environment, with ports of this
//! machine that lead to them. The processes of the worktree find them there, by variables.
//!
//! It is a part of the lease: below its directory, up with it and gone with it.

use std::{collections::BTreeMap, io, path::Path};

use offshoot_core::fault;
use offshoot_sandbox::{ConnectError, StartError};

use crate::{
    database::Part,
    layers::Layers,
    lease::{Lease, LeaseError, Terms},
    machine::Room,
    ports::HostPort,
    sandbox::Sandbox,
    service::plan::{Plan, Plans},
};

/// Its directory below the lease's.
const BESIDE: &str = "beside";

/// What processes outside are told of services and parts of shared servers.
pub fn env(services: &[Plan], ports: &[HostPort], parts: &[Part]) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for plan in services {
        let port = plan.service.port().or(plan.ports.first().copied());
        let led = |leads: &&HostPort| leads.address == plan.address && Some(leads.port) == port;
        if let Some(leads) = ports.iter().find(led) {
            env.extend(plan.injected("127.0.0.1", leads.host));
        }
    }
    env.extend(parts.iter().flat_map(Part::env_outside));
    env
}

impl Terms {
    /// Variables by which a worktree's processes find its services.
    pub fn service_env(&self) -> BTreeMap<String, String> {
        env(&self.services, &self.ports, &self.parts)
    }
}

impl Lease {
    /// Takes up the sandbox with a worktree's services, or starts it; none if there are no services.
    pub async fn up_beside(
        &self,
        machine: &crate::machine::Machine,
        layers: &Layers,
        objects: &Path,
    ) -> Result<Option<Sandbox>, LeaseError> {
        let terms = self.terms();
        if self.worktree().is_none() || terms.services.is_empty() {
            return Ok(None);
        }
        let dir = self.dir().join(BESIDE);
        let start = |source: io::Error| LeaseError::Start(StartError::Shim(source));
        match offshoot_sandbox::connect(&dir).await {
            Ok(connection) => {
                return Sandbox::new(connection).await.map(Some).map_err(|e| start(io::Error::other(e)));
            }
            Err(ConnectError::Gone) => {}
            Err(error) => return Err(start(io::Error::other(error))),
        }
        offshoot_sandbox::end(&dir).map_err(LeaseError::Cleanup)?;
        let gone = || LeaseError::Layers(terms.environment);
        let stack = layers.by_name(&terms.layers).ok_or_else(gone)?;
        let made = ["", "upper", "work", "home", "home-work"].map(|name| dir.join(name));
        for path in &made {
            let failed = |source| LeaseError::Io { operation: "make", path: path.clone(), source };
            machine.make_dir(path).map_err(failed)?;
        }
        let [_, upper, work, home_upper, home_work] = made;
        let mut mounts = Vec::new();
        for plan in &terms.services {
            let data = layers.data_of(plan).map_err(|_| gone())?;
            mounts.extend(plan.mounts(self.dir(), data.as_deref(), &terms.workspace));
        }
        let sandbox = machine
            .start(Room {
                id: format!("{}-beside", terms.environment),
                dir,
                hostname: terms.hostname.clone(),
                lowers: stack.workspace,
                upper,
                work,
                home_lowers: stack.home,
                home_upper,
                home_work,
                workspace: &terms.workspace,
                objects,
                tools: &terms.tools,
                binds: Vec::new(),
                mounts,
                hosts: Plans::hosts(&terms.services),
                monitor: None,
                env: terms.services.iter().flat_map(Plan::injected_inside).collect(),
                egress: Vec::new(),
                others_asked: false,
                served: Vec::new(),
                limits: terms.limits,
            })
            .await
            .map_err(LeaseError::Start)?;
        fault::point("beside.up");
        Ok(Some(sandbox))
    }
}

/// Ends what runs beside the worktree of an environment in this directory.
pub(crate) fn end(environment: &Path) -> Result<(), offshoot_sandbox::CleanupError> {
    let dir = environment.join(BESIDE);
    if dir.exists() { offshoot_sandbox::end(&dir) } else { Ok(()) }
}
