//! The numbers of the sandbox's network, shared with whoever answers on its listeners.
//!
//! Besides `lo` there is one interface, a wire to where the listeners are that the host holds (`init/lo`). Each name of
//! the allow-list has a synthetic address out of 198.18.0.0/15 (RFC 2544 benchmarking range, never on the Internet), which
//! is routed there. Pure.

use std::net::Ipv4Addr;

use offshoot_core::egress::{EgressRule, HostName};
pub use offshoot_core::egress::{
    SYNTHETIC, WILDCARD, synthetic_address as resolve, synthetic_addresses as addresses,
};

/// Port of the HTTP and CONNECT proxy, on 127.0.0.1.
pub const PROXY_PORT: u16 = 3128;
/// Address of the DNS stub, UDP and TCP port 53.
pub const DNS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
/// The environment's own address on `eth0` (besides 127.0.0.1 and ::1).
pub const OWN: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 253);
/// The explicit (address, port) pairs that need a listener of their own; ports 80, 443 are listened on everywhere.
pub(crate) fn ports(rules: &[EgressRule]) -> Vec<(Ipv4Addr, u16, Option<HostName>)> {
    let addresses = addresses(rules);
    let mut pairs = Vec::new();
    for rule in rules {
        let Some(port) = rule.port().filter(|p| *p != 80 && *p != 443) else { continue };
        let pair = match rule {
            EgressRule::Below(..) => (WILDCARD, port, None),
            EgressRule::Name(..) | EgressRule::Host(_) => {
                let Some((name, address)) = addresses.iter().find(|(name, _)| rule.names(name)) else {
                    continue;
                };
                (*address, port, Some(name.clone()))
            }
        };
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Vec<EgressRule> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_follow_the_order_of_distinct_names() {
        let rules = rules(&["a.org", "*.b.org", "a.org:22", "c.org:5000", "host:8080", "host:9090"]);
        let at = |n: &str| resolve(&rules, &n.parse().unwrap()).map(|a| a.to_string());
        assert_eq!(at("a.org").as_deref(), Some("198.18.0.1"));
        assert_eq!(at("c.org").as_deref(), Some("198.18.0.2"));
        assert_eq!(at("host.internal").as_deref(), Some("198.18.0.3"));
        assert_eq!(at("x.b.org").as_deref(), Some("198.19.255.254"));
        assert_eq!(at("b.org"), None);
        let ports: Vec<_> = ports(&rules).into_iter().map(|(a, p, _)| format!("{a}:{p}")).collect();
        assert_eq!(ports, ["198.18.0.1:22", "198.18.0.2:5000", "198.18.0.3:8080", "198.18.0.3:9090"]);
    }
}
