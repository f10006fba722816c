// The map's card: the tiles, what they can show, the region under the pointer, and the legend.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { css } from "../dom.js";
import { isMany, regionFigures } from "../figures.js";
import { count, percent } from "../format.js";
import { t } from "../i18n.js";
import { seen } from "../theme.js";
import { follow, link } from "../url.js";
import { SCALES } from "./scale.js";
import { pointedAt, tiles } from "./tiles.js";
import { comingWords, leadWords } from "./words.js";

const MODES = ["leader", "turnout", "coming"];
const LEADERS_MOST = 6;

export const hasMap = ({ election }) => election.tiles.length > 0;

export function map({ state, election, query }) {
  if (isMany(state, election)) return tooMany(state, election);
  const mode = query.map;
  const open = (code) => ({ href: link({ region: code }), click: (event) => follow({ region: code })(event) });
  return html`
    <section class="card map" aria-labelledby="map-title">
      <div class="head">
        <h2 id="map-title">${t("map.title")}</h2>
        <div class="switch" role="group" aria-label=${t("map.switch")}>
          ${MODES.map((name) => html`<a href=${link({ map: name })} data-map=${name} aria-current=${name === mode ? "true" : "false"}
            @click=${follow({ map: name }, { replace: true })}>${t(`map.${name}`)}</a>`)}
        </div>
      </div>
      ${tiles({ state, election, mode, open, label: t("map.label") })}
      ${detail(state, election)}
      ${legend(state, election, mode)}
    </section>`;
}

const tooMany = (state, election) => html`
  <section class="card map" aria-labelledby="map-title">
    <h2 id="map-title">${t("map.title")}</h2>
    <p class="note">${t("table.many", { n: state.regions_total ?? election.regions.length })} <a href="./api/v1/results/regions.csv">${t("table.csv")}</a></p>
  </section>`;

function detail(state, election) {
  const region = election.region(pointedAt());
  if (!region) return html`<div class="detail" id="map-detail"><p class="note">${t("map.hint")}</p></div>`;
  const figures = regionFigures(region, state.regions);
  const { leader, turnout, votes } = figures;
  return html`
    <div class="detail" id="map-detail" data-region=${region.code}>
      <p class="what">${region.name} <small>${region.code}</small></p>
      <p>${leader === null || figures.isLevel ? nothing : html`<i class="swatch" ${css({ "background-color": seen(election.choices[leader].color) })}></i> `}${leadWords(figures, election)}</p>
      <p class="soft">${t("region.counted", { n: votes })}${turnout === null ? nothing : html`, ${t("region.turnout", { share: percent(turnout, 1) })}. ${comingWords(figures)}`}</p>
    </div>`;
}

export function legend(state, election, mode) {
  if (mode !== "leader") return html`<div class="legend">${ramp(SCALES[mode].legend(election))}</div>`;
  // If every choice stands in one region only, each leads in at most one.
  if (election.isLocal) return html`<div class="legend">${ramp(SCALES.leader.legend(election, election.choices[0].color))}</div>`;
  const { leaders, undecided } = led(state, election);
  const color = leaders.length ? leaders[0].choice.color : election.choices[0].color;
  return html`
    <div class="legend">
      <ul class="leaders">
        ${leaders.slice(0, LEADERS_MOST).map(({ choice, regions }) => html`<li>
          <i class="swatch" ${css({ "background-color": seen(choice.color) })}></i><b>${choice.initials}</b> ${choice.name} <span class="soft">${count(regions)}</span></li>`)}
        ${leaders.length > LEADERS_MOST
          ? html`<li class="soft">${t("bars.others", { n: leaders.length - LEADERS_MOST })} ${count(leaders.slice(LEADERS_MOST).reduce((sum, { regions }) => sum + regions, 0))}</li>`
          : nothing}
        ${undecided ? html`<li><i class="swatch none"></i> ${t("map.undecided")} <span class="soft">${count(undecided)}</span></li>` : nothing}
      </ul>
      ${ramp(SCALES.leader.legend(election, color))}
    </div>`;
}

const ramp = ({ title, steps }) => html`
  <div class="ramp">
    <span class="soft">${title}</span>
    <ol>${steps.map(({ color, label }) => html`<li><i ${css({ "background-color": color })}></i>${label}</li>`)}</ol>
  </div>`;

// In how many regions each choice leads, most first, and in how many nobody does.
function led(state, election) {
  const regions = new Map();
  let undecided = 0;
  for (const region of election.regions) {
    const { leader, isLevel } = regionFigures(region, state.regions);
    if (leader === null || isLevel) undecided += 1;
    else regions.set(leader, (regions.get(leader) ?? 0) + 1);
  }
  const leaders = [...regions].map(([place, number]) => ({ choice: election.choices[place], regions: number }));
  return { leaders: leaders.sort((a, b) => b.regions - a.regions || a.choice.place - b.choice.place), undecided };
}
