// Light or dark: as the reader chose, else as the system is set. The colours are defined in css/base.css and read here.

import { standOut } from "./color.js";

const NAMES = ["card", "ink", "soft", "line", "track", "accent", "low", "high", "warn"];
const system = matchMedia("(prefers-color-scheme: dark)");

// `version` grows whenever the colours change.
export const theme = { version: 0 };

const shown = new Map();

export function setTheme(asked) {
  const html = document.documentElement;
  if (asked === "auto") delete html.dataset.theme;
  else html.dataset.theme = asked;
  const isDark = asked === "dark" || (asked === "auto" && system.matches);
  if (theme.isDark === isDark) return;
  theme.isDark = isDark;
  theme.version += 1;
  shown.clear();
  const style = getComputedStyle(html);
  for (const name of NAMES) theme[name] = style.getPropertyValue(`--${name}`).trim();
}

export const onSystemTheme = (listen) => system.addEventListener("change", listen);

// A choice's own colour, with enough contrast to the ground to be seen.
export function seen(color) {
  if (!shown.has(color)) shown.set(color, standOut(color, theme.card, theme.isDark ? 2.6 : 1.7));
  return shown.get(color);
}

export const GREYS = { others: "#7d8594", blank: "#a9b0bc", null: "#5d6573" };
