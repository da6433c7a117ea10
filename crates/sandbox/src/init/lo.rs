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

/// Connections waiting to be accepted on one listener; a build opens a few dozen at once.
const BACKLOG: i32 = 256;

/// Brings up `lo` and its routes.
pub(super) fn bring_up() -> Result<(), SetupError> {
    let any = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .step(|| "open a socket".into())?;
    sys::interface_up(any.as_fd(), c"lo").step(|| "bring up lo".into())?;
    route().step(|| "route the synthetic range".into())?;
    // Servers under test may take ports below 1024, as on the developer's own machine in a container.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").step(|| "open low ports".into())
}

/// RTM_NEWROUTE `local 198.18.0.0/15 dev lo table local`, as rtnetlink(7) lays it out.
fn route() -> io::Result<()> {
    let family = AddressFamily::NETLINK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::with_capacity(44);
    message.extend(44u32.to_ne_bytes());
    message.extend(libc::RTM_NEWROUTE.to_ne_bytes());
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE;
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    let (address, length) = network::SYNTHETIC;
    let (protocol_static, scope_host) = (4, 254);
    let head = [
        libc::AF_INET as u8,
        length,
        0,
        0,
        libc::RT_TABLE_LOCAL,
        protocol_static,
        scope_host,
        libc::RTN_LOCAL,
    ];
    message.extend(head);
    message.extend(0u32.to_ne_bytes());
    for (kind, value) in [(libc::RTA_DST, address.octets()), (libc::RTA_OIF, 1u32.to_ne_bytes())] {
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
