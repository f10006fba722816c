// Formats figures and times in the reader's locale and the election's time zone.

let locale = "en-GB";
let timeZone = "UTC";
let made = new Map();

export function setLocale(newLocale, newTimeZone = "UTC") {
  if (newLocale === locale && newTimeZone === timeZone) return;
  [locale, timeZone] = [newLocale, newTimeZone];
  made = new Map();
}

// Formatters are costly to create, so each is created once.
function number(options) {
  const key = JSON.stringify(options);
  if (!made.has(key)) made.set(key, new Intl.NumberFormat(locale, options));
  return made.get(key);
}

function clock(name, options) {
  if (!made.has(name)) {
    let format;
    try {
      format = new Intl.DateTimeFormat(locale, { ...options, timeZone });
    } catch {
      // The browser does not know the zone.
      format = new Intl.DateTimeFormat(locale, { ...options, timeZone: "UTC" });
    }
    made.set(name, format);
  }
  return made.get(name);
}

const DASH = "–";
const known = (value) => Number.isFinite(value);

export const count = (value) => (known(value) ? number({ maximumFractionDigits: 0 }).format(value) : DASH);
export const compact = (value) =>
  !known(value) ? DASH : Math.abs(value) < 10000 ? count(value) : number({ notation: "compact", maximumSignificantDigits: 3 }).format(value);
export const decimal = (value) => (known(value) ? number({ maximumFractionDigits: 1 }).format(value) : DASH);
// Short enough for a tile.
export const tiny = (value) =>
  !known(value) ? DASH : Math.abs(value) < 1000 ? count(value) : number({ notation: "compact", maximumSignificantDigits: 2 }).format(value).replace(/\s/gu, "");
// 100 % is shown only for exactly all.
export const percent = (share, digits = 2) => {
  if (!known(share)) return DASH;
  const step = 10 ** -(digits + 2);
  const shown = share < 1 ? Math.min(share, 1 - step) : share > 1 ? Math.max(share, 1 + step) : share;
  return number({ style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }).format(shown);
};
// The difference of two shares in percentage points, without the unit.
export const points = (difference, digits = 2) =>
  known(difference) ? number({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(difference * 100) : DASH;
export const signedPoints = (difference, digits = 2) =>
  known(difference)
    ? number({ minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: "exceptZero" }).format(difference * 100)
    : DASH;
export const signed = (value) => (known(value) ? number({ maximumFractionDigits: 0, signDisplay: "exceptZero" }).format(value) : DASH);

const unit = (value, name, digits = 0, display = "short") =>
  number({ style: "unit", unit: name, unitDisplay: display, maximumFractionDigits: digits }).format(value);

export function millis(value) {
  if (!known(value)) return DASH;
  return value < 995 ? unit(value, "millisecond") : unit(value / 1000, "second", value < 9950 ? 1 : 0);
}

export function bytes(value) {
  if (!known(value)) return DASH;
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, value)) / 3)));
  return unit(value / 1000 ** power, units[power], power ? 1 : 0);
}

const DURATION = { style: "unit", unitDisplay: "long", maximumFractionDigits: 0 };

function inUnits(seconds) {
  const whole = Math.round(seconds);
  const divides = (unit) => whole >= unit && whole % unit === 0;
  return divides(3600) ? [whole / 3600, "hour"] : divides(60) ? [whole / 60, "minute"] : [whole, "second"];
}

// "2 hours", "25 seconds", "1 hour": in the largest unit that divides it.
export function duration(seconds) {
  const [value, unit] = inUnits(seconds);
  return number({ ...DURATION, unit }).format(value);
}

// "3 seconds ago", for a time in milliseconds.
export function ago(millis) {
  if (!made.has("ago")) made.set("ago", new Intl.RelativeTimeFormat(locale, { numeric: "always" }));
  const seconds = Math.max(0, Math.round(millis / 1000));
  return seconds < 120 ? made.get("ago").format(-seconds, "second") : made.get("ago").format(-Math.floor(seconds / 60), "minute");
}

// The same, to follow "per" or "in the last": "2 hours", "25 seconds", "hour".
export function every(seconds) {
  const [value, unit] = inUnits(seconds);
  if (value !== 1) return duration(seconds);
  return number({ ...DURATION, unit }).formatToParts(value).find(({ type }) => type === "unit").value;
}

export const date = (time) => clock("date", { weekday: "long", day: "numeric", month: "long", year: "numeric" }).format(time);
export const day = (time) => clock("day", { day: "numeric", month: "short" }).format(time);
export const minute = (time) => clock("minute", { hour: "2-digit", minute: "2-digit" }).format(time);
export const second = (time) => clock("second", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(time);
export const dateTime = (time) => clock("dateTime", { dateStyle: "medium", timeStyle: "medium" }).format(time);

// The zone's offset from UTC at a time, in milliseconds.
export function zoneOffset(time) {
  const format = clock("offset", { timeZoneName: "longOffset" });
  const name = format.formatToParts(time).find(({ type }) => type === "timeZoneName")?.value ?? "";
  const [, sign, hours, minutes] = name.match(/([+-\u2212])(\d+):?(\d+)?/u) ?? [];
  return sign ? (sign === "+" ? 1 : -1) * (Number(hours) * 60 + Number(minutes ?? 0)) * 60000 : 0;
}

export const compare = (a, b) => {
  if (!made.has("collator")) made.set("collator", new Intl.Collator(locale, { numeric: true }));
  return made.get("collator").compare(a, b);
};
