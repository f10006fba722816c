// The election-night page. Shows the state the server pushes (state.js) in one of three views.
//
// Tests rely on these elements and attributes:
//   html[lang], html[data-theme=light|dark], html[data-mode=projector]
//   #live[data-state=live|lost|wait]   the connection, from end to end
//   #polls[data-state=before|open|counting|closed]
//   #banner[hidden]                    what is wrong, if anything; #announcer says it to screen readers
//   a[data-view=night|trust|pipeline][aria-current=page], a[data-lang=en|fr], select#theme, a#projector
//   #counted[data-value], #turnout[data-value], #coming[data-value], #waiting[data-value]   exact figures
//   #lead[data-place]                  who leads; no attribute if nobody does
//   #bars > li[data-place][data-votes] in the order of the race
//   #map[data-mode] a.tile[data-region][data-leader], #map-detail[data-region], a[data-map=leader|turnout|coming]
//   figure[data-chart], a[data-chart-kind=votes|share|lead]
//   #moments > li[data-kind][data-moment], #closest > li[data-region]
//   #find, #regions tbody tr[data-region][data-votes], th[aria-sort] button[data-sort], button[data-page=before|next]
//   dialog#region[data-region] tr[data-choice][data-votes], button[data-close]
//   #equation[data-holds], #partitions tr[data-partition], #rejections li[data-reason][data-votes], #double li[data-region][data-votes]
//   #agreement li[data-agree], #audit[data-differences]
//   [data-failed]                      a part that failed to render; there must be none
//   #rate, #lag[data-value], #poll-book[data-value], #lags tr[data-partition], #parts tr[data-part][data-ready]

import { html, nothing, render } from "./vendor/lit-html/lit-html.js";
import { announce } from "./announce.js";
import { banner, bar, footer, pill, standing, title } from "./frame.js";
import { setLanguage, t } from "./i18n.js";
import { night, projector } from "./night/night.js";
import { pipeline } from "./pipeline/pipeline.js";
import { safely } from "./safely.js";
import { onDraw, requestRender } from "./schedule.js";
import { isShowable, live, now, start } from "./state.js";
import { onSystemTheme, setTheme } from "./theme.js";
import { trust } from "./trust/trust.js";
import { follow, go, link, onQuery, query } from "./url.js";

const VIEWS = { night, trust, pipeline };

function page() {
  const isProjector = query.mode === "projector";
  const context = isShowable() ? { state: live.state, election: live.election, query, now: now() } : null;
  document.title = context ? `${context.election.title} · Scrutin` : "Scrutin";
  return html`
    ${isProjector ? nothing : bar()}
    <main id="main" tabindex="-1" data-view=${isProjector ? "night" : query.view}>
      ${context ? safely("title", () => title(context)) : waiting()} ${safely("banner", banner)}
      ${context ? safely("view", () => (isProjector ? projector(context) : VIEWS[query.view](context))) : nothing}
    </main>
    ${isProjector ? leave() : footer()}`;
}

const waiting = () => html`
  <div class="title">
    <div><h1 id="title">Scrutin</h1><p class="soft">${live.state && !live.state.election ? t("no.election") : t("loading")}</p></div>
    <p class="pills">${pill()}</p>
  </div>`;

const leave = () => html`
  <nav aria-label=${t("nav")}><a class="leave" id="leave" href=${link({ mode: null })} @click=${follow({ mode: null })}>${t("projector.leave")}</a></nav>`;

function draw() {
  setLanguage(query.lang, live.election?.timeZone);
  setTheme(query.theme);
  const { dataset } = document.documentElement;
  if (query.mode) dataset.mode = query.mode;
  else delete dataset.mode;
  render(page(), document.getElementById("page"));
  announce(isShowable() ? live.state : null, live.election, standing());
}

onDraw(draw);
onQuery(requestRender);
onSystemTheme(requestRender);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && query.mode === "projector") go({ mode: null });
});
start(requestRender);
requestRender();
