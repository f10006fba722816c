// The view of the night: figures, race, map, voting day, moments, and all regions.

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { bars } from "./bars.js";
import { feed, moments, sentence } from "./feed.js";
import { hero } from "./hero.js";
import { hasMap, map } from "./map.js";
import { regionDialog } from "./region.js";
import { table } from "./table.js";
import { timeline } from "./timeline.js";

export const night = (context) => html`
  ${hero(context)}
  <div class="columns ${hasMap(context) ? "" : "single"}">${bars(context)} ${mapCard(context)}</div>
  <div class="columns lower">${timeline(context)} ${feed(context)}</div>
  ${table(context)}
  ${regionDialog(context)}`;

const mapCard = (context) => (hasMap(context) ? map(context) : nothing);

// For a screen across the room: what matters, and the latest moment.
export function projector(context) {
  const latest = moments(context.state)
    .map((moment) => sentence(moment, context.election))
    .find((text) => text);
  return html`
    ${hero(context)}
    <div class="columns ${hasMap(context) ? "" : "single"}">${bars(context)} ${mapCard(context)}</div>
    <p class="ticker" id="ticker">${latest ?? nothing}</p>`;
}
