// A part of the page that fails must not take the others with it: it says so in its place, and the console says why.

import { html } from "./vendor/lit-html/lit-html.js";
import { t } from "./i18n.js";

// The last complaint of each part: the page is drawn several times a second, and says it once.
const told = new Map();

export function safely(name, draw) {
  try {
    const drawn = draw();
    told.delete(name);
    return drawn;
  } catch (error) {
    if (told.get(name) !== error.message) console.error(`the part ${name} could not be shown:`, error);
    told.set(name, error.message);
    return html`<section class="card" data-failed=${name} aria-label=${name}><p class="problem">${t("part.failed", { problem: error.message })}</p></section>`;
  }
}
