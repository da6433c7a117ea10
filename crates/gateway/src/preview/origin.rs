//! Whose page may ask an app for something. Pure.
//!
//! A page of one task is not the person: it was made by an agent. It shall neither read nor change what another task's
//! app has, and no site on the internet shall either. Browsers say who asks (`Origin`, `Sec-Fetch-*`; for
//! `*.localhost` always, since they take it for trustworthy), and what is not a browser has nobody else's authority.
//! Opening an address, by a link or after a login elsewhere, is always fine.

use hyper::{
    HeaderMap, Method,
    header::{self, HeaderName},
};

use super::{name::Asked, refusal::Refusal};

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Refuses what another site's page asks for.
pub(crate) fn check(method: &Method, headers: &HeaderMap, asked: &Asked) -> Result<(), Refusal> {
    let text = |name: &HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let opened = text(&MODE).as_deref() == Some("navigate") && text(&DEST).as_deref() == Some("document");
    let reading = matches!(*method, Method::GET | Method::HEAD);
    let cross = |by: &str| Err(Refusal::CrossSite { by: by.chars().take(255).collect() });
    let site = text(&SITE);
    // A page of the very same origin, or the person at the address bar.
    let close = matches!(site.as_deref(), Some("none" | "same-origin" | "same-site"));
    match text(&header::ORIGIN).as_deref() {
        Some("null") if close || (opened && reading) => Ok(()),
        Some("null") => cross("one without an origin"),
        Some(origin) => match whose(origin, asked) {
            Whose::Own => Ok(()),
            // A form that a login page elsewhere sends here, and the like.
            Whose::Internet if opened => Ok(()),
            Whose::Internet | Whose::Local => cross(origin),
        },
        None if site.is_none() || close || (opened && reading) => Ok(()),
        None => cross(text(&header::REFERER).as_deref().unwrap_or("unnamed")),
    }
}

enum Whose {
    Own,
    /// Another page of this machine, so perhaps another task's.
    Local,
    Internet,
}

fn whose(origin: &str, asked: &Asked) -> Whose {
    let Some((scheme, authority)) = origin.split_once("://") else { return Whose::Local };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, Some(80)),
    };
    let host = host.to_ascii_lowercase();
    let own = match asked.site() {
        Some(site) => host == site || host.ends_with(&format!(".{site}")),
        None => host == asked.host,
    };
    if own && scheme == "http" && port == Some(asked.port) {
        return Whose::Own;
    }
    let local = host == "localhost"
        || host.ends_with(".localhost")
        || host.starts_with('[')
        || !host.contains('.')
        || host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if local { Whose::Local } else { Whose::Internet }
}

#[cfg(test)]
mod tests {
    use hyper::{Uri, header::HeaderValue};

    use super::*;

    /// `fields` are `Name: value`, several of them split by `|`.
    fn allowed(method: Method, fields: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("web.mine.localhost:7878"));
        for field in fields.split('|').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once(": ").unwrap();
            headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let asked = Asked::of(&Uri::from_static("/"), &headers).unwrap();
        check(&method, &headers, &asked).is_ok()
    }

    const OPENED: &str = "sec-fetch-site: cross-site|sec-fetch-mode: navigate|sec-fetch-dest: document";

    #[test]
    fn the_person_programs_and_the_tasks_own_pages_may() {
        for fields in [
            "",
            "sec-fetch-site: none|sec-fetch-mode: navigate|sec-fetch-dest: document",
            "sec-fetch-site: same-origin|sec-fetch-mode: cors",
            "sec-fetch-site: same-site|sec-fetch-mode: no-cors",
            "origin: http://web.mine.localhost:7878|sec-fetch-site: same-origin",
            "origin: http://api.mine.localhost:7878|sec-fetch-site: same-site",
            "origin: http://mine.localhost:7878",
        ] {
            assert!(allowed(Method::GET, fields) && allowed(Method::POST, fields), "{fields}");
        }
        assert!(allowed(Method::GET, OPENED), "a link");
        assert!(allowed(Method::GET, &format!("origin: null|{OPENED}")), "a link after redirects");
        assert!(
            allowed(Method::POST, &format!("origin: https://login.example.com|{OPENED}")),
            "a login's form"
        );
    }

    #[test]
    fn others_pages_may_not() {
        for fields in [
            "origin: http://web.other.localhost:7878",
            "origin: http://web.other.localhost:7878|sec-fetch-site: same-origin",
            "origin: http://web.mine.localhost:9999",
            "origin: https://web.mine.localhost:7878",
            "origin: http://xmine.localhost:7878",
            "origin: http://mine.localhost.evil.com:7878",
            "origin: http://localhost:3000",
            "origin: http://127.0.0.1:20000",
            "origin: http://[::1]:20000",
            "origin: http://machine:20000",
            "origin: null",
            "origin: nonsense",
            "origin: https://evil.com",
            "origin: https://evil.com|sec-fetch-site: cross-site|sec-fetch-mode: websocket",
            "sec-fetch-site: cross-site|sec-fetch-mode: no-cors|sec-fetch-dest: script",
            "sec-fetch-site: cross-site|sec-fetch-mode: no-cors|sec-fetch-dest: image",
            "sec-fetch-site: cross-site|sec-fetch-mode: navigate|sec-fetch-dest: iframe",
            "sec-fetch-site: cross-site",
        ] {
            assert!(!allowed(Method::GET, fields), "{fields}");
        }
        assert!(!allowed(Method::POST, &format!("origin: http://web.other.localhost:7878|{OPENED}")));
        assert!(!allowed(Method::POST, &format!("origin: null|{OPENED}")));
        assert!(!allowed(Method::POST, OPENED));
    }
}
