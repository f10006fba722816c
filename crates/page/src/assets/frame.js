// The frame around the views: navigation, title, state of polls and connection, banner, footer.

import { html, nothing } from "./vendor/lit-html/lit-html.js";
import { polls } from "./figures.js";
import { date, minute, second } from "./format.js";
import { LANGUAGES, language, t } from "./i18n.js";
import { live } from "./state.js";
import { follow, go, link, query } from "./url.js";

const VIEWS = ["night", "trust", "pipeline"];
const THEMES = ["auto", "light", "dark"];

export const bar = () => html`
  <header class="topbar">
    <a class="skip" href="#main">${t("skip")}</a>
    <p class="brand"><img src="./assets/icon.svg" alt="" width="24" height="24">Scrutin</p>
    <nav aria-label=${t("nav")}>
      ${VIEWS.map((view) => html`<a href=${link({ view, region: null })} data-view=${view} aria-current=${view === query.view ? "page" : nothing}
        @click=${follow({ view, region: null })}>${t(`view.${view}`)}</a>`)}
    </nav>
    <div class="settings">
      <span role="group" aria-label=${t("language")} class="languages">
        ${LANGUAGES.map(({ code, name }) => html`<a href=${link({ lang: code })} lang=${code} hreflang=${code} data-lang=${code} title=${name}
          aria-label=${`${code.toUpperCase()}, ${name}`} aria-current=${code === language ? "true" : nothing} @click=${follow({ lang: code }, { replace: true })}>${code.toUpperCase()}</a>`)}
      </span>
      <select id="theme" aria-label=${t("theme")} @change=${(event) => go({ theme: event.target.value }, { replace: true })}>
        ${THEMES.map((theme) => html`<option value=${theme} .selected=${theme === query.theme}>${t(`theme.${theme}`)}</option>`)}
      </select>
      <a class="button" id="projector" href=${link({ mode: "projector", view: "night" })} @click=${follow({ mode: "projector", view: "night", region: null })}>${t("projector")}</a>
    </div>
  </header>`;

export function title({ state, election, now }) {
  const { opens, closes, timeZone } = election;
  const clock = closes - opens < 3600000 ? second : minute;
  const phase = polls(state, election, now);
  const until = date(opens) === date(closes) ? clock(closes) : `${date(closes)}, ${clock(closes)}`;
  return html`
    <div class="title">
      <div>
        <h1 id="title">${election.title}</h1>
        <p class="soft">${t("when", { date: date(opens), opens: clock(opens), closes: until, zone: timeZone })}</p>
      </div>
      <p class="pills">
        <span class="pill" id="polls" data-state=${phase}>${t(`polls.${phase}`, { time: clock(phase === "before" ? opens : closes) })}</span>
        ${pill()}
        ${query.mode === "projector" ? html`<time class="clock">${minute(now)}</time>` : nothing}
      </p>
    </div>`;
}

// Live means end to end: the connection, and the database behind it.
export function standing() {
  if (live.connection !== "live") return live.connection;
  return live.state.connected === false ? "lost" : "live";
}

export function pill() {
  const state = standing();
  return html`<span class="pill live" id="live" data-state=${state}><i></i>${t(`live.${state}`)}</span>`;
}

export function banner() {
  const text = trouble();
  return html`<div id="banner" class="banner" data-state=${standing()} ?hidden=${!text}>${text ?? nothing}</div>`;
}

function trouble() {
  const { state, connection, lostAt } = live;
  const at = state?.at ? second(Date.parse(state.at)) : "–";
  if (connection === "lost") return state ? t("banner.lost", { time: second(lostAt), at }) : t("banner.lost.first");
  if (!state) return null;
  if (state.connected === false) return t("banner.database", { at, problem: state.problem ?? "" });
  if (live.problem) return t("banner.election", { problem: live.problem });
  return state.problem ? t("banner.problem", { problem: state.problem }) : null;
}

export const footer = () => html`
  <footer>
    <p>
      <a href="./api/v1/openapi.json">${t("footer.api")}</a>
      <a href="./api/v1/results.csv">${t("footer.results")}</a>
      <a href="./api/v1/results/regions.csv">${t("footer.regions")}</a>
      <a href="./metrics">${t("footer.metrics")}</a>
      <a href="./assets/vendor/licences.html">${t("footer.licences")}</a>
    </p>
    <p>
      ${live.state?.at ? html`<span id="as-of">${t("as.of", { time: second(Date.parse(live.state.at)) })}</span>` : nothing}
      ${live.state?.version ? html`<span>${t("footer.version", { version: live.state.version })}</span>` : nothing}
      ${live.state?.counter ? html`<span>${t("footer.counter", { counter: live.state.counter })}</span>` : nothing}
    </p>
  </footer>`;
