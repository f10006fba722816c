// Light and dark: as the reader asks, else as the system is. The colours stand in css/base.css; here they are read.

import { standOut } from "./color.js";

const NAMES = ["card", "ink", "soft", "line", "track", "accent", "low", "high", "warn"];
const system = matchMedia("(prefers-color-scheme: dark)");

// `version` grows whenever the colours are others.
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

// A choice's own colour, as far from the ground as it takes to be seen there.
export function seen(color) {
  if (!shown.has(color)) shown.set(color, standOut(color, theme.card, theme.isDark ? 2.6 : 1.7));
  return shown.get(color);
}

export const GREYS = { others: "#7d8594", blank: "#a9b0bc", null: "#5d6573" };
