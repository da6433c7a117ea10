//! An app of another repository that an environment shares with others: one instance of it runs in an environment of its own,
//! and is found here under the app's name at the app's port.
//!
//! The name has an address of the synthetic range, where the holder of the listeners answers and leads to the instance; so it
//! only accepts, and no server inside is in its way. Ports 80 and 443 of that range are the proxy's for every name, so
//! an app at one of those has a loopback address.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use offshoot_core::{egress, id::ProjectId};
use serde::{Deserialize, Serialize};

/// One app that is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// What its repository is called in the main one's `offshoot.toml`.
    pub repository: String,
    /// The app; also its name inside.
    pub app: String,
    /// The repository's project.
    pub project: ProjectId,
    /// The repository's root on the host.
    pub root: PathBuf,
    /// The branch that it runs at, if one is said.
    pub branch: Option<String>,
    /// Where its name leads, inside.
    pub address: Ipv4Addr,
    /// The port, inside here as there.
    pub port: u16,
}

impl Shared {
    /// Most of one environment: as many as there are addresses.
    pub const MOST: u8 = 250;

    /// The address of the `at`th, from 0.
    pub fn address(at: u8, port: u16) -> Ipv4Addr {
        let [a, b, c, _] = if matches!(port, 80 | 443) { [127, 0, 2, 0] } else { egress::SHARED.octets() };
        Ipv4Addr::new(a, b, c, at.saturating_add(1))
    }

    pub(crate) fn host_line(&self) -> String {
        format!("{} {}", self.address, self.app)
    }

    pub(crate) fn served(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.port)
    }
}
