// An election as the page uses it: choices by their place on the ballot, regions by their code.

export function makeElection(raw) {
  const choices = raw.choices.map((choice, place) => ({ ...choice, place, code: choice.choice, region: choice.region ?? null }));
  const isLocal = choices.every(({ region }) => region !== null);
  const regions = raw.regions.map((region, place) => ({
    ...region,
    place,
    code: region.region,
    ...expectation(region.registered, region.expected_turnout ?? raw.expected_turnout ?? null),
  }));
  const byCode = new Map(regions.map((region) => [region.code, region]));
  for (const choice of choices) {
    // If each choice stands in one region only, its name alone may be ambiguous.
    const where = isLocal ? byCode.get(choice.region)?.name : null;
    choice.label = where ? `${choice.name} (${where})` : choice.name;
    choice.initials = initials(choice.name);
    choice.short = shorten(choice.name);
  }
  const registered = total(regions.map((region) => region.registered));
  const isExpected = regions.every(({ basis }) => basis === "expected");
  return {
    id: raw.election,
    fingerprint: raw.fingerprint,
    title: raw.title,
    timeZone: raw.time_zone,
    opens: Date.parse(raw.opens_at),
    closes: Date.parse(raw.closes_at),
    choices,
    regions,
    region: (code) => byCode.get(code),
    // Nationwide shares and leads mean nothing if every choice stands in one region only.
    isLocal,
    registered,
    basis: isExpected ? "expected" : "registered",
    expected: isExpected ? total(regions.map(({ expected }) => expected)) : registered,
    tiles: regions.filter(({ grid_col, grid_row }) => Number.isInteger(grid_col) && Number.isInteger(grid_row)),
  };
}

// The sum is unknown if any value is.
const total = (values) => values.reduce((sum, value) => (sum === null || value === null ? null : sum + value), 0);

// How many votes to expect, and the basis: the expected turnout, or without one the registered voters. Null if unknown.
function expectation(registered, turnout) {
  if (registered === null) return { basis: turnout === null ? "registered" : "expected", expected: null };
  return turnout === null ? { basis: "registered", expected: registered } : { basis: "expected", expected: Math.round(registered * turnout) };
}

const words = (name) => name.split(/[\s,]+/u).filter((word) => /\p{L}|\p{N}/u.test(word));
const first = (word) => word.match(/\p{L}|\p{N}/u)[0].toLocaleUpperCase();

function initials(name) {
  const all = words(name);
  if (all.length === 0) return "·";
  return all.length === 1 ? first(all[0]) : first(all[0]) + first(all.at(-1));
}

function shorten(name) {
  const last = words(name).at(-1) ?? name;
  return last.length > 16 ? `${last.slice(0, 15)}…` : last;
}
