// The race: a bar for each leading candidate.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { css, glide } from "../dom.js";
import { movement, others, standings } from "../figures.js";
import { count, duration, every, percent, signedPoints } from "../format.js";
import { t } from "../i18n.js";
import { afterRender } from "../schedule.js";
import { seen } from "../theme.js";

let order = "";

export function bars({ state, election, now }) {
  const rows = standings(state, election);
  const most = Math.max(1, ...rows.map(({ votes }) => votes));
  const moves = movement(state, election, now);
  watchOrder(rows);
  return html`
    <section class="card race ${election.isLocal ? "local" : ""}" aria-labelledby="bars-title">
      <div class="head">
        <h2 id="bars-title">${election.isLocal ? t("bars.title.local") : t("bars.title")}</h2>
        <p class="columns-of" aria-hidden="true">
          <span class="votes">${t("bars.votes")}<small>${t("bars.ahead")}</small></span>
          ${election.isLocal ? nothing : html`<span class="share">${t("bars.share")}<small>${moves ? t("bars.moved", inTime(moves)) : nothing}</small></span>`}
        </p>
      </div>
      <ol class="bars" id="bars">
        ${repeat(rows, ({ place }) => place, (row) => bar(row, most, election, moves, digits(rows)))}
      </ol>
      ${rest(state, election)}
    </section>`;
}

// Enough digits to tell the shares of the first two apart, unless they are tied.
function digits([first, second]) {
  const same = (digits) => percent(first.share, digits) === percent(second.share, digits);
  return !second || first.votes === second.votes ? 2 : ([2, 3, 4, 5, 6].find((digits) => !same(digits)) ?? 6);
}

function bar(row, most, election, moves, digits) {
  const moved = moves?.moved.get(row.place);
  const color = seen(row.color);
  return html`
    <li data-place=${row.place} data-votes=${row.votes}>
      <span class="name" title=${row.label}>${row.label}</span>
      <span class="track"><i ${css({ transform: `scaleX(${(row.votes / most).toFixed(5)})`, "background-color": color })}></i></span>
      <span class="votes"><span class="hidden">${t("bars.votes")}: </span>${count(row.votes)}<small>${ahead(row)}</small></span>
      ${election.isLocal
        ? nothing
        : html`<span class="share"><span class="hidden">${t("bars.share")}: </span>${percent(row.share, digits)}<small>${move(moved, moves)}</small></span>`}
    </li>`;
}

function ahead({ ahead, votes }) {
  if (ahead === null || votes === 0) return nothing;
  return ahead === 0 ? t("bars.level") : html`+${count(ahead)}<span class="hidden"> ${t("bars.ahead")}</span>`;
}

const inTime = ({ seconds }) => ({ duration: duration(seconds), every: every(seconds) });

function move(moved, moves) {
  if (moved === undefined) return nothing;
  const way = moved >= 0.00005 ? "▲" : moved <= -0.00005 ? "▼" : "";
  return html`<span aria-hidden="true"><b class="way">${way}</b> ${signedPoints(moved)}</span>
    <span class="hidden">${t("bars.moved.long", { points: signedPoints(moved), ...inTime(moves) })}</span>`;
}

function rest(state, election) {
  const valid = state.turnout?.valid ?? 0;
  const more = others(state, election);
  const item = (name, votes, share) =>
    html`<span><span class="what">${name}</span> ${count(votes)}${share === undefined ? nothing : html` <small>${percent(share)}</small>`}</span>`;
  return html`
    <p class="rest">
      ${more.choices > 0 ? item(t("bars.others", { n: more.choices }), more.votes, valid > 0 && !election.isLocal ? more.votes / valid : undefined) : nothing}
      ${item(t("bars.valid"), valid)} ${item(t("bars.blank"), state.turnout?.blank ?? 0)} ${item(t("bars.null"), state.turnout?.null ?? 0)}
    </p>
    <p class="note honest">${election.isLocal ? nothing : t("bars.note.shares")} ${t("bars.note")}</p>`;
}

function watchOrder(rows) {
  const now = rows.map(({ place }) => place).join();
  if (order && order !== now) afterRender(glide(document.querySelectorAll("#bars > li")));
  order = now;
}
