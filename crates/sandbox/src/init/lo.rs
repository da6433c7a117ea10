//! The network inside: `lo` up, the synthetic range routed to it, and the listening sockets that are handed to the
//! host. Runs with rights over the network namespace, before they are given up; [`listen`] also later, for new rules
//! (no right needed: every port is unprivileged inside).

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, OwnedFd},
};

use offshoot_core::egress::EgressRule;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};

use super::{SetupError, Step};
use crate::{message::ListenerKind, network, sys};

/// Number of the loopback interface in every network namespace.
const LO: u32 = 1;
/// Connections waiting to be accepted on one listener; a build opens a few dozen at once.
const BACKLOG: i32 = 256;

/// Brings up `lo` and its routes.
pub(super) fn bring_up() -> Result<(), SetupError> {
    let any = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .step(|| "open a socket".into())?;
    sys::interface_up(any.as_fd(), c"lo").step(|| "bring up lo".into())?;
    route().step(|| "route the synthetic range".into())?;
    address().step(|| "give lo an address".into())?;
    // Servers under test may take ports below 1024, as on the developer's own machine in a container.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").step(|| "open low ports".into())
}

/// RTM_NEWROUTE `local 198.18.0.0/15 dev lo table local`.
fn route() -> io::Result<()> {
    let (address, length) = network::SYNTHETIC;
    let (protocol_static, scope_host) = (4, 254);
    let table = libc::RT_TABLE_LOCAL;
    let head =
        [libc::AF_INET as u8, length, 0, 0, table, protocol_static, scope_host, libc::RTN_LOCAL, 0, 0, 0, 0];
    let attributes = [(libc::RTA_DST, address.octets()), (libc::RTA_OIF, LO.to_ne_bytes())];
    rtnetlink(libc::RTM_NEWROUTE, head, attributes)
}

/// RTM_NEWADDR on `lo`. Without an address outside 127.0.0.0/8, getaddrinfo(3) with AI_ADDRCONFIG takes the machine
/// for one without IPv4 and finds no name at all.
fn address() -> io::Result<()> {
    let [a, b, c, d] = LO.to_ne_bytes();
    let scope_universe = 0;
    let head = [libc::AF_INET as u8, 32, 0, scope_universe, a, b, c, d];
    let own = network::OWN.octets();
    rtnetlink(libc::RTM_NEWADDR, head, [(libc::IFA_LOCAL, own), (libc::IFA_ADDRESS, own)])
}

/// One request to the kernel as rtnetlink(7) lays it out, and its answer.
fn rtnetlink<const N: usize>(kind: u16, head: [u8; N], attributes: [(u16, [u8; 4]); 2]) -> io::Result<()> {
    let family = AddressFamily::NETLINK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let length = 16 + head.len() + 8 * attributes.len();
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE;
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(head);
    for (kind, value) in attributes {
        message.extend(8u16.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(value);
    }
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0u8; 256];
    let (length, _) = rustix::net::recv(&socket, &mut answer, rustix::net::RecvFlags::empty())?;
    let code =
        answer.get(16..20).filter(|_| length >= 20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A listening TCP socket.
pub(super) fn tcp(address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(address, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A UDP socket.
pub(super) fn udp(address: Ipv4Addr, port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(address, port))?;
    Ok(socket)
}

/// The listeners every environment has.
pub(super) fn standard() -> Result<Vec<(ListenerKind, OwnedFd)>, SetupError> {
    let mut made = Vec::new();
    let proxy = tcp(Ipv4Addr::LOCALHOST, network::PROXY_PORT).step(|| "listen for the proxy".into())?;
    made.push((ListenerKind::Proxy, proxy));
    for port in [80, 443] {
        let socket = tcp(Ipv4Addr::UNSPECIFIED, port).step(|| format!("listen on port {port}"))?;
        made.push((ListenerKind::Transparent { port }, socket));
    }
    Ok(made)
}

/// Listeners for the explicit ports of `rules` that are not in `have` yet.
pub(super) fn listen(
    rules: &[EgressRule],
    have: &[ListenerKind],
) -> Result<Vec<(ListenerKind, OwnedFd)>, SetupError> {
    let mut made = Vec::new();
    for (address, port, host) in network::ports(rules) {
        let kind = ListenerKind::Port { address, port, host };
        if !have.contains(&kind) {
            let socket = tcp(address, port).step(|| format!("listen on {address}:{port}"))?;
            made.push((kind, socket));
        }
    }
    Ok(made)
}
