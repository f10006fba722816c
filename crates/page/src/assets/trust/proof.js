// Independent checks of the count: the other counters, and the last audit.

import { html } from "../vendor/lit-html/lit-html.js";
import { dateTime } from "../format.js";
import { t } from "../i18n.js";

export const proof = ({ state }) => html`
  <section class="card" aria-labelledby="agreement-title">
    <h2 id="agreement-title">${t("trust.agreement")}</h2>
    ${state.agreement?.length
      ? html`<ul class="verdicts" id="agreement">${state.agreement.map(verdict)}</ul>`
      : html`<p class="note">${t("trust.agreement.one")}</p>`}
  </section>
  <section class="card" aria-labelledby="audit-title">
    <h2 id="audit-title">${t("trust.audit")}</h2>
    ${audit(state.last_audit)}
  </section>`;

function verdict({ counter, other, partitions_apart, votes_apart, rejections_apart, agree }) {
  const pair = { a: counter, b: other };
  const text = agree
    ? t("trust.agreement.agree", pair)
    : partitions_apart > 0
      ? t("trust.agreement.behind", { ...pair, n: partitions_apart })
      : t("trust.agreement.differ", { ...pair, votes: votes_apart, rejections: rejections_apart });
  const kind = agree ? "good" : partitions_apart > 0 ? "soft" : "bad";
  return html`<li data-agree=${agree} class=${kind}><i aria-hidden="true">${agree ? "✓" : partitions_apart > 0 ? "…" : "✗"}</i> ${text}</li>`;
}

function audit(last) {
  if (!last) return html`<p class="note" id="audit">${t("trust.audit.none")}</p>`;
  const { audited_at, recounted, differences, summary } = last;
  const time = dateTime(Date.parse(audited_at));
  const text = differences === 0 ? t("trust.audit.clean", { n: recounted, time }) : t("trust.audit.differences", { n: differences, votes: recounted, time });
  return html`
    <p id="audit" class=${differences === 0 ? "good" : "bad"} data-differences=${differences}><i aria-hidden="true">${differences === 0 ? "✓" : "✗"}</i> ${text}</p>
    <p class="note" lang="en">${summary}</p>`;
}
