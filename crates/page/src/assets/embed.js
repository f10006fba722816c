// The widgets for frames on other sites, /embed/bars and /embed/map: the race or the map, the time, and a link back.

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { banner, pill } from "./frame.js";
import { isMany } from "./figures.js";
import { second } from "./format.js";
import { setLanguage, t } from "./i18n.js";
import { bars } from "./night/bars.js";
import { legend } from "./night/map.js";
import { tiles } from "./night/tiles.js";
import { address } from "./root.js";
import { safely } from "./safely.js";
import { onDraw, requestRender } from "./schedule.js";
import { isShowable, live, now, start } from "./state.js";
import { onSystemTheme, setTheme } from "./theme.js";
import { query } from "./url.js";

const isMap = location.pathname.endsWith("/map");

// Links in a frame open outside it.
const open = (code) => ({ href: address(`?region=${encodeURIComponent(code)}`), click: leaveFrame });

function leaveFrame(event) {
  event.preventDefault();
  window.open(event.currentTarget.href, "_blank", "noopener");
}

const map = ({ state, election }) => html`
  <section class="card map" aria-label=${t("map.title")}>
    ${tiles({ state, election, mode: query.map, open, label: t("map.label") })} ${legend(state, election, query.map)}
  </section>`;

function widget(context) {
  const { election, state } = context;
  return html`
    <div class="embed-head"><h1>${election.title}</h1><p class="pills">${pill()}</p></div>
    ${banner()}
    ${isMap ? (election.tiles.length && !isMany(state, election) ? map(context) : html`<p class="note">${t("map.none")}</p>`) : bars(context)}
    <p class="embed-foot">
      <span id="as-of">${state.at ? t("embed.as.of", { time: second(Date.parse(state.at)) }) : nothing}</span>
      <a href=${address("")} target="_blank" rel="noopener">${t("embed.more")}</a>
    </p>`;
}

function draw() {
  setLanguage(query.lang, live.election?.timeZone);
  setTheme(query.theme);
  const context = isShowable() ? { state: live.state, election: live.election, query, now: now() } : null;
  document.title = context?.election.title ?? "Scrutin";
  render(html`<main id="main">${context ? safely("widget", () => widget(context)) : html`<p class="pills">${pill()}</p>${banner()}`}</main>`, document.getElementById("page"));
}

onDraw(draw);
onSystemTheme(requestRender);
start(requestRender);
requestRender();
