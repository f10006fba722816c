//! The queries of the live page, each polled at its own pace.
//!
//! Choices are identified by their place in the election's list: a code may be another choice's in another region.

use std::sync::LazyLock;

use super::{
    ACCOUNTING_ROW, AGREEMENT_ROWS, AUDIT_ROW, CHOICES_SHOWN, HEAD, OURS, REJECTIONS_ROWS, array, object, ours, row,
};

/// Cheap enough to run several times a second.
pub static FIGURES: LazyLock<String> = LazyLock::new(|| {
    let ranked = format!(
        ", ranked AS MATERIALIZED (
    SELECT r.*, row_number() OVER (ORDER BY r.valid DESC, r.votes DESC, r.place, r.choice) AS rank
      FROM e CROSS JOIN LATERAL {} r)",
        ours("results")
    );
    let shown = format!("(valid AND rank <= {CHOICES_SHOWN})");
    let results = array(&format!("SELECT place - 1 AS place, votes, share FROM ranked WHERE {shown} ORDER BY rank"));
    let others = row(&format!(
        "SELECT count(*) AS choices, coalesce(sum(votes), 0)::bigint AS votes FROM ranked WHERE valid AND NOT {shown}"
    ));
    let seconds = "SELECT json_object_agg(rfc3339(second), json_build_object(
            'received', received, 'counted', counted, 'rejected', rejected, 'lag_votes', lag, 'batches', batches,
            'latency_ms_p50', latency_ms_p50, 'latency_ms_p99', latency_ms_p99))
       FROM throughput_recent WHERE counter = $1::text AND second >= date_trunc('second', now()) - interval '2 minutes'";
    let lag = "SELECT json_build_object(
            'votes', coalesce(sum(lag), 0)::bigint, 'updated_at', rfc3339(max(updated_at)),
            'partitions', json_object_agg(partition, json_build_object('next_offset', next_offset, 'end_offset', end_offset,
                                                                       'votes', lag, 'updated_at', rfc3339(updated_at))))
       FROM lag WHERE counter = $1::text HAVING count(*) > 0";
    object(
        &ranked,
        &format!(
            "{HEAD}, 'fingerprint', fingerprint, 'results', {results}, 'others', {others}, 'turnout', {},
             'rejections', (SELECT json_object_agg(reason, votes) FROM ({REJECTIONS_ROWS}) r), 'accounting', {},
             'lag', ({lag}), 'throughput', ({seconds})",
            turnout_of("ranked"),
            row(ACCOUNTING_ROW)
        ),
    )
});

/// The turnout, computed from result rows the query already has; null if there are none.
fn turnout_of(results: &str) -> String {
    let votes = |condition: &str| format!("coalesce(sum(votes) FILTER (WHERE {condition}), 0)::bigint");
    format!(
        "(SELECT json_build_object('registered', (SELECT registered FROM electorate r WHERE r.election = e.election),
                 'votes', sum(votes)::bigint, 'valid', {}, 'blank', {}, 'null', {}) FROM {results} HAVING count(*) > 0)",
        votes("valid"),
        votes("choice = 'BLANK'"),
        votes("choice = 'NULL'")
    )
}

/// With more regions than this, they are not pushed one by one.
pub const REGIONS_SHOWN: usize = 2_000;

/// Per region: votes, valid votes, and the places and votes of the two leading choices; null where no choice has votes.
/// The same for the whole election, and the expected votes.
pub static REGIONS: LazyLock<String> = LazyLock::new(|| {
    // Read once for all the fields.
    let results =
        format!(", cell AS MATERIALIZED (SELECT r.* FROM e CROSS JOIN LATERAL {} r)", ours("results_by_region"));
    let few = format!("(SELECT count(*) FROM region r WHERE r.election = e.election) <= {REGIONS_SHOWN}");
    let regions = "SELECT json_object_agg(region, json_build_array(votes, valid,
                CASE WHEN ahead[1] > 0 THEN places[1] - 1 END, CASE WHEN ahead[1] > 0 THEN ahead[1] END,
                CASE WHEN ahead[2] > 0 THEN places[2] - 1 END, CASE WHEN ahead[2] > 0 THEN ahead[2] END))
           FROM (SELECT region, sum(votes)::bigint AS votes, coalesce(sum(votes) FILTER (WHERE valid), 0)::bigint AS valid,
                        array_agg(place ORDER BY votes DESC, place, choice) FILTER (WHERE valid) AS places,
                        array_agg(votes ORDER BY votes DESC, place, choice) FILTER (WHERE valid) AS ahead
                   FROM cell GROUP BY region) x";
    let ahead = array(
        "SELECT min(place) - 1 AS place, sum(votes)::bigint AS votes FROM cell WHERE valid GROUP BY choice, name
          ORDER BY sum(votes) DESC, min(place), choice LIMIT 2",
    );
    let total = turnout_of("cell");
    object(
        &results,
        &format!(
            "{HEAD}, 'total', {total}, 'ahead', {ahead},
             'expected_total', (SELECT CASE WHEN count(*) = count(r.registered)
                                        THEN round(sum(r.registered * coalesce(r.expected_turnout, e.expected_turnout, 1)))::bigint END
                                  FROM region r WHERE r.election = e.election),
             'regions_total', (SELECT count(*) FROM region r WHERE r.election = e.election),
             'regions', CASE WHEN {few} THEN ({regions}) END,
             'expected', CASE WHEN {few} THEN (
                 SELECT json_object_agg(r.region, json_build_array(r.registered,
                            round(r.registered * coalesce(r.expected_turnout, e.expected_turnout))::bigint))
                   FROM region r WHERE r.election = e.election) END"
        ),
    )
});

/// Fields that change slowly or cost more: agreement, health of the counters, size of the poll book.
pub static CHECKS: LazyLock<String> = LazyLock::new(|| {
    let health = "SELECT json_object_agg(counter, json_build_object('counted_by', counted_by, 'holds', holds, 'waiting', waiting,
            'idle_seconds', idle_seconds, 'rejected_share', rejected_share, 'last_commit', rfc3339(last_commit)))
       FROM health";
    let poll_book = "SELECT sum(voters)::bigint AS voters, sum(bytes)::bigint AS bytes, sum(chunks)::bigint AS chunks
       FROM poll_book_size WHERE counter = $1::text AND election = e.election HAVING count(*) > 0";
    let double_votes = format!("SELECT json_object_agg(region, votes) FROM double_votes_by_region WHERE {OURS}");
    object(
        "",
        &format!(
            "'last_audit', {}, 'agreement', {}, 'health', ({health}), 'poll_book', {}, 'double_votes', ({double_votes})",
            row(AUDIT_ROW),
            array(AGREEMENT_ROWS),
            row(poll_book)
        ),
    )
});
