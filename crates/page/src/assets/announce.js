// What a screen reader is told without asking: that somebody else leads, and that the connection is lost or back.

import { moments, sentence } from "./night/feed.js";
import { t } from "./i18n.js";

let told = null; // the newest moment that was there before
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
    const fresh = told === null ? [] : moments(state).filter(({ number, kind }) => number > told && kind === "leader");
    // A server that was started again begins to count anew.
    told = newest ? newest.number : 0;
    if (fresh.length) said.push(sentence(fresh[0], election));
  }
  const text = said.join(" ");
  const place = document.getElementById("announcer");
  if (text && place) place.textContent = text;
}
