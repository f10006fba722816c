//! What the page and the API ask of PostgreSQL: the views and the reference tables, nothing else.
//!
//! Every query takes the counter as $1 and the election as $2 (null: the one that is being counted) and gives
//! one row with one JSON text, so that one statement is one consistent picture; no row: there is no such election.

pub mod regions;
pub mod trust;

use std::sync::LazyLock;

/// Choices that the page shows one by one; the others are summed.
pub const CHOICES_SHOWN: usize = 12;

/// Points of the page's timeline at most.
pub const POINTS_SHOWN: i32 = 240;

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

/// The rows of a view that are ours, to join with `e`. OFFSET 0 keeps it a query of its own, in which the planner
/// looks only at our rows; as a plain join it would first add up every election there is.
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
             'registered', (SELECT sum(registered)::bigint FROM region r WHERE r.election = e.election),
             'choices', {choices}, 'regions', {regions}"
        ),
    )
});

/// Fields that open every answer about a count.
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

/// The voting day, from its first bucket on, in at most $3 steps of whole buckets.
const GRID: &str = "
    SELECT e.*, (n + step - 1) / step AS points
      FROM (SELECT *, greatest(1, (n + $3::int - 1) / $3::int) AS step
              FROM (SELECT *, greatest(1, ceil((date_part('epoch', closes_at) - first) / bucket_seconds))::int AS n
                      FROM (SELECT *, floor(date_part('epoch', opens_at) / bucket_seconds) * bucket_seconds AS first
                              FROM e) e1) e2) e";

/// Tables of the timeline: the voting day cut into at most $3 steps of whole buckets; the choices with most
/// votes, and null for all the others.
fn timeline_tables() -> String {
    format!(
        ", grid AS ({GRID}),
shown AS MATERIALIZED (
    SELECT r.choice FROM e CROSS JOIN LATERAL {results} r WHERE r.valid
     ORDER BY r.votes DESC, r.place, r.choice LIMIT {CHOICES_SHOWN}),
cell AS MATERIALIZED (
    SELECT CASE WHEN v.choice IN (SELECT choice FROM shown) OR v.choice IN ('BLANK', 'NULL') THEN v.choice END AS choice,
           floor((date_part('epoch', v.bucket) - e.first) / (e.bucket_seconds * e.step))::int AS point, sum(v.votes)::bigint AS votes
      FROM grid e CROSS JOIN LATERAL {votes} v
     GROUP BY 1, 2)",
        results = ours("results"),
        votes = ours("votes_by_bucket"),
    )
}

/// Fields of the timeline. `votes` has a figure for each point: point i begins at `first` + i × `step_seconds`.
const TIMELINE_FIELDS: &str = "'first', (SELECT rfc3339(to_timestamp(first)) FROM grid),
 'step_seconds', (SELECT step * bucket_seconds FROM grid), 'points', (SELECT points FROM grid),
 'series', (SELECT coalesce(json_agg(json_build_object('choice', s.choice, 'votes', s.votes)), '[]'::json) FROM (
     SELECT c.choice, json_agg(coalesce(cell.votes, 0) ORDER BY p.point) AS votes
       FROM (SELECT DISTINCT choice FROM cell) c
      CROSS JOIN (SELECT generate_series(0, max(point)) AS point FROM cell) p
       LEFT JOIN cell ON cell.choice IS NOT DISTINCT FROM c.choice AND cell.point = p.point
      GROUP BY c.choice ORDER BY c.choice) s)";

/// $3: points at most.
pub static TIMELINE: LazyLock<String> =
    LazyLock::new(|| object(&timeline_tables(), &format!("{HEAD}, {TIMELINE_FIELDS}")));

const REFUSALS_ROWS: &str = "SELECT reason, votes FROM refusals WHERE counter = $1::text ORDER BY votes DESC, reason";

pub static REFUSALS: LazyLock<String> = LazyLock::new(|| about_count(&format!("'refusals', {}", array(REFUSALS_ROWS))));

const ACCOUNTING_ROW: &str = "SELECT received, counted, rejected, gaps, tallied, refused, holds
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

/// One row a second, of the seconds that committed something.
fn throughput_rows(seconds: u32) -> String {
    array(&format!(
        "SELECT rfc3339(second) AS second, received, counted, rejected, lag AS lag_votes, latency_ms_p50, latency_ms_p99
           FROM throughput_recent WHERE counter = $1::text AND second >= date_trunc('second', now()) - interval '{seconds} seconds'
          ORDER BY second"
    ))
}

pub static THROUGHPUT: LazyLock<String> =
    LazyLock::new(|| about_count(&format!("'at', rfc3339(now()), 'seconds', {}", throughput_rows(300))));

/// Whether the views can be read at all.
pub const PROBE: &str = "SELECT json_build_object('elections', (SELECT count(*) FROM election),
    'counters', (SELECT count(*) FROM counters))::text";

const AUDIT_ROW: &str = "SELECT rfc3339(audited_at) AS audited_at, recounted, differences, summary
   FROM last_audit WHERE counter = $1::text";

/// Without the timeline, which is too large to be compared for every look; `scrutin status` and the audit do.
const AGREEMENT_ROWS: &str = "SELECT counter, other, partitions_apart, votes_apart, refusals_apart,
        partitions_apart = 0 AND votes_apart = 0 AND refusals_apart = 0 AS agree
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

/// What the page shows live, cheap enough to be asked several times a second. Choices go by their place in the
/// election's list.
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
             'refusals', (SELECT json_object_agg(reason, votes) FROM ({REFUSALS_ROWS}) r), 'accounting', {},
             'lag', ({lag}), 'throughput', ({seconds})",
            turnout_of("ranked"),
            row(ACCOUNTING_ROW)
        ),
    )
});

/// The turnout, from rows of results that a query has at hand already; null where there are none.
fn turnout_of(results: &str) -> String {
    let votes = |condition: &str| format!("coalesce(sum(votes) FILTER (WHERE {condition}), 0)::bigint");
    format!(
        "(SELECT json_build_object('registered', (SELECT sum(registered)::bigint FROM region r WHERE r.election = e.election),
                 'votes', sum(votes)::bigint, 'valid', {}, 'blank', {}, 'null', {}) FROM {results} HAVING count(*) > 0)",
        votes("valid"),
        votes("choice = 'BLANK'"),
        votes("choice = 'NULL'")
    )
}

/// More regions are not pushed one by one.
pub const REGIONS_SHOWN: usize = 2_000;

/// Of each region the votes, the valid ones, and the two choices that are ahead: their places in the election's list,
/// and votes; null where nobody has a vote. And the same of the whole, and the votes that the election expects.
pub static REGIONS: LazyLock<String> = LazyLock::new(|| {
    // Looked at once, for all that is asked.
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
             'expected_total', (SELECT round(sum(r.registered * coalesce(r.expected_turnout, e.expected_turnout, 1)))::bigint
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

/// The timeline of the page: the voting day in at most $3 steps. `cells` are triples: point, whose votes (a place in the
/// election's list, or -1 others, -2 blank, -3 null), votes. `places` are the choices with most votes, in the ballot's
/// order.
pub static STEPS: LazyLock<String> = LazyLock::new(|| {
    // A code may be another candidate's in another region; only then is the region looked at.
    let tables = format!(
        ", grid AS ({GRID}),
who AS MATERIALIZED (
    SELECT c.choice, c.region, c.place AS own, min(c.place) OVER (PARTITION BY c.choice, c.name) - 1 AS place
      FROM e JOIN choice c ON c.election = e.election),
shown AS MATERIALIZED (
    SELECT r.place - 1 AS place FROM e CROSS JOIN LATERAL {results} r WHERE r.valid
     ORDER BY r.votes DESC, r.place, r.choice LIMIT {CHOICES_SHOWN}),
bucketed AS MATERIALIZED (
    SELECT v.bucket, v.choice, CASE WHEN (SELECT bool_or(region <> '') FROM who) THEN v.region ELSE '' END AS region,
           sum(v.votes) AS votes
      FROM e CROSS JOIN LATERAL {votes} v GROUP BY 1, 2, 3),
summed AS (
    SELECT b.choice, b.region,
           floor((date_part('epoch', b.bucket) - g.first) / (g.bucket_seconds * g.step))::int AS point, b.votes
      FROM grid g CROSS JOIN bucketed b),
cell AS (
    SELECT s.point, CASE s.choice WHEN 'BLANK' THEN -2 WHEN 'NULL' THEN -3
                    ELSE coalesce((SELECT place FROM shown WHERE place = w.place), -1) END AS place, sum(s.votes)::bigint AS votes
      FROM summed s LEFT JOIN who w ON w.choice = s.choice AND w.region IN ('', s.region) GROUP BY 1, 2)",
        results = ours("results"),
        votes = ours("votes_by_bucket"),
    );
    object(
        &tables,
        &format!(
            "{HEAD}, 'first', (SELECT rfc3339(to_timestamp(first)) FROM grid),
             'step_seconds', (SELECT step * bucket_seconds FROM grid), 'points', (SELECT points FROM grid),
             'places', (SELECT coalesce(json_agg(place ORDER BY place), '[]') FROM shown),
             'cells', (SELECT coalesce(json_agg(json_build_array(point, place, votes) ORDER BY point, place), '[]') FROM cell)"
        ),
    )
});

/// What changes slowly or costs more: whether counters agree, how each is doing, how many are on the roll.
pub static CHECKS: LazyLock<String> = LazyLock::new(|| {
    let health = "SELECT json_object_agg(counter, json_build_object('counted_by', counted_by, 'holds', holds, 'waiting', waiting,
            'idle_seconds', idle_seconds, 'refused_share', refused_share, 'last_commit', rfc3339(last_commit)))
       FROM health";
    let roll = "SELECT sum(voters)::bigint AS voters, sum(bytes)::bigint AS bytes, sum(chunks)::bigint AS chunks
       FROM roll_size WHERE counter = $1::text AND election = e.election HAVING count(*) > 0";
    let double_votes = format!("SELECT json_object_agg(region, votes) FROM double_votes_by_region WHERE {OURS}");
    about_count(&format!(
        "'last_audit', {}, 'agreement', {}, 'health', ({health}), 'roll', {}, 'double_votes', ({double_votes})",
        row(AUDIT_ROW),
        array(AGREEMENT_ROWS),
        row(roll)
    ))
});
