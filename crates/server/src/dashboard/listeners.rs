//! What the daemon listens at besides its Unix socket: this machine's loopback, when the dashboard or `daemon start --tcp` asks
//! for it, and an address of the network, with TLS, as long as a device is paired there. What was open is opened again by
//! the next daemon, at the same port, so that a page left open finds it, with what browsers keep for that address.
//!
//! Invariants: one listener of each kind; nothing but loopback is ever listened to without TLS.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use axum::Router;
use offshoot_core::problem::{Problem, ProblemKind, chain};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{access::Access, certificate, page::ASSETS, remembered::Network, site::Site};
use crate::{
    guard::{Guard, now},
    listen::{serve_tcp, serve_tls},
};

/// Where the dashboard is found if nobody says otherwise, below the ports of previews, and how many are tried before any
/// other: one for each daemon of this machine.
const PORT: u16 = 7870;
/// The same for the network: like the usual port of TLS, and free for users.
const NETWORK_PORT: u16 = 7443;
const TRIED: u16 = 8;

/// What is open.
#[derive(Clone)]
pub(crate) struct Listeners(Arc<Inner>);

struct Inner {
    access: Access,
    token: PathBuf,
    /// The port the user wants.
    wanted: Option<u16>,
    /// Comes after this: its handlers open listeners.
    router: OnceLock<Router>,
    stopping: CancellationToken,
    serving: TaskTracker,
    open: Mutex<Open>,
    /// Held by whoever opens one.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Open {
    local: Option<(SocketAddr, Site)>,
    network: Option<(Network, CancellationToken)>,
}

impl Listeners {
    /// None yet. `token` is the file of the API's token.
    pub(crate) fn new(
        access: Access,
        token: PathBuf,
        wanted: Option<u16>,
        stopping: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            access,
            token,
            wanted,
            router: OnceLock::new(),
            stopping,
            serving: TaskTracker::new(),
            open: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }))
    }

    /// Begins to serve: at `bound` if the daemon was started with an address, and where the last one did.
    pub(crate) async fn begin(&self, router: Router, bound: Option<TcpListener>) -> Result<(), Problem> {
        let _ = self.0.router.set(router);
        if let Some(listener) = bound {
            let address =
                listener.local_addr().map_err(|e| Problem::internal("cannot read an address", &e))?;
            self.serve_local(vec![listener], Site::local(&host(address.ip()), address.port()), address)?;
        } else if self.0.access.port().is_some()
            && let Err(problem) = self.local().await
        {
            tracing::warn!("the dashboard is not open: {problem}");
        }
        if let Some(network) = self.0.access.network()
            && self.0.access.is_wanted(&site(&network), now())
            && let Err(problem) = self.serve_network(network).await
        {
            tracing::warn!("devices of the network are not served: {problem}");
        }
        Ok(())
    }

    /// Where browsers of this machine find the dashboard. Opens it if need be.
    pub(crate) async fn local(&self) -> Result<Site, Problem> {
        let _opening = self.0.opening.lock().await;
        if let Some((_, site)) = &self.open().local {
            return Ok(site.clone());
        }
        let remembered = self.0.access.port();
        let first = self.0.wanted.or(remembered).unwrap_or(PORT);
        let Some((listeners, port)) = ports(first).find_map(loopbacks) else {
            return Err(Problem::new(
                ProblemKind::Unavailable,
                "no_port",
                "no port for the dashboard is free",
            )
            .hint("name one with [dashboard] port in config.toml, then offshoot daemon stop"));
        };
        if remembered.is_none() {
            self.0.access.keep_port(port)?;
        } else if port != first {
            tracing::warn!(
                first,
                port,
                "the port of the dashboard is taken; another is used until the next start"
            );
        }
        let listeners: Vec<TcpListener> = listeners
            .into_iter()
            .map(TcpListener::from_std)
            .collect::<io::Result<_>>()
            .map_err(|e| Problem::internal("cannot listen", &e))?;
        let site = Site::local("localhost", port);
        self.serve_local(listeners, site.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        Ok(site)
    }

    /// Where devices of the network find it, and the certificate they are shown. Opens it if need be, at this address.
    pub(crate) async fn network(&self, address: Option<IpAddr>) -> Result<(Site, String), Problem> {
        let address = address.map_or_else(own_address, Ok)?;
        check(address)?;
        let _opening = self.0.opening.lock().await;
        let known = self.0.access.network();
        let same = known.filter(|network| network.address == address && certificate::is_good(network, now()));
        let network = match same {
            Some(network) => network,
            None => {
                let port = self.0.access.network().map_or(NETWORK_PORT, |network| network.port);
                certificate::make(address, port, now())
                    .map_err(|e| Problem::internal("cannot make a certificate", &e))?
            }
        };
        let network = self.serve_network(network).await?;
        self.0.access.keep_network(network.clone())?;
        Ok((site(&network), certificate::fingerprint(&network)))
    }

    /// Closes what no device comes to any more.
    pub(crate) fn close_unwanted(&self) {
        let mut open = self.open();
        if let Some((network, closing)) = &open.network
            && !self.0.access.is_wanted(&site(network), now())
        {
            tracing::info!("no device of the network is left; it is served no more");
            closing.cancel();
            open.network = None;
        }
    }

    /// Where the API is found on TCP, if it is.
    pub(crate) fn local_address(&self) -> Option<String> {
        self.open().local.as_ref().map(|(address, _)| address.to_string())
    }

    /// Where browsers of this machine find the dashboard, if it is open.
    pub(crate) fn local_site(&self) -> Option<Site> {
        self.open().local.as_ref().map(|(_, site)| site.clone())
    }

    /// Where devices of the network do, and the certificate's fingerprint.
    pub(crate) fn network_site(&self) -> Option<(Site, String)> {
        let open = self.open();
        let (network, _) = open.network.as_ref()?;
        Some((site(network), certificate::fingerprint(network)))
    }

    /// Waits until all that was served is over. Nothing is opened any more.
    pub(crate) async fn over(&self) {
        self.0.serving.close();
        self.0.serving.wait().await;
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn router(&self) -> Result<Router, Problem> {
        let missing = || Problem::new(ProblemKind::Unavailable, "daemon_start", "the daemon is starting");
        self.0.router.get().cloned().ok_or_else(missing)
    }

    fn serve_local(
        &self,
        listeners: Vec<TcpListener>,
        site: Site,
        address: SocketAddr,
    ) -> Result<(), Problem> {
        let router = self.router()?;
        let token = super::secret::token(&self.0.token)
            .map_err(|e| Problem::internal("cannot make the API's token", &e))?;
        let guard = Guard::local(address, token, self.0.access.clone());
        for listener in listeners {
            let (router, guard) = (router.clone(), guard.clone());
            self.0.serving.spawn(serve_tcp(listener, router, guard, ASSETS, self.0.stopping.clone()));
        }
        tracing::info!("the dashboard is at {}", site.origin());
        self.open().local = Some((address, site));
        Ok(())
    }

    /// Serves the network there, in place of where it was served by now.
    async fn serve_network(&self, mut network: Network) -> Result<Network, Problem> {
        if let Some((open, _)) = &self.open().network
            && *open == network
        {
            return Ok(network);
        }
        let unusable = |text: String| {
            Problem::new(ProblemKind::Unavailable, "network", text)
                .hint("offshoot pair --lan ADDRESS with an address of this machine")
        };
        let acceptor = certificate::acceptor(&network)
            .map_err(|error| unusable(format!("cannot serve the network: {}", chain(&error))))?;
        if let Some((_, closing)) = self.open().network.take() {
            closing.cancel();
        }
        let mut bound = Err(io::Error::from(io::ErrorKind::AddrInUse));
        for port in ports(network.port) {
            bound = TcpListener::bind((network.address, port)).await;
            if !matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
        }
        let cannot = |error| unusable(format!("cannot listen at {}: {error}", network.address));
        let listener = bound.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        network.port = address.port();
        let guard = Guard::network(address, self.0.access.clone());
        let closing = self.0.stopping.child_token();
        let router = self.router()?;
        self.0.serving.spawn(serve_tls(listener, acceptor, router, guard, ASSETS, closing.clone()));
        tracing::info!("devices of the network are served at {}", Site::of_address(address).origin());
        self.open().network = Some((network.clone(), closing));
        Ok(network)
    }
}

fn site(network: &Network) -> Site {
    Site::of_address((network.address, network.port).into())
}

/// The port, some after it, then whichever is free.
fn ports(first: u16) -> impl Iterator<Item = u16> {
    (first..first.saturating_add(TRIED)).chain([0])
}

/// A port on both loopbacks, or on IPv4's if this machine has no other: `localhost` may mean either, and must mean us.
fn loopbacks(port: u16) -> Option<(Vec<std::net::TcpListener>, u16)> {
    let v4 = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    let port = v4.local_addr().ok()?.port();
    let mut listeners = vec![v4];
    match std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Ok(v6) => listeners.push(v6),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return None,
        Err(_) => {}
    }
    listeners.iter().all(|listener| listener.set_nonblocking(true).is_ok()).then_some((listeners, port))
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The address of this machine from which it reaches other networks. Nothing is sent.
fn own_address() -> Result<IpAddr, Problem> {
    // Addresses for documentation (RFC 5737, RFC 3849): any that is not of this network.
    let asked = |own: &str, other: &str| {
        let socket = UdpSocket::bind(own)?;
        socket.connect(other)?;
        socket.local_addr()
    };
    asked("0.0.0.0:0", "192.0.2.1:9")
        .or_else(|_| asked("[::]:0", "[2001:db8::1]:9"))
        .map(|own| own.ip())
        .map_err(|_: io::Error| {
            Problem::new(ProblemKind::Unavailable, "no_network", "this machine has no way to other networks")
                .hint("offshoot pair --lan ADDRESS names the address to listen at")
        })
}

/// Refuses what is not one machine's own address in a private network: the dashboard is not for the internet.
fn check(address: IpAddr) -> Result<(), Problem> {
    let private = match address {
        // RFC 1918, link-local, and what carriers and overlay networks use (RFC 6598).
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
    };
    if private {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::Invalid,
        "address_public",
        format!("{address} is not an address of a private network"),
    )
    .hint("from the internet come through a tunnel of yours: offshoot pair --url https://…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_networks_are_listened_to() {
        for address in
            ["192.168.1.5", "10.0.0.1", "172.16.0.9", "100.100.1.1", "127.0.0.1", "fd00::1", "169.254.1.1"]
        {
            assert!(check(address.parse().unwrap()).is_ok(), "{address}");
        }
        for address in ["0.0.0.0", "::", "8.8.8.8", "100.128.0.1", "2001:db8::1", "224.0.0.1", "172.32.0.1"] {
            assert!(check(address.parse().unwrap()).is_err(), "{address}");
        }
    }
}
