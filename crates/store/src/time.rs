//! Converts times to the type of PostgreSQL's client.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Converts milliseconds since 1970 UTC.
pub(super) fn time(millis: i64) -> SystemTime {
    let span = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { UNIX_EPOCH - span } else { UNIX_EPOCH + span }
}
