// Rejected votes by reason, each explained, and double votes by region.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { css } from "../dom.js";
import { count, percent } from "../format.js";
import { has, t } from "../i18n.js";
import { follow, link } from "../url.js";

const REGIONS_MOST = 12;

export function rejections({ rejections, accounting }) {
  const reasons = Object.entries(rejections ?? {}).sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const total = reasons.reduce((sum, [, votes]) => sum + votes, 0);
  const received = accounting?.received ?? 0;
  const most = Math.max(1, ...reasons.map(([, votes]) => votes));
  return html`
    <section class="card" aria-labelledby="rejections-title">
      <h2 id="rejections-title">${t("trust.rejections")}</h2>
      ${total === 0
        ? html`<p class="note">${t("trust.rejections.none")}</p>`
        : html`<ul class="reasons" id="rejections">
              ${repeat(reasons, ([reason]) => reason, ([reason, votes]) => html`
                <li data-reason=${reason} data-votes=${votes}>
                  <span class="what">${has(`reason.${reason}`) ? t(`reason.${reason}`) : reason}</span><b>${count(votes)}</b>
                  <span class="track"><i ${css({ transform: `scaleX(${(votes / most).toFixed(4)})` })}></i></span>
                  ${has(`reason.${reason}.why`) ? html`<small>${t(`reason.${reason}.why`)} <code>${reason}</code></small>` : nothing}
                </li>`)}
            </ul>
            <p class="note">${t("trust.rejections.note", { n: total, received, share: percent(received ? total / received : null, 2) })}</p>`}
    </section>`;
}

export function doubleVotes({ state, election }) {
  const rows = Object.entries(state.double_votes ?? {}).sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const placed = rows.reduce((sum, [, votes]) => sum + votes, 0);
  const total = state.rejections?.already_voted ?? 0;
  const most = Math.max(1, ...rows.map(([, votes]) => votes));
  return html`
    <section class="card" aria-labelledby="double-title">
      <h2 id="double-title">${t("trust.double")}</h2>
      ${rows.length === 0
        ? html`<p class="note">${total === 0 ? t("trust.double.none") : t("trust.double.note", { n: 0, total })}</p>`
        : html`<ol class="double" id="double">
              ${rows.slice(0, REGIONS_MOST).map(([code, votes]) => html`
                <li data-region=${code} data-votes=${votes}>
                  ${place(code, election)}
                  <span class="track"><i ${css({ transform: `scaleX(${(votes / most).toFixed(4)})` })}></i></span><b>${count(votes)}</b>
                </li>`)}
            </ol>
            ${rows.length > REGIONS_MOST ? html`<p class="note">${t("trust.double.more", { n: rows.length - REGIONS_MOST })}</p>` : nothing}
            <p class="note">${t("trust.double.note", { n: placed, total })}</p>`}
    </section>`;
}

// The evidence may name a region that the election does not have.
function place(code, election) {
  const region = election.region(code);
  return region
    ? html`<a href=${link({ view: null, region: code })} @click=${follow({ view: "night", region: code })}>${region.name}</a>`
    : html`<span>${code || "–"}</span>`;
}
