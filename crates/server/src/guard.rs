//! Who may ask over TCP, and how. Loopback is shared by every user and every web page of the machine, so a request names
//! the daemon by an address that a page cannot have by DNS rebinding, does not come from a page of another origin, and has
//! a token or the session of a device. (Over the Unix socket the kernel says who asks; see `listen`.)
//!
//! A token is sent on purpose, a cookie by the browser, whoever has made it ask. So with a cookie the browser has to
//! say that the page is our own: `Origin` for everything that changes something and for WebSockets, `Sec-Fetch-Site` or `Origin`
//! for the rest. Cookies are not bound to a port either: what else listens on `localhost` may see ours. Therefore a
//! session is good from this user's own processes only, and for the site it began at.
//!
//! Headers in, verdict out; sessions are asked for in [`Access`], the owner of a connection of `Connection`.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header, request::Parts};
use offshoot_core::time::Timestamp;

use crate::{
    answer::Refusal,
    dashboard::{access::Access, page::is_api, secret::same, site::Site},
    listen::Connection,
};

/// What a TCP listener demands.
#[derive(Clone)]
pub struct Guard {
    sites: Vec<Site>,
    token: Option<String>,
    access: Access,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The daemon's own user, at the Unix socket.
    Owner,
    /// Whoever has the token.
    Token,
    /// A device, by its id.
    Device(String),
    /// Anybody: for pages, and to log in.
    Anybody,
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Where a code becomes a session.
pub(crate) const LOGIN: &str = "/v1/session";

impl Guard {
    /// For a listener at a loopback address, with this token.
    pub fn local(address: SocketAddr, token: String, access: Access) -> Self {
        let hosts = ["127.0.0.1", "localhost", "[::1]"];
        let sites = hosts.iter().map(|host| Site::local(host, address.port())).collect();
        Self { sites, token: Some(token), access }
    }

    /// For one with TLS at an address of the network: devices only.
    pub fn network(address: SocketAddr, access: Access) -> Self {
        Self { sites: vec![Site::of_address(address)], token: None, access }
    }

    /// Whether a request may go on, from whom it is, and the site it came to.
    pub fn admit(&self, request: &Parts, connection: &Connection) -> Result<(Caller, Site), Refusal> {
        let headers = &request.headers;
        let site = self.site(headers)?;
        let api = is_api(request.uri.path());
        let opened = !api && is_opened(&request.method, headers)?;
        let origin = sole(headers, &header::ORIGIN)?;
        if origin.is_some_and(|origin| origin != site.origin()) {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "origin_refused",
                "requests of pages of another origin are refused",
            ));
        }
        let fetch_site = sole(headers, &FETCH_SITE)?;
        if fetch_site.is_some_and(|from| from != "same-origin" && from != "none") && !opened {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "cross_site_refused",
                "requests from other sites are refused",
            ));
        }
        if !api {
            return Ok((Caller::Anybody, site));
        }
        if let Some(given) = sole(headers, &header::AUTHORIZATION)? {
            let given = given.strip_prefix("Bearer ").unwrap_or_default();
            // Of a tunnel nobody knows who is at the other end; there devices are asked for.
            let token = self.token.as_ref().filter(|_| !site.is_tls());
            return match token {
                Some(token) if same(given.as_bytes(), token.as_bytes()) => Ok((Caller::Token, site)),
                _ => Err(unknown()),
            };
        }
        let asked_by_page = if changes(&request.method, headers) {
            origin.is_some()
        } else {
            origin.is_some() || fetch_site.is_some()
        };
        let trusted = site.is_tls() || connection.is_own();
        if request.method == Method::POST && request.uri.path() == LOGIN {
            return match (asked_by_page, trusted) {
                (true, true) => Ok((Caller::Anybody, site)),
                (false, _) => Err(no_origin()),
                (true, false) => Err(another_user()),
            };
        }
        let secrets = cookies(headers, &site.cookie());
        let device = self.access.session(&site, &secrets, now()).ok_or_else(unknown)?;
        if !asked_by_page {
            return Err(no_origin());
        }
        if !trusted {
            return Err(another_user());
        }
        if !connection.belongs_to(&self.access, &device) {
            return Err(unknown());
        }
        Ok((Caller::Device(device), site))
    }

    fn site(&self, headers: &HeaderMap) -> Result<Site, Refusal> {
        let host = sole(headers, &header::HOST)?.unwrap_or_default();
        let tunnels = || self.access.tunnels().into_iter().map(Site::tls);
        self.sites.iter().cloned().chain(tunnels()).find(|site| site.host() == host).ok_or_else(|| {
            Refusal::new(StatusCode::FORBIDDEN, "host_refused", "the Host header does not name this daemon")
        })
    }
}

/// Whether the person opens an address: by a link from anywhere, which is fine for what is no more than a page.
fn is_opened(method: &Method, headers: &HeaderMap) -> Result<bool, Refusal> {
    Ok(*method == Method::GET
        && sole(headers, &FETCH_MODE)? == Some("navigate")
        && sole(headers, &FETCH_DEST)? == Some("document"))
}

fn changes(method: &Method, headers: &HeaderMap) -> bool {
    !matches!(*method, Method::GET | Method::HEAD) || headers.contains_key(header::UPGRADE)
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "token_required", "over TCP the API needs a session, or its token").hint(
        "offshoot dashboard lets a browser in; programs send Authorization: Bearer with the content of api-token in \
         the state directory",
    )
}

fn no_origin() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "origin_required",
        "a session is for browsers, which say which page asks; this request does not",
    )
}

fn another_user() -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        "user_refused",
        "the connection is another user's of this machine, or nobody can tell whose it is",
    )
}

/// Now. Sessions end by it.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// All values of a cookie. More than one is no reason to refuse: somebody else on this host may have set his own, which
/// opens nothing.
pub(crate) fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value)
        .take(16)
        .collect()
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
