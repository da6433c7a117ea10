//! The API of browsers: addresses that let one in, logging in and out, devices.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use offshoot_core::{
    device::{DashboardParams, DeviceList, DeviceView, LoginParams, LoginView, PairParams},
    problem::{Problem, ProblemKind},
};

use super::{access::device_name, site::Site};
use crate::{
    answer::{Answer, Body, Refusal},
    guard::{Caller, cookies, now},
    listen::Connection,
    routes::App,
};

/// For a browser to start and load a page.
const OPEN_TIME: Duration = Duration::from_secs(60);
/// For a person to take out a phone, point it at a code, and look at a certificate.
const PAIR_TIME: Duration = Duration::from_secs(5 * 60);
/// Until when a browser keeps the cookie: as long as browsers keep any. The daemon decides how long the session is good.
const COOKIE_TIME: u64 = 400 * 24 * 3600;

/// An address that lets a browser of this machine in, once, within a minute. Over the Unix socket only.
#[utoipa::path(post, path = "/v1/dashboard", operation_id = "dashboard_open", tag = "dashboard",
    request_body = DashboardParams, responses((status = 200, body = LoginView)))]
pub(crate) async fn open(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(_): Body<DashboardParams>,
) -> Answer<LoginView> {
    owner_only(&caller)?;
    let site = app.listeners.local().await?;
    offer(&app, "browser", &site, OPEN_TIME, None)
}

/// An address that pairs a device, once, within five minutes. Over the Unix socket only.
#[utoipa::path(post, path = "/v1/devices", operation_id = "device_pair", tag = "dashboard",
    request_body = PairParams, responses((status = 200, body = LoginView)))]
pub(crate) async fn pair(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(params): Body<PairParams>,
) -> Answer<LoginView> {
    owner_only(&caller)?;
    // Before anything is opened for it.
    let name = device_name(params.name.as_deref().unwrap_or("phone"))?;
    if let Some(url) = &params.url {
        if params.address.is_some() {
            return Err(Problem::new(
                ProblemKind::Invalid,
                "pair_invalid",
                "give an address or a URL, not both",
            )
            .into());
        }
        let host = tunnel_host(url)?;
        // What a tunnel leads to.
        app.listeners.local().await?;
        app.access.add_tunnel(&host)?;
        return offer(&app, &name, &Site::tls(host), PAIR_TIME, None);
    }
    let address = params.address.as_deref().map(|text| {
        text.parse().map_err(|_| {
            Problem::new(ProblemKind::Invalid, "address_invalid", format!("{text:?} is not an IP address"))
        })
    });
    let (site, fingerprint) = app.listeners.network(address.transpose()?).await?;
    offer(&app, &name, &site, PAIR_TIME, Some(fingerprint))
}

fn offer(
    app: &App,
    name: &str,
    site: &Site,
    time: Duration,
    fingerprint: Option<String>,
) -> Answer<LoginView> {
    let (code, expires_at) = app.access.offer(name, site, now(), time)?;
    Ok(Json(LoginView { url: format!("{}/login#code={code}", site.origin()), expires_at, fingerprint }))
}

/// Makes a code a session: the answer sets its cookie. Needs no session, but `Origin`.
#[utoipa::path(post, path = "/v1/session", operation_id = "session_begin", tag = "dashboard",
    request_body = LoginParams, responses((status = 200, body = DeviceView)))]
pub(crate) async fn log_in(
    State(app): State<App>,
    Extension(connection): Extension<Connection>,
    site: Option<Extension<Site>>,
    headers: HeaderMap,
    Body(params): Body<LoginParams>,
) -> Result<Response, Refusal> {
    let Some(Extension(site)) = site else {
        return Err(Problem::new(
            ProblemKind::Invalid,
            "session_needless",
            "over the Unix socket nobody needs a session",
        )
        .into());
    };
    let before = cookies(&headers, &site.cookie());
    let begun = app.access.redeem(&params.code, &site, connection.address(), &before, now())?;
    with_cookie(&site.set_cookie(&begun.secret, COOKIE_TIME), Json(begun.device))
}

/// Ends the session that asks.
#[utoipa::path(post, path = "/v1/session/end", operation_id = "session_end", tag = "dashboard",
    responses((status = 200, body = DeviceView)))]
pub(crate) async fn log_out(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Extension(connection): Extension<Connection>,
    site: Option<Extension<Site>>,
) -> Result<Response, Refusal> {
    let (Caller::Device(device), Some(Extension(site))) = (&caller, site) else {
        return Err(Problem::new(ProblemKind::Invalid, "no_session", "what asks has no session").into());
    };
    let ended = app.access.revoke(device, Some(&connection))?;
    app.listeners.close_unwanted();
    with_cookie(&site.set_cookie("", 0), Json(ended))
}

/// The browsers that are let in, and where they come to.
#[utoipa::path(get, path = "/v1/devices", operation_id = "devices_list", tag = "dashboard",
    responses((status = 200, body = DeviceList)))]
pub(crate) async fn devices(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Json<DeviceList> {
    let current = match &caller {
        Caller::Device(id) => Some(id.as_str()),
        _ => None,
    };
    let (network, fingerprint) = app.listeners.network_site().unzip();
    Json(DeviceList {
        devices: app.access.devices(current, now()),
        local: app.listeners.local_site().map(|site| site.origin()),
        network: network.map(|site| site.origin()),
        fingerprint,
    })
}

/// Sends a device away: its session is over, and its streams and terminals are cut.
#[utoipa::path(post, path = "/v1/devices/{device}/revoke", operation_id = "device_revoke", tag = "dashboard",
    params(("device" = String, Path, description = "Its name or id")),
    responses((status = 200, body = DeviceView)))]
pub(crate) async fn revoke(
    State(app): State<App>,
    Extension(connection): Extension<Connection>,
    Path(device): Path<String>,
) -> Answer<DeviceView> {
    let gone = app.access.revoke(&device, Some(&connection))?;
    app.listeners.close_unwanted();
    Ok(Json(gone))
}

fn owner_only(caller: &Caller) -> Result<(), Refusal> {
    if *caller == Caller::Owner {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "owner_only",
        "whom to let in is said over the Unix socket only: offshoot dashboard, offshoot pair",
    ))
}

fn with_cookie(cookie: &str, answer: impl IntoResponse) -> Result<Response, Refusal> {
    let value = HeaderValue::from_str(cookie).map_err(|e| Problem::internal("cannot write a cookie", &e))?;
    let mut response = answer.into_response();
    response.headers_mut().insert(header::SET_COOKIE, value);
    Ok(response)
}

/// The host of a tunnel, as browsers write it.
fn tunnel_host(url: &str) -> Result<String, Problem> {
    let invalid = || {
        Problem::new(ProblemKind::Invalid, "url_invalid", format!("{url:?} is not where a tunnel begins"))
            .hint("as in https://my.tunnel: https, a host name, no path")
    };
    let host = url.strip_prefix("https://").ok_or_else(invalid)?;
    let host = host.strip_suffix('/').unwrap_or(host).to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let (name, port) = host.split_once(':').unwrap_or((host, "1"));
    let labels = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    // A name of this machine's is no tunnel's: what else listens on it would be taken for one.
    let local =
        name == "localhost" || name.ends_with(".localhost") || name.parse::<std::net::IpAddr>().is_ok();
    if !labels || local || host.len() > 260 || port.parse::<u16>().is_err() {
        return Err(invalid());
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_have_names() {
        for (url, host) in [
            ("https://my.tunnel", "my.tunnel"),
            ("https://My.Tunnel:443/", "my.tunnel"),
            ("https://box.tail1234.ts.net:8443", "box.tail1234.ts.net:8443"),
        ] {
            assert_eq!(tunnel_host(url).unwrap(), host);
        }
        for url in [
            "http://my.tunnel",
            "my.tunnel",
            "https://",
            "https://my.tunnel/path",
            "https://user@my.tunnel",
            "https://my.tunnel:x",
            "https://localhost:7870",
            "https://web.task.localhost",
            "https://127.0.0.1",
            "https://my..tunnel",
            "https://my.tunnel?x",
        ] {
            assert!(tunnel_host(url).is_err(), "{url}");
        }
    }
}
