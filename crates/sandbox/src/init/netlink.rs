//! Four kinds of requests to the kernel's rtnetlink(7): a pair of interfaces, an address, routes. Made while init still has
//! rights over its network namespaces; answers are the kernel's.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Number of the loopback interface in every network namespace.
pub(super) const LO: u32 = 1;

/// A request while it is put together: what follows the length and is to be aligned to four bytes.
struct Body(Vec<u8>);

impl Body {
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = 4 + value.len();
        self.0.extend((length as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An attribute made of attributes, after `head`.
    fn nested(&mut self, kind: u16, head: &[u8], fill: impl FnOnce(&mut Self)) {
        let mut inner = Self(head.to_vec());
        fill(&mut inner);
        self.attribute(kind, &inner.0);
    }
}

/// Something is to be made that is not there yet.
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// One request and its answer.
fn request(kind: u16, flags: i32, head: &[u8], fill: impl FnOnce(&mut Body)) -> io::Result<()> {
    let family = AddressFamily::NETLINK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut body = Body(head.to_vec());
    fill(&mut body);
    let mut message = Vec::with_capacity(16 + body.0.len());
    message.extend((16 + body.0.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    let flags = flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body.0);
    rustix::net::send(&socket, &message, SendFlags::empty())?;
    let mut answer = [0u8; 256];
    let (length, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    let code =
        answer.get(16..20).filter(|_| length >= 20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Gives an interface an address of its own. Without one outside 127.0.0.0/8, getaddrinfo(3) with AI_ADDRCONFIG takes
/// the machine for one without IPv4 and finds no name at all.
pub(super) fn address(interface: u32, own: Ipv4Addr) -> io::Result<()> {
    let [a, b, c, d] = interface.to_ne_bytes();
    request(
        libc::RTM_NEWADDR,
        NEW,
        &[libc::AF_INET as u8, 32, 0, libc::RT_SCOPE_UNIVERSE, a, b, c, d],
        |body| {
            body.attribute(libc::IFA_LOCAL, &own.octets());
            body.attribute(libc::IFA_ADDRESS, &own.octets());
        },
    )
}

/// Where packets to a range go.
pub(super) enum Way {
    /// To this namespace itself, as if every address of the range was its own.
    Here,
    /// Out of this interface, from this address if given.
    Out(u32, Option<Ipv4Addr>),
}

/// Makes a route, in the table that is looked at first.
pub(super) fn route(to: (Ipv4Addr, u8), way: &Way) -> io::Result<()> {
    let (scope, kind, interface, source) = match way {
        Way::Here => (libc::RT_SCOPE_HOST, libc::RTN_LOCAL, LO, None),
        Way::Out(interface, source) => (libc::RT_SCOPE_LINK, libc::RTN_UNICAST, *interface, *source),
    };
    let table = libc::RT_TABLE_LOCAL;
    let head = [libc::AF_INET as u8, to.1, 0, 0, table, libc::RTPROT_STATIC, scope, kind, 0, 0, 0, 0];
    request(libc::RTM_NEWROUTE, NEW, &head, |body| {
        body.attribute(libc::RTA_DST, &to.0.octets());
        body.attribute(libc::RTA_OIF, &interface.to_ne_bytes());
        if let Some(source) = source {
            body.attribute(libc::RTA_PREFSRC, &source.octets());
        }
    })
}

/// `struct ifinfomsg`: an interface, and flags to set.
fn interface(number: u32, flags: i32) -> [u8; 16] {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&number.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..16].copy_from_slice(&flags.to_ne_bytes());
    head
}

/// Brings an interface up.
pub(super) fn up(number: u32) -> io::Result<()> {
    request(libc::RTM_NEWLINK, 0, &interface(number, libc::IFF_UP), |_| {})
}

/// Makes two connected interfaces: `here`, up, in this namespace, `there` in the other; each the first after `lo`.
pub(super) fn pair(here: &str, there: &str, other: BorrowedFd<'_>) -> io::Result<u32> {
    const INTERFACE: u32 = LO + 1;
    // linux/if_link.h, linux/veth.h.
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_NET_NS_FD: u16 = 28;
    const IFLA_NUM_TX_QUEUES: u16 = 31;
    const IFLA_NUM_RX_QUEUES: u16 = 32;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    const VETH_INFO_PEER: u16 = 1;
    // Nobody else is on this wire: no neighbours have to be asked for, if both ends have the same address.
    const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    // The most the kernel lets such a pair carry at once; `lo` has about the same.
    const MTU: u32 = 65535;
    // The other one cannot be up before this one is there.
    let (here_head, there_head) =
        (interface(INTERFACE, libc::IFF_UP | libc::IFF_NOARP), interface(INTERFACE, libc::IFF_NOARP));
    let describe = |body: &mut Body, name: &str| {
        body.attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        body.attribute(IFLA_ADDRESS, &HARDWARE);
        body.attribute(IFLA_MTU, &MTU.to_ne_bytes());
        // One for each processor otherwise.
        body.attribute(IFLA_NUM_TX_QUEUES, &1u32.to_ne_bytes());
        body.attribute(IFLA_NUM_RX_QUEUES, &1u32.to_ne_bytes());
    };
    request(libc::RTM_NEWLINK, NEW, &here_head, |body| {
        describe(body, here);
        body.nested(IFLA_LINKINFO, &[], |body| {
            body.attribute(IFLA_INFO_KIND, b"veth");
            body.nested(IFLA_INFO_DATA, &[], |body| {
                body.nested(VETH_INFO_PEER, &there_head, |body| {
                    describe(body, there);
                    body.attribute(IFLA_NET_NS_FD, &other.as_raw_fd().to_ne_bytes());
                });
            });
        });
    })?;
    Ok(INTERFACE)
}
