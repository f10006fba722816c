// Small helpers: elements, figures and times as the page writes them.

const LOCALE = "en-GB";
const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  setAll(node, attributes);
  node.append(...children);
  return node;
}

export function setAll(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  }
}

// Text is set only where it changed, so that a selection or a screen reader is not disturbed four times a second.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function hide(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumSignificantDigits: 3 });

export const count = (number) => whole.format(number ?? 0);
export const compact = (number) => (number < 10000 ? whole.format(number) : short.format(number));
export const percent = (share, digits = 2) =>
  share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)}\u202f%`;
export const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

export function millis(value) {
  if (value === null || value === undefined) return "–";
  return value < 995 ? `${whole.format(value)} ms` : `${(value / 1000).toFixed(value < 9950 ? 1 : 0)} s`;
}

// Clocks of the election's time zone, or of the browser's where it does not know that zone.
export function clocks(timeZone) {
  const make = (options) => {
    try {
      return new Intl.DateTimeFormat(LOCALE, { ...options, timeZone });
    } catch {
      return new Intl.DateTimeFormat(LOCALE, options);
    }
  };
  const date = make({ weekday: "long", day: "numeric", month: "long", year: "numeric" });
  const minute = make({ hour: "2-digit", minute: "2-digit" });
  const second = make({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const day = make({ day: "numeric", month: "short" });
  return {
    date: (time) => date.format(time),
    minute: (time) => minute.format(time),
    second: (time) => second.format(time),
    day: (time) => day.format(time),
  };
}

// Puts a node at its place among its siblings; where the browser can, without ending its animations.
export function place(list, node, at) {
  const before = list.children[at] ?? null;
  if (before === node) return;
  if (node.parentNode === list && list.moveBefore) list.moveBefore(node, before);
  else list.insertBefore(node, before);
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

// The colour at `part` (0 to 1) of the way from one to another.
export function blend(from, to, part) {
  const [a, b] = [rgb(from), rgb(to)];
  return `#${a.map((x, i) => Math.round(x + (b[i] - x) * part).toString(16).padStart(2, "0")).join("")}`;
}

// Black or white, whichever reads better on the colour (WCAG relative luminance).
export function inkOn(color) {
  const [r, g, b] = rgb(color).map((x) => (x / 255 <= 0.04045 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}

// The tooltip: lines of text at a pointer, kept on the screen.
export function tip(event, lines) {
  const box = byId("tip");
  box.replaceChildren(...lines);
  hide(box, false);
  const { width, height } = box.getBoundingClientRect();
  const x = Math.min(Math.max(8, event.clientX + 14), innerWidth - width - 8);
  const y = event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18;
  box.style.transform = `translate(${Math.round(x)}px, ${Math.round(Math.max(8, y))}px)`;
}

export const untip = () => hide(byId("tip"), true);
