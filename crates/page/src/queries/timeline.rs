//! The count by the time votes were cast, in steps of the voting day.

use std::sync::LazyLock;

use super::{CHOICES_SHOWN, CHOSEN, HEAD, object, ours};

/// The voting day from its first bucket, with its number of buckets.
const DAY: &str = "
    SELECT *, greatest(1, ceil((date_part('epoch', closes_at) - first) / bucket_seconds))::int AS n
      FROM (SELECT *, floor(date_part('epoch', opens_at) / bucket_seconds) * bucket_seconds AS first FROM e) e1";

/// The number of buckets in the voting day.
pub static BUCKETS: LazyLock<String> = LazyLock::new(|| format!("{CHOSEN} SELECT n::text FROM ({DAY}) e"));

/// Splits the voting day into at most $3 steps of whole buckets.
static GRID: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT e.*, (n + step - 1) / step AS points
           FROM (SELECT *, greatest(1, (n + $3::int - 1) / $3::int) AS step FROM ({DAY}) e2) e"
    )
});

/// The tables of a timeline in at most $3 steps: `shown`, the places in the election's list of the choices with the
/// most votes, and `cell`, votes by point and place, where place -1 is all other choices, -2 blank and -3 null.
fn tables() -> String {
    format!(
        ", grid AS ({grid}),
who AS MATERIALIZED (
    SELECT c.choice, c.name, c.place - 1 AS place FROM e JOIN candidates c ON c.election = e.election),
shown AS MATERIALIZED (
    SELECT r.place - 1 AS place FROM e CROSS JOIN LATERAL {results} r WHERE r.valid
     ORDER BY r.votes DESC, r.place, r.choice LIMIT {CHOICES_SHOWN}),
cell AS MATERIALIZED (
    SELECT floor((date_part('epoch', v.bucket) - e.first) / (e.bucket_seconds * e.step))::int AS point,
           CASE v.choice WHEN 'BLANK' THEN -2 WHEN 'NULL' THEN -3
           ELSE coalesce((SELECT place FROM shown WHERE place = w.place), -1) END AS place, sum(v.votes)::bigint AS votes
      FROM grid e CROSS JOIN LATERAL {votes} v LEFT JOIN who w ON w.choice = v.choice AND w.name = v.name GROUP BY 1, 2)",
        grid = *GRID,
        results = ours("results"),
        votes = ours("results_over_time"),
    )
}

/// Point i begins at `first` + i × `step_seconds`.
const STEPS: &str = "'first', (SELECT rfc3339(to_timestamp(first)) FROM grid),
 'step_seconds', (SELECT step * bucket_seconds FROM grid), 'points', (SELECT points FROM grid)";

/// For the API: one series of points per choice, with null for all other choices. $3: maximum number of points.
pub static BY_CHOICE: LazyLock<String> = LazyLock::new(|| {
    let series =
        "SELECT coalesce(json_agg(json_build_object('choice', s.choice, 'name', s.name, 'votes', s.votes)), '[]'::json)
  FROM (SELECT c.choice, c.name, json_agg(coalesce(cell.votes, 0) ORDER BY p.point) AS votes
          FROM (SELECT place, choice, name FROM (
                    SELECT place, choice, name FROM who
                    UNION VALUES (-1, NULL, NULL), (-2, 'BLANK', 'Blank'), (-3, 'NULL', 'Null')) a
                 WHERE place IN (SELECT place FROM cell)) c
         CROSS JOIN (SELECT generate_series(0, max(point)) AS point FROM cell) p
          LEFT JOIN cell ON cell.place = c.place AND cell.point = p.point
         GROUP BY c.place, c.choice, c.name ORDER BY c.choice, c.place) s";
    object(&tables(), &format!("{HEAD}, {STEPS}, 'series', ({series})"))
});

/// Maximum number of points on the page's timeline.
pub const POINTS_SHOWN: i32 = 240;

/// For the page: `places`, those of `shown` in the ballot's order, and `cells`, triples of point, place and votes.
/// $3: maximum number of points.
pub static CELLS: LazyLock<String> = LazyLock::new(|| {
    let fields = "'places', (SELECT coalesce(json_agg(place ORDER BY place), '[]') FROM shown),
 'cells', (SELECT coalesce(json_agg(json_build_array(point, place, votes) ORDER BY point, place), '[]') FROM cell)";
    object(&tables(), &format!("{HEAD}, {STEPS}, {fields}"))
});
