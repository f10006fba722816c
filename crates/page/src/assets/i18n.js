// The page's texts in the reader's language.

import en from "./lang/en.js";
import fr from "./lang/fr.js";
import { count, setLocale } from "./format.js";

const WORDS = { en, fr };
const USUAL = { en: "en-GB", fr: "fr-FR" };

export const LANGUAGES = [
  { code: "en", name: "English" },
  { code: "fr", name: "Français" },
];

let words = en;
let plural = new Intl.PluralRules("en");
export let language = "en";
let chosen = null;

// Chooses `asked`, or else the first of the browser's languages that the page has.
export function setLanguage(asked, timeZone) {
  const key = [asked, timeZone, ...navigator.languages].join();
  if (key === chosen) return;
  chosen = key;
  const preferred = navigator.languages.map((tag) => tag.toLowerCase());
  language = asked ?? preferred.map((tag) => tag.split("-")[0]).find((code) => WORDS[code]) ?? "en";
  words = WORDS[language];
  plural = new Intl.PluralRules(language);
  const regional = navigator.languages.find((tag) => tag.toLowerCase().startsWith(`${language}-`));
  setLocale(regional ?? USUAL[language], timeZone);
  document.documentElement.lang = language;
}

// The text of a key. {name} is replaced, numbers are formatted by the locale, and `n` selects the plural.
export const t = (key, values) => parts(key, values).join("");

// The same in pieces, for templates: a value may be anything renderable.
export function parts(key, values = {}) {
  let text = words[key] ?? key;
  if (typeof text === "object") text = text[plural.select(values.n ?? 0)] ?? text.other;
  return text.split(/\{(\w+)\}/).map((part, at) => {
    if (at % 2 === 0) return part;
    const value = values[part];
    return typeof value === "number" ? count(value) : (value ?? "");
  });
}

export const has = (key) => key in words;
