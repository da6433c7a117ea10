//! From an allowed name to a connection: resolve, check every address, dial the very address that was checked.
//!
//! A name that answers differently the next time changes nothing: it is resolved once per connection. Nothing is
//! resolved that is not allowed.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use offshoot_core::egress::HostName;
use tokio::{net::TcpStream, time::timeout};

use super::{
    Shared, address,
    policy::Destination,
    refusal::Refusal,
    report::Traffic,
    socket::{Activity, Socket},
};

/// Most addresses of one name that are tried.
const MOST_ADDRESSES: usize = 8;

/// The addresses of a name, sooner or later.
pub type Resolver<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// How names become addresses.
pub trait Resolve: Send + Sync {
    /// The addresses of an allowed name.
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolver<'a>;
}

/// The machine's own resolver.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolver<'a> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// Connects to an allowed destination.
pub(crate) async fn dial(
    shared: &Shared,
    destination: &Destination,
    activity: &Arc<Activity>,
) -> Result<Socket, Refusal> {
    let stream = match &shared.options.upstream {
        Some(proxy) if !destination.host && !proxy.is_bypassed(&destination.name) => {
            let unreachable = |error: io::Error| Refusal::Unreachable {
                host: destination.name.clone(),
                port: destination.port,
                error: format!("through this machine's own proxy: {error}"),
            };
            // Resolving, and with it the check of addresses, is the proxy's.
            timeout(shared.options.limits.connect, proxy.connect(&destination.name, destination.port))
                .await
                .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?
                .map_err(unreachable)?
        }
        _ => direct(shared, destination).await?,
    };
    let _ = stream.set_nodelay(true);
    let traffic = Traffic::new(destination.clone(), Arc::clone(&shared.reporter), Arc::clone(&shared.totals));
    Ok(Socket::outside(stream, Arc::clone(activity), traffic))
}

async fn direct(shared: &Shared, destination: &Destination) -> Result<TcpStream, Refusal> {
    let limit = shared.options.limits.connect;
    let addresses = if destination.host {
        vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
    } else {
        let unresolved = || Refusal::Unresolved { host: destination.name.clone() };
        let found = timeout(limit, shared.options.resolver.resolve(&destination.name))
            .await
            .map_err(|_| unresolved())?
            .map_err(|_| unresolved())?;
        if found.is_empty() {
            return Err(unresolved());
        }
        found.into_iter().filter(|address| address::is_public(*address)).take(MOST_ADDRESSES).collect()
    };
    let mut last = None;
    for address in addresses {
        match timeout(limit, TcpStream::connect(SocketAddr::new(address, destination.port))).await {
            // A public address of this very machine is as private as its loopback; nothing was sent.
            Ok(Ok(stream)) if !destination.host && is_own(&stream, address) => {}
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(match last {
        Some(error) => Refusal::Unreachable {
            host: destination.name.clone(),
            port: destination.port,
            error: error.to_string(),
        },
        None => Refusal::Private { host: destination.name.clone() },
    })
}

fn is_own(stream: &TcpStream, peer: IpAddr) -> bool {
    stream.local_addr().map_or(true, |local| local.ip().to_canonical() == peer)
}
