// Votes by the time they were cast, stacked by choice; or the share each choice had up to then.

import { byId, clocks, compact, count, el, percent, plural, setAll, svg, tip, untip } from "./dom.js";
import { standings } from "./results.js";

const GREYS = { BLANK: ["Blank", "#b4b4b4"], NULL: ["Null", "#8c8c8c"], null: ["Others", "#6f7681"] };
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
const LEFT = 46;
const BOTTOM = 24;
const TOP = 8;

let mode = "votes";
let last = null;

export function showTimeline(timeline, snapshot, election, now) {
  last = [timeline, snapshot, election, now];
  draw();
}

for (const name of ["votes", "share"]) {
  byId(`show-${name}`).addEventListener("click", () => {
    mode = name;
    for (const other of ["votes", "share"]) byId(`show-${other}`).setAttribute("aria-pressed", String(other === mode));
    if (last) draw();
  });
}
new ResizeObserver(() => last && draw()).observe(byId("timeline"));

// The choices of the chart, the leader first; what is no valid vote last.
function layers(timeline, snapshot, election) {
  const found = new Map(timeline.series.map(({ choice, votes }) => [String(choice), votes]));
  const layer = (choice, name, color) => ({ choice, name, color, votes: found.get(choice) });
  const named = new Map(election.choices.map((choice) => [choice.choice, choice]));
  const ranked = standings(snapshot, election).map((result) => layer(result.choice, result.name, result.color));
  const shown = new Set(ranked.map(({ choice }) => choice));
  // A choice may just have left the first ten: the chart is a moment older than the bars.
  for (const choice of found.keys()) {
    if (!shown.has(choice) && named.has(choice)) ranked.push(layer(choice, named.get(choice).name, named.get(choice).color));
  }
  for (const [choice, [name, color]] of [["null", GREYS.null], ["BLANK", GREYS.BLANK], ["NULL", GREYS.NULL]]) {
    ranked.push({ ...layer(choice, name, color), invalid: choice !== "null" });
  }
  return ranked.filter(({ votes }) => votes);
}

function draw() {
  const [timeline, snapshot, election, now] = last;
  const box = byId("timeline");
  const width = Math.max(box.clientWidth, 240);
  const height = width < 520 ? 210 : 290;
  const clock = clocks(election.time_zone);
  const all = layers(timeline, snapshot, election);
  const first = Date.parse(timeline.first);
  const step = timeline.step_seconds * 1000;
  const end = first + timeline.points * step;
  const x = (time) => LEFT + ((time - first) / (end - first)) * (width - LEFT - 8);
  const chart = mode === "votes" ? stack(all, timeline) : shares(all);
  const y = (value) => TOP + (1 - value / chart.top) * (height - TOP - BOTTOM);

  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  picture.setAttribute("aria-label", chart.label);
  axes(picture, { width, height, first, end, x, y, chart, clock });
  const clip = svg("clipPath", { id: "plot" }, svg("rect", { x: LEFT, y: TOP, width: width - LEFT - 8, height: height - TOP - BOTTOM }));
  const plot = svg("g", { "clip-path": "url(#plot)" });
  for (const path of chart.paths((point) => x(first + point * step), y)) plot.append(path);
  picture.append(clip, plot);
  if (now > first && now < end) {
    picture.append(svg("line", { class: "now", x1: x(now), x2: x(now), y1: TOP, y2: height - BOTTOM }));
  }
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: height - BOTTOM, visibility: "hidden" });
  picture.append(cursor);
  picture.addEventListener("pointermove", (event) => {
    const at = event.clientX - picture.getBoundingClientRect().left;
    const point = Math.floor((((at - LEFT) / (width - LEFT - 8)) * (end - first)) / step);
    const lines = point >= 0 && point < chart.length ? chart.lines(point) : [];
    if (!lines.length) return leave();
    const middle = x(first + (point + 0.5) * step);
    setAll(cursor, { x1: middle, x2: middle, visibility: "visible" });
    const write = step < 60000 ? clock.second : clock.minute;
    tip(event, [el("b", {}, `${write(first + point * step)} – ${write(first + (point + 1) * step)}`), ...lines]);
  });
  const leave = () => {
    setAll(cursor, { visibility: "hidden" });
    untip();
  };
  picture.addEventListener("pointerleave", leave);
  // While the chart is pointed at, it is exchanged under the pointer; the tooltip comes back with the next move.
  box.replaceChildren(picture, el("p", { class: "note" }, chart.note));
}

function axes(picture, { width, height, first, end, x, y, chart, clock }) {
  for (const value of ticks(chart.top)) {
    picture.append(
      svg("line", { class: "grid", x1: LEFT, x2: width - 8, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, chart.write(value)),
    );
  }
  const room = Math.max(2, Math.floor((width - LEFT) / 74));
  const seconds = (end - first) / 1000;
  const every = (STEPS.find((candidate) => seconds / candidate <= room) ?? seconds) * 1000;
  const write = every < 60000 ? clock.second : every < 86400000 ? clock.minute : clock.day;
  for (let time = Math.ceil(first / every) * every; time <= end; time += every) {
    const anchor = x(time) > width - 24 ? "end" : "middle";
    picture.append(svg("text", { x: Math.min(x(time), width - 8), y: height - 6, "text-anchor": anchor }, write(time)));
  }
}

// Round figures up to `top`: four or five of them.
function ticks(top) {
  const raw = top / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw * 0.999) * power;
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => i * step);
}

function stack(all, timeline) {
  const length = Math.max(0, ...all.map(({ votes }) => votes.length));
  const sums = Array(length).fill(0);
  const bands = all.map((layer) => {
    const low = sums.slice();
    layer.votes.forEach((votes, point) => (sums[point] += votes));
    return { ...layer, low, high: sums.slice() };
  });
  const every = duration(timeline.step_seconds);
  return {
    length,
    top: Math.max(...sums, 4) * 1.05,
    label: `Votes counted by the time they were cast, per ${every}`,
    note: `Counted votes per ${every}, by the time they were cast. Late arrivals still fill earlier columns.`,
    write: compact,
    lines: (point) => [
      el("span", {}, plural(sums[point], "vote", "votes")),
      ...bands.filter(({ votes }) => votes[point] > 0).map((band) => line(band, count(band.votes[point]))),
    ],
    // Columns without a gap: one outline a choice, there and back.
    paths: (x, y) =>
      bands.map(({ color, low, high }) => {
        const there = high.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)} ${x(i + 1).toFixed(1)},${y(value).toFixed(1)}`);
        const back = low.map((value, i) => `${x(i + 1).toFixed(1)},${y(value).toFixed(1)} ${x(i).toFixed(1)},${y(value).toFixed(1)}`);
        return svg("polygon", { points: [...there, ...back.reverse()].join(" "), fill: color });
      }),
  };
}

function shares(all) {
  const valid = all.filter(({ invalid }) => !invalid);
  const length = Math.max(0, ...valid.map(({ votes }) => votes.length));
  const totals = running(Array.from({ length }, (_, i) => valid.reduce((sum, { votes }) => sum + votes[i], 0)));
  const lines = valid
    .filter(({ choice }) => choice !== "null")
    .map((layer) => ({ ...layer, share: running(layer.votes).map((votes, i) => (totals[i] ? votes / totals[i] : null)) }));
  // The first few votes make wild shares; they may leave the picture but not set its scale.
  const settled = totals.findIndex((total) => total >= (totals[length - 1] ?? 0) * 0.01);
  const most = Math.max(0.04, ...lines.flatMap(({ share }) => share.slice(Math.max(0, settled))));
  return {
    length,
    top: Math.min(1, most * 1.08),
    label: "Share of the valid votes cast up to each time",
    note: "Share of the valid votes cast up to then, as counted so far.",
    write: (value) => percent(value, value > 0 && most < 0.04 ? 1 : 0),
    lines: (point) =>
      lines
        .filter(({ share }) => share[point] !== null)
        .sort((a, b) => b.share[point] - a.share[point])
        .map((band) => line(band, percent(band.share[point]))),
    paths: (x, y) =>
      lines.toReversed().map(({ color, share }) => {
        const points = share.flatMap((value, i) => (value === null ? [] : [`${x(i + 1).toFixed(1)},${y(value).toFixed(1)}`]));
        return svg("polyline", { points: points.join(" "), fill: "none", stroke: color, "stroke-width": 2.5, "stroke-linejoin": "round" });
      }),
  };
}

function running(values) {
  let sum = 0;
  return values.map((value) => (sum += value));
}

function line({ name, color }, figure) {
  const swatch = el("i", { class: "swatch" });
  swatch.style.backgroundColor = color;
  return el("span", {}, swatch, `${name}: ${figure}`);
}

function duration(seconds) {
  const [number, unit] = seconds % 3600 === 0 ? [seconds / 3600, "hour"] : seconds % 60 === 0 ? [seconds / 60, "minute"] : [seconds, "second"];
  return number === 1 ? unit : `${number} ${unit}s`;
}
