// Figures derived from the state: for a region, for the whole election, and how shares have moved.

const known = new WeakMap();
const NONE = [0, 0, null, null, null, null];

// A region's figures, computed once for each array the server sends. A `place` is a position on the ballot.
export function regionFigures(region, regions) {
  const row = regions?.[region.code] ?? NONE;
  const made = row === NONE ? null : known.get(row);
  if (made?.region === region) return made;
  const [votes, valid, leader, leaderVotes, second, secondVotes] = row;
  const leads = leader !== null && leaderVotes > 0;
  const margin = leads ? leaderVotes - (secondVotes ?? 0) : null;
  const figures = {
    region,
    votes,
    valid,
    leader: leads ? leader : null,
    leaderVotes: leads ? leaderVotes : 0,
    second: leads ? second : null,
    secondVotes: leads ? (secondVotes ?? 0) : 0,
    margin,
    marginShare: leads && valid > 0 ? margin / valid : null,
    isLevel: leads && margin === 0,
    ...progress(votes, region),
  };
  if (row !== NONE) known.set(row, figures);
  return figures;
}

// `of` has `registered` and `expected`, both numbers of votes.
export function progress(votes, of) {
  return {
    turnout: of.registered > 0 ? votes / of.registered : null,
    counted: of.expected > 0 ? votes / of.expected : null,
    coming: of.expected > 0 ? Math.max(0, of.expected - votes) : null,
  };
}

// The leading candidates, each with its margin over the next. Before the first vote is counted: the ballot, with zeros.
export function standings(state, election) {
  const results = state.results?.length
    ? state.results
    : election.choices.slice(0, 12).map(({ place }) => ({ place, votes: 0, share: null }));
  return results.map((result, rank) => ({
    ...election.choices[result.place],
    votes: result.votes,
    share: result.share ?? null,
    ahead: rank + 1 < results.length ? result.votes - results[rank + 1].votes : null,
  }));
}

// The choices not in the standings, and their votes.
export const others = (state, election) =>
  state.results?.length ? (state.others ?? { choices: 0, votes: 0 }) : { choices: Math.max(0, election.choices.length - 12), votes: 0 };

// The timeline as columns: per place, and for the rest, the votes of each step up to the last one with votes.
let columnsOf = null;
export function columns(timeline) {
  if (columnsOf?.timeline === timeline) return columnsOf;
  const points = Object.keys(timeline.votes ?? {}).map(Number);
  const length = points.length ? Math.max(...points) + 1 : 0;
  const zeros = () => new Array(length).fill(0);
  const places = new Map(timeline.places.map((place) => [place, zeros()]));
  const [others, blank, nulls] = [zeros(), zeros(), zeros()];
  for (const point of points) {
    const [votes, ...rest] = timeline.votes[point];
    timeline.places.forEach((place, i) => (places.get(place)[point] = votes[i] ?? 0));
    [others[point], blank[point], nulls[point]] = rest;
  }
  const valid = others.map((votes, point) => timeline.places.reduce((sum, place) => sum + places.get(place)[point], votes));
  columnsOf = { timeline, length, places, others, blank, nulls, valid, first: Date.parse(timeline.first), step: timeline.step_seconds * 1000 };
  return columnsOf;
}

export function running(values) {
  let sum = 0;
  return values.map((value) => (sum += value));
}

// How each share of the valid votes has moved over the last hour of the voting day, or a twelfth of a short day: the
// share of the votes cast until now minus the share of those cast until then, both as counted so far.
export function movement(state, election, now) {
  const { timeline } = state;
  if (!timeline || election.isLocal) return null;
  const window = Math.min(3600000, (election.closes - election.opens) / 12);
  const { first, step, length, places, valid } = columns(timeline);
  const end = Math.min(now, election.closes);
  const from = Math.min(length, Math.round((end - window - first) / step));
  const sum = (values, until) => values.slice(0, until).reduce((total, value) => total + value, 0);
  const [before, after] = [from > 0 ? sum(valid, from) : 0, sum(valid, length)];
  if (!before || !after) return null;
  const moved = new Map([...places].map(([place, votes]) => [place, sum(votes, length) / after - sum(votes, from) / before]));
  return { seconds: Math.max(1, Math.round(window / 1000)), moved };
}

// The regions with the smallest leads, among those with at least a tenth of their votes.
export function closest(state, election, most) {
  if (!state.regions) return [];
  return election.regions
    .map((region) => regionFigures(region, state.regions))
    .filter(({ leader, second, counted }) => leader !== null && second !== null && (counted === null || counted >= 0.1))
    .sort((a, b) => a.marginShare - b.marginShare || a.region.place - b.region.place)
    .slice(0, most);
}

// The most regions that the live state carries.
const REGIONS_LIVE = 2000;
export const isMany = (state, election) => !state.regions && (state.regions_total ?? election.regions.length) > REGIONS_LIVE;

export function polls(state, election, now) {
  if (now < election.opens) return "before";
  if (now < election.closes) return "open";
  return (state.lag?.votes ?? 0) > 0 ? "counting" : "closed";
}
