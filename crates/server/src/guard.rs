//! Who may ask over TCP, and how. Loopback is shared by every user and every web page of the machine, so a request
//! needs the token, names the daemon by an address a page cannot have by DNS rebinding, and does not come from a page
//! of another origin. (Over the Unix socket the kernel says who asks; see `listen`.)
//!
//! Pure: headers in, verdict out.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use crate::answer::Refusal;

/// What a TCP listener demands.
#[derive(Clone)]
pub struct Guard {
    hosts: Vec<String>,
    token: String,
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Guard {
    /// For a listener at `address` with this token.
    pub fn new(address: SocketAddr, token: String) -> Self {
        let port = address.port();
        let hosts = ["127.0.0.1", "localhost", "[::1]"].iter().map(|host| format!("{host}:{port}")).collect();
        Self { hosts, token }
    }

    /// Whether a request with these headers may go on.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = sole(headers, &header::HOST)?.unwrap_or_default();
        if !self.hosts.iter().any(|known| known == host) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "host_refused",
                "the Host header does not name this daemon",
            ));
        }
        if let Some(origin) = sole(headers, &header::ORIGIN)?
            && origin.strip_prefix("http://") != Some(host)
        {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "origin_refused",
                "requests of pages of another origin are refused",
            ));
        }
        if let Some(site) = sole(headers, &FETCH_SITE)?
            && site != "same-origin"
            && site != "none"
        {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "cross_site_refused",
                "requests from other sites are refused",
            ));
        }
        let given = sole(headers, &header::AUTHORIZATION)?.and_then(|value| value.strip_prefix("Bearer "));
        if !given.is_some_and(|given| same(given.as_bytes(), self.token.as_bytes())) {
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "token_required",
                "over TCP the API needs its token",
            )
            .hint("send Authorization: Bearer with the content of api-token in the state directory"));
        }
        Ok(())
    }
}

/// The value of a header that may be there once. Twice is refused: two readers could pick different ones.
fn sole<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refusal> {
    let refuse = |why: &str| {
        Refusal::new(StatusCode::BAD_REQUEST, "header_invalid", format!("the header {name} is {why}"))
    };
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(refuse("there twice"));
    }
    first.map(|value| value.to_str().map_err(|_| refuse("not text"))).transpose()
}

/// Compares without telling by its duration where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}
