//! What is kept of the dashboard from one daemon to the next: devices, where it listens, its certificate. One file, for its
//! owner only, replaced as a whole. ([Why it is not in the log](../../../../docs/decisions/devices-in-a-file.md).)

use std::{
    fs, io,
    io::Write,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use offshoot_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The file's content.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Remembered {
    /// The port of the loopback at which the dashboard is found; none if it was never opened.
    pub port: Option<u16>,
    /// Where it listens for devices of the network; none if none was ever paired there.
    pub network: Option<Network>,
    /// Hosts of tunnels that devices were paired through.
    pub tunnels: Vec<String>,
    /// Who is let in.
    pub devices: Vec<Device>,
}

/// A listener with TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// The address of this machine.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// When the certificate was made.
    pub made_at: Timestamp,
    /// The certificate, DER in hexadecimal digits.
    pub certificate: String,
    /// Its key, PKCS #8 in hexadecimal digits.
    pub key: String,
}

/// A browser that is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// Unique.
    pub id: String,
    /// For people; unique, too.
    pub name: String,
    /// The host, with its port, that it comes to; its session is good for no other.
    pub host: String,
    /// Whether it comes there by TLS.
    pub tls: bool,
    /// Digest of the secret in its cookie.
    pub digest: String,
    /// Since when.
    pub since: Timestamp,
    /// When it was last used, to the hour.
    pub seen: Timestamp,
}

/// The file.
#[derive(Debug)]
pub(crate) struct RememberedFile(PathBuf);

impl RememberedFile {
    /// At this path; need not exist.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// What it holds. One that cannot be read lets nobody in.
    pub(crate) fn read(&self) -> Remembered {
        let text = match fs::read(&self.0) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(
                        "cannot read {}: {error}; every browser has to log in anew",
                        self.0.display()
                    );
                }
                return Remembered::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!("{} makes no sense: {error}; every browser has to log in anew", self.0.display());
            Remembered::default()
        })
    }

    /// Replaces it.
    pub(crate) fn write(&self, remembered: &Remembered) -> io::Result<()> {
        let next = self.0.with_extension("new");
        remove(&next)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        serde_json::to_writer(&mut file, remembered)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&next, &self.0)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
