//! HTTP out of this machine: one POST, bounded, followed nowhere. What is said about a failure never holds a URL, which may
//! be a secret.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::sink::SendError;

/// For all of one attempt: a service that takes longer for so little is not well.
const TIME: Duration = Duration::from_secs(10);

/// This machine's certificates, read once.
fn tls() -> TlsConfig {
    static TLS: OnceLock<TlsConfig> = OnceLock::new();
    TLS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let roots: Vec<_> =
            found.certs.iter().map(|it| Certificate::from_der(it.as_ref()).to_owned()).collect();
        TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build()
    })
    .clone()
}

/// Sends a JSON text. Blocks.
pub(crate) fn json(url: &str, token: Option<&str>, body: &str) -> Result<(), SendError> {
    let config = Agent::config_builder()
        .tls_config(tls())
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("offshoot/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(TIME))
        .build();
    let mut request = Agent::new_with_config(config).post(url).header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let status = match request.send(body) {
        Ok(response) => response.status().as_u16(),
        Err(error) => return Err(failed(&error)),
    };
    if (200..300).contains(&status) { Ok(()) } else { Err(SendError::Status(status)) }
}

fn failed(error: &ureq::Error) -> SendError {
    match error {
        ureq::Error::Timeout(_) => SendError::Timeout,
        ureq::Error::Io(error) => SendError::Unreachable(error.kind().to_string()),
        ureq::Error::HostNotFound => SendError::Unreachable("there is no such host".to_owned()),
        ureq::Error::ConnectionFailed => SendError::Unreachable("connection failed".to_owned()),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => SendError::Unreachable("TLS failed".to_owned()),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => SendError::Invalid,
        _ => SendError::Unreachable("the connection broke".to_owned()),
    }
}
