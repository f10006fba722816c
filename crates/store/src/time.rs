//! Converts times to and from the types of PostgreSQL's client.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Converts milliseconds since 1970 UTC.
pub(super) fn time(millis: i64) -> SystemTime {
    let span = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { UNIX_EPOCH - span } else { UNIX_EPOCH + span }
}

/// The inverse of [`time`].
pub(super) fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}
