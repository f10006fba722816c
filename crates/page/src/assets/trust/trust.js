// The trust view: whether the books balance, what was rejected and why, and how to check for oneself.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { count } from "../format.js";
import { t } from "../i18n.js";
import { books, keepBooks } from "./partitions.js";
import { doubleVotes, rejections } from "./rejections.js";
import { proof } from "./proof.js";
import { safely } from "../safely.js";

export function trust(context) {
  const { state } = context;
  keepBooks(state.accounting);
  return html`
    ${safely("identity", () => identity(state))}
    <div class="columns half">
      ${safely("rejections", () => rejections(state))}
      <div class="stack">${safely("proof", () => proof(context))} ${safely("double", () => doubleVotes(context))}</div>
    </div>
    ${safely("partitions", partitions)}
    <div class="columns half">${promises()} ${safely("checks", () => checks(context))}</div>`;
}

function identity({ accounting }) {
  const { received = 0, counted = 0, rejected = 0, gaps = 0, tallied = 0, rejected_by_reason = 0, holds = true } = accounting ?? {};
  const term = (value, name, id) => html`<span class="term" id=${id} data-value=${value}><b>${count(value)}</b><small>${name}</small></span>`;
  const verdict = received === 0 ? t("trust.none") : holds ? t("trust.holds") : t("trust.broken");
  return html`
    <section class="card identity" aria-labelledby="identity-title">
      <h2 id="identity-title">${t("trust.identity")}</h2>
      <p class="equation" id="equation" data-holds=${holds}>
        ${term(received, t("trust.received"), "received")}<span class="sign">${received === counted + rejected ? "=" : "≠"}</span>
        ${term(counted, t("trust.counted"), "counted-votes")}<span class="sign">+</span>${term(rejected, t("trust.rejected"), "rejected-votes")}
        <span class="verdict"><i aria-hidden="true">${holds ? "✓" : "✗"}</i> ${verdict}</span>
      </p>
      <p class="note">${t("trust.tables", { tallied, rejected: rejected_by_reason })} ${gaps ? t("trust.gaps", { n: gaps }) : nothing}</p>
    </section>`;
}

function partitions() {
  const rows = books.partitions;
  return html`
    <section class="card" aria-labelledby="partitions-title">
      <h2 id="partitions-title">${t("trust.partitions")}</h2>
      ${books.problem ? html`<p class="problem">${t("trust.partitions.failed", { problem: books.problem })}</p>` : nothing}
      ${rows?.length
        ? html`<div class="scroll" tabindex="0" role="group" aria-labelledby="partitions-title">
            <table id="partitions" class="plain">
              <thead><tr>
                <th scope="col">${t("trust.partition")}</th><th scope="col">${t("trust.offsets")}</th><th scope="col">${t("trust.gaps.short")}</th>
                <th scope="col">${t("trust.received")}</th><th scope="col"><span class="hidden">=</span></th><th scope="col">${t("trust.counted")}</th>
                <th scope="col"><span class="hidden">+</span></th><th scope="col">${t("trust.rejected")}</th><th scope="col">${t("trust.balance")}</th>
              </tr></thead>
              <tbody>${rows.map(partition)}</tbody>
            </table>
          </div>`
        : html`<p class="note">${t("trust.none")}</p>`}
    </section>`;
}

const partition = ({ partition, first_offset, next_offset, gaps, received, counted, rejected, holds }) => html`
  <tr data-partition=${partition} data-holds=${holds}>
    <th scope="row">${partition}</th><td>${count(first_offset)} – ${count(next_offset)}</td><td>${count(gaps)}</td>
    <td>${count(received)}</td><td class="sign">${received === counted + rejected ? "=" : "≠"}</td><td>${count(counted)}</td><td class="sign">+</td><td>${count(rejected)}</td>
    <td class=${holds ? "good" : "bad"}>${holds ? `✓ ${t("trust.yes")}` : `✗ ${t("trust.no")}`}</td>
  </tr>`;

const promises = () => html`
  <section class="card" aria-labelledby="promises-title">
    <h2 id="promises-title">${t("trust.promises")}</h2>
    <ol class="promises">${[1, 2, 3, 4, 5].map((number) => html`<li>${t(`promise.${number}`)}</li>`)}</ol>
  </section>`;

const COMMANDS = [
  ["audit", (counter) => `scrutin audit${counter}`],
  ["rejected", (counter) => `scrutin rejected${counter} --format json`],
  ["status", () => "scrutin status"],
  ["results", (counter) => `scrutin results${counter} --by region --format csv`],
];

// The commands default to the counter `native`.
const checks = ({ state }) => html`
  <section class="card" aria-labelledby="check-title">
    <h2 id="check-title">${t("trust.check")}</h2>
    <dl class="commands">
      ${COMMANDS.map(([name, write]) => html`<dt><code>${write(!state.counter || state.counter === "native" ? "" : ` --counter ${state.counter}`)}</code></dt><dd>${t(`check.${name}`)}</dd>`)}
    </dl>
    <h3>${t("trust.download")}</h3>
    <ul class="downloads">
      <li><a href="./api/v1/results.csv" download>${t("footer.results")}</a></li>
      <li><a href="./api/v1/results/regions.csv" download>${t("footer.regions")}</a></li>
    </ul>
  </section>`;
