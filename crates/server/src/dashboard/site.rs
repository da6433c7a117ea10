//! A site: a host under which browsers find the dashboard, and what belongs to it: its origin and its cookie. Pure.

use std::net::SocketAddr;

use offshoot_core::device::{SECURE_COOKIE, SESSION_COOKIE};

/// A host, with its port, as it stands in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    host: String,
    tls: bool,
}

impl Site {
    /// One of this machine's loopback, without TLS.
    pub fn local(host: &str, port: u16) -> Self {
        Self { host: format!("{host}:{port}"), tls: false }
    }

    /// One that browsers come to by TLS: Offshoot's own, or a tunnel's.
    pub fn tls(host: impl Into<String>) -> Self {
        Self { host: host.into(), tls: true }
    }

    /// That of a listener with TLS. A browser leaves the usual port out.
    pub fn of_address(address: SocketAddr) -> Self {
        let host = address.to_string();
        Self::tls(host.strip_suffix(":443").map(ToOwned::to_owned).unwrap_or(host))
    }

    /// As in `Host`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether browsers come by TLS; if not, they are on this machine.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// As in `Origin`.
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.host)
    }

    /// The name of its session cookie. Cookies are not bound to a port, so the port is in the name: two daemons of one machine
    /// do not log each other's browsers out. Previews take every name that begins so out of what they pass on.
    pub fn cookie(&self) -> String {
        let port = self.host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443u16);
        let prefix = if self.tls { SECURE_COOKIE } else { "" };
        format!("{prefix}{SESSION_COOKIE}{port}")
    }

    /// The field that sets the cookie, for `seconds`; with 0 it is taken away.
    pub fn set_cookie(&self, secret: &str, seconds: u64) -> String {
        let secure = if self.tls { "; Secure" } else { "" };
        format!("{}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}", self.cookie())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_cookie_of_its_own() {
        let local = Site::local("localhost", 7870);
        assert_eq!(local.origin(), "http://localhost:7870");
        assert_eq!(
            local.set_cookie("x", 60),
            "offshoot-7870=x; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"
        );
        let network = Site::of_address("192.168.1.5:7443".parse().unwrap());
        assert_eq!(network.origin(), "https://192.168.1.5:7443");
        assert_eq!(
            network.set_cookie("", 0),
            "__Host-offshoot-7443=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(Site::tls("my.tunnel").cookie(), "__Host-offshoot-443");
        assert_eq!(Site::of_address("[fd00::1]:443".parse().unwrap()).origin(), "https://[fd00::1]");
    }
}
