// Colours of the tiles and their meaning. Each scale is steps of one colour from light to dark, which colour-blind
// readers can tell apart; the tile also shows the leader's initials.

import { mix } from "../color.js";
import { compact, count, percent, tiny } from "../format.js";
import { t } from "../i18n.js";
import { seen, theme } from "../theme.js";

// The lead at which each step begins, and its share of the leader's colour.
const LEADS = [0, 0.02, 0.05, 0.1, 0.2];
const STRENGTH = { light: [0.3, 0.45, 0.62, 0.8, 1], dark: [0.4, 0.53, 0.67, 0.82, 1] };
const TURNOUTS = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

const stepOf = (steps, value) => Math.max(0, steps.findLastIndex((from) => value >= from));
const ramp = (part) => mix(theme.low, theme.high, part);

const made = new Map();
let madeFor = -1;

// Mixing is costly, and there are few distinct colours.
function once(key, make) {
  if (madeFor !== theme.version) {
    made.clear();
    madeFor = theme.version;
  }
  if (!made.has(key)) made.set(key, make());
  return made.get(key);
}

const strength = (color, step) => once(`${color}${step}`, () => mix(theme.card, seen(color), STRENGTH[theme.isDark ? "dark" : "light"][step]));

export const SCALES = {
  leader: {
    fill: ({ leader, marginShare, isLevel }, election) =>
      leader === null || isLevel ? null : strength(election.choices[leader].color, stepOf(LEADS, marginShare)),
    text: ({ leader, isLevel }, election) => (leader === null ? "" : isLevel ? "=" : election.choices[leader].initials),
    legend: (election, color) => ({
      title: t("map.strength"),
      steps: LEADS.map((from, step) => ({ color: strength(color, step), label: step === 0 ? "0" : count(from * 100) })),
    }),
  },
  turnout: {
    fill: ({ turnout }) => (turnout === null ? null : once(`t${stepOf(TURNOUTS, turnout)}`, () => ramp(stepOf(TURNOUTS, turnout) / (TURNOUTS.length - 1)))),
    text: ({ turnout }) => (turnout === null ? "" : count(turnout * 100)),
    legend: () => ({
      title: t("map.turnout.legend"),
      steps: TURNOUTS.map((from, step) => ({ color: ramp(step / (TURNOUTS.length - 1)), label: percent(from, 0) })),
    }),
  },
  coming: {
    fill({ coming }, election) {
      if (coming === null) return null;
      const steps = comingSteps(election);
      const step = coming === 0 ? -1 : stepOf(steps, coming);
      return once(`c${step}of${steps.length}`, () => ramp((step + 1) / steps.length));
    },
    text: ({ coming }) => (coming === null ? "" : tiny(coming)),
    legend(election) {
      const steps = comingSteps(election);
      const first = { color: ramp(0), label: "0" };
      return {
        title: t(`map.coming.legend.${election.basis}`),
        steps: [first, ...steps.map((from, step) => ({ color: ramp((step + 1) / steps.length), label: step === 0 ? "1" : compact(from) }))],
      };
    },
  },
};

// Round steps up to the largest region, fixed all night. The first begins at a single vote.
const stepsFor = new WeakMap();
function comingSteps(election) {
  if (!stepsFor.has(election)) {
    const most = Math.max(1, ...election.regions.map(({ expected }) => expected ?? 0));
    const power = 10 ** Math.floor(Math.log10(most));
    const top = [5, 2, 1].find((factor) => factor * power <= most) * power;
    const rounded = [0, top / 20, top / 10, top / 5, top / 2, top].map((value) => (value >= 10 ? Number(value.toPrecision(1)) : Math.round(value)));
    stepsFor.set(election, [...new Set(rounded)]);
  }
  return stepsFor.get(election);
}
