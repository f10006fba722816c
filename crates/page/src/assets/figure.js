// A chart with text alternatives: a summary for those who cannot see it, and some of its rows as a table.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { css } from "./dom.js";
import { t } from "./i18n.js";
import { plot } from "./chart.js";
import { requestRender } from "./schedule.js";

const ROWS = 12;
const opened = new Set();
const failures = new Set();
const pointed = new Map(); // by chart, the row under the pointer

// `name` is the chart's unique name; `spec` as in chart.js; `table` has `head` (texts), `length` and `row(i)` (texts);
// `legend` has `name`, `color` and the text of its value at a row. Values are shown for the row under the pointer, or
// with `alwaysValues` for the last row otherwise.
export function figure({ name, spec, summary, note, legend, table, alwaysValues }) {
  const isPointed = pointed.has(name);
  const at = Math.min(table.length - 1, pointed.get(name) ?? table.length - 1);
  const failed = (error) => {
    console.warn(error);
    failures.add(name);
    requestRender();
  };
  return html`
    <figure class="chart" data-chart=${name}>
      <div class="plot" role="img" aria-label=${`${note} ${summary}`} ${plot({ ...spec, failed, pointed: (i) => point(name, i) })}></div>
      <ul class="keys">
        ${isPointed ? html`<li class="soft">${table.row(at)[0]}</li>` : nothing}
        ${legend.map(({ name: label, color, value }) => html`<li><i class="swatch" ${css({ "background-color": color })}></i>${label}${value && (isPointed || alwaysValues) ? html` <b>${value(at)}</b>` : nothing}</li>`)}
      </ul>
      <figcaption class="note">${failures.has(name) ? t("chart.failed") : nothing} ${note} <span class="summary">${summary}</span></figcaption>
      <details ?open=${opened.has(name)} @toggle=${(event) => toggle(event, name)}>
        <summary>${t("chart.table")}</summary>
        ${opened.has(name) ? rows(table) : nothing}
      </details>
    </figure>`;
}

function point(name, row) {
  if (row === pointed.get(name)) return;
  if (row === undefined) pointed.delete(name);
  else pointed.set(name, row);
  requestRender();
}

function toggle({ currentTarget }, name) {
  if (currentTarget.open) opened.add(name);
  else opened.delete(name);
  requestRender();
}

// The last row, and earlier ones at equal distances.
function rows({ head, length, row }) {
  const every = Math.max(1, Math.ceil(length / ROWS));
  const shown = [];
  for (let i = length - 1; i >= 0; i -= every) shown.unshift(i);
  return html`
    <div class="scroll" tabindex="0" role="group" aria-label=${t("chart.table")}>
      <table class="plain">
        <thead><tr>${head.map((text) => html`<th scope="col">${text}</th>`)}</tr></thead>
        <tbody>${shown.map((i) => {
          const [first, ...rest] = row(i);
          return html`<tr><th scope="row">${first}</th>${rest.map((text) => html`<td>${text}</td>`)}</tr>`;
        })}</tbody>
      </table>
    </div>`;
}
