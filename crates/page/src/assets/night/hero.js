// The headline figures: votes counted, turnout, and who leads.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { css } from "../dom.js";
import { polls, progress, standings } from "../figures.js";
import { count, percent, points } from "../format.js";
import { t } from "../i18n.js";
import { seen } from "../theme.js";

export function hero({ state, election, now }) {
  const votes = state.turnout?.votes ?? 0;
  return html`
    <section class="hero card" aria-label=${t("overview")}>
      ${counted(state, votes)} ${turnout(state, election, votes, now)} ${lead(state, election)}
    </section>`;
}

function counted(state, votes) {
  const waiting = state.lag?.votes ?? 0;
  return html`
    <div class="figure">
      <h2 class="label">${t("counted")}</h2>
      <p class="big" id="counted" data-value=${votes}>${count(votes)}</p>
      <p class="note" id="waiting" data-value=${waiting}>${waiting ? t("waiting.some", { n: waiting }) : t("waiting.none")}</p>
    </div>`;
}

function turnout(state, election, votes, now) {
  const { turnout: share, counted: part, coming } = progress(votes, election);
  if (share === null) {
    return html`<div class="figure"><h2 class="label">${t("turnout")}</h2><p class="big" id="turnout-unknown">${t("unknown")}</p><p class="note">${t("turnout.unknown")} ${overWords(state, election)}</p></div>`;
  }
  const isExpected = election.basis === "expected";
  const passed = Math.min(1, Math.max(0, (now - election.opens) / (election.closes - election.opens)));
  return html`
    <div class="figure">
      <h2 class="label">${t("turnout")}</h2>
      <p class="big"><span id="turnout" data-value=${share}>${percent(share, 1)}</span> <small>${t("turnout.of.registered", { registered: election.registered })}</small></p>
      <div class="meter" aria-hidden="true">
        <span class="track"><i ${css({ transform: `scaleX(${Math.min(1, share).toFixed(4)})` })}></i></span>
        ${isExpected ? html`<b ${css({ left: `${Math.min(100, (election.expected / election.registered) * 100)}%` })}></b>` : nothing}
      </div>
      <p class="note">
        ${isExpected ? html`<span>${t("turnout.of.expected", { share: percent(part, 1), expected: election.expected })}</span>` : nothing}
        <span class="passed">${passed > 0 && passed < 1 ? t("day.passed", { share: percent(Math.floor(passed * 100) / 100, 0) }) : nothing}</span>
        ${overWords(state, election, votes)}
        <span id="coming" data-value=${coming}>${comingWords(coming, election, polls(state, election, now))}</span>
      </p>
    </div>`;
}

// Warns of more ballots than registered voters: in how many regions, or else in the whole election.
function overWords(state, election, votes = 0) {
  const over = election.regions.filter((region) => overRegistered(region, state)).length;
  if (over > 0) return html`<b class="warning" id="over-registered" data-value=${over}>${t("turnout.over", { n: over })}</b>`;
  return election.registered !== null && votes > election.registered ? html`<b class="warning" id="over-registered">${t("turnout.over.all")}</b>` : nothing;
}

const overRegistered = ({ code, registered }, state) => registered !== null && (state.regions?.[code]?.[0] ?? 0) > registered;

// Once the polls are closed and everything is counted, hardly any more of the expected votes will come.
function comingWords(coming, { basis }, phase) {
  if (coming === 0) return t("coming.none");
  return t(phase === "closed" && basis === "expected" ? "coming.short" : `coming.${basis}`, { n: coming });
}

function lead(state, election) {
  if (election.isLocal) {
    return html`
      <div class="figure lead">
        <h2 class="label">${t("lead.local.label")}</h2>
        <p class="big name">${t("lead.local", { n: election.choices.length })}</p>
        <p class="note">${t("lead.local.note")}</p>
      </div>`;
  }
  const [first, second] = standings(state, election);
  const some = first.votes > 0;
  const isLevel = some && second?.votes === first.votes;
  const name = !some ? t("lead.nobody") : isLevel ? t("lead.level") : first.name;
  return html`
    <div class="figure lead">
      <h2 class="label">${t("lead.label")}</h2>
      <p class="big name" id="lead" data-place=${some && !isLevel ? first.place : nothing}>
        ${some && !isLevel ? html`<i class="swatch" ${css({ "background-color": seen(first.color) })}></i>` : nothing}<span>${name}</span>
      </p>
      <p class="note">${leadNote(some, isLevel, first, second, state.turnout?.valid ?? 0)}</p>
    </div>`;
}

function leadNote(some, isLevel, first, second, valid) {
  if (!some) return t("lead.no.votes");
  if (!second) return t("lead.alone");
  if (isLevel) return t("lead.level.note", { first: first.name, second: second.name, votes: first.votes });
  const margin = first.votes - second.votes;
  return t("lead.note", { n: margin, points: points(margin / valid), second: second.name });
}
