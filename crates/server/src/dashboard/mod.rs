//! How a browser reaches the daemon: over loopback TCP from this machine, over TLS from the network or through the user's
//! tunnel.
//!
//! ```text
//! page.rs        the dashboard's files and the headers of every answer
//! site.rs        a host it is found under: its origin, its cookie
//! access.rs      codes, devices, sessions: who is let in          remembered.rs  the file they are kept in
//! listeners.rs   what is listened at, opened when asked for       certificate.rs the network's certificate
//! routes.rs      the API's handlers                               secret.rs      secrets · peer.rs  whose a connection is
//! ```
//!
//! Who may ask for what is decided by [`crate::guard`].

pub(crate) mod access;
pub(crate) mod certificate;
pub(crate) mod listeners;
pub(crate) mod page;
pub(crate) mod peer;
pub(crate) mod remembered;
pub(crate) mod routes;
pub(crate) mod secret;
pub(crate) mod site;
