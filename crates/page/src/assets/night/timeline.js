// Charts over the voting day: votes per step by candidate, shares so far, and the lead, all by the time votes were
// cast.

import { html } from "../vendor/lit-html/lit-html.js";
import { SHARE_STEPS, VOTE_STEPS, axis, drawNames, drawNow, timeAxis } from "../chart.js";
import { figure } from "../figure.js";
import { columns, running, standings } from "../figures.js";
import { compact, count, every, minute, percent, points, second, signed, signedPoints } from "../format.js";
import { language, t } from "../i18n.js";
import { GREYS, seen, theme } from "../theme.js";
import { follow, link, query } from "../url.js";

const KINDS = ["votes", "share", "lead"];
const NAMES_MOST = 6;

export function timeline({ state, election, now }) {
  const kinds = election.isLocal ? ["votes"] : KINDS;
  const kind = kinds.includes(query.chart) ? query.chart : "votes";
  return html`
    <section class="card timeline" aria-labelledby="timeline-title">
      <div class="head">
        <h2 id="timeline-title">${t("chart.title")}</h2>
        <div class="switch" role="group" aria-label=${t("chart.switch")}>
          ${kinds.map((name) => html`<a href=${link({ chart: name })} data-chart-kind=${name} aria-current=${name === kind ? "true" : "false"}
            @click=${follow({ chart: name }, { replace: true })}>${t(`chart.${name}`)}</a>`)}
        </div>
      </div>
      ${chart(kind, state, election, now)}
    </section>`;
}

function chart(kind, state, election, now) {
  const cols = state.timeline ? columns(state.timeline) : null;
  if (!cols?.length) return html`<p class="note" data-empty>${t("chart.empty")}</p>`;
  const made = { votes: stacked, share: shares, lead: leads }[kind](cols, state, election);
  if (!made) return html`<p class="note" data-empty>${t("chart.empty")}</p>`;
  latest = made;
  nowSeconds = now / 1000;
  const { step, first } = cols;
  const clock = step < 60000 ? second : minute;
  const span = [first / 1000, (first + state.timeline.points * step) / 1000];
  return figure({
    name: kind,
    note: made.note(every(step / 1000)),
    summary: made.summary(clock),
    legend: made.legend,
    alwaysValues: made.alwaysValues,
    table: { head: [t("chart.time"), ...made.head], length: cols.length, row: (i) => [clock(first + i * step), ...made.row(i)] },
    spec: {
      key: [kind, language, theme.version, election.fingerprint, made.key, span].join(),
      data: made.data,
      height: (width) => (width < 560 ? 220 : 380),
      options: (width, uPlot) => ({
        ...made.options(width, uPlot),
        cursor: { y: false, drag: { x: false, y: false }, points: { show: kind !== "votes", size: 7 } },
        scales: { x: { time: false, range: () => span }, y: { range: (u, low, high) => latest.range(low, high) } },
        axes: [timeAxis(), axis((value, step) => latest.write(value, step), { incrs: kind === "votes" ? VOTE_STEPS : SHARE_STEPS })],
        hooks: { draw: [(u) => drawNow(u, nowSeconds), (u) => drawNames(u, width < 560 ? [] : latest.names())] },
      }),
    },
  });
}

// A chart is created once and drawn many times: its scales and custom drawing use the latest figures.
let latest = null;
let nowSeconds = 0;

// The same columns give the same arrays, so that a chart is redrawn only if something changed.
const memo = new Map();
function once(kind, cols, key, make) {
  const held = memo.get(kind);
  if (held?.cols === cols && held.key === key) return held.made;
  const made = make();
  memo.set(kind, { cols, key, made });
  return made;
}

const keyOf = (layers) => layers.map(({ place }) => place).join("-");

// The timeline's candidates, leader first.
function ranked(cols, state, election) {
  const rank = new Map(standings(state, election).map(({ place }, i) => [place, i]));
  const order = [...cols.places.keys()].sort((a, b) => (rank.get(a) ?? Infinity) - (rank.get(b) ?? Infinity) || a - b);
  return order.map((place) => ({ ...election.choices[place], votes: cols.places.get(place) }));
}

const settingsKey = (layers) => [keyOf(layers), language, theme.version].join();

function stacked(cols, state, election) {
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const rest = [["others", "chart.others"], ["blank", "bars.blank"], ["nulls", "bars.null"]]
    .map(([name, key]) => ({ place: name, label: t(key), color: { others: GREYS.others, blank: GREYS.blank, nulls: GREYS.null }[name], votes: cols[name] }))
    .filter(({ votes }) => sum(votes) > 0);
  const layers = [...ranked(cols, state, election), ...rest];
  return once("votes", cols, settingsKey(layers), () => {
    // Each layer is drawn from the bottom to its top; the lower ones are drawn over it.
    const tops = [];
    for (const { votes } of layers) tops.push(votes.map((value, i) => value + (tops.at(-1)?.[i] ?? 0)));
    const totals = tops.at(-1) ?? [];
    const close = (values) => [...values, values.at(-1) ?? null];
    const times = Array.from({ length: cols.length + 1 }, (_, i) => (cols.first + i * cols.step) / 1000);
    const most = Math.max(...totals);
    const at = (i) => cols.first + i * cols.step;
    return {
      key: keyOf(layers),
      data: [times, ...tops.toReversed().map(close)],
      range: (low, high) => [0, Math.max(4, high) * 1.05],
      write: compact,
      options: (width, uPlot) => ({
        padding: [12, 12, 0, 0],
        series: [{}, ...layers.toReversed().map(({ color }) => ({
          fill: seen(color), stroke: theme.card, width: 0.5, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }),
        }))],
      }),
      names: () => [],
      legend: layers.map(({ label, color, votes }) => ({ name: label, color: seen(color), value: (i) => count(votes[i]) })),
      head: [t("chart.total"), ...layers.map(({ label }) => label)],
      row: (i) => [count(totals[i]), ...layers.map(({ votes }) => count(votes[i]))],
      note: (every) => t("chart.votes.note", { every }),
      summary: (clock) => t("chart.votes.summary", {
        votes: most, time: clock(at(totals.indexOf(most))), last: clock(at(cols.length - 1)), lastVotes: totals.at(-1),
      }),
    };
  });
}

// Shares of the first few votes are wild; only those from a hundredth of all votes on set the scale.
const settled = (sums) => Math.max(0, sums.findIndex((votes) => votes >= sums.at(-1) * 0.01));

function shares(cols, state, election) {
  const layers = ranked(cols, state, election);
  return once("share", cols, settingsKey(layers), () => {
    const sums = running(cols.valid);
    if (!sums.at(-1)) return null;
    const lines = layers.map(({ votes }) => running(votes).map((value, i) => (sums[i] ? value / sums[i] : null)));
    const from = settled(sums);
    const most = Math.max(0.02, ...lines.map((line) => Math.max(...line.slice(from))));
    const ends = Array.from({ length: cols.length }, (_, i) => (cols.first + (i + 1) * cols.step) / 1000);
    return {
      key: keyOf(layers),
      data: [ends, ...lines],
      range: () => [0, Math.min(1, most * 1.1)],
      write: (value, every) => percent(value, every < 0.00999 ? 1 : 0),
      options: (width) => ({
        padding: [12, width < 560 ? 12 : 130, 0, 0],
        series: [{}, ...layers.map(({ color }, i) => ({ stroke: seen(color), width: i < 2 ? 3 : 2, points: { show: false } }))],
      }),
      names: () => layers.slice(0, NAMES_MOST).map(({ short, color }, i) => ({ text: short, color: seen(color), time: ends.at(-1), value: lines[i].at(-1) })),
      legend: layers.map(({ label, color }, i) => ({ name: label, color: seen(color), value: (row) => percent(lines[i][row], 1) })),
      alwaysValues: true,
      head: layers.map(({ label }) => label),
      row: (i) => lines.map((line) => percent(line[i], 2)),
      note: () => t("chart.share.note"),
      summary: () => t("chart.share.summary", {
        first: layers[0].name, firstShare: percent(lines[0].at(-1)), second: layers[1]?.name ?? "–", secondShare: percent(lines[1]?.at(-1)),
      }),
    };
  });
}

// The lead over time of the present leader over the present runner-up.
function leads(cols, state, election) {
  const [first, second] = ranked(cols, state, election);
  if (!second) return null;
  return once("lead", cols, settingsKey([first, second]), () => {
    const sums = running(cols.valid);
    if (!sums.at(-1)) return null;
    const [a, b] = [running(first.votes), running(second.votes)];
    const line = a.map((votes, i) => (sums[i] ? (votes - b[i]) / sums[i] : null));
    const from = settled(sums);
    const range = line.slice(from);
    const [least, most] = [Math.min(...range), Math.max(...range)];
    const at = (value) => cols.first + (line.indexOf(value, from) + 1) * cols.step;
    const ends = Array.from({ length: cols.length }, (_, i) => (cols.first + (i + 1) * cols.step) / 1000);
    const over = (sign) => line.map((value) => (value === null ? null : sign * Math.max(0, sign * value)));
    const room = Math.max(0.005, most - least, Math.abs(most), Math.abs(least)) * 0.15;
    return {
      key: keyOf([first, second]),
      data: [ends, over(1), over(-1), line],
      range: () => [Math.min(0, least) - (least < 0 ? room : 0), Math.max(0, most) + room],
      write: (value, every) => signedPoints(value, every < 0.00999 ? 1 : 0),
      options: (width) => ({
        padding: [12, width < 560 ? 12 : 130, 0, 0],
        series: [
          {},
          { fill: `${seen(first.color)}66`, width: 0, points: { show: false } },
          { fill: `${seen(second.color)}66`, width: 0, points: { show: false } },
          { stroke: theme.ink, width: 2.5, points: { show: false } },
        ],
      }),
      names: () => [{ text: `${signedPoints(line.at(-1), 2)}`, color: seen((line.at(-1) < 0 ? second : first).color), time: ends.at(-1), value: line.at(-1) }],
      legend: [
        { name: t("chart.lead"), color: theme.ink, value: (i) => t("points", { points: signedPoints(line[i]) }) },
        ...[[first, a], [second, b]].map(([{ label, color }, votes]) => ({ name: label, color: seen(color), value: (i) => count(votes[i]) })),
      ],
      alwaysValues: true,
      head: [t("chart.lead"), t("bars.votes"), first.label, second.label],
      row: (i) => [t("points", { points: signedPoints(line[i]) }), signed(a[i] - b[i]), count(a[i]), count(b[i])],
      note: () => t("chart.lead.note", { first: first.name, second: second.name }),
      summary: (clock) => t("chart.lead.summary", {
        lead: points(line.at(-1)), most: points(most), mostTime: clock(at(most)), least: points(least), leastTime: clock(at(least)),
      }),
    };
  });
}
