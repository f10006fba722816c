// Announces lead changes, and a lost or restored connection, to screen readers.

import { moments, sentence } from "./night/feed.js";
import { t } from "./i18n.js";

let announced = null; // the newest moment already known
let connection = null;

export function announce(state, election, standing) {
  const said = [];
  if (connection && connection !== standing) {
    if (standing === "lost") said.push(t("announce.lost"));
    else if (connection === "lost" && standing === "live") said.push(t("announce.back"));
  }
  connection = standing;
  if (state && election) {
    const [newest] = moments(state);
    const fresh = announced === null ? [] : moments(state).filter(({ number, kind }) => number > announced && kind === "leader");
    // A restarted server numbers its moments from zero.
    announced = newest ? newest.number : 0;
    if (fresh.length) said.push(sentence(fresh[0], election));
  }
  const text = said.join(" ");
  const place = document.getElementById("announcer");
  if (text && place) place.textContent = text;
}
