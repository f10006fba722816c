// Contains failures: a part of the page that fails to render shows a message in its place and logs the reason to the
// console; the other parts are unaffected.

import { html } from "./vendor/lit-html/lit-html.js";
import { t } from "./i18n.js";

// The last error logged for each part: the page renders several times a second, but logs an error once.
const logged = new Map();

export function safely(name, draw) {
  try {
    const drawn = draw();
    logged.delete(name);
    return drawn;
  } catch (error) {
    if (logged.get(name) !== error.message) console.error(`could not render the part ${name}:`, error);
    logged.set(name, error.message);
    return html`<section class="card" data-failed=${name} aria-label=${name}><p class="problem">${t("part.failed", { problem: error.message })}</p></section>`;
  }
}
