// The last two minutes, second by second, from the state's throughput.

const SECONDS = 120;

let held = null;

// Columns for the last whole seconds. A second without commits received nothing and has no latency.
export function recent({ throughput }, now) {
  const end = Math.floor(now / 1000);
  if (held && held.throughput === throughput && held.end === end) return held;
  const bySecond = new Map(Object.entries(throughput ?? {}).map(([second, row]) => [Math.floor(Date.parse(second) / 1000), row]));
  const seconds = Array.from({ length: SECONDS }, (_, i) => end - SECONDS + i);
  const column = (name, none) => seconds.map((second) => bySecond.get(second)?.[name] ?? none);
  held = {
    throughput,
    end,
    seconds,
    isIdle: bySecond.size === 0,
    received: column("received", 0),
    counted: column("counted", 0),
    rejected: column("rejected", 0),
    batches: column("batches", 0),
    p50: column("latency_ms_p50", null),
    p99: column("latency_ms_p99", null),
  };
  return held;
}

// The mean over the last `seconds`, ignoring unknown values.
export function lately(values, seconds = 10) {
  const known = values.slice(-seconds).filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

export const worst = (values, seconds = 10) => {
  const known = values.slice(-seconds).filter((value) => value !== null);
  return known.length ? Math.max(...known) : null;
};
