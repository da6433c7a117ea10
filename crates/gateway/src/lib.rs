//! What crosses the boundary: the egress proxy of each run.
//!
//! | file | what |
//! |---|---|
//! | `egress` | a run's proxy: listeners in, connections served, everything ended when it is dropped |
//! | `egress/policy` | which host and port a connection may go to |
//! | `egress/refusal` | why one may not, in words that a model can act on |
//! | `egress/dial` | from an allowed name to a connection: resolve, check, dial what was checked |
//! | `egress/address` | which addresses are nobody's business |
//! | `egress/upstream` | the proxy that this machine itself has to use, if there is one |
//! | `egress/http` | HTTP requests, by the proxy's port or transparently |
//! | `egress/header` | what of a message's head is passed on |
//! | `egress/stream` | everything else, byte for byte |
//! | `egress/hello` | the name in a TLS ClientHello |
//! | `egress/socket` | sockets that count |
//! | `egress/report` | what the daemon hears about it |

mod egress;

pub use egress::{
    Egress, EgressPolicy, Limits, Listener, ListenerKind, Options, ServeError,
    dial::{Resolve, Resolver, SystemResolver},
    report::{EgressEvent, Sink},
    upstream::{UpstreamProxy, UpstreamProxyError},
};

#[doc(hidden)]
pub use egress::hello::{Hello, read as read_hello};
