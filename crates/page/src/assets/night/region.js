// A region's full result, in a dialog over the page. Fetched from the API when it opens, and again when the region
// changes.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { css } from "../dom.js";
import { regionFigures } from "../figures.js";
import { count, percent } from "../format.js";
import { t } from "../i18n.js";
import { address } from "../root.js";
import { afterRender, requestRender } from "../schedule.js";
import { seen } from "../theme.js";
import { go, query } from "../url.js";
import { leadWords } from "./words.js";

const AGAIN_MS = 2000;

let held = { code: null, results: null, problem: null, of: null };
let asking = false;
let askedAt = 0;

export function regionDialog({ state, election }) {
  const region = election.region(query.region);
  if (region) keep(region, state);
  afterRender(() => toggle(Boolean(query.region)));
  return html`
    <dialog id="region" aria-labelledby="region-title" data-region=${query.region ?? nothing} @close=${closed} @click=${outside}>
      ${query.region ? content(region, state, election) : nothing}
    </dialog>`;
}

function content(region, state, election) {
  const close = html`<button type="button" class="close" data-close aria-label=${t("dialog.close")} @click=${closed}>✕</button>`;
  if (!region) return html`<div class="head"><h2 id="region-title">${t("dialog.unknown", { code: query.region })}</h2>${close}</div>`;
  const { results, problem } = held.code === region.code ? held : {};
  const figures = state.regions ? regionFigures(region, state.regions) : null;
  return html`
    <div class="head"><h2 id="region-title">${region.name} <small>${region.code}</small></h2>${close}</div>
    ${figures ? html`<p>${leadWords(figures, election)}</p>` : nothing}
    ${summary(region, figures, results)}
    ${problem ? html`<p class="problem">${t("dialog.failed", { problem })}</p>` : nothing}
    ${results ? result(results, election, region) : problem ? nothing : html`<p class="note">${t("dialog.loading")}</p>`}`;
}

function summary(region, figures, results) {
  const votes = figures?.votes ?? results?.reduce((sum, row) => sum + row.votes, 0);
  const fact = (name, value) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
  return html`
    <dl class="facts">
      ${fact(t("dialog.registered"), region.registered === null ? t("unknown") : count(region.registered))}
      ${fact(t("dialog.counted"), count(votes))}
      ${fact(t("dialog.turnout"), region.registered > 0 ? percent(votes / region.registered, 1) : t("unknown"))}
      ${fact(t(`dialog.coming.${region.basis}`), region.expected > 0 ? count(Math.max(0, region.expected - votes)) : "–")}
    </dl>`;
}

// BLANK and NULL are on every ballot; they count as turnout but not as valid votes.
const INVALID = { BLANK: "bars.blank", NULL: "bars.null" };

function result(results, election, region) {
  const isInvalid = ({ choice }) => choice in INVALID;
  const valid = results.filter((row) => !isInvalid(row)).reduce((sum, { votes }) => sum + votes, 0);
  const most = Math.max(1, ...results.map(({ votes }) => votes));
  const colors = new Map(election.choices.filter((choice) => choice.region === null || choice.region === region.code).map(({ code, color }) => [code, color]));
  return html`
    <table class="result">
      <thead><tr><th scope="col">${t("dialog.choice")}</th><th scope="col" class="bar"><span class="hidden">${t("table.bar")}</span></th>
        <th scope="col" class="number">${t("bars.share")}</th><th scope="col" class="number">${t("bars.votes")}</th></tr></thead>
      <tbody>
        ${results.map((row) => html`
          <tr data-choice=${row.choice} data-votes=${row.votes}>
            <th scope="row">${isInvalid(row) ? t(INVALID[row.choice]) : row.name}</th>
            <td class="bar"><span class="track"><i ${css({ transform: `scaleX(${(row.votes / most).toFixed(5)})`, "background-color": colors.has(row.choice) ? seen(colors.get(row.choice)) : "var(--soft)" })}></i></span></td>
            <td class="number">${isInvalid(row) || !valid ? "" : percent(row.votes / valid)}</td>
            <td class="number">${count(row.votes)}</td>
          </tr>`)}
      </tbody>
    </table>`;
}

function keep(region, state) {
  const now = state.regions ? state.regions[region.code] : state.at;
  const isStale = held.code !== region.code || held.of !== now;
  if (!isStale || asking) return;
  // A region that changes all the time is fetched only now and then; the next rendering will try again.
  if (held.code === region.code && Date.now() - askedAt < AGAIN_MS) return;
  if (held.code !== region.code) held = { code: region.code, results: null, problem: null, of: null };
  ask(region, now);
}

async function ask(region, of) {
  asking = true;
  askedAt = Date.now();
  const next = { code: region.code, results: held.results, problem: null, of };
  try {
    const answer = await fetch(address(`api/v1/results/regions?region=${encodeURIComponent(region.code)}`));
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error ?? `HTTP ${answer.status}`);
    next.results = body.results;
  } catch (error) {
    next.problem = error.message;
    next.of = null;
  }
  asking = false;
  held = next;
  requestRender();
}

let opener = null;

function toggle(isOpen) {
  const dialog = document.getElementById("region");
  if (!dialog || dialog.open === isOpen) return;
  if (isOpen) {
    opener = document.activeElement;
    dialog.showModal();
  } else {
    dialog.close();
    // The element may have been replaced meanwhile.
    if (opener?.isConnected) opener.focus();
  }
}

function closed() {
  if (query.region) go({ region: null });
}

function outside(event) {
  if (event.target === event.currentTarget) closed();
}
