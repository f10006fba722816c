//! Why the figures can be trusted: agreement between counters, audits, and the health of each counter.

use std::sync::LazyLock;

use super::{AGREEMENT_ROWS, about_count, array};

/// Compares the counter with others of the same log and elections.
pub static AGREEMENT: LazyLock<String> =
    LazyLock::new(|| about_count(&format!("'agreement', {}", array(AGREEMENT_ROWS))));

/// Newest first; $3: how many.
pub static AUDITS: LazyLock<String> = LazyLock::new(|| {
    let rows = array(
        "SELECT rfc3339(a.audited_at) AS audited_at, a.recounted, a.differences, a.summary
           FROM audits a WHERE a.counter = $1::text ORDER BY a.audited_at DESC LIMIT $3::int",
    );
    about_count(&format!("'audits', {rows}"))
});

/// All counters, whatever they count. Takes no parameters.
pub static HEALTH: LazyLock<String> = LazyLock::new(|| {
    let rows = array(
        "SELECT counter, counted_by, holds, waiting, idle_seconds, rfc3339(last_commit) AS last_commit, lag_growth,
                received_recently, rejected_share, rfc3339(log_seen_at) AS log_seen_at
           FROM health ORDER BY counter",
    );
    format!("SELECT json_build_object('health', {rows})::text")
});
