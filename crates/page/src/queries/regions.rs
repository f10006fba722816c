//! Figures by region, in ballot order, a page at a time.

use std::sync::LazyLock;

use super::{CHOSEN, OURS, about_count, array, row, turnout_row};

/// The regions on a page. $3: only this region, or null; $4: only those after this region, or null; $5: how many.
/// `known` is false if $3 or $4 names an unknown region.
pub static PAGE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{CHOSEN}, behind AS (
    SELECT r.place FROM region r JOIN e ON e.election = r.election WHERE r.region = $4::text),
page AS MATERIALIZED (
    SELECT r.region, r.place FROM region r JOIN e ON e.election = r.election
     WHERE ($3::text IS NULL OR r.region = $3) AND ($4::text IS NULL OR r.place > (SELECT place FROM behind))
     ORDER BY r.place LIMIT $5::int + 1)
SELECT json_build_object('election', e.election,
       'regions', (SELECT coalesce(json_agg(p.region ORDER BY p.place), '[]'::json)
                     FROM (SELECT region, place FROM page ORDER BY place LIMIT $5::int) p),
       'is_last', (SELECT count(*) <= $5::int FROM page),
       'known', ($3::text IS NULL OR EXISTS (SELECT FROM region r WHERE r.election = e.election AND r.region = $3))
            AND ($4::text IS NULL OR EXISTS (SELECT FROM behind)))::text
  FROM e"
    )
});

/// The view's rows for these regions. Their codes are a parameter, so that only those regions are aggregated.
fn of_page(view: &str) -> String {
    format!("(SELECT * FROM {view} WHERE {OURS} AND region = ANY ($3::text[]) OFFSET 0)")
}

/// $3: the regions.
pub static RESULTS: LazyLock<String> = LazyLock::new(|| {
    let rows = array(&format!(
        "SELECT v.region, v.choice, v.name, v.votes
           FROM {} v JOIN region r ON r.election = e.election AND r.region = v.region
          ORDER BY r.place, v.valid DESC, v.votes DESC, v.place, v.choice",
        of_page("results_by_region")
    ));
    about_count(&format!("'results', {rows}"))
});

/// $3: the regions.
pub static LEADERS: LazyLock<String> = LazyLock::new(|| {
    let rows = array(&format!(
        "SELECT v.region, v.region_name, v.choice, v.name, v.votes, v.runner_up, v.runner_up_name, v.runner_up_votes,
                v.margin, v.margin_share
           FROM {} v JOIN region r ON r.election = e.election AND r.region = v.region ORDER BY r.place",
        of_page("leaders")
    ));
    about_count(&format!("'leaders', {rows}"))
});

/// $3: the regions. The total covers all regions.
pub static TURNOUT: LazyLock<String> = LazyLock::new(|| {
    let rows = array(&format!(
        "SELECT region, region_name, registered, votes, valid, blank, \"null\", turnout FROM {} v ORDER BY place",
        of_page("turnout_by_region")
    ));
    about_count(&format!("'total', {}, 'regions', {rows}", turnout_row()))
});

/// The details of the region $3.
pub static REGION: LazyLock<String> = LazyLock::new(|| {
    let turnout = row(&format!(
        "SELECT registered, votes, valid, blank, \"null\", turnout FROM turnout_by_region WHERE {OURS} AND region = $3::text"
    ));
    let leader = row(&format!(
        "SELECT choice, name, votes, runner_up, runner_up_name, runner_up_votes, margin, margin_share
           FROM leaders WHERE {OURS} AND region = $3::text"
    ));
    let results = array(&format!(
        "SELECT choice, name, color, valid, votes,
                CASE WHEN valid THEN votes::double precision / nullif(sum(votes) FILTER (WHERE valid) OVER (), 0) END AS share
           FROM results_by_region WHERE {OURS} AND region = $3::text ORDER BY valid DESC, votes DESC, place, choice"
    ));
    format!(
        "{CHOSEN} SELECT json_build_object('counter', $1::text, 'election', e.election, 'region', r.region, 'name', r.name, 'registered', r.registered,
            'lat', r.lat, 'lon', r.lon, 'grid_col', r.grid_col, 'grid_row', r.grid_row,
            'turnout', {turnout}, 'leader', {leader}, 'results', {results})::text
       FROM e CROSS JOIN LATERAL (SELECT * FROM region WHERE region.election = e.election AND region.region = $3::text) r"
    )
});

/// Only the id of the election.
pub static ELECTION_ID: LazyLock<String> = LazyLock::new(|| format!("{CHOSEN} SELECT election FROM e"));
