// The live state: one EventSource, merge patches, and the state of the connection.

import { makeElection } from "./election.js";
import { merge } from "./patch.js";
import { address } from "./root.js";

// The server sends something every second; a connection silent for this long is dead, whatever the browser thinks.
const SILENCE_MS = 8000;
// How long to leave reconnecting to the browser itself.
const PATIENCE_MS = 30000;
const BACKOFF_MS = [1000, 2000, 4000, 8000, 15000];

export const live = {
  state: null, // as pushed by the server; null before the first event
  election: null, // see election.js; null until loaded
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

// The server's time in milliseconds, estimated with the local clock.
export const now = () => Date.now() + skew;

export function start(onChange) {
  changed = onChange;
  open();
  setInterval(watch, 1000);
  addEventListener("online", () => live.connection !== "live" && open());
  // A page that the user left must hold no connection, even if the browser keeps it in its back/forward cache.
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", ({ persisted }) => persisted && open());
  // A tab that wakes up must not wait for its timers.
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
    // Browsers reconnect after a broken connection, but give up after an error response.
    if (mine.readyState === EventSource.CLOSED) reopen();
  });
}

function reopen() {
  source?.close();
  source = null;
  const wait = BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)];
  failures += 1;
  // Jitter, so that not all viewers reconnect at once.
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

// Loads what does not change during a count; called again when another election is counted.
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
  // The next event retries.
  setTimeout(() => (loading = false), loadFailures || !isKnown() ? BACKOFF_MS[Math.min(loadFailures, BACKOFF_MS.length - 1)] : 0);
}

// Whether the figures can be shown: they must be of the loaded election.
export const isShowable = () =>
  Boolean(live.state && live.election && live.election.id === live.state.election && live.election.fingerprint === live.state.fingerprint);
