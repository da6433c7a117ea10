//! The one place where the engine asks what time it is and makes ids.

use std::time::{SystemTime, UNIX_EPOCH};

use offshoot_core::time::Timestamp;
use uuid::Uuid;

/// Now.
pub fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}

/// A new id.
pub fn id() -> Uuid {
    Uuid::now_v7()
}
