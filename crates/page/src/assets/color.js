// Colours: mixed in OKLab, where equal steps look equal; contrast as defined by WCAG.

// The channels of "#rrggbb" or "rgb(r, g, b)", each 0 to 1.
export function parse(color) {
  if (color.startsWith("#")) return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255);
  return color.match(/[\d.]+/g).slice(0, 3).map((part) => Number(part) / 255);
}

const hex = (rgb) => `#${rgb.map((x) => Math.round(Math.min(1, Math.max(0, x)) * 255).toString(16).padStart(2, "0")).join("")}`;
const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
const gamma = (x) => (x <= 0.0031308 ? x * 12.92 : 1.055 * x ** (1 / 2.4) - 0.055);

// Björn Ottosson, "A perceptual color space for image processing" (2020).
function toLab(color) {
  const [r, g, b] = parse(color).map(linear);
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

function fromLab([L, a, b]) {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return hex(
    [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ].map((x) => gamma(Math.max(0, x))),
  );
}

// The colour `part` (0 to 1) of the way from one colour to another.
export function mix(from, to, part) {
  const [a, b] = [toLab(from), toLab(to)];
  return fromLab(a.map((x, i) => x + (b[i] - x) * part));
}

const luminance = (color) => {
  const [r, g, b] = parse(color).map(linear);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

function contrast(a, b) {
  const [x, y] = [luminance(a), luminance(b)];
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
}

// Black or white, whichever reads better on the colour: at least 4.5 to 1 on any.
export const inkOn = (color) => (contrast(color, "#000000") >= contrast(color, "#ffffff") ? "#000000" : "#ffffff");

// The colour, made lighter or darker until its contrast with the ground is at least `least`.
export function standOut(color, ground, least) {
  const isDark = luminance(ground) < 0.18;
  const [lightness, a, b] = toLab(color);
  for (let step = 0; step <= 20; step += 1) {
    const shown = fromLab([lightness + (isDark ? 1 : -1) * step * 0.03, a, b]);
    if (contrast(shown, ground) >= least) return shown;
  }
  return color;
}
