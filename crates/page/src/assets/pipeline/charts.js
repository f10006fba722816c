// Throughput and latency over the last two minutes.

import { html } from "../vendor/lit-html/lit-html.js";
import { axis, drawNames, timeAxis } from "../chart.js";
import { figure } from "../figure.js";
import { compact, millis, second } from "../format.js";
import { language, t } from "../i18n.js";
import { theme } from "../theme.js";
import { lately, worst } from "./recent.js";

const drawn = new Map();

// `series`: name, color, values, dash, and how to format a value.
function lines(name, columns, series, { write, least, note, summary }) {
  // The chart outlives the figures it was created with.
  drawn.set(name, { columns, series });
  return figure({
    name,
    note,
    summary: columns.isIdle ? t("pipe.idle") : summary,
    legend: series.map(({ label, color, values }) => ({ name: label, color, value: (i) => write(values[i]) })),
    alwaysValues: true,
    table: { head: [t("chart.time"), ...series.map(({ label }) => label)], length: columns.seconds.length,
      row: (i) => [second(columns.seconds[i] * 1000), ...series.map(({ values }) => write(values[i]))] },
    spec: {
      key: [name, language, theme.version].join(),
      data: dataOf(columns, series),
      height: () => 240,
      options: (width) => ({
        padding: [12, width < 560 ? 12 : 116, 0, 0],
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
        scales: {
          x: { time: false, range: () => [drawn.get(name).columns.seconds[0], drawn.get(name).columns.end] },
          y: { range: (u, low, high) => [0, Math.max(least, high ?? 0) * 1.1] },
        },
        series: [{}, ...series.map(({ color, dash, width: line }) => ({ stroke: color, width: line ?? 2, dash, points: { show: false }, spanGaps: false }))],
        axes: [timeAxis(), axis(write)],
        hooks: { draw: [(u) => drawNames(u, width < 560 ? [] : ends(name))] },
      }),
    },
  });
}

// The same figures give the same array, so that nothing is redrawn needlessly.
const made = new Map();
function dataOf(columns, series) {
  const key = series.map(({ label }) => label).join();
  const held = made.get(key);
  if (held?.columns === columns) return held.data;
  const data = [columns.seconds, ...series.map(({ values }) => values)];
  made.set(key, { columns, data });
  return data;
}

function ends(name) {
  const { columns, series } = drawn.get(name);
  return series.map(({ label, color, values }) => {
    const last = values.findLastIndex((value) => value !== null);
    return { text: label.replace(/ \(.*/, ""), color, time: columns.seconds[Math.max(0, last)], value: values[last] ?? NaN };
  });
}

export function throughput(columns) {
  const series = [
    { label: t("pipe.received"), color: theme.ink, values: columns.received, width: 1.5, dash: [6, 4] },
    { label: t("pipe.counted"), color: theme.accent, values: columns.counted, width: 2.5 },
    { label: t("pipe.rejected"), color: theme.warn, values: columns.rejected },
  ];
  const [received, counted, rejected] = series.map(({ values }) => Math.round(lately(values) ?? 0));
  return html`
    <section class="card" aria-labelledby="throughput-title">
      <h2 id="throughput-title">${t("pipe.throughput")}</h2>
      ${lines("throughput", columns, series, { write: compact, least: 10, note: t("pipe.throughput.note"), summary: t("pipe.throughput.summary", { received, counted, rejected }) })}
    </section>`;
}

export function latency(columns) {
  const series = [
    { label: t("pipe.p50"), color: theme.accent, values: columns.p50, width: 2.5 },
    { label: t("pipe.p99"), color: theme.warn, values: columns.p99 },
  ];
  return html`
    <section class="card" aria-labelledby="latency-title">
      <h2 id="latency-title">${t("pipe.delay")}</h2>
      ${lines("latency", columns, series, { write: millis, least: 20, note: t("pipe.delay.note"),
        summary: lately(columns.p50) === null ? t("pipe.quiet") : t("pipe.delay.summary", { p50: millis(lately(columns.p50)), p99: millis(worst(columns.p99)) }) })}
    </section>`;
}
