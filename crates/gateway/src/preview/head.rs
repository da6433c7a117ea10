//! What of a message's head is passed on between a browser and an app. Pure.
//!
//! The app sees the public name as its `Host`. Development servers check it against a list, and all of the common ones
//! (Vite, webpack, Next, Rails, Django) have `.localhost` on it; and with it redirects, `Origin` checks against forged
//! requests, cookies and absolute links are right without the app's knowing of any proxy. With `localhost:PORT` in
//! its place each of those would be wrong.

use std::net::IpAddr;

use hyper::{
    HeaderMap, Version,
    header::{self, HeaderName, HeaderValue},
};

use offshoot_core::device::{SECURE_COOKIE, SESSION_COOKIE};

use super::{framing, name::Asked};
use crate::egress::header::strip;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The protocol that an HTTP/1.1 request wants to go on with.
pub(crate) fn upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE).filter(|value| framing::is_upgrade(value.as_bytes()))?;
    let connection = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    (version == Version::HTTP_11 && connection).then(|| protocol.clone())
}

/// Makes a stripped head one of an upgrade again.
pub(crate) fn mark_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// A request's head as the app sees it, but for an upgrade.
pub(crate) fn request(headers: &mut HeaderMap, asked: &Asked, peer: IpAddr) {
    let trailers = headers.get(header::TE).is_some_and(|value| {
        value
            .to_str()
            .is_ok_and(|text| text.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
    });
    strip_connection(headers);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(HTTP2_SETTINGS);
    // Answered by us already: the body is asked for when the app is connected.
    headers.remove(header::EXPECT);
    headers.remove(header::FORWARDED);
    if let Ok(host) = HeaderValue::try_from(asked.authority.as_str()) {
        headers.insert(FORWARDED_HOST, host.clone());
        headers.insert(header::HOST, host);
    }
    if let Ok(peer) = HeaderValue::try_from(peer.to_string()) {
        headers.insert(FORWARDED_FOR, peer);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    // HTTP/2 may send a cookie a field, HTTP/1.1 may not (RFC 9113 section 8.2.3).
    let fields: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let ours = fields.iter().any(|field| pairs(field).any(is_session));
    if ours || fields.len() > 1 {
        let kept: Vec<&[u8]> =
            fields.iter().flat_map(|field| pairs(field)).filter(|pair| !is_session(pair)).collect();
        let joined = HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok();
        headers.remove(header::COOKIE);
        if let Some(joined) = joined.filter(|joined| !joined.is_empty()) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

/// Whether a cookie is the dashboard's own: no app is to see it, however a browser came to send it here.
fn is_session(pair: &[u8]) -> bool {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    let begins = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    begins(SESSION_COOKIE) || begins(&format!("{SECURE_COOKIE}{SESSION_COOKIE}"))
}

/// An answer's head as the browser sees it, but for an upgrade.
pub(crate) fn response(headers: &mut HeaderMap, asked: &Asked) {
    strip_connection(headers);
    // Nobody but pages of the same task embeds it, in browsers that do not say who asks, too.
    headers.entry(RESOURCE_POLICY).or_insert(HeaderValue::from_static("same-site"));
    if headers.contains_key(header::SET_COOKIE) {
        let kept: Vec<HeaderValue> =
            headers.get_all(header::SET_COOKIE).iter().map(|value| cookie(value, asked)).collect();
        headers.remove(header::SET_COOKIE);
        for value in kept {
            headers.append(header::SET_COOKIE, value);
        }
    }
}

/// Removes what concerns one connection; fields that announce trailers stay, since trailers are passed on.
fn strip_connection(headers: &mut HeaderMap) {
    let announced: Vec<HeaderValue> = headers.get_all(header::TRAILER).iter().cloned().collect();
    strip(headers);
    for value in announced {
        headers.append(header::TRAILER, value);
    }
}

/// A cookie for this host, or for this task's; a wider domain is left out, which makes it one for this host.
fn cookie(value: &HeaderValue, asked: &Asked) -> HeaderValue {
    let parts: Vec<&[u8]> = value.as_bytes().split(|byte| *byte == b';').collect();
    let is_wide = |part: &[u8]| {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let domain = halves.next().unwrap_or_default().trim_ascii();
        let domain =
            String::from_utf8_lossy(domain.strip_prefix(b".").unwrap_or(domain)).to_ascii_lowercase();
        let site = asked.site().unwrap_or_default();
        let own = domain == site || domain.ends_with(&format!(".{site}"));
        name.eq_ignore_ascii_case(b"domain") && !own
    };
    // The first part is the cookie itself, whatever it is called.
    if !parts.iter().skip(1).any(|part| is_wide(part)) {
        return value.clone();
    }
    let mut parts = parts.into_iter();
    let kept: Vec<&[u8]> = parts.next().into_iter().chain(parts.filter(|part| !is_wide(part))).collect();
    HeaderValue::from_bytes(&kept.join(&b";"[..])).unwrap_or_else(|_| value.clone())
}

#[cfg(test)]
mod tests {
    use hyper::Uri;

    use super::*;

    fn asked() -> Asked {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("web.mine.localhost:7878"));
        Asked::of(&Uri::from_static("/"), &headers).unwrap()
    }

    #[test]
    fn cookies_stay_within_the_task() {
        for (from, to) in [
            ("a=b; Path=/", "a=b; Path=/"),
            ("a=b; Domain=mine.localhost", "a=b; Domain=mine.localhost"),
            ("a=b; domain=.Mine.localhost; Secure", "a=b; domain=.Mine.localhost; Secure"),
            ("a=b; Domain=web.mine.localhost", "a=b; Domain=web.mine.localhost"),
            ("a=b; Domain=localhost; Path=/", "a=b; Path=/"),
            ("a=b;DOMAIN = .localhost;HttpOnly", "a=b;HttpOnly"),
            ("a=b; Domain=other.localhost", "a=b"),
            ("a=b; Domain=xmine.localhost", "a=b"),
            ("a=b; Domain=", "a=b"),
            ("domain=localhost; Domain=localhost", "domain=localhost"),
            ("a=b; Domain=mine.localhost; Domain=localhost", "a=b; Domain=mine.localhost"),
        ] {
            assert_eq!(cookie(&HeaderValue::from_static(from), &asked()), to, "{from}");
        }
    }

    #[test]
    fn no_app_sees_the_dashboards_session() {
        for (fields, left) in [
            (vec!["offshoot-7870=secret"], None),
            (vec!["a=b; offshoot-7870=secret; c=d"], Some("a=b; c=d")),
            (vec!["a=b", "__Host-offshoot-443=secret", "c=d;offshoot-1=x"], Some("a=b; c=d")),
            (vec!["OFFSHOOT-7870=secret;a=\"b\""], Some("a=\"b\"")),
            (vec![" offshoot-7870 = secret"], None),
            (vec!["offshoot=theirs; x-offshoot-1=theirs"], Some("offshoot=theirs; x-offshoot-1=theirs")),
            (vec!["a=b;c=d"], Some("a=b;c=d")),
        ] {
            let mut headers = HeaderMap::new();
            for field in &fields {
                headers.append(header::COOKIE, HeaderValue::from_static(field));
            }
            request(&mut headers, &asked(), IpAddr::from([127, 0, 0, 1]));
            let got: Vec<_> = headers.get_all(header::COOKIE).iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(got, Vec::from_iter(left), "{fields:?}");
        }
    }

    #[test]
    fn an_app_sees_the_public_name_and_nothing_of_the_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "web.mine.localhost:7878"),
            ("connection", "keep-alive, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "1"),
            ("te", "gzip, trailers"),
            ("trailer", "x-sum"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQ"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("expect", "100-continue"),
            ("cookie", "a=b"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.append(header::COOKIE, HeaderValue::from_static("c=d"));
        request(&mut headers, &asked(), IpAddr::from([127, 0, 0, 1]));
        let mut left: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "cookie: a=b; c=d",
                "host: web.mine.localhost:7878",
                "te: trailers",
                "trailer: x-sum",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: web.mine.localhost:7878",
                "x-forwarded-proto: http",
            ]
        );
    }
}
