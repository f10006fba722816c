// The live state: one EventSource, merge patches, and how good the connection is.

import { makeElection } from "./election.js";
import { merge } from "./patch.js";
import { address } from "./root.js";

// The server says something each second; a connection that is silent for longer is dead, whatever the browser thinks.
const SILENCE_MS = 8000;
// While the browser itself tries to come back it is let, for so long.
const PATIENCE_MS = 30000;
const BACKOFF_MS = [1000, 2000, 4000, 8000, 15000];

export const live = {
  state: null, // as the server pushes it, or null before the first event
  election: null, // see election.js; null until it is loaded
  problem: null, // why the election could not be loaded
  connection: "wait", // wait, live or lost
  lostAt: null, // the server's time when the connection was lost, in milliseconds
};

let changed = () => {};
let source = null;
let heardAt = 0;
let skew = 0;
let failures = 0;
let reopening = null;

// The server's time, in milliseconds, by this machine's clock.
export const now = () => Date.now() + skew;

export function start(onChange) {
  changed = onChange;
  open();
  setInterval(watch, 1000);
  addEventListener("online", () => live.connection !== "live" && open());
  // A page that is left holds no connection, also where the browser keeps it for the way back.
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", ({ persisted }) => persisted && open());
  // A tab that slept does not wait for its timers.
  document.addEventListener("visibilitychange", () => !document.hidden && watch());
}

function open() {
  clearTimeout(reopening);
  reopening = null;
  source?.close();
  heardAt = Date.now();
  source = new EventSource(address("api/v1/events"));
  const mine = source;
  const take = (apply) => (event) => {
    if (mine !== source) return;
    try {
      apply(JSON.parse(event.data));
    } catch (error) {
      console.warn("an event could not be read:", error);
      lose();
      reopen();
    }
  };
  source.addEventListener("state", take((state) => receive(state)));
  source.addEventListener("change", take((patch) => {
    if (!live.state) throw new Error("a change came before the state");
    receive(merge(live.state, patch));
  }));
  source.addEventListener("error", () => {
    if (mine !== source) return;
    lose();
    // A browser comes back by itself where the connection broke, and gives up where the answer was an error.
    if (mine.readyState === EventSource.CLOSED) reopen();
  });
}

function reopen() {
  source?.close();
  source = null;
  const wait = BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)];
  failures += 1;
  // Not all viewers at once.
  reopening ??= setTimeout(open, wait * (0.75 + Math.random() / 2));
}

function watch() {
  const most = source?.readyState === EventSource.CONNECTING ? PATIENCE_MS : SILENCE_MS;
  if (Date.now() - heardAt > most && !reopening) {
    lose();
    open();
  }
  changed();
}

function receive(state) {
  heardAt = Date.now();
  skew = Date.parse(state.now) - heardAt || 0;
  failures = 0;
  live.state = state;
  live.connection = "live";
  live.lostAt = null;
  load();
  changed();
}

function lose() {
  if (live.connection !== "lost") live.lostAt = now();
  live.connection = "lost";
  changed();
}

let loading = false;
let loadFailures = 0;

// What does not change while votes are counted; again when another election is counted.
async function load() {
  const { state } = live;
  const isKnown = () => live.election?.id === live.state.election && live.election?.fingerprint === live.state.fingerprint;
  if (loading || !state.election || isKnown()) return;
  loading = true;
  try {
    const answer = await fetch(address("api/v1/election"), { headers: { accept: "application/json" } });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error ?? `HTTP ${answer.status}`);
    live.election = makeElection(body);
    live.problem = null;
    loadFailures = 0;
    changed();
  } catch (error) {
    live.problem = error.message;
    loadFailures += 1;
    changed();
  }
  // The next event tries again.
  setTimeout(() => (loading = false), loadFailures || !isKnown() ? BACKOFF_MS[Math.min(loadFailures, BACKOFF_MS.length - 1)] : 0);
}

// The figures can be shown: they are of the election that is loaded.
export const isShowable = () =>
  Boolean(live.state && live.election && live.election.id === live.state.election && live.election.fingerprint === live.state.fingerprint);
