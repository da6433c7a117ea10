//! The certificate that devices of the network are shown: made by this machine for one of its addresses, signed by nobody
//! else. Who pairs a device compares its fingerprint.

use std::{net::IpAddr, sync::Arc, time::Duration};

use offshoot_core::time::Timestamp;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio_rustls::TlsAcceptor;

use super::{remembered::Network, secret::hex};

/// For how long it is good: the longest that phones take.
const GOOD: Duration = Duration::from_secs(825 * 24 * 3600);
/// How long before its end a pairing makes a new one.
const RENEWED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why there is no certificate to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// It cannot be made.
    #[error("cannot make a certificate for {address}")]
    Make {
        /// For which address.
        address: IpAddr,
        /// Why.
        source: rcgen::Error,
    },
    /// What was kept is none.
    #[error("the certificate that was kept is damaged")]
    Damaged,
    /// It cannot be used.
    #[error("cannot use the certificate")]
    Use(#[source] rustls::Error),
}

/// A new one, with where it is shown.
pub(crate) fn make(address: IpAddr, port: u16, now: Timestamp) -> Result<Network, CertificateError> {
    let made = || {
        let key = KeyPair::generate()?;
        let mut wanted = CertificateParams::new(vec![address.to_string()])?;
        wanted.distinguished_name.push(DnType::CommonName, "Offshoot");
        wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let today = OffsetDateTime::now_utc();
        // Clocks of phones differ.
        wanted.not_before = today - Duration::from_secs(24 * 3600);
        wanted.not_after = wanted.not_before + GOOD;
        Ok((wanted.self_signed(&key)?, key))
    };
    let (certificate, key) = made().map_err(|source| CertificateError::Make { address, source })?;
    Ok(Network {
        address,
        port,
        made_at: now,
        certificate: hex(certificate.der()),
        key: hex(&key.serialize_der()),
    })
}

/// Whether it can be shown to one more device.
pub(crate) fn is_good(network: &Network, now: Timestamp) -> bool {
    u128::from(now.since(network.made_at)) < (GOOD - RENEWED).as_millis() && acceptor(network).is_ok()
}

/// What makes connections TLS with it.
pub(crate) fn acceptor(network: &Network) -> Result<TlsAcceptor, CertificateError> {
    let certificate = CertificateDer::from(unhex(&network.certificate)?);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(unhex(&network.key)?));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(CertificateError::Use)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// SHA-256 of it, as browsers show it.
pub(crate) fn fingerprint(network: &Network) -> String {
    let digest = Sha256::digest(unhex(&network.certificate).unwrap_or_default());
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn unhex(text: &str) -> Result<Vec<u8>, CertificateError> {
    let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(|at| byte(at).ok_or(CertificateError::Damaged)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_made_can_be_used_and_grows_old() {
        let now = Timestamp(1_000_000);
        let network = make("192.168.1.5".parse().unwrap(), 7443, now).unwrap();
        assert!(is_good(&network, now));
        assert!(!is_good(&network, Timestamp(now.0 + 800 * 24 * 3_600_000)));
        assert_eq!(fingerprint(&network).len(), 32 * 3 - 1);
        let damaged = Network { certificate: "zz".to_owned(), ..network };
        assert!(!is_good(&damaged, now));
    }
}
