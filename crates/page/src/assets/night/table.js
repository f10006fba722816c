// A table of all regions with search, sorting and paging, so that two thousand are as fast as twenty.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { css } from "../dom.js";
import { isMany, regionFigures } from "../figures.js";
import { compare, count, percent, points } from "../format.js";
import { t } from "../i18n.js";
import { requestRender } from "../schedule.js";
import { seen } from "../theme.js";
import { follow, go, link } from "../url.js";

const PAGE = 25;
let page = 0;

// The sortable columns, and whether the first click sorts the largest first.
const COLUMNS = {
  region: { of: ({ region }) => region.name, isText: true },
  leader: { of: ({ leader }, election) => (leader === null ? null : election.choices[leader].name), isText: true },
  lead: { of: ({ marginShare }) => marginShare },
  turnout: { of: ({ turnout }) => turnout },
  votes: { of: ({ votes }) => votes },
  coming: { of: ({ coming }) => coming },
};

export function table({ state, election, query }) {
  const total = state.regions_total ?? election.regions.length;
  const found = find(election, query.find);
  const isLive = !isMany(state, election);
  const rows = isLive ? sorted(found.map((region) => regionFigures(region, state.regions)), query.sort, election) : found.map((region) => ({ region }));
  page = Math.max(0, Math.min(page, Math.ceil(rows.length / PAGE) - 1));
  const shown = rows.slice(page * PAGE, (page + 1) * PAGE);
  return html`
    <section class="card regions" aria-labelledby="table-title">
      <div class="head">
        <h2 id="table-title">${t("table.title")}</h2>
        <label class="find"><span class="hidden">${t("table.find")}</span>
          <input type="search" id="find" autocomplete="off" spellcheck="false" placeholder=${t("table.find")} .value=${live(query.find ?? "")} @input=${search}>
        </label>
      </div>
      ${isLive ? nothing : html`<p class="note">${t("table.many", { n: total })} <a href="./api/v1/results/regions.csv">${t("table.csv")}</a></p>`}
      ${isLive ? liveTable(shown, election, query) : query.find ? names(shown) : nothing}
      ${rows.length === 0 ? html`<p class="note">${t("table.none")}</p>` : nothing}
      ${isLive || query.find ? pager(rows.length) : nothing}
      ${isLive ? html`<p class="note">${t("table.sorted")}</p>` : nothing}
    </section>`;
}

function liveTable(shown, election, query) {
  return html`
    <table id="regions">
      <thead>
        <tr>
          ${heading("region", query)}
          ${election.isLocal ? nothing : html`<th scope="col" class="bar">${t("table.bar")}</th>`}
          ${heading("leader", query)} ${heading("lead", query)} ${heading("turnout", query)} ${heading("votes", query)} ${heading("coming", query)}
        </tr>
      </thead>
      <tbody>${repeat(shown, ({ region }) => region.code, (figures) => line(figures, election))}</tbody>
    </table>`;
}

function heading(name, query) {
  const [by, isDown] = sorting(query.sort);
  const next = by === name ? (isDown ? name : `-${name}`) : COLUMNS[name].isText ? name : `-${name}`;
  const order = by === name ? (isDown ? "descending" : "ascending") : nothing;
  return html`
    <th scope="col" class=${name} aria-sort=${order}>
      <button type="button" data-sort=${name} @click=${() => sortBy(next)}>${t(`table.${name}`)}<span aria-hidden="true">${order === nothing ? "" : isDown ? " ↓" : " ↑"}</span></button>
    </th>`;
}

function line(figures, election) {
  const { region, votes, leader, second, isLevel, marginShare, turnout, coming } = figures;
  const open = follow({ region: region.code });
  return html`
    <tr data-region=${region.code} data-votes=${votes} @click=${(event) => event.target.closest("a") ?? open(event)}>
      <th scope="row" class="region"><a href=${link({ region: region.code })} @click=${open}>${region.name}</a> <small>${region.code}</small></th>
      ${election.isLocal ? nothing : html`<td class="bar">${shares(figures, election)}</td>`}
      <td class="leader">${leader === null ? "–" : html`<i class="swatch" ${css({ "background-color": seen(election.choices[leader].color) })}></i>${election.choices[leader].name}`}</td>
      <td class="lead">${second === null ? "–" : isLevel ? t("map.strength.level") : html`${points(marginShare, 1)}<small class="unit"> ${t("table.lead.unit")}</small>`}</td>
      <td class="turnout">${turnout === null ? t("unknown") : percent(turnout, 1)}</td>
      <td class="votes">${count(votes)}</td>
      <td class="coming">${count(coming)}</td>
    </tr>`;
}

// Leader, runner-up and all others, as shares of the valid votes.
function shares({ valid, leader, leaderVotes, second, secondVotes }, election) {
  if (leader === null) return nothing;
  const part = (votes, color) => html`<i ${css({ width: `${((votes / valid) * 100).toFixed(3)}%`, "background-color": color })}></i>`;
  const labels = [[leader, leaderVotes], [second, secondVotes]]
    .filter(([place]) => place !== null)
    .map(([place, votes]) => `${election.choices[place].name} ${percent(votes / valid, 1)}`);
  const rest = valid - leaderVotes - secondVotes;
  return html`
    <span class="shares" role="img" aria-label=${[...labels, `${t("table.others")} ${percent(rest / valid, 1)}`].join(", ")}>
      ${part(leaderVotes, seen(election.choices[leader].color))}
      ${second === null ? nothing : part(secondVotes, seen(election.choices[second].color))}
      ${part(rest, "var(--rest)")}
    </span>`;
}

const names = (shown) => html`
  <ul class="names">
    ${shown.map(({ region }) => html`<li data-region=${region.code}>
      <a href=${link({ region: region.code })} @click=${follow({ region: region.code })}>${region.name}</a> <small>${region.code}</small></li>`)}
  </ul>`;

function pager(rows) {
  if (rows <= PAGE) return nothing;
  const turn = (by) => () => {
    page += by;
    requestRender();
  };
  const until = Math.min(rows, (page + 1) * PAGE);
  return html`
    <p class="pager">
      <button type="button" data-page="before" ?disabled=${page === 0} @click=${turn(-1)}>${t("table.before")}</button>
      <span>${t("table.shown", { from: page * PAGE + 1, to: until, n: rows })}</span>
      <button type="button" data-page="next" ?disabled=${until === rows} @click=${turn(1)}>${t("table.next")}</button>
    </p>`;
}

function search(event) {
  page = 0;
  go({ find: event.target.value }, { replace: true });
}

function sortBy(name) {
  page = 0;
  go({ sort: name }, { replace: true });
}

const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const spelled = new WeakMap();

// Matches name or code, ignoring accents.
function find(election, wanted) {
  const needle = plain(wanted ?? "").trim();
  if (!needle) return election.regions;
  if (!spelled.has(election)) spelled.set(election, election.regions.map(({ name, code }) => `${plain(name)} ${code.toLowerCase()}`));
  const texts = spelled.get(election);
  return election.regions.filter((_, at) => texts[at].includes(needle));
}

function sorting(sort) {
  const isDown = sort?.startsWith("-") ?? false;
  const by = sort?.replace(/^-/, "");
  return COLUMNS[by] ? [by, isDown] : [null, false];
}

// Unknown values come last either way; equal ones keep the election's order.
function sorted(rows, sort, election) {
  const [by, isDown] = sorting(sort);
  if (!by) return rows;
  const { of, isText } = COLUMNS[by];
  const keyed = rows.map((row) => ({ row, key: of(row, election) }));
  const way = isDown ? -1 : 1;
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return way * (isText ? compare(a.key, b.key) : a.key - b.key) || a.row.region.place - b.row.region.place;
  });
  return keyed.map(({ row }) => row);
}
