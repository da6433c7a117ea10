//! What the daemon hears: each connection to the outside when it ends, each refusal when it happens.
//!
//! Bounded: an inside that dials as fast as it can makes [`BURST`] events and then [`PER_SECOND`]; what is left out is
//! counted. The sink is called in the connection's own task and must not block.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{Totals, policy::Destination, refusal::Refusal};

/// Events that may come at once: the connections that a package manager opens.
const BURST: f64 = 100.0;
/// Events a second after that: more is read by nobody.
const PER_SECOND: f64 = 10.0;

/// Who hears.
pub type Sink = Arc<dyn Fn(EgressEvent) + Send + Sync>;

/// What happened at the boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EgressEvent {
    /// A connection to an allowed host has ended.
    Allowed {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Bytes sent to it.
        up: u64,
        /// Bytes received from it.
        down: u64,
        /// How long it lasted, in milliseconds.
        took_ms: u64,
        /// Events left out since the one before.
        left_out: u64,
    },
    /// A connection was refused, or could not be made.
    Refused {
        /// What was asked for, bounded and escaped; empty if it had no name.
        host: String,
        /// The port, where it is known.
        port: Option<u16>,
        /// A stable word: `not-listed`, `port-not-listed`, `private-address` …
        code: &'static str,
        /// Why, for people and models.
        reason: String,
        /// Whether the allow-list is the reason, and not the network.
        policy: bool,
        /// Events left out since the one before.
        left_out: u64,
    },
}

pub(crate) struct Reporter {
    sink: Sink,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
    left_out: u64,
}

impl Reporter {
    pub(crate) fn new(sink: Sink) -> Self {
        Self { sink, bucket: Mutex::new(Bucket { tokens: BURST, filled: Instant::now(), left_out: 0 }) }
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        if refusal.is_known() {
            return;
        }
        let Some(left_out) = self.admit() else { return };
        let (host, port) = refusal.about();
        (self.sink)(EgressEvent::Refused {
            host,
            port,
            code: refusal.code(),
            reason: refusal.to_string(),
            policy: refusal.is_policy(),
            left_out,
        });
    }

    /// How many events were left out since the last one that was not; `None` if this one is to be left out too.
    fn admit(&self) -> Option<u64> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let gained = now.duration_since(bucket.filled).as_secs_f64() * PER_SECOND;
        bucket.tokens = (bucket.tokens + gained).min(BURST);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            bucket.left_out += 1;
            return None;
        }
        bucket.tokens -= 1.0;
        Some(std::mem::take(&mut bucket.left_out))
    }
}

/// What moved in one connection to the outside; reported when it is dropped, however it ended.
pub(crate) struct Traffic {
    destination: Destination,
    reporter: Arc<Reporter>,
    totals: Arc<Totals>,
    start: Instant,
    up: AtomicU64,
    down: AtomicU64,
}

impl Traffic {
    pub(crate) fn new(destination: Destination, reporter: Arc<Reporter>, totals: Arc<Totals>) -> Arc<Self> {
        let (up, down) = Default::default();
        Arc::new(Self { destination, reporter, totals, start: Instant::now(), up, down })
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.up.fetch_add(bytes, Ordering::Relaxed);
        self.totals.up.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.down.fetch_add(bytes, Ordering::Relaxed);
        self.totals.down.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic").field("destination", &self.destination).finish_non_exhaustive()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let Some(left_out) = self.reporter.admit() else { return };
        (self.reporter.sink)(EgressEvent::Allowed {
            host: self.destination.name.to_string(),
            port: self.destination.port,
            up: self.up.load(Ordering::Relaxed),
            down: self.down.load(Ordering::Relaxed),
            took_ms: u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
            left_out,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_told() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let reporter = Reporter::new(Arc::new(move |event| sink.lock().unwrap().push(event)));
        let refusal = Refusal::Address { text: "\u{1b}[31m1.2.3.4".repeat(50) };
        for _ in 0..5000 {
            reporter.refused(&refusal);
        }
        let told = told.lock().unwrap();
        assert!((100..200).contains(&told.len()), "{}", told.len());
        match &told[0] {
            EgressEvent::Refused { host, code: "address", .. } => {
                assert!(host.is_ascii() && !host.contains('\u{1b}') && host.len() < 700);
            }
            other => panic!("{other:?}"),
        }
    }
}
