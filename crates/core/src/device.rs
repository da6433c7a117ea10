//! The shapes of the API that let a browser in: one-time addresses, the devices that used one, and how they are sent away.
//!
//! A device is a browser with a session cookie: that of this machine, or one that was paired.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// How the names of session cookies begin, before the port; over TLS behind [`SECURE_COOKIE`]. Whoever passes a browser's
/// requests on into an environment leaves them out.
pub const SESSION_COOKIE: &str = "offshoot-";
/// What browsers take only from the host itself, over TLS.
pub const SECURE_COOKIE: &str = "__Host-";

/// `POST /v1/dashboard`, over the Unix socket only: an address that lets a browser of this machine in, once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DashboardParams {}

/// `POST /v1/devices`, over the Unix socket only: an address that pairs a device, once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PairParams {
    /// What the device is to be called: 1 to 40 printable characters; `phone` if not named. A number is added to one that
    /// is taken.
    pub name: Option<String>,
    /// The address of this machine in its network at which to listen, with TLS; the one that leads to other networks if
    /// not named.
    pub address: Option<String>,
    /// In place of an address: where the user's own tunnel to this machine begins, as in `https://my.tunnel`.
    pub url: Option<String>,
}

/// An address that lets one browser in. It holds the code in its fragment, which browsers never send.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginView {
    /// What to open: `http://localhost:7870/login#code=…`
    pub url: String,
    /// Until when.
    pub expires_at: Timestamp,
    /// SHA-256 of the certificate that the browser will be shown, as in `AB:CD:…`, where it is Offshoot's own.
    pub fingerprint: Option<String>,
}

impl std::fmt::Debug for LoginView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It holds the code.
        f.write_str("LoginView(…)")
    }
}

/// `POST /v1/session`: the code becomes a session, named by a cookie.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginParams {
    /// What stood in the fragment.
    pub code: String,
}

/// `GET /v1/devices`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceList {
    /// Those that are let in, the one used last first.
    pub devices: Vec<DeviceView>,
    /// Where browsers of this machine find the dashboard, if it is open.
    pub local: Option<String>,
    /// Where devices of the network find it, if it is open there.
    pub network: Option<String>,
    /// SHA-256 of the certificate shown there.
    pub fingerprint: Option<String>,
}

/// A browser that is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it comes to: its session is good for this address only.
    pub address: String,
    /// Since when.
    pub since: Timestamp,
    /// When it last asked for something, to the hour.
    pub last_seen_at: Timestamp,
    /// Whether it is the one that asks now.
    pub current: bool,
}
