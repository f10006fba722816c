// Key moments, newest first, and the closest races now.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { css } from "../dom.js";
import { closest } from "../figures.js";
import { minute, percent, points, second } from "../format.js";
import { t } from "../i18n.js";
import { seen } from "../theme.js";
import { follow, link } from "../url.js";

const CLOSEST = 5;

// The state's moments, newest first, each with its number.
export function moments(state) {
  const all = Object.entries(state.moments ?? {}).map(([number, moment]) => ({ ...moment, number: Number(number) }));
  return all.sort((a, b) => b.number - a.number);
}

export function sentence({ kind, place, before, region, share, of }, election) {
  const name = election.choices[place]?.name;
  const passed = election.choices[before]?.name;
  const where = election.region(region)?.name ?? region ?? t("feed.turnout.all");
  if (kind === "leader") return passed ? t("feed.leader", { name, before: passed }) : t("feed.leader.first", { name });
  if (kind === "region_leader") {
    return passed ? t("feed.region", { region: where, name, before: passed }) : t("feed.region.first", { region: where, name });
  }
  if (kind === "turnout") return t(`feed.turnout.${of === "expected" ? "expected" : "registered"}`, { region: where, share: percent(share, 0) });
  return null;
}

export function feed({ state, election }) {
  const shown = moments(state).map((moment) => ({ ...moment, text: sentence(moment, election) })).filter(({ text }) => text);
  const clock = election.closes - election.opens < 3600000 ? second : minute;
  return html`
    <section class="card feed" aria-labelledby="feed-title">
      <h2 id="feed-title">${t("feed.title")}</h2>
      ${shown.length
        ? html`<ol class="moments" id="moments" tabindex="0" aria-labelledby="feed-title">
            ${repeat(shown, ({ number }) => number, (moment) => item(moment, election, clock))}
          </ol>`
        : html`<p class="note">${t("feed.none")}</p>`}
      ${races(state, election)}
    </section>`;
}

const item = ({ at, kind, place, text, number }, election, clock) => html`
  <li data-kind=${kind} data-moment=${number}>
    <time datetime=${at}>${clock(Date.parse(at))}</time>
    <i class="swatch" ${css({ "background-color": place === undefined ? "var(--soft)" : seen(election.choices[place]?.color ?? "#808080") })}></i>
    <span>${text}</span>
  </li>`;

function races(state, election) {
  if (!state.regions) return nothing;
  const rows = closest(state, election, CLOSEST);
  return html`
    <h3>${t("feed.closest")}</h3>
    ${rows.length === 0
      ? html`<p class="note">${t("feed.closest.none")}</p>`
      : html`<ol class="closest" id="closest">${rows.map((row) => race(row, election))}</ol>
          <p class="note">${t("feed.closest.note")}</p>`}`;
}

function race({ region, leader, second, margin, marginShare, isLevel }, election) {
  const [name, other] = [election.choices[leader].name, election.choices[second].name];
  return html`
    <li data-region=${region.code}>
      <a href=${link({ region: region.code })} @click=${follow({ region: region.code })}>${region.name}</a>
      <b>${t("points", { points: points(marginShare, 2) })}</b>
      <small>${isLevel ? t("feed.closest.level", { name, second: other }) : t("feed.closest.row", { name, second: other, n: margin })}</small>
    </li>`;
}
