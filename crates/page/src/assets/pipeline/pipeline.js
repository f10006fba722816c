// The pipeline view, for operators: throughput, lag, latency, and the health of every part.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { css } from "../dom.js";
import { ago, bytes, compact, count, dateTime, decimal, millis, percent, second } from "../format.js";
import { t } from "../i18n.js";
import { safely } from "../safely.js";
import { latency, throughput } from "./charts.js";
import { lately, recent, worst } from "./recent.js";

export function pipeline({ state, now }) {
  const columns = recent(state, now);
  return html`
    ${safely("gauges", () => gauges(state, columns))}
    <div class="columns half">${safely("throughput", () => throughput(columns))} ${safely("latency", () => latency(columns))}</div>
    <div class="columns half">
      ${safely("lags", () => lags(state.lag))}
      <div class="stack">${safely("parts", () => parts(state))} ${safely("health", () => counters(state, now))}</div>
    </div>`;
}

function gauges(state, columns) {
  const rate = lately(columns.received) ?? 0;
  const batches = lately(columns.batches) ?? 0;
  const lag = state.lag?.votes ?? 0;
  const book = state.poll_book;
  const gauge = (name, id, value, text, note) => html`
    <div><dt>${name}</dt><dd><b id=${id} data-value=${value}>${text}</b><small>${note}</small></dd></div>`;
  return html`
    <section class="card" aria-label=${t("overview")}>
      <h2 class="hidden">${t("overview")}</h2>
      <dl class="gauges">
        ${gauge(t("pipe.rate"), "rate", Math.round(rate), compact(Math.round(rate)), t("pipe.recent"))}
        ${gauge(t("pipe.lag"), "lag", lag, count(lag), state.lag?.updated_at ? second(Date.parse(state.lag.updated_at)) : "–")}
        ${gauge(t("pipe.latency"), "latency", worst(columns.p99) ?? "", `${millis(lately(columns.p50))} / ${millis(worst(columns.p99))}`, t("pipe.recent"))}
        ${gauge(t("pipe.batches"), "batches", batches, decimal(batches), t("pipe.recent"))}
        ${gauge(t("pipe.poll_book"), "poll-book", book?.voters ?? "", count(book?.voters), book ? t("pipe.poll_book.bytes", { bytes: bytes(book.bytes), n: book.chunks }) : t("pipe.poll_book.none"))}
      </dl>
    </section>`;
}

function lags(lag) {
  const rows = Object.entries(lag?.partitions ?? {}).sort(([a], [b]) => a - b);
  const most = Math.max(1, ...rows.map(([, { votes }]) => votes));
  return html`
    <section class="card" aria-labelledby="lags-title">
      <h2 id="lags-title">${t("pipe.lag.title")}</h2>
      <div class="scroll" tabindex="0" role="group" aria-labelledby="lags-title">
        <table id="lags" class="plain">
          <thead><tr><th scope="col">${t("pipe.partition")}</th><th scope="col">${t("pipe.position")}</th><th scope="col">${t("pipe.end")}</th>
            <th scope="col">${t("pipe.waiting")}</th><th scope="col" class="bar"><span class="hidden">${t("pipe.waiting")}</span></th><th scope="col">${t("pipe.updated")}</th></tr></thead>
          <tbody>${rows.map(([partition, { next_offset, end_offset, votes, updated_at }]) => html`
            <tr data-partition=${partition} data-votes=${votes}>
              <th scope="row">${partition}</th><td>${count(next_offset)}</td><td>${count(end_offset)}</td><td>${count(votes)}</td>
              <td class="bar"><span class="track"><i ${css({ transform: `scaleX(${(votes / most).toFixed(4)})` })}></i></span></td>
              <td>${updated_at ? second(Date.parse(updated_at)) : "–"}</td>
            </tr>`)}</tbody>
        </table>
      </div>
    </section>`;
}

function parts({ parts, problem, started_at }) {
  const rows = Object.entries(parts ?? {});
  return html`
    <section class="card" aria-labelledby="parts-title">
      <h2 id="parts-title">${t("pipe.parts")}</h2>
      <table id="parts" class="plain">
        <thead><tr><th scope="col">${t("pipe.part")}</th><th scope="col">${t("pipe.state")}</th><th scope="col">${t("pipe.since")}</th></tr></thead>
        <tbody>${rows.map(([name, part]) => html`
          <tr data-part=${name} data-ready=${part.ready}>
            <th scope="row">${name}</th>
            <td class=${part.ready ? "good" : "bad"}>${part.ready ? `✓ ${t("pipe.ready")}` : `✗ ${t("pipe.notready")}`}${part.problem ? html`<small lang="en">${part.problem}</small>` : nothing}</td>
            <td>${part.since ? dateTime(Date.parse(part.since)) : "–"}</td>
          </tr>`)}</tbody>
      </table>
      ${problem ? html`<p class="problem" lang="en">${problem}</p>` : nothing}
      ${started_at ? html`<p class="note">${t("pipe.started", { time: dateTime(Date.parse(started_at)) })}</p>` : nothing}
    </section>`;
}

function counters({ health }, now) {
  const rows = Object.entries(health ?? {});
  if (!rows.length) return nothing;
  return html`
    <section class="card" aria-labelledby="health-title">
      <h2 id="health-title">${t("pipe.health")}</h2>
      <div class="scroll" tabindex="0" role="group" aria-labelledby="health-title">
        <table id="health" class="plain">
          <thead><tr><th scope="col">${t("pipe.counter")}</th><th scope="col">${t("pipe.by")}</th><th scope="col">${t("pipe.waiting")}</th>
            <th scope="col">${t("pipe.rejected.share")}</th><th scope="col">${t("pipe.idle.for")}</th><th scope="col">${t("pipe.books")}</th></tr></thead>
          <tbody>${rows.map(([name, { counted_by, holds, waiting, rejected_share, last_commit }]) => html`
            <tr data-counter=${name}>
              <th scope="row">${name}</th><td>${counted_by ?? "–"}</td><td>${count(waiting)}</td><td>${percent(rejected_share, 2)}</td>
              <td>${last_commit ? second(Date.parse(last_commit)) : "–"}${last_commit ? html`<small>${ago(now - Date.parse(last_commit))}</small>` : nothing}</td>
              <td class=${holds === false ? "bad" : "good"}>${holds === false ? `✗ ${t("trust.no")}` : `✓ ${t("trust.yes")}`}</td>
            </tr>`)}</tbody>
        </table>
      </div>
    </section>`;
}
