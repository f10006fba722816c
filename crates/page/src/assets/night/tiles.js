// The tile grid: a link for each region. One tile is in the tab order; the arrow keys move from there.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { guard } from "../vendor/lit-html/directives/guard.js";
import { inkOn } from "../color.js";
import { css } from "../dom.js";
import { regionFigures } from "../figures.js";
import { language } from "../i18n.js";
import { requestRender } from "../schedule.js";
import { theme } from "../theme.js";
import { describe } from "./words.js";
import { SCALES } from "./scale.js";

// With more columns than this, tiles have no room for text.
const DENSE = 24;

// From this many regions on, the tiles cost too much to draw four times a second.
const CALM_REGIONS = 200;
const CALM_MS = 2000;

let pointed = null; // the code of the region under the pointer or with the focus
let current = null; // the tile in the tab order

export const pointedAt = () => pointed;

// `open` maps a region's code to its link: `href`, and `click` if the page itself handles it.
export function tiles({ state, election, label, mode, open }) {
  const { left, top, columns, rows, first } = gridOf(election);
  if (!election.region(current)) current = first;
  const scale = SCALES[mode];
  const figures = calm(state.regions, election);
  return html`
    <div class="tiles ${columns > DENSE ? "dense" : ""}" id="map" role="group" aria-label=${label} data-mode=${mode}
      ${css({ "--columns": String(columns), "--grid-rows": String(rows) })}
      @keydown=${(event) => move(event, election)} @focusin=${point} @focusout=${unpoint} @pointerover=${point} @pointerleave=${unpoint}>
      ${election.tiles.map((region) => {
        const isCurrent = region.code === current;
        return guard([figures?.[region.code], election, mode, language, theme.version, isCurrent], () =>
          tile(regionFigures(region, figures), election, scale, isCurrent, open(region.code), left, top));
      })}
    </div>`;
}

let held = { election: null, regions: null, at: 0 };

function calm(regions, election) {
  const isDue = election.tiles.length <= CALM_REGIONS || held.election !== election || Date.now() - held.at >= CALM_MS;
  if (isDue) held = { election, regions, at: Date.now() };
  return held.regions;
}

function tile(figures, election, scale, isCurrent, { href, click }, left, top) {
  const { region } = figures;
  const fill = scale.fill(figures, election);
  const place = { "grid-column": String(region.grid_col - left + 1), "grid-row": String(region.grid_row - top + 1) };
  return html`
    <a class="tile" href=${href} data-region=${region.code} data-leader=${figures.leader ?? nothing} tabindex=${isCurrent ? 0 : -1}
      @click=${click}
      ${css({ ...place, "--fill": fill ?? "var(--track)", "--on": fill ? inkOn(fill) : "var(--soft)" })}>
      <span aria-hidden="true">${region.code.slice(0, 5)}</span><small aria-hidden="true">${scale.text(figures, election)}</small>
      <span class="hidden">${describe(figures, election)}</span>
    </a>`;
}

const grids = new WeakMap();
function gridOf(election) {
  if (!grids.has(election)) {
    const columns = election.tiles.map(({ grid_col }) => grid_col);
    const rows = election.tiles.map(({ grid_row }) => grid_row);
    const [left, top] = [Math.min(...columns), Math.min(...rows)];
    const ordered = election.tiles.toSorted((a, b) => a.grid_row - b.grid_row || a.grid_col - b.grid_col);
    grids.set(election, { left, top, columns: Math.max(...columns) - left + 1, rows: Math.max(...rows) - top + 1, first: ordered[0].code });
  }
  return grids.get(election);
}

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Moves to the nearest tile in the arrow's direction; tiles off the straight line count as farther.
function move(event, election) {
  const way = WAYS[event.key];
  const here = election.region(event.target.closest("[data-region]")?.dataset.region);
  if (!way || !here || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const [x, y] = way;
  let best = null;
  for (const { grid_col, grid_row, code } of election.tiles) {
    const ahead = (grid_col - here.grid_col) * x + (grid_row - here.grid_row) * y;
    const aside = Math.abs((grid_col - here.grid_col) * y) + Math.abs((grid_row - here.grid_row) * x);
    const distance = ahead + 3 * aside;
    if (ahead > 0 && (!best || distance < best.distance)) best = { code, distance };
  }
  if (best) event.currentTarget.querySelector(`[data-region="${CSS.escape(best.code)}"]`).focus();
}

function point(event) {
  const code = event.target.closest("[data-region]")?.dataset.region;
  if (!code) return;
  pointed = code;
  if (event.type === "focusin") current = code;
  requestRender();
}

function unpoint(event) {
  // The focus stays when the pointer leaves.
  const focused = event.type === "pointerleave" ? event.currentTarget.querySelector(":focus-visible") : null;
  pointed = focused?.dataset.region ?? null;
  requestRender();
}
