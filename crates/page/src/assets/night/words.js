// Sentences about a region.

import { percent, points } from "../format.js";
import { t } from "../i18n.js";

export function leadWords({ leader, second, margin, marginShare, isLevel }, election) {
  if (leader === null) return t("region.none");
  const name = election.choices[leader].name;
  if (second === null) return t("region.alone", { name });
  const other = election.choices[second].name;
  return isLevel
    ? t("region.level", { name, second: other })
    : t("region.leads.votes", { name, second: other, n: margin, points: points(marginShare, 1) });
}

export const comingWords = ({ region, coming }) =>
  coming === null ? "" : t(`region.coming.${region.basis}`, { coming, expected: region.expected });

// A region in one line, for those who cannot see its tile.
export function describe(figures, election) {
  const { region, votes, turnout } = figures;
  const said = [leadWords(figures, election), t("region.counted", { n: votes })];
  if (turnout !== null) said.push(t("region.turnout", { share: percent(turnout, 1) }), comingWords(figures));
  return `${region.name} (${region.code}): ${said.join(", ")}`;
}
