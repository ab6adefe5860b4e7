// A line chart in SVG that can be read by eye, by pointer and by keyboard.

import { h, s } from "./dom.js";
import { decades, extent, thinned, ticks } from "./curves.js";
import { figure } from "./text.js";

const MARGIN = { top: 14, right: 16, bottom: 30, left: 46 };
const HEIGHT = 380;
const LOWEST = 3; // of the lines to beat are always in the picture
const EARLY = 0.03; // of the steps: their losses may leave the picture, so that the later ones can be told apart

export class Chart {
  // `name` is said to those who do not see it.
  constructor(name) {
    this.logarithmic = false;
    this.data = { curves: [], levels: [], forecast: null, end: null };
    this.svg = s("svg", { class: "chart", height: HEIGHT, role: "slider", tabindex: 0, "aria-label": name,
      "aria-valuemin": 0, "aria-valuenow": 0 });
    this.reading = h("p", { class: "reading" });
    this.element = h("div", { class: "chart-box" }, this.svg, this.reading);
    this.at = null; // the step that is read
    for (const how of ["pointermove", "pointerdown"]) this.svg.addEventListener(how, (event) => this.point(event));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("focus", () => this.read(this.index ?? this.last));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  // curves: {name, points, className, quiet}; levels: {name, value}; forecast: {loss, spread} at `end`.
  show(data) {
    this.data = { ...this.data, ...data };
    this.steps = [...new Set(this.data.curves.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
    this.draw();
  }

  get last() {
    return (this.steps?.length ?? 0) - 1;
  }

  // Where the step that is read stands, or the nearest that is still there; null where nothing is read.
  get index() {
    return this.at === null || this.last < 0 ? null : closest(this.steps, this.at);
  }

  bounds() {
    const { curves, levels, forecast, end } = this.data;
    const xs = this.steps.length ? [this.steps[0], this.steps.at(-1)] : [1, 2];
    const early = this.logarithmic ? 0 : (xs[1] - xs[0]) * EARLY;
    const late = (points) => points.filter(([x]) => x - xs[0] >= early);
    const shownCurves = curves.filter(({ quiet }) => !quiet).flatMap(({ points }) => late(points).map(([, y]) => y));
    const ahead = forecast ? [forecast.loss - forecast.spread, forecast.loss + forecast.spread] : [];
    const lowest = levels.map(({ value }) => value).sort((a, b) => a - b);
    const beaten = this.logarithmic ? lowest : lowest.slice(0, LOWEST);
    const ys = [...shownCurves, ...beaten, ...ahead].filter(Number.isFinite);
    const [low, high] = ys.length ? extent(ys) : [0, 1];
    const room = (high - low || 1) * 0.06;
    return { x: [Math.max(xs[0], this.logarithmic ? 1 : 0), Math.max(xs[1], end ?? 0, xs[0] + 1)],
      y: [low - room, high + room] };
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width || !this.steps) return;
    const { x, y } = this.bounds();
    const turn = this.logarithmic ? (value) => Math.log(Math.max(value, 1)) : (value) => value;
    const across = (width - MARGIN.left - MARGIN.right) / (turn(x[1]) - turn(x[0]) || 1);
    const along = (HEIGHT - MARGIN.top - MARGIN.bottom) / (y[1] - y[0]);
    this.x = (value) => MARGIN.left + (turn(value) - turn(x[0])) * across;
    this.y = (value) => HEIGHT - MARGIN.bottom - (value - y[0]) * along;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.setAttribute("width", width);
    this.cursor = s("g", { class: "cursor" });
    const frame = s("clipPath", { id: "frame" }, s("rect", { x: MARGIN.left, y: MARGIN.top - 6,
      width: Math.max(width - MARGIN.left, 0), height: HEIGHT - MARGIN.top - MARGIN.bottom + 6 }));
    this.svg.replaceChildren(frame, this.axes(width, x, y), this.levels(width, y[1]), this.forecast(),
      s("g", { "clip-path": "url(#frame)" }, this.lines()), this.cursor);
    this.svg.setAttribute("aria-valuemax", Math.max(this.last, 0));
    this.svg.setAttribute("aria-valuenow", this.index ?? Math.max(this.last, 0));
    if (this.index === null) this.forget();
    else this.read(this.index);
  }

  axes(width, x, y) {
    const bottom = HEIGHT - MARGIN.bottom;
    const across = this.logarithmic ? decades(Math.max(x[0], 1), x[1]) : ticks(x[0], x[1], width / 110);
    const marks = across.map((value) => s("text", { x: Math.min(this.x(value), width - 20), y: bottom + 20,
      "text-anchor": "middle",
      class: "tick" }, value.toLocaleString("en")));
    const rows = ticks(y[0], y[1], 5).map((value) => s("g", { class: "row-line" },
      s("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: this.y(value), y2: this.y(value) }),
      s("text", { x: MARGIN.left - 8, y: this.y(value) + 4, "text-anchor": "end", class: "tick" }, String(value))));
    const name = s("text", { x: 0, y: bottom + 20, class: "axis" }, "step");
    return s("g", { "aria-hidden": true }, rows, marks, name);
  }

  // Lines to beat, each with its name; names that would touch move apart.
  levels(width, top) {
    let above = -Infinity;
    const lines = [];
    const inside = this.data.levels.filter(({ value }) => value <= top).sort((a, b) => b.value - a.value);
    const names = inside.map(({ name, value }) => {
      const y = this.y(value);
      lines.push(s("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }));
      above = Math.max(y - 5, above + 15);
      return s("text", { x: width - MARGIN.right, y: above, "text-anchor": "end" }, `${name} ${figure(value)}`);
    });
    return s("g", { class: "level", "aria-hidden": true }, lines, names);
  }

  // From where it stands to where it is expected to end, wider the further away.
  forecast() {
    const { forecast, end, curves } = this.data;
    const from = curves.find(({ ahead }) => ahead)?.points.at(-1);
    if (!forecast || !end || !from || from[0] >= end) return s("g");
    const [x0, y0, x1] = [this.x(from[0]), this.y(from[1]), this.x(end)];
    const [low, high, middle] = [this.y(forecast.loss - forecast.spread), this.y(forecast.loss + forecast.spread),
      this.y(forecast.loss)];
    return s("g", { class: "forecast", "aria-hidden": true },
      s("path", { d: `M${x0} ${y0} L${x1} ${low} L${x1} ${high} Z` }),
      s("line", { x1: x0, y1: y0, x2: x1, y2: middle }));
  }

  lines() {
    return this.data.curves.map(({ points, className }) => {
      const path = thinned(points).map(([x, y], index) =>
        `${index ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`);
      if (path.length === 1) path.push("m-10 0h20"); // a single measurement is a dash
      return s("path", { class: `curve ${className}`, d: path.join("") || "M0 0" });
    });
  }

  point(event) {
    if (!this.steps?.length) return;
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    const far = (index) => Math.abs(this.x(this.steps[index]) - x);
    let best = 0;
    for (let index = 1; index < this.steps.length; index += 1) if (far(index) < far(best)) best = index;
    this.read(best);
  }

  key(event) {
    const page = Math.max(Math.round(this.last / 10), 1);
    const to = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: page, PageDown: -page, Home: -1e9,
      End: 1e9 }[event.key];
    if (to === undefined || this.last < 0) return;
    event.preventDefault();
    this.read(Math.min(Math.max((this.index ?? this.last) + to, 0), this.last));
  }

  // Say the values at a step: beside each curve, in words below, and to screen readers.
  read(index) {
    if (index < 0 || !this.cursor) return;
    const step = (this.at = this.steps[index]);
    const values = this.data.curves.map((curve) => [curve, nearest(curve.points, step)]).filter(([, point]) => point);
    const words = values.map(([{ name }, point]) => `${name} ${figure(point[1])}`);
    this.reading.textContent = `step ${step.toLocaleString("en")} · ${words.join(" · ")}`;
    this.svg.setAttribute("aria-valuenow", index);
    this.svg.setAttribute("aria-valuetext", `step ${step}: ${words.join(", ")}`);
    const x = this.x(step);
    this.cursor.replaceChildren(s("line", { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      ...values.filter(([{ quiet }]) => !quiet).map(([{ className }, point]) =>
        s("circle", { class: className, cx: this.x(point[0]), cy: this.y(point[1]), r: 4 })));
  }

  forget() {
    this.at = null;
    this.reading.textContent = "";
    this.svg.removeAttribute("aria-valuetext");
  }
}

// The index of the step that is nearest to this one.
const closest = (steps, step) => steps.reduce((best, one, index) =>
  (Math.abs(one - step) < Math.abs(steps[best] - step) ? index : best), 0);

// The newest point that is not after this step.
function nearest(points, step) {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= step) low = middle + 1;
    else high = middle;
  }
  return points[low - 1] ?? null;
}
