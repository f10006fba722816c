//! The queries of the page and the API. They read the views and the reference tables only.
//!
//! Every query takes the counter as $1 and the election as $2 (null: the one being counted) and returns one row with
//! one JSON text, so that one statement is one consistent snapshot; no row: no such election.

pub mod live;
pub mod regions;
pub mod timeline;
pub mod trust;

use std::sync::LazyLock;

/// Choices shown one by one where there is no room for all; the others are summed.
const CHOICES_SHOWN: usize = 12;

const CHOSEN: &str = "WITH e AS (
    SELECT * FROM election WHERE $2::text IS NULL OR election = $2
     ORDER BY EXISTS (SELECT FROM counters c WHERE c.counter = $1::text AND election.election = ANY (c.elections)) DESC,
              loaded_at DESC, election LIMIT 1)";

/// One object of an election: `fields` is a list for `json_build_object`, over the election `e`.
fn object(more_tables: &str, fields: &str) -> String {
    format!("{CHOSEN}{more_tables} SELECT json_build_object({fields})::text FROM e")
}

/// The rows of a query as a JSON array.
fn array(query: &str) -> String {
    format!("(SELECT coalesce(json_agg(row_to_json(x)), '[]'::json) FROM ({query}) x)")
}

/// The single row of a query as a JSON object, or null.
fn row(query: &str) -> String {
    format!("(SELECT row_to_json(x) FROM ({query}) x)")
}

const OURS: &str = "counter = $1::text AND election = e.election";

/// A view's rows for our counter and election, to join with `e`. OFFSET 0 keeps it a separate subquery, in which the
/// planner reads only our rows; a plain join would first aggregate every election.
fn ours(view: &str) -> String {
    format!("(SELECT * FROM {view} WHERE {OURS} OFFSET 0)")
}

pub static ELECTION: LazyLock<String> = LazyLock::new(|| {
    let choices = array(
        "SELECT choice, name, color, nullif(region, '') AS region FROM choice WHERE election = e.election ORDER BY place",
    );
    let regions = array(
        "SELECT region, name, registered, expected_turnout, lat, lon, grid_col, grid_row FROM region
          WHERE election = e.election ORDER BY place",
    );
    object(
        "",
        &format!(
            "'election', election, 'title', title, 'opens_at', rfc3339(opens_at), 'closes_at', rfc3339(closes_at),
             'time_zone', time_zone, 'expected_turnout', expected_turnout, 'channels', channels, 'bucket_seconds', bucket_seconds, 'fingerprint', fingerprint,
             'registered', (SELECT registered FROM electorate r WHERE r.election = e.election),
             'choices', {choices}, 'regions', {regions}"
        ),
    )
});

/// The first fields of every response about a count.
const HEAD: &str = "'counter', $1::text, 'election', election";

fn about_count(fields: &str) -> String {
    object("", &format!("{HEAD}, {fields}"))
}

pub static RESULTS: LazyLock<String> = LazyLock::new(|| {
    let results = array(&format!(
        "SELECT choice, name, color, valid, votes, share FROM results WHERE {OURS} ORDER BY valid DESC, votes DESC, place, choice"
    ));
    about_count(&format!("'results', {results}"))
});

fn turnout_row() -> String {
    row(&format!("SELECT registered, votes, valid, blank, \"null\", turnout FROM turnout WHERE {OURS}"))
}

const REJECTIONS_ROWS: &str =
    "SELECT reason, votes FROM rejections WHERE counter = $1::text ORDER BY votes DESC, reason";

pub static REJECTIONS: LazyLock<String> =
    LazyLock::new(|| about_count(&format!("'rejections', {}", array(REJECTIONS_ROWS))));

const ACCOUNTING_ROW: &str = "SELECT received, counted, rejected, gaps, tallied, rejected_by_reason, holds
   FROM accounting WHERE counter = $1::text";

pub static ACCOUNTING: LazyLock<String> = LazyLock::new(|| {
    let partitions = array(
        "SELECT partition, first_offset, next_offset, gaps, received, counted, rejected, holds, rfc3339(updated_at) AS updated_at
           FROM accounting_by_partition WHERE counter = $1::text ORDER BY partition",
    );
    about_count(&format!("'total', {}, 'partitions', {partitions}", row(ACCOUNTING_ROW)))
});

const LAG_ROW: &str = "SELECT coalesce(sum(lag), 0)::bigint AS votes, count(*) AS partitions,
        rfc3339(max(updated_at)) AS updated_at FROM lag WHERE counter = $1::text";

fn lag_partitions() -> String {
    array(
        "SELECT partition, next_offset, end_offset, lag AS votes, rfc3339(updated_at) AS updated_at
           FROM lag WHERE counter = $1::text ORDER BY partition",
    )
}

pub static LAG: LazyLock<String> =
    LazyLock::new(|| about_count(&format!("'total', {}, 'partitions', {}", row(LAG_ROW), lag_partitions())));

/// One row per second with commits.
fn throughput_rows(seconds: u32) -> String {
    array(&format!(
        "SELECT rfc3339(second) AS second, received, counted, rejected, lag AS lag_votes, latency_ms_p50, latency_ms_p99
           FROM throughput_recent WHERE counter = $1::text AND second >= date_trunc('second', now()) - interval '{seconds} seconds'
          ORDER BY second"
    ))
}

pub static THROUGHPUT: LazyLock<String> =
    LazyLock::new(|| about_count(&format!("'at', rfc3339(now()), 'seconds', {}", throughput_rows(300))));

/// Checks that the views can be read.
pub const PROBE: &str = "SELECT json_build_object('elections', (SELECT count(*) FROM election),
    'counters', (SELECT count(*) FROM counters))::text";

const AUDIT_ROW: &str = "SELECT rfc3339(audited_at) AS audited_at, recounted, differences, summary
   FROM last_audit WHERE counter = $1::text";

/// Leaves out the timeline, which is too large to compare on every request; `scrutin status` and the audit compare it.
const AGREEMENT_ROWS: &str = "SELECT counter, other, partitions_apart, votes_apart, rejections_apart,
        partitions_apart = 0 AND votes_apart = 0 AND rejections_apart = 0 AS agree
   FROM agreement WHERE comparable AND $1::text IN (counter, other) ORDER BY counter, other";

pub static STATUS: LazyLock<String> = LazyLock::new(|| {
    about_count(&format!(
        "'accounting', {}, 'lag', {}, 'last_audit', {}, 'agreement', {}",
        row(ACCOUNTING_ROW),
        row(LAG_ROW),
        row(AUDIT_ROW),
        array(AGREEMENT_ROWS)
    ))
});
