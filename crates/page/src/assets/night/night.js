// The night view: figures, race, map, voting day, moments, and all regions.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { bars } from "./bars.js";
import { feed, moments, sentence } from "./feed.js";
import { hero } from "./hero.js";
import { hasMap, map } from "./map.js";
import { regionDialog } from "./region.js";
import { table } from "./table.js";
import { timeline } from "./timeline.js";
import { safely } from "../safely.js";

export const night = (context) => html`
  ${safely("hero", () => hero(context))} ${race(context)}
  <div class="columns lower">${safely("timeline", () => timeline(context))} ${safely("feed", () => feed(context))}</div>
  ${safely("table", () => table(context))} ${safely("region", () => regionDialog(context))}`;

const race = (context) => html`
  <div class="columns ${hasMap(context) ? "" : "single"}">${safely("bars", () => bars(context))} ${safely("map", () => mapCard(context))}</div>`;

const mapCard = (context) => (hasMap(context) ? map(context) : nothing);

// For a screen across the room: the essentials and the latest moment.
export function projector(context) {
  return html`
    ${safely("hero", () => hero(context))} ${race(context)}
    <p class="ticker" id="ticker">${safely("ticker", () => latest(context))}</p>`;
}

const latest = ({ state, election }) =>
  moments(state)
    .map((moment) => sentence(moment, election))
    .find((text) => text) ?? nothing;
