//! Connections to hosts that no rule names: held while somebody is asked, or refused at once.
//!
//! Whoever is asked sees a name in its one canonical form and a port, nothing else, and nothing is resolved before the
//! answer: a question leaves no trace outside. Addresses, names that cannot be public and malformed ones are never asked
//! about; a name that is allowed and leads to a private address is refused like every other (`dial`).
//!
//! Bounded: [`super::Limits::held`] connections at a time; what is more is refused at once. How long a connection waits is
//! up to whoever is asked. One whose client hung up waits no longer.

use std::{
    future::Future,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    time::Duration,
};

use offshoot_core::egress::HostName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Shared, policy::Destination, refusal::Refusal, socket::Activity};

/// How often it is looked whether the client is still there.
const LOOK: Duration = Duration::from_secs(1);

/// What is said about a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It may be reached.
    Allowed,
    /// It may not.
    Refused {
        /// A stable word: `denied`, `unanswered`.
        code: &'static str,
        /// Who says so and why, for people and models.
        why: String,
    },
    /// Nobody is asked: it is refused because no rule names it.
    Unasked,
}

/// An answer, sooner or later.
pub type Asked<'a> = Pin<Box<dyn Future<Output = Said> + Send + 'a>>;

/// Who is asked. Dropping the future is to wait no longer.
pub trait Ask: Send + Sync {
    /// Asks whether a host that no rule names may be reached at a port.
    fn ask<'a>(&'a self, host: &'a HostName, port: u16) -> Asked<'a>;
}

impl Shared {
    /// Where a connection may go, by the rules or because somebody says so.
    pub(crate) async fn admit(
        &self,
        name: &HostName,
        port: u16,
        client: Option<BorrowedFd<'_>>,
        activity: &Activity,
    ) -> Result<Destination, Refusal> {
        let refusal = match self.policy().decide(name, port) {
            Err(refusal @ (Refusal::NotListed { .. } | Refusal::Port { .. })) if name.may_be_public() => {
                refusal
            }
            decided => return decided,
        };
        let Some(ask) = &self.options.ask else { return Err(refusal) };
        let Ok(_held) = self.held.try_acquire() else { return Err(refusal) };
        let said = tokio::select! {
            said = ask.ask(name, port) => said,
            () = hung_up(client, activity) => return Err(Refusal::HungUp { host: name.clone(), port }),
        };
        match said {
            Said::Allowed => Ok(Destination { name: name.clone(), port, host: false }),
            Said::Refused { code, why } => Err(Refusal::Denied { host: name.clone(), port, code, why }),
            Said::Unasked => Err(refusal),
        }
    }
}

/// Ends when the client is gone. Until then the connection counts as active: waiting is what it does.
async fn hung_up(client: Option<BorrowedFd<'_>>, activity: &Activity) {
    loop {
        tokio::time::sleep(LOOK).await;
        activity.touch();
        if client.is_some_and(is_hung_up) {
            return;
        }
    }
}

/// Whether the other side has ended sending. Who waits for an answer to a request and sends no more would do so, too;
/// while it is held, it counts as gone.
fn is_hung_up(client: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(client.as_fd(), PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    poll(&mut fds, Some(&now)).is_ok_and(|_| fds[0].revents().intersects(gone))
}
