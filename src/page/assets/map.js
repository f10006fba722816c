// A tile for each region, in the colour of who leads there; the fainter, the closer.

import { blend, byId, count, el, hide, inkOn, percent, plural, say, setAll, svg, tip, untip } from "./dom.js";

const TILE = 34;
const GAP = 3;
// From this lead on (as a share of the valid votes) a tile has its full colour.
const WIDE = 0.2;

let tiles = null;
let figures = new Map();
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", paint);

// Makes the map of an election; hides it where regions have no place in a grid.
export function makeMap(election) {
  const placed = election.regions.filter((region) => region.grid_col !== null && region.grid_row !== null);
  hide(byId("map-card"), placed.length === 0);
  byId("columns").classList.toggle("single", placed.length === 0);
  figures = new Map();
  tiles = new Map();
  if (placed.length === 0) return;
  const columns = placed.map(({ grid_col }) => grid_col);
  const lines = placed.map(({ grid_row }) => grid_row);
  const [left, top] = [Math.min(...columns), Math.min(...lines)];
  const width = (Math.max(...columns) - left + 1) * (TILE + GAP) - GAP;
  const height = (Math.max(...lines) - top + 1) * (TILE + GAP) - GAP;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Map of the regions by who leads" });
  for (const region of placed) {
    const x = (region.grid_col - left) * (TILE + GAP);
    const y = (region.grid_row - top) * (TILE + GAP);
    const square = svg("rect", { x, y, width: TILE, height: TILE, rx: 4 });
    const code = svg("text", { x: x + TILE / 2, y: y + TILE / 2 + 4, "text-anchor": "middle" }, region.region.slice(0, 4));
    const tile = svg("g", { class: "tile" }, square, code);
    tile.addEventListener("pointermove", (event) => tip(event, describe(region)));
    tile.addEventListener("pointerleave", untip);
    tiles.set(region.region, { square, code });
    picture.append(tile);
  }
  byId("map").replaceChildren(picture);
  paint();
}

export function showMap(regions) {
  figures = new Map(regions.map((region) => [region.region, region]));
  paint();
  legend(regions);
}

function paint() {
  if (!tiles) return;
  const [ground, empty, ink] = dark.matches ? ["#1a2029", "#262e39", "#8b95a5"] : ["#ffffff", "#eceae4", "#7a7f89"];
  for (const [region, { square, code }] of tiles) {
    const figure = figures.get(region);
    const color = figure?.choice ? blend(ground, figure.color, 0.4 + 0.6 * Math.min(1, figure.margin_share / WIDE)) : empty;
    setAll(square, { fill: color });
    setAll(code, { fill: figure?.choice ? inkOn(color) : ink });
  }
}

function describe(region) {
  const figure = figures.get(region.region);
  const lines = [el("b", {}, `${region.name} (${region.region})`)];
  if (figure?.choice) {
    const swatch = el("i", { class: "swatch" });
    swatch.style.backgroundColor = figure.color;
    const lead =
      figure.margin === 0
        ? `level with ${figure.runner_up_name}`
        : figure.runner_up_name
          ? `${plural(figure.margin, "vote", "votes")} (${(figure.margin_share * 100).toFixed(1)} points) ahead of ${figure.runner_up_name}`
          : "alone on the ballot";
    lines.push(el("span", {}, swatch, `${figure.name}: ${count(figure.leader_votes)}`), el("span", {}, lead));
  } else {
    lines.push(el("span", {}, "No valid vote counted yet"));
  }
  const turnout = region.registered > 0 ? `, turnout ${percent((figure?.votes ?? 0) / region.registered, 1)}` : "";
  lines.push(el("span", {}, `${plural(figure?.votes ?? 0, "vote", "votes")} counted${turnout}`));
  return lines;
}

// In how many regions each choice leads: at most six of them.
function legend(regions) {
  const led = new Map();
  for (const { choice, name, color, margin } of regions) {
    if (!choice || margin === 0) continue;
    const entry = led.get(choice) ?? { name, color, regions: 0 };
    entry.regions += 1;
    led.set(choice, entry);
  }
  const all = [...led.values()].sort((a, b) => b.regions - a.regions);
  const items = all.slice(0, 6).map(({ name, color, regions: number }) => {
    const swatch = el("i", { class: "swatch" });
    swatch.style.backgroundColor = color;
    return el("li", {}, swatch, el("span", {}, name), el("b", {}, count(number)));
  });
  const rest = all.slice(6).reduce((sum, { regions: number }) => sum + number, 0);
  if (rest) items.push(el("li", {}, el("span", {}, "others"), el("b", {}, count(rest))));
  const undecided = regions.length - all.reduce((sum, { regions: number }) => sum + number, 0);
  if (undecided) items.push(el("li", {}, el("span", {}, "level or no votes yet"), el("b", {}, count(undecided))));
  items.push(el("li", { class: "key" }, el("span", {}, "faint: close; full: 20 points or more ahead")));
  const list = byId("map-legend");
  if (say.last !== JSON.stringify([all, undecided])) {
    say.last = JSON.stringify([all, undecided]);
    list.replaceChildren(...items);
  }
}
