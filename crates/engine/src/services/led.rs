//! Ports of `localhost` inside an environment that lead to a service's own, as compose files have them: `"5433:5432"`.
//!
//! Bytes go through this process, which holds the listener that the sandbox handed out; nothing of it can be reached
//! from elsewhere.

use std::{net::Ipv4Addr, sync::Arc};

use offshoot_core::problem::{Problem, chain};
use offshoot_environment::{lease::Terms, sandbox::Sandbox, service::plan::Plan};
use offshoot_gateway::{Dial, Forward, ForwardLimits, Later, Reason, Unavailable};
use offshoot_sandbox::{Listener, ListenerKind};
use tokio::net::TcpStream;

/// Where a port leads.
struct Way {
    sandbox: Sandbox,
    address: Ipv4Addr,
    port: u16,
}

impl Dial for Way {
    fn dial(&self) -> Later<'_, TcpStream> {
        Box::pin(async move {
            let failed = |text: String| Unavailable::new(Reason::NotListening, text);
            let dialled = self.sandbox.dial(self.address.into(), self.port).await;
            let stream = std::net::TcpStream::from(dialled.map_err(|e| failed(chain(&e)))?);
            stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream))
                .map_err(|e| failed(e.to_string()))
        })
    }

    fn used(&self) -> Later<'_, ()> {
        // Both ends are inside: that they talk keeps nothing awake.
        Box::pin(async { Ok(()) })
    }
}

/// Opens the ways to an environment's services; hands the other listeners back.
pub(crate) fn lead_to_services(
    sandbox: &Sandbox,
    terms: &Terms,
    listeners: Vec<Listener>,
) -> Result<(Vec<Forward>, Vec<Listener>), Problem> {
    let (mut ways, mut others) = (Vec::new(), Vec::new());
    for listener in listeners {
        let leads = |plan: &Plan| {
            plan.led().find_map(|(at, port)| {
                let kind = ListenerKind::Served { address: *at.ip(), port: at.port() };
                (listener.kind == kind).then_some((plan.address, port))
            })
        };
        let Some((address, port)) = terms.services.iter().find_map(leads) else {
            others.push(listener);
            continue;
        };
        let way = Arc::new(Way { sandbox: sandbox.clone(), address, port });
        let way = Forward::serve(std::net::TcpListener::from(listener.fd), way, ForwardLimits::default());
        ways.push(way.map_err(|e| Problem::internal("could not lead to a service", &e))?);
    }
    Ok((ways, others))
}
