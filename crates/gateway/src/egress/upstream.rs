//! The proxy that this machine itself has to use (a company's), if its environment names one: `HTTPS_PROXY`,
//! `HTTP_PROXY` or `ALL_PROXY` in either case, and `NO_PROXY`. Plain `http://` proxies with CONNECT, basic
//! authentication included; TLS to the proxy and SOCKS are not supported.
//!
//! The proxy's user and password are never shown, logged or sent anywhere else.

use std::{fmt, io};

use offshoot_core::egress::HostName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The largest head of the proxy's answer.
const MOST_HEAD: usize = 8 * 1024;

/// A proxy to connect through.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamProxy {
    host: String,
    port: u16,
    authorization: Option<String>,
    /// Names that are dialled directly, with all below them; `*` for all.
    bypass: Vec<String>,
}

/// A proxy that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} does not name a proxy of the form http://[user:password@]host:port")]
pub struct UpstreamProxyError {
    variable: &'static str,
}

impl UpstreamProxy {
    /// The proxy that an environment names, `None` if it names none.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, UpstreamProxyError> {
        let find = |names: &[&'static str]| {
            names
                .iter()
                .find_map(|name| get(name).filter(|value| !value.is_empty()).map(|value| (*name, value)))
        };
        let Some((variable, url)) =
            find(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"])
        else {
            return Ok(None);
        };
        let bypass = find(&["NO_PROXY", "no_proxy"])
            .map(|(_, list)| {
                list.split(',')
                    .map(|name| {
                        name.trim().trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase()
                    })
                    .filter(|name| !name.is_empty())
                    .collect()
            })
            .unwrap_or_default();
        Self::parse(&url, bypass).map(Some).ok_or(UpstreamProxyError { variable })
    }

    fn parse(url: &str, bypass: Vec<String>) -> Option<Self> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) => scheme.eq_ignore_ascii_case("http").then_some(rest)?,
            None => url,
        };
        let rest = rest.trim_end_matches('/');
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(decoded(user)?), place),
            None => (None, rest),
        };
        let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (place, 80),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(|c: char| c.is_ascii_control() || " /?#@".contains(c)) {
            return None;
        }
        Some(Self { host: host.to_owned(), port, authorization: user.map(|user| base64(&user)), bypass })
    }

    /// Whether a host is dialled directly.
    pub(crate) fn is_bypassed(&self, name: &HostName) -> bool {
        self.bypass.iter().any(|entry| {
            entry == "*"
                || name
                    .as_str()
                    .strip_suffix(entry.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// A connection to the host, through the proxy.
    pub(crate) async fn connect(&self, name: &HostName, port: u16) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let authorization = match &self.authorization {
            Some(basic) => format!("Proxy-Authorization: Basic {basic}\r\n"),
            None => String::new(),
        };
        let request = format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        // Byte by byte: what follows the head is the host's, and a server may speak first.
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MOST_HEAD {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the proxy's answer is too long"));
            }
            head.push(stream.read_u8().await?);
        }
        let status = head.get(9..12).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("nothing");
        if head.starts_with(b"HTTP/1.") && status.starts_with('2') {
            Ok(stream)
        } else {
            Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("the proxy answered {}", status.escape_default()),
            ))
        }
    }
}

impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamProxy({}:{})", self.host, self.port)
    }
}

/// Percent-decoded.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit =
            || bytes.next().and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let (high, low) = (digit()?, digit()?);
        decoded.push(high << 4 | low);
    }
    Some(decoded)
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().zip([16, 8, 0]).fold(0u32, |group, (byte, shift)| group | u32::from(*byte) << shift);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let letter = ALPHABET[(group >> shift & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Option<UpstreamProxy>, UpstreamProxyError> {
        UpstreamProxy::from_env(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn proxies_as_environments_name_them() {
        for (url, host, port, authorization) in [
            ("http://proxy.corp:3128", "proxy.corp", 3128, None),
            ("http://proxy.corp:3128/", "proxy.corp", 3128, None),
            ("proxy.corp", "proxy.corp", 80, None),
            ("HTTP://me:p%40ss@10.0.0.1:8080", "10.0.0.1", 8080, Some("bWU6cEBzcw==")),
            ("http://[::1]:3128", "::1", 3128, None),
        ] {
            let proxy = from(&[("https_proxy", url)]).unwrap().unwrap();
            assert_eq!(
                (&proxy.host[..], proxy.port, proxy.authorization.as_deref()),
                (host, port, authorization)
            );
            assert!(!format!("{proxy:?}").contains("bWU6"));
        }
        for bad in [
            "https://p:1",
            "socks5://p:1",
            "http://",
            "http://p:x",
            "http://p:0",
            "http://a b:1",
            "http://%zz@p:1",
        ] {
            assert!(from(&[("HTTPS_PROXY", bad)]).is_err(), "{bad}");
        }
        assert_eq!(from(&[]).unwrap(), None);
        assert_eq!(from(&[("HTTPS_PROXY", "")]).unwrap(), None);
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn names_below_a_bypassed_one_are_bypassed() {
        let proxy =
            from(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", "a.org, .b.org,*.C.org")]).unwrap().unwrap();
        for (name, want) in
            [("a.org", true), ("x.a.org", true), ("xa.org", false), ("b.org", true), ("c.org", true)]
        {
            assert_eq!(proxy.is_bypassed(&name.parse().unwrap()), want, "{name}");
        }
    }
}
