//! The network inside, and the listening sockets that are handed to the host.
//!
//! ```text
//! inside:  lo 127.0.0.1, ::1      DNS stub, proxy        servers under test may bind any port of any address
//!          eth0 198.19.255.253 ── 198.18.0.0/15
//!               │
//! gate:    gate ── 198.18.0.0/15 is local: listeners on ports 80, 443 and those of rules. No process is ever in it.
//! ```
//!
//! The listeners are in a network namespace of their own because in one namespace no server could bind port 80 of all
//! addresses while somebody listens on port 80 of one. Nothing is routed beyond it, and nothing leaves it but by the
//! descriptors that the host holds. Runs with rights over both namespaces, before they are given up; [`Gate::listen`]
//! also later, for new rules, with sockets made before.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, OwnedFd},
};

use offshoot_core::egress::EgressRule;
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, sockopt},
    thread::LinkNameSpaceType,
};

use super::{
    SetupError, Step,
    netlink::{self, LO, Way},
};
use crate::{message::ListenerKind, network, spec::Network, sys};

/// Connections waiting to be accepted on one listener; a build opens a few dozen at once.
const BACKLOG: i32 = 256;
/// Ports that rules may add to a running environment, besides 80 and 443: a person allows each of them.
const SPARE: usize = 32;

/// The sockets of the namespace where the listeners are.
pub(super) struct Gate {
    spare: Vec<OwnedFd>,
}

/// Makes the network inside and the gate. The listeners that every environment has, and those that are `wanted`, come with it.
pub(super) fn bring_up(wanted: &Network) -> Result<(Gate, Vec<(ListenerKind, OwnedFd)>), SetupError> {
    netlink::up(LO).step(|| "bring up lo".into())?;
    // Servers under test may take ports below 1024, as on the developer's own machine in a container.
    open_low_ports()?;
    // Addresses of IPv6 that lead nowhere would only be tried in vain. The kernel may be without.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let inside = File::open("/proc/self/ns/net").step(|| "open the network namespace".into())?;
    sys::own_network().step(|| "make a network namespace for listeners".into())?;
    netlink::up(LO).step(|| "bring up lo".into())?;
    open_low_ports()?;
    let interface = netlink::pair("gate", "eth0", inside.as_fd())
        .step(|| "connect two network namespaces (the kernel's veth)".into())?;
    netlink::route(network::SYNTHETIC, &Way::Here).step(|| "take the synthetic range".into())?;
    netlink::route((network::OWN, 32), &Way::Out(interface, None)).step(|| "find the way in".into())?;
    let spare =
        (0..SPARE).map(|_| socket()).collect::<io::Result<Vec<_>>>().step(|| "make sockets".into())?;
    let mut made = Vec::new();
    for port in [80, 443] {
        let listener = socket().and_then(|s| listening(s, Ipv4Addr::UNSPECIFIED, port));
        made.push((ListenerKind::Transparent { port }, listener.step(|| format!("listen on port {port}"))?));
    }
    for (kind, address, port) in ports(&wanted.egress, &[]) {
        let listener = socket().and_then(|s| listening(s, address, port));
        made.push((kind, listener.step(|| format!("listen on {address}:{port}"))?));
    }
    for at in wanted.served.iter().filter(|at| !at.ip().is_loopback()) {
        let (address, port) = (*at.ip(), at.port());
        let listener = socket().and_then(|s| listening(s, address, port));
        made.push((ListenerKind::Served { address, port }, listener.step(|| format!("listen on {at}"))?));
    }
    rustix::thread::move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network))
        .step(|| "return to the network inside".into())?;
    netlink::up(interface).step(|| "bring up eth0".into())?;
    netlink::address(interface, network::OWN).step(|| "take an address".into())?;
    netlink::route(network::SYNTHETIC, &Way::Out(interface, Some(network::OWN)))
        .step(|| "route the synthetic range".into())?;
    let proxy = tcp(Ipv4Addr::LOCALHOST, network::PROXY_PORT).step(|| "listen for the proxy".into())?;
    made.insert(0, (ListenerKind::Proxy, proxy));
    for at in wanted.served.iter().filter(|at| at.ip().is_loopback()) {
        let (address, port) = (*at.ip(), at.port());
        let listener = tcp(address, port).step(|| format!("listen on {at}"))?;
        made.push((ListenerKind::Served { address, port }, listener));
    }
    Ok((Gate { spare }, made))
}

/// In the network namespace that this process is in now.
fn open_low_ports() -> Result<(), SetupError> {
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").step(|| "open low ports".into())
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

fn listening(socket: OwnedFd, address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    rustix::net::bind(&socket, &SocketAddrV4::new(address, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A listening TCP socket inside.
pub(super) fn tcp(address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    listening(socket()?, address, port)
}

/// A UDP socket inside.
pub(super) fn udp(address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(address, port))?;
    Ok(socket)
}

/// The explicit ports of `rules` that nobody listens on yet.
fn ports(rules: &[EgressRule], have: &[ListenerKind]) -> impl Iterator<Item = (ListenerKind, Ipv4Addr, u16)> {
    let all = network::ports(rules).into_iter();
    let kinds = all.map(|(address, port, host)| (ListenerKind::Port { address, port, host }, address, port));
    kinds.filter(|(kind, ..)| !have.contains(kind)).collect::<Vec<_>>().into_iter()
}

impl Gate {
    /// Listens on the explicit ports of `rules` that are not in `have` yet.
    pub(super) fn listen(
        &mut self,
        rules: &[EgressRule],
        have: &[ListenerKind],
    ) -> Result<Vec<(ListenerKind, OwnedFd)>, SetupError> {
        let mut made = Vec::new();
        for (kind, address, port) in ports(rules, have) {
            let socket = self.spare.pop().ok_or_else(|| {
                io::Error::other(format!("at most {SPARE} ports can be added while an environment runs"))
            });
            let listener = socket.and_then(|s| listening(s, address, port));
            made.push((kind, listener.step(|| format!("listen on {address}:{port}"))?));
        }
        Ok(made)
    }
}
