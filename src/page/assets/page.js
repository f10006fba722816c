// The election-night page: takes what the server pushes and shows it. Keeps the last state while a connection is away.

import { byId, clocks, compact, count, el, hide, millis, percent, plural, say, setAll, svg } from "./dom.js";
import { makeMap, showMap } from "./map.js";
import { showRefusals, showResults } from "./results.js";
import { showTimeline } from "./timeline.js";

let election = null;
let clock = clocks("UTC");
let snapshot = null;
let map = null;
let timeline = null;
// The server's clock minus this one's, in milliseconds: whether the polls are open is for the server to say.
let skew = 0;
let lost = false;
let loading = false;

const now = () => Date.now() + skew;

const source = new EventSource("/api/v1/events");
source.addEventListener("snapshot", (event) => {
  lost = false;
  snapshot = JSON.parse(event.data);
  skew = Date.parse(snapshot.now) - Date.now();
  show();
});
source.addEventListener("map", (event) => {
  map = JSON.parse(event.data);
  showSlow();
});
source.addEventListener("timeline", (event) => {
  timeline = JSON.parse(event.data);
  showSlow();
});
source.addEventListener("error", () => {
  lost = true;
  show();
  // A browser gives up for good where the answer was an error; it comes back where the connection broke.
  if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
});
// The polls open and close, and rates sink, also when nothing is pushed.
setInterval(show, 1000);

// What does not change while votes are counted. Fetched again when another election is counted.
async function load() {
  if (loading) return;
  loading = true;
  try {
    const answer = await fetch("/api/v1/election");
    if (!answer.ok) throw new Error((await answer.json()).error);
    election = await answer.json();
    clock = clocks(election.time_zone);
    makeMap(election);
    document.title = `${election.title} · Scrutin`;
    say(byId("title"), election.title);
    show();
    showSlow();
  } catch (error) {
    console.warn("the election could not be loaded:", error);
  } finally {
    loading = false;
  }
}

function show() {
  showConnection();
  const data = snapshot?.data;
  if (!data) return;
  if (election?.fingerprint !== data.fingerprint || election?.election !== data.election) {
    load();
    return;
  }
  hide(byId("main"), false);
  showPolls(data);
  showOverview(data);
  showResults(data, election);
  showRefusals(data);
  showBooks(data);
  showPipeline(data);
}

// The map and the timeline come less often than the figures.
function showSlow() {
  if (!snapshot?.data || !election) return;
  if (timeline?.election === election.election) showTimeline(timeline, snapshot.data, election, now());
  if (map?.election === election.election) showMap(map.regions);
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function showConnection() {
  const at = snapshot?.at ? `The figures are those of ${clock.second(Date.parse(snapshot.at))}.` : "";
  let state = "live";
  let problem = "";
  if (lost) {
    [state, problem] = ["lost", `The connection to Scrutin is lost; trying again. ${at}`];
  } else if (!snapshot) {
    state = "wait";
  } else if (!snapshot.connected) {
    [state, problem] = ["lost", `${sentence(snapshot.problem)} Trying again. ${at}`];
  } else if (snapshot.problem) {
    [state, problem] = ["wait", sentence(snapshot.problem)];
  }
  byId("live").dataset.state = state;
  say(byId("live-text"), { live: "Live", lost: "Not live", wait: "Waiting" }[state]);
  say(byId("banner"), problem);
  hide(byId("banner"), !problem);
  if (snapshot?.at) say(byId("as-of"), `Last read ${clock.second(Date.parse(snapshot.at))} (${election?.time_zone ?? "UTC"})`);
}

function showPolls(data) {
  const [opens, closes] = [Date.parse(election.opens_at), Date.parse(election.closes_at)];
  const write = closes - opens < 3600000 ? clock.second : clock.minute;
  const counting = (data.lag?.votes ?? 0) > 0;
  const [state, text] =
    now() < opens
      ? ["before", `Polls open at ${write(opens)}`]
      : now() < closes
        ? ["open", `Polls open until ${write(closes)}`]
        : ["closed", counting ? "Polls closed, still counting" : "Polls closed"];
  byId("polls").dataset.state = state;
  say(byId("polls"), text);
  hide(byId("polls"), false);
  const sameDay = clock.date(opens) === clock.date(closes);
  const until = sameDay ? write(closes) : `${clock.date(closes)}, ${write(closes)}`;
  say(byId("when"), `${clock.date(opens)}, ${write(opens)} to ${until} (${election.time_zone})`);
}

function showOverview(data) {
  const turnout = data.turnout;
  const votes = turnout?.votes ?? 0;
  const registered = turnout?.registered ?? election.registered;
  say(byId("counted"), count(votes));
  const waiting = data.lag?.votes ?? 0;
  say(byId("counted-note"), waiting ? `${plural(waiting, "vote waits", "votes wait")} in the log` : votes ? "Nothing waits in the log" : "No vote has been counted yet");
  const known = registered > 0;
  say(byId("turnout"), known ? percent(votes / registered) : "–");
  byId("turnout-bar").style.width = known ? `${Math.min(100, (votes / registered) * 100)}%` : "0";
  say(byId("registered"), known ? `of ${count(registered)} registered` : "The number of registered voters is not known");
}

function showBooks(data) {
  const books = data.accounting;
  const line = byId("equation");
  const [received, counted, refused] = [books?.received ?? 0, books?.counted ?? 0, books?.rejected ?? 0];
  const holds = books?.holds ?? true;
  line.dataset.holds = String(holds);
  say(line, `${count(received)} received ${holds ? "=" : "≠"} ${count(counted)} counted + ${count(refused)} refused ${holds ? "✓" : "✗"}`);
  const notes = [];
  if (books && !holds) notes.push(`The tables hold ${count(books.tallied)} tallied and ${count(books.refused)} refused: run scrutin audit.`);
  if (books?.gaps) notes.push(`${plural(books.gaps, "offset", "offsets")} of the log without a record.`);
  if (data.last_audit) {
    const { audited_at, recounted, differences } = data.last_audit;
    const verdict = differences === 0 ? "no difference" : plural(differences, "difference", "differences");
    notes.push(`Audited at ${clock.second(Date.parse(audited_at))}: ${plural(recounted, "vote", "votes")} recounted from the log, ${verdict}.`);
  } else {
    notes.push("Not audited yet.");
  }
  for (const { counter, other, agree, partitions_apart, votes_apart, refusals_apart } of data.agreement) {
    const differ = `differ by ${plural(votes_apart, "vote", "votes")} and ${plural(refusals_apart, "refusal", "refusals")}`;
    const how = agree ? "agree" : partitions_apart ? "are not equally far yet" : differ;
    notes.push(`The counts ${counter} and ${other} ${how}.`);
  }
  say(byId("audit"), notes.join(" "));
}

function showPipeline(data) {
  // Whole seconds only: the one that runs is not full yet.
  const running = Math.floor(now() / 1000) * 1000;
  const bySecond = new Map(data.throughput.map((row) => [Date.parse(row.second), row]));
  const received = Array.from({ length: 60 }, (_, i) => bySecond.get(running - (60 - i) * 1000)?.received ?? 0);
  const rate = received.slice(-5).reduce((sum, votes) => sum + votes, 0) / 5;
  say(byId("rate"), compact(Math.round(rate)));
  spark(received);
  const lag = data.lag?.votes ?? 0;
  say(byId("lag"), plural(lag, "vote", "votes"));
  const latest = data.throughput.findLast((row) => Date.parse(row.second) >= running - 10000);
  say(byId("p50"), millis(latest?.latency_ms_p50));
  say(byId("p99"), millis(latest?.latency_ms_p99));
  const parts = snapshot.parts.map(({ name, ready, problem, since }) => {
    const text = ready ? name : `${name}: ${problem ?? "waiting"}`;
    const node = el("li", { title: `since ${clock.second(Date.parse(since))}` }, el("i"), text);
    node.dataset.ready = String(ready);
    return node;
  });
  byId("parts").replaceChildren(...parts);
}

function spark(values) {
  const [width, height] = [120, 28];
  const most = Math.max(...values, 1);
  const points = values.map((value, i) => `${((i / (values.length - 1)) * width).toFixed(1)},${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  let picture = byId("spark").firstChild;
  if (!picture) {
    picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, svg("polyline", { fill: "none" }));
    byId("spark").append(picture);
  }
  setAll(picture.firstChild, { points: points.join(" ") });
}
