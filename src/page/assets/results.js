// Result bars, the lead, and the refusals by reason.

import { byId, count, el, hide, percent, place, plural, say } from "./dom.js";

const REASONS = {
  malformed: "Not a readable vote",
  misrouted: "In the wrong partition",
  unknown_election: "Unknown election",
  unknown_region: "Unknown region",
  unknown_choice: "Unknown choice",
  unknown_channel: "Unknown channel",
  not_open: "Cast before the opening",
  closed: "Cast after the close",
  already_voted: "Voted already",
};

const rows = new Map();

// Whether every choice stands in one region only, as members of a parliament do: then no share of all votes and no
// lead over somebody elsewhere means anything.
export const isLocal = (election) => election.choices.every(({ region }) => region !== null);

let places = { election: null, byChoice: new Map() };

// The name of the only region that a choice stands in, or nothing.
function placeOf(choice, election) {
  if (places.election !== election) {
    const names = new Map(election.regions.map(({ region, name }) => [region, name]));
    const byChoice = new Map();
    for (const { choice: code, region } of election.choices) {
      byChoice.set(code, byChoice.has(code) || region === null ? null : names.get(region));
    }
    places = { election, byChoice };
  }
  return places.byChoice.get(choice) ?? null;
}

// The choices of an election, each once: one may be listed for several regions.
const ballot = (election) => [...new Map(election.choices.map((choice) => [choice.choice, choice])).values()];

// Before the first vote is counted there are no results: the ballot is then shown with zeros.
export function standings(data, election) {
  if (data.results.length) return data.results;
  return ballot(election).slice(0, 10).map((choice) => ({ ...choice, votes: 0, share: null }));
}

export function showResults(data, election) {
  const results = standings(data, election);
  const list = byId("bars");
  const most = Math.max(...results.map((result) => result.votes), 1);
  const local = isLocal(election);
  say(byId("results-title"), local ? "Most votes so far, in any region" : "Results so far");
  const seen = new Set();
  results.forEach((result, rank) => {
    seen.add(result.choice);
    const row = rows.get(result.choice) ?? newRow(list, result);
    row.node.style.setProperty("--rank", rank);
    row.bar.style.width = `${(result.votes / most) * 100}%`;
    row.bar.style.backgroundColor = result.color;
    row.swatch.style.backgroundColor = result.color;
    const where = placeOf(result.choice, election);
    say(row.name, where ? `${result.name} (${where})` : result.name);
    say(row.share, local ? "" : percent(result.share));
    say(row.votes, count(result.votes));
  });
  for (const [choice, row] of rows) {
    if (!seen.has(choice)) {
      row.node.remove();
      rows.delete(choice);
    }
  }
  // Assistive technology reads the order of the document, not that of the screen.
  results.forEach((result, rank) => place(list, rows.get(result.choice).node, rank));
  list.style.setProperty("--rows", results.length);
  showRest(data, election);
  showLead(results, data, election);
}

function newRow(list, result) {
  const row = {
    name: el("span", { class: "name" }),
    bar: el("i"),
    swatch: el("i", { class: "swatch" }),
    share: el("b", { class: "share" }),
    votes: el("span", { class: "votes" }),
  };
  row.node = el("li", {}, row.swatch, row.name, el("span", { class: "track" }, row.bar), row.share, row.votes);
  list.append(row.node);
  rows.set(result.choice, row);
  return row;
}

function showRest(data, election) {
  const { turnout, others } = data;
  const hidden = data.results.length ? (others?.choices ?? 0) : Math.max(0, ballot(election).length - 10);
  const valid = turnout?.valid ?? 0;
  const parts = [];
  if (hidden > 0) {
    const share = valid > 0 ? ` (${percent((others?.votes ?? 0) / valid)})` : "";
    parts.push(`${plural(hidden, "other choice", "other choices")}: ${count(others?.votes)}${share}`);
  }
  parts.push(`Blank: ${count(turnout?.blank)}`, `Null: ${count(turnout?.null)}`, `Valid: ${count(valid)}`);
  // No line ends within a figure.
  say(byId("rest"), parts.map((part) => part.replaceAll(" ", "\u00a0")).join("  ·  "));
}

function showLead(results, data, election) {
  const local = isLocal(election);
  const [first, second] = results;
  const valid = data.turnout?.valid ?? 0;
  const some = Boolean(first) && first.votes > 0;
  const tie = some && second?.votes === first.votes;
  hide(byId("lead-swatch"), !some || tie || local);
  say(byId("lead-label"), local ? "On the ballot" : "In the lead");
  if (local) {
    say(byId("lead-name"), plural(ballot(election).length, "candidate", "candidates"));
    say(byId("lead-note"), "Each stands in one region only.");
    return;
  }
  if (!some) {
    say(byId("lead-name"), "Nobody yet");
    say(byId("lead-note"), "No valid vote has been counted.");
    return;
  }
  byId("lead-swatch").style.backgroundColor = first.color;
  say(byId("lead-name"), tie ? "Level" : first.name);
  if (tie) {
    say(byId("lead-note"), `${first.name} and ${second.name} have ${count(first.votes)} votes each.`);
  } else if (second) {
    const margin = first.votes - second.votes;
    const points = ((margin / valid) * 100).toFixed(2);
    say(byId("lead-note"), `${plural(margin, "vote", "votes")} (${points} points) ahead of ${second.name}`);
  } else {
    say(byId("lead-note"), "The only choice on the ballot");
  }
}

export function showRefusals(data) {
  const list = byId("reasons");
  const total = data.refusals.reduce((sum, { votes }) => sum + votes, 0);
  const most = Math.max(...data.refusals.map(({ votes }) => votes), 1);
  const known = new Map([...list.children].map((node) => [node.dataset.reason, node]));
  data.refusals.forEach(({ reason, votes }, rank) => {
    let node = known.get(reason);
    if (!node) {
      node = el("li", {}, el("span", { class: "name" }, REASONS[reason] ?? reason), el("span", { class: "votes" }),
        el("span", { class: "track" }, el("i")));
      node.dataset.reason = reason;
    }
    known.delete(reason);
    say(node.querySelector(".votes"), count(votes));
    node.querySelector("i").style.width = `${(votes / most) * 100}%`;
    place(list, node, rank);
  });
  for (const node of known.values()) node.remove();
  const received = data.accounting?.received ?? 0;
  say(
    byId("refusals-note"),
    total === 0
      ? "None so far."
      : `${count(total)} of ${count(received)} received (${percent(total / Math.max(received, 1))}). Each is kept with its reason.`,
  );
}
