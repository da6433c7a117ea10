//! The DNS stub at 127.0.0.53: synthetic addresses for allowed names, "no such domain" for all others (or the wildcards'
//! address, if whoever holds the listeners decides about each connection). Asks nobody:
//! a name that is not allowed leaves no trace outside, whatever its labels spell.
//!
//! Queries are hostile: nothing is believed about lengths, nothing is kept between datagrams; TCP connections are few
//! and hold at most one query.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use offshoot_core::egress::{EgressRule, HostName};
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, SocketFlags};

use super::{SetupError, Step, lo};
use crate::network;

/// Open TCP queries; the oldest gives way.
const MAX_TCP: usize = 16;
/// Longest query taken: names have 255 bytes, and additional records are not looked at.
const MAX_QUERY: usize = 1232;
/// Seconds an answer may be kept.
const TTL: u32 = 30;

const NO_ERROR: u8 = 0;
const FORMAT_ERROR: u8 = 1;
const NO_SUCH_DOMAIN: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

/// The stub and its sockets.
pub(super) struct Dns {
    udp: OwnedFd,
    tcp: OwnedFd,
    open: Vec<(OwnedFd, Vec<u8>)>,
    names: Names,
}

/// The allow-list in the form queries need it.
pub(super) struct Names {
    rules: Vec<EgressRule>,
    exact: Vec<(HostName, Ipv4Addr)>,
    others: Others,
}

/// Which names that no rule names have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// None.
    None,
    /// Those that may be public.
    Public,
    /// All: a defence is left out.
    All,
}

impl Names {
    pub(super) fn new(rules: Vec<EgressRule>, others: Others) -> Self {
        Self { exact: network::addresses(&rules), rules, others }
    }

    fn find(&self, name: &HostName) -> Option<Ipv4Addr> {
        if name.as_str() == "localhost" || name.as_str().ends_with(".localhost") {
            return Some(Ipv4Addr::LOCALHOST);
        }
        let exact = self.exact.iter().find(|(n, _)| n == name).map(|(_, address)| *address);
        let other = match self.others {
            Others::None => false,
            Others::Public => name.may_be_public(),
            Others::All => true,
        };
        exact.or_else(|| (other || self.rules.iter().any(|r| r.names(name))).then_some(network::WILDCARD))
    }
}

impl Dns {
    pub(super) fn start(names: Names) -> Result<Self, SetupError> {
        let udp = lo::udp(network::DNS, 53).step(|| "open the DNS socket".into())?;
        let tcp = lo::tcp(network::DNS, 53).step(|| "open the DNS socket".into())?;
        Ok(Self { udp, tcp, open: Vec::new(), names })
    }

    pub(super) fn set(&mut self, names: Names) {
        self.names = names;
    }

    /// What to wait on.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.udp.as_fd(), self.tcp.as_fd()].into_iter().chain(self.open.iter().map(|(fd, _)| fd.as_fd()))
    }

    /// Answers what has come in. Cheap when nothing has.
    pub(super) fn serve(&mut self) {
        let mut buffer = [0; MAX_QUERY];
        // A flood is served in turns with everything else.
        for _ in 0..64 {
            let got = rustix::net::recvfrom(&self.udp, &mut buffer, RecvFlags::TRUNC);
            let Ok((_, length, Some(from))) = got else { break };
            if let Some(reply) = buffer.get(..length).and_then(|q| answer(q, &self.names)) {
                let _ = send_to(&self.udp, &reply, &from);
            }
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(&self.tcp, flags) {
            if self.open.len() >= MAX_TCP {
                self.open.remove(0);
            }
            self.open.push((socket, Vec::new()));
        }
        let names = &self.names;
        self.open.retain_mut(|(socket, query)| {
            let mut buffer = [0; MAX_QUERY];
            match rustix::net::recv(&*socket, &mut buffer, RecvFlags::empty()) {
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(_) | Ok((0, _)) => return false,
                Ok((length, _)) => query.extend(&buffer[..length]),
            }
            let Some((head, rest)) = query.split_first_chunk::<2>() else { return true };
            let wanted = usize::from(u16::from_be_bytes(*head));
            if wanted > MAX_QUERY {
                return false;
            }
            let Some(message) = rest.get(..wanted) else { return query.len() < MAX_QUERY };
            if let Some(reply) = answer(message, names) {
                let mut framed = (reply.len() as u16).to_be_bytes().to_vec();
                framed.extend(reply);
                // One small answer always fits a fresh connection's buffer.
                let _ = rustix::net::send(&*socket, &framed, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            }
            query.drain(..2 + wanted);
            true
        });
    }
}

fn send_to(socket: &OwnedFd, reply: &[u8], to: &SocketAddrAny) -> rustix::io::Result<usize> {
    rustix::net::sendto(socket, reply, SendFlags::NOSIGNAL | SendFlags::DONTWAIT, to)
}

/// For `fuzz/`: the reply to one message by these rules.
#[cfg(fuzzing)]
#[must_use]
pub fn answer_dns(query: &[u8], rules: Vec<EgressRule>) -> Option<Vec<u8>> {
    answer(query, &Names::new(rules, Others::None))
}

/// The reply to one message (RFC 1035, section 4), or none when it is no query at all.
fn answer(query: &[u8], names: &Names) -> Option<Vec<u8>> {
    const RESPONSE: u8 = 0x80;
    let (head, body) = query.split_first_chunk::<12>()?;
    if head[2] & RESPONSE != 0 {
        return None;
    }
    let reply = |code: u8, question: &[u8], address: Option<Ipv4Addr>| {
        let recursion_desired = head[2] & 1;
        let mut out = vec![head[0], head[1], RESPONSE | recursion_desired | (head[2] & 0x78), 0x80 | code];
        out.extend([0, u8::from(!question.is_empty()), 0, u8::from(address.is_some()), 0, 0, 0, 0]);
        out.extend(question);
        if let Some(address) = address {
            // Name by pointer to the question, type A, class IN.
            out.extend([0xC0, 12, 0, 1, 0, 1]);
            out.extend(TTL.to_be_bytes());
            out.extend([0, 4]);
            out.extend(address.octets());
        }
        Some(out)
    };
    if head[2] & 0x78 != 0 {
        return reply(NOT_IMPLEMENTED, &[], None);
    }
    if head[4..6] != [0, 1] {
        return reply(FORMAT_ERROR, &[], None);
    }
    let Some((name, question)) = question(body) else { return reply(FORMAT_ERROR, &[], None) };
    let kind = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
    let Some(address) = name.and_then(|n| names.find(&n)) else {
        return reply(NO_SUCH_DOMAIN, question, None);
    };
    const A: u16 = 1;
    const ANY: u16 = 255;
    reply(NO_ERROR, question, matches!(kind, A | ANY).then_some(address))
}

/// The first question: its name, if that is a host name, and its bytes.
fn question(body: &[u8]) -> Option<(Option<HostName>, &[u8])> {
    let (mut at, mut text) = (0, Some(String::new()));
    loop {
        let length = usize::from(*body.get(at)?);
        if length == 0 {
            break;
        }
        // 64 and up are compression pointers, which a question has no use for.
        let label = body.get(at + 1..at + 1 + length).filter(|_| length < 64 && at + length < 255)?;
        text = text.zip(std::str::from_utf8(label).ok().filter(|l| !l.contains('.'))).map(
            |(mut text, label)| {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(label);
                text
            },
        );
        at += 1 + length;
    }
    Some((text.and_then(|t| t.parse().ok()), body.get(..at + 5)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
        }
        out.push(0);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out
    }

    #[test]
    fn allowed_names_have_addresses_and_others_do_not_exist() {
        let rules = ["example.org", "*.example.net", "host:80"].map(|r| r.parse().unwrap()).to_vec();
        let names = Names::new(rules, Others::None);
        for (name, kind, code, address) in [
            ("example.org", 1, NO_ERROR, Some([198, 18, 0, 1])),
            ("EXAMPLE.org", 1, NO_ERROR, Some([198, 18, 0, 1])),
            ("host.internal", 1, NO_ERROR, Some([198, 18, 0, 2])),
            ("a.example.net", 1, NO_ERROR, Some([198, 19, 255, 254])),
            ("a.localhost", 1, NO_ERROR, Some([127, 0, 0, 1])),
            ("example.org", 28, NO_ERROR, None),
            ("example.org", 16, NO_ERROR, None),
            ("example.net", 1, NO_SUCH_DOMAIN, None),
            ("secret.example.org", 1, NO_SUCH_DOMAIN, None),
            ("c2VjcmV0.attacker.com", 16, NO_SUCH_DOMAIN, None),
            ("_dns.example.org", 1, NO_SUCH_DOMAIN, None),
        ] {
            let reply = answer(&query(name, kind), &names).unwrap();
            assert_eq!(reply[3] & 15, code, "{name}");
            assert_eq!(reply[7], u8::from(address.is_some()), "{name}");
            if let Some(address) = address {
                assert_eq!(reply[reply.len() - 4..], address, "{name}");
            }
        }
    }

    #[test]
    fn other_names_lead_to_whoever_decides_unless_they_cannot_be_public() {
        let names = Names::new(vec!["example.org".parse().unwrap()], Others::Public);
        for (name, kind, address) in [
            ("example.org", 1, Some([198, 18, 0, 1])),
            ("other.org", 1, Some([198, 19, 255, 254])),
            ("other.org", 28, None),
        ] {
            let reply = answer(&query(name, kind), &names).unwrap();
            assert_eq!((reply[3] & 15, reply[7]), (NO_ERROR, u8::from(address.is_some())), "{name}");
            assert!(address.is_none_or(|address| reply.ends_with(&address)), "{name}");
        }
        for name in ["db", "host.internal", "metadata.google.internal", "a.local", "_x.other.org"] {
            assert_eq!(answer(&query(name, 1), &names).unwrap()[3] & 15, NO_SUCH_DOMAIN, "{name}");
        }
    }

    #[test]
    fn no_message_breaks_the_parser() {
        let names = Names::new(Vec::new(), Others::All);
        let good = query("a.example.org", 1);
        for length in 0..good.len() {
            let reply = answer(&good[..length], &names);
            assert!(length < 12 || reply.unwrap()[3] & 15 == FORMAT_ERROR);
        }
        // Every byte in every position, xor a few patterns.
        for at in 0..good.len() {
            for flip in 1..=255u8 {
                let mut bad = good.clone();
                bad[at] ^= flip;
                let _ = answer(&bad, &names);
            }
        }
        let mut long = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        long.extend([63; 400]);
        assert_eq!(answer(&long, &names).unwrap()[3] & 15, FORMAT_ERROR);
    }
}
