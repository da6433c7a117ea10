//! Who is let in besides the owner at the Unix socket: one-time codes, the devices that used one, their sessions.
//!
//! Invariants: a code works once, for a while, at the host it was made for; a session works at that host only, until its device is
//! sent away or has not been used for long; of both only digests are kept. A device that is sent away loses its
//! connections with that, streams and WebSockets among them. Times come in as data.
//!
//! Bounded: [`MAX_CODES`], [`MAX_DEVICES`], [`MAX_WRONG`] wrong codes of an address in [`WRONG_TIME`], [`MAX_PEERS`] addresses
//! remembered for it.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use offshoot_core::{
    device::DeviceView,
    problem::{Problem, ProblemKind},
    time::Timestamp,
};

use super::{
    remembered::{Device, Network, Remembered, RememberedFile},
    secret,
    site::Site,
};
use crate::{answer::Refusal, listen::Connection};

/// Codes that wait at a time; the oldest gives way.
const MAX_CODES: usize = 16;
/// Devices; the one that was not used for longest gives way. Far more than a person has.
const MAX_DEVICES: usize = 64;
/// Wrong codes of one address within [`WRONG_TIME`]. A person mistypes none of them; nobody guesses 256 bits, but what knocks
/// at a port of the network need not be answered at full speed.
const MAX_WRONG: u32 = 5;
const WRONG_TIME: u64 = 60_000;
/// Addresses whose wrong codes are counted; with more, counting begins anew.
const MAX_PEERS: usize = 1024;
/// After how long without use a device is forgotten if nobody says otherwise.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);
/// How exactly last use is kept: each step is a write.
const SEEN_STEP: u64 = 3_600_000;
/// Longest name of a device, in characters.
const MAX_NAME: usize = 40;

/// Who is let in.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: RememberedFile,
    forget_after: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    remembered: Remembered,
    codes: Vec<Code>,
    wrong: HashMap<IpAddr, (u32, Timestamp)>,
    /// Connections that devices came by, to be cut with them.
    connections: HashMap<String, Vec<Connection>>,
}

#[derive(Debug)]
struct Code {
    digest: String,
    name: String,
    site: Site,
    expires_at: Timestamp,
}

/// A session that begins.
pub(crate) struct Begun {
    /// Whose it is.
    pub device: DeviceView,
    /// What its cookie holds.
    pub secret: String,
}

impl Access {
    /// As `file` remembers it.
    pub fn open(file: PathBuf, forget_after: Option<Duration>) -> Self {
        let file = RememberedFile::new(file);
        let state = State {
            remembered: file.read(),
            codes: Vec::new(),
            wrong: HashMap::new(),
            connections: HashMap::new(),
        };
        Self(Arc::new(Inner {
            file,
            forget_after: forget_after.unwrap_or(FORGET_AFTER),
            state: Mutex::new(state),
        }))
    }

    /// A code that lets one browser in at `site`, as a device of this name, within `time`.
    pub fn offer(
        &self,
        name: &str,
        site: &Site,
        now: Timestamp,
        time: Duration,
    ) -> Result<(String, Timestamp), Problem> {
        let code = secret::secret().map_err(|e| Problem::internal("cannot make a code", &e))?;
        let expires_at = later(now, time);
        let mut state = self.lock();
        state.codes.retain(|code| code.expires_at > now);
        if state.codes.len() >= MAX_CODES {
            state.codes.remove(0);
        }
        state.codes.push(Code {
            digest: secret::digest(&code),
            name: name.to_owned(),
            site: site.clone(),
            expires_at,
        });
        Ok((code, expires_at))
    }

    /// Makes a code a session. A browser that has one already (`before`, the secret of its cookie) keeps its device.
    pub(crate) fn redeem(
        &self,
        code: &str,
        site: &Site,
        peer: IpAddr,
        before: &[&str],
        now: Timestamp,
    ) -> Result<Begun, Refusal> {
        let mut state = self.lock();
        if state
            .wrong
            .get(&peer)
            .is_some_and(|(count, since)| *count >= MAX_WRONG && now.since(*since) < WRONG_TIME)
        {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_codes",
                "too many wrong codes; wait a minute",
            ));
        }
        let digest = secret::digest(code);
        state.codes.retain(|code| code.expires_at > now);
        let found = state
            .codes
            .iter()
            .position(|code| secret::same(code.digest.as_bytes(), digest.as_bytes()) && code.site == *site);
        let Some(found) = found else {
            if state.wrong.len() >= MAX_PEERS {
                state.wrong.clear();
            }
            let wrong = state.wrong.entry(peer).or_insert((0, now));
            if now.since(wrong.1) >= WRONG_TIME {
                *wrong = (0, now);
            }
            wrong.0 += 1;
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "code_refused",
                "this code was used already, or is too old, or was never one",
            )
            .hint("ask for another: offshoot dashboard, or offshoot pair"));
        };
        let code = state.codes.remove(found);
        let secret = secret::secret().map_err(|e| Problem::internal("cannot make a session", &e))?;
        let digest = secret::digest(&secret);
        let known = position(&state.remembered, site, before, now, self.0.forget_after);
        let device = match known.and_then(|at| state.remembered.devices.get_mut(at)) {
            Some(device) => {
                // The secret is a new one each time, so one that was seen somewhere ends here.
                device.digest = digest;
                device.seen = now;
                device.clone()
            }
            None => {
                let device = Device {
                    id: secret::id().map_err(|e| Problem::internal("cannot make a device", &e))?,
                    name: free_name(&state.remembered.devices, &code.name),
                    host: site.host().to_owned(),
                    tls: site.is_tls(),
                    digest,
                    since: now,
                    seen: now,
                };
                self.make_room(&mut state, now);
                state.remembered.devices.push(device.clone());
                device
            }
        };
        self.write(&state.remembered)?;
        tracing::info!(device = device.name, host = device.host, %peer, "a browser logged in");
        Ok(Begun { device: view(&device, Some(&device.id)), secret })
    }

    /// [`Self::redeem`], for a browser of this machine without a session: the device and the secret.
    pub fn begin(&self, code: &str, site: &Site, now: Timestamp) -> Result<(String, String), Refusal> {
        let begun = self.redeem(code, site, IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), &[], now)?;
        Ok((begun.device.id, begun.secret))
    }

    /// The device that one of these secrets belongs to, at this site. It counts as used.
    pub(crate) fn session(&self, site: &Site, secrets: &[&str], now: Timestamp) -> Option<String> {
        let mut state = self.lock();
        let at = position(&state.remembered, site, secrets, now, self.0.forget_after)?;
        let device = state.remembered.devices.get_mut(at)?;
        let id = device.id.clone();
        if now.since(device.seen) >= SEEN_STEP {
            device.seen = now;
            if let Err(problem) = self.write(&state.remembered) {
                tracing::warn!("{problem}");
            }
        }
        Some(id)
    }

    /// Has a connection cut when its device is sent away. `false` if that has happened by now.
    pub(crate) fn bind(&self, device: &str, connection: &Connection) -> bool {
        let mut state = self.lock();
        if !state.remembered.devices.iter().any(|known| known.id == device) {
            return false;
        }
        let connections = state.connections.entry(device.to_owned()).or_default();
        connections.retain(|known| !known.is_over());
        connections.push(connection.clone());
        true
    }

    /// All devices, the one used last first.
    pub(crate) fn devices(&self, current: Option<&str>, now: Timestamp) -> Vec<DeviceView> {
        let mut state = self.lock();
        self.forget(&mut state, now);
        let mut devices = state.remembered.devices.clone();
        devices.sort_by_key(|device| std::cmp::Reverse(device.seen));
        devices.iter().map(|device| view(device, current)).collect()
    }

    /// Sends a device away, by its name or id, and cuts its connections, but the one that asks for it: it hears the answer,
    /// and is refused from then on.
    pub fn revoke(&self, wanted: &str, by: Option<&Connection>) -> Result<DeviceView, Problem> {
        let mut state = self.lock();
        let known = |device: &Device| device.id == wanted || device.name == wanted;
        let at = state.remembered.devices.iter().position(known).ok_or_else(|| {
            Problem::new(ProblemKind::NotFound, "no_such_device", format!("there is no device {wanted:?}"))
                .hint("offshoot devices lists them")
        })?;
        let device = state.remembered.devices.remove(at);
        if let Some(connections) = state.connections.get_mut(&device.id) {
            connections.retain(|known| !by.is_some_and(|by| known.is(by)));
        }
        cut(&mut state, &device.id);
        tracing::info!(device = device.name, "a device was sent away");
        // If it cannot be written it would be back with the next daemon, so whoever asked must know.
        self.write(&state.remembered)?;
        Ok(view(&device, None))
    }

    /// Whether a device comes to this site, or one may that has a code for it.
    pub(crate) fn is_wanted(&self, site: &Site, now: Timestamp) -> bool {
        let state = self.lock();
        let mut devices = state.remembered.devices.iter();
        devices.any(|device| device.host == site.host() && device.tls == site.is_tls())
            || state.codes.iter().any(|code| code.site == *site && code.expires_at > now)
    }

    /// The hosts of tunnels, as they stand in `Host`.
    pub(crate) fn tunnels(&self) -> Vec<String> {
        self.lock().remembered.tunnels.clone()
    }

    /// Adds one, which counts as long as a device comes by it.
    pub(crate) fn add_tunnel(&self, host: &str) -> Result<(), Problem> {
        self.change(|remembered| {
            let used = |host: &String| remembered.devices.iter().any(|device| device.host == *host);
            remembered.tunnels.retain(used);
            remembered.tunnels.push(host.to_owned());
        })
    }

    /// The port of the loopback that was opened last time.
    pub(crate) fn port(&self) -> Option<u16> {
        self.lock().remembered.port
    }

    /// Has the next daemon open the same.
    pub(crate) fn keep_port(&self, port: u16) -> Result<(), Problem> {
        self.change(|remembered| remembered.port = Some(port))
    }

    /// Where the network was listened to last time.
    pub(crate) fn network(&self) -> Option<Network> {
        self.lock().remembered.network.clone()
    }

    /// Has the next daemon listen there, too.
    pub(crate) fn keep_network(&self, network: Network) -> Result<(), Problem> {
        self.change(|remembered| remembered.network = Some(network))
    }

    fn change(&self, how: impl FnOnce(&mut Remembered)) -> Result<(), Problem> {
        let mut state = self.lock();
        how(&mut state.remembered);
        self.write(&state.remembered)
    }

    fn write(&self, remembered: &Remembered) -> Result<(), Problem> {
        self.0.file.write(remembered).map_err(|error: io::Error| {
            Problem::new(
                ProblemKind::Unavailable,
                "state_dir_unusable",
                format!("cannot remember devices: {error}"),
            )
            .hint("is the disk full, or the state directory read-only?")
        })
    }

    fn make_room(&self, state: &mut State, now: Timestamp) {
        self.forget(state, now);
        while state.remembered.devices.len() >= MAX_DEVICES {
            let oldest = state.remembered.devices.iter().enumerate().min_by_key(|(_, device)| device.seen);
            let Some(at) = oldest.map(|(at, _)| at) else { return };
            let device = state.remembered.devices.remove(at);
            cut(state, &device.id);
        }
    }

    fn forget(&self, state: &mut State, now: Timestamp) {
        let limit = self.0.forget_after;
        state.remembered.devices.retain(|device| is_fresh(device, now, limit));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(state: &mut State, device: &str) {
    for connection in state.connections.remove(device).into_iter().flatten() {
        connection.cut();
    }
}

fn position(
    remembered: &Remembered,
    site: &Site,
    secrets: &[&str],
    now: Timestamp,
    limit: Duration,
) -> Option<usize> {
    let digests: Vec<String> = secrets.iter().map(|secret| secret::digest(secret)).collect();
    remembered.devices.iter().position(|device| {
        device.host == site.host()
            && device.tls == site.is_tls()
            && is_fresh(device, now, limit)
            && digests.iter().any(|digest| secret::same(digest.as_bytes(), device.digest.as_bytes()))
    })
}

fn is_fresh(device: &Device, now: Timestamp, limit: Duration) -> bool {
    u128::from(now.since(device.seen)) <= limit.as_millis()
}

fn later(now: Timestamp, time: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

fn view(device: &Device, current: Option<&str>) -> DeviceView {
    DeviceView {
        id: device.id.clone(),
        name: device.name.clone(),
        address: format!("{}://{}", if device.tls { "https" } else { "http" }, device.host),
        since: device.since,
        last_seen_at: device.seen,
        current: current == Some(device.id.as_str()),
    }
}

/// A device's name as it is kept.
pub(crate) fn device_name(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_NAME || text.chars().any(|c| c.is_control() || c == '/')
    {
        return Err(Problem::new(
            ProblemKind::Invalid,
            "name_invalid",
            format!("a device's name has 1 to {MAX_NAME} printable characters, no slash"),
        ));
    }
    Ok(text.to_owned())
}

fn free_name(devices: &[Device], wanted: &str) -> String {
    let taken = |name: &str| devices.iter().any(|device| device.name == name);
    let numbered = (2..).map(|number| format!("{wanted}-{number}"));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}
