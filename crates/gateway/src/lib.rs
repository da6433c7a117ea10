//! What crosses the boundary: outwards the egress proxy of each run, inwards previews and forwarded ports.
//!
//! | file | what |
//! |---|---|
//! | `egress` | a run's proxy: listeners in, connections served, everything ended when it is dropped |
//! | `egress/policy` | which host and port a connection may go to |
//! | `egress/hold` | connections that wait until somebody says whether they may go on |
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
//! | `preview` | the reverse proxy to apps inside, by host name |
//! | `preview/name` | which app of which task a request is for |
//! | `preview/framing` | whether requests have one meaning, by their bytes |
//! | `preview/wire` | a connection whose bytes are looked at so |
//! | `preview/origin` | whose page may ask for something |
//! | `preview/head` | what of a message's head is passed on |
//! | `preview/request` | one connection from a browser |
//! | `preview/upstream` | its connections to apps |
//! | `preview/page` | the proxy's own pages |
//! | `preview/refusal` | why a request gets no answer from an app |
//! | `door` | the way to one shared server, as one guest of it |
//! | `forward` | a port of this machine that leads inside |
//! | `pass` | bytes between two connections |
//! | `accept` | accepting, bounded |

mod accept;
mod door;
mod egress;
mod forward;
mod pass;
mod preview;

pub use accept::ServeError as ListenError;
pub use door::{Door, Guest};
pub use egress::{
    Egress, EgressPolicy, Limits, Listener, ListenerKind, Options, ServeError,
    dial::{Resolve, Resolver, SystemResolver},
    hold::{Ask, Asked, Said},
    report::{EgressEvent, Sink},
    upstream::{UpstreamProxy, UpstreamProxyError},
};
pub use forward::{Dial, Forward, ForwardLimits};
pub use preview::{
    Destinations, Later, Limits as PreviewLimits, Listed, Preview, PreviewName, Reason, Unavailable,
};

#[cfg(fuzzing)]
#[doc(hidden)]
pub use preview::heads;

#[doc(hidden)]
pub use egress::hello::{Hello, read as read_hello};
