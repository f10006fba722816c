// A chart in a template: html`<div ${plot(spec)}></div>`. Drawn by uPlot, which is loaded with the first chart.

import { noChange } from "./vendor/lit-html/lit-html.js";
import { AsyncDirective, directive } from "./vendor/lit-html/async-directive.js";
import { day, minute, second, zoneOffset } from "./format.js";
import { address } from "./root.js";
import { theme } from "./theme.js";

const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

let library = null;

// The minified uPlot is a plain script, not a module, so it is loaded through a script element.
function load() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address("assets/vendor/uplot/uPlot.iife.min.js");
    script.onload = () => resolve(window.uPlot);
    script.onerror = () => {
      library = null;
      reject(new Error("could not load the chart library"));
    };
    document.head.append(script);
  });
  return library;
}

// A spec has: `key`, which recreates the chart when it changes; `data` for uPlot, redrawn when it is a new array;
// `height(width)` in pixels; `options(width)` for uPlot; `failed(error)`; and `pointed(row)`, called without a row when
// the pointer leaves.
class Plot extends AsyncDirective {
  spec = null;
  chart = null;
  element = null;

  render() {
    return noChange;
  }

  update(part, [spec]) {
    const before = this.spec;
    this.spec = spec;
    if (!this.element) {
      this.element = part.element;
      this.watch();
    }
    if (before?.key !== spec.key) this.make();
    else if (this.chart && before.data !== spec.data) this.chart.setData(spec.data);
    return noChange;
  }

  watch() {
    this.observer = new ResizeObserver(() => {
      const width = this.width();
      if (this.chart && width !== this.chart.width) this.make();
    });
    this.observer.observe(this.element);
  }

  width() {
    return Math.max(200, Math.floor(this.element.clientWidth));
  }

  async make() {
    try {
      const uPlot = await load();
      if (!this.isConnected) return;
      this.chart?.destroy();
      const width = this.width();
      const options = { width, height: this.spec.height(width), legend: { show: false }, ...this.spec.options(width, uPlot) };
      options.hooks = { ...options.hooks, setCursor: [(u) => this.spec.pointed(u.cursor.left < 0 ? undefined : (u.cursor.idx ?? undefined))] };
      this.chart = new uPlot(options, this.spec.data, this.element);
    } catch (error) {
      this.spec.failed(error);
    }
  }

  disconnected() {
    this.observer.disconnect();
    this.chart?.destroy();
    this.chart = null;
  }

  reconnected() {
    this.observer.observe(this.element);
    this.make();
  }
}

export const plot = directive(Plot);

// An axis of figures, formatted by `write`, which also gets the distance between ticks.
export const axis = (write, more = {}) => ({
  stroke: theme.soft,
  font: FONT,
  grid: { stroke: theme.line, width: 1 },
  ticks: { show: false },
  size: (u, values) => 14 + Math.max(24, ...(values ?? []).map((text) => 7 * String(text ?? "").length)),
  values: (u, ticks, index, space, step) => ticks.map((tick) => write(tick, step)),
  ...more,
});

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000];

// Tick distances for votes, which are whole.
export const VOTE_STEPS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();

// Tick distances for shares that need no rounding.
export const SHARE_STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2];

// An axis of times in seconds, with ticks at round times in the election's zone.
export function timeAxis() {
  let every = 1;
  const splits = (u, axisIndex, from, to) => {
    const room = Math.max(2, Math.floor(u.width / 90));
    every = STEPS.find((step) => (to - from) / step <= room) ?? (to - from) / room;
    const offset = zoneOffset(from * 1000) / 1000;
    const times = [];
    for (let time = Math.ceil((from + offset) / every) * every - offset; time <= to; time += every) times.push(time);
    return times;
  };
  const write = (time) => (every < 60 ? second : every < 86400 ? minute : day)(time * 1000);
  return axis(write, { splits, size: 30, space: 60 });
}

// A dashed vertical line at a time.
export function drawNow(u, time) {
  const [from, to] = [u.scales.x.min, u.scales.x.max];
  if (!(time > from && time < to)) return;
  const x = u.valToPos(time, "x", true);
  const { ctx, bbox } = u;
  ctx.save();
  ctx.strokeStyle = theme.soft;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(x, bbox.top);
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}

// Names at the ends of their lines, so that nobody has to tell colours apart: each as close to its line as the others
// allow.
export function drawNames(u, names) {
  const { ctx, bbox } = u;
  const gap = 14 * devicePixelRatio;
  const placed = names
    .filter(({ value }) => Number.isFinite(value))
    .map((name) => ({ ...name, x: u.valToPos(name.time, "x", true), y: u.valToPos(name.value, "y", true) }))
    .sort((a, b) => a.y - b.y);
  placed.forEach((name, i) => (name.at = i ? Math.max(name.y, placed[i - 1].at + gap) : name.y));
  const bottom = bbox.top + bbox.height;
  for (let i = placed.length - 1, most = bottom; i >= 0; i -= 1, most -= gap) placed[i].at = Math.min(placed[i].at, most);
  ctx.save();
  ctx.font = FONT.replace("12px", `${12 * devicePixelRatio}px`);
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  for (const { text, color, x, at, y } of placed) {
    ctx.fillStyle = color;
    ctx.beginPath();
    ctx.arc(x, y, 3 * devicePixelRatio, 0, 2 * Math.PI);
    ctx.fill();
    ctx.strokeStyle = color;
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x + 3 * devicePixelRatio, y);
    ctx.lineTo(x + 9 * devicePixelRatio, at);
    ctx.stroke();
    ctx.fillStyle = theme.ink;
    ctx.fillText(text, x + 12 * devicePixelRatio, at);
  }
  ctx.restore();
}
