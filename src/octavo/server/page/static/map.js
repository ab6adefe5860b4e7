// The embedding as a map: tokens that the model treats alike lie near each other.

import { post, stopped } from "./api.js";
import { canvas2d, colour, field, h, onTheme, rgba } from "./dom.js";
import { label, percent, spoken } from "./text.js";

const HEIGHT = 420;
const EDGE = 24;
const NAMED = 160; // points up to which all are named

export class TokenMap {
  constructor(asked) {
    Object.assign(this, { asked, points: [], at: null, key: null });
    this.canvas = h("canvas", { role: "application", tabindex: 0,
      "aria-label": "Map of the tokens; the arrow keys go to the nearest in that direction" });
    this.find = h("input", { type: "search", oninput: () => this.seek() });
    this.reading = h("p", { class: "reading", "aria-live": "polite" });
    this.box = h("div", { class: "drawing" }, this.canvas);
    this.element = h("div", {}, field("Find a token", this.find), this.box, this.reading);
    for (const how of ["pointermove", "pointerdown"]) this.canvas.addEventListener(how, (event) => this.point(event));
    this.canvas.addEventListener("keydown", (event) => this.step(event));
    onTheme(() => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  // Ask once for each snapshot; the newest weights may be others by now.
  async load() {
    const asked = this.asked();
    this.running?.abort();
    if (asked.step !== undefined && this.key === asked.step) return this.draw();
    this.running = new AbortController();
    try {
      const told = await post("/page/map", { model: asked.model, step: asked.step }, this.running.signal);
      Object.assign(this, { key: asked.step, points: told.points, at: null });
      this.reading.textContent = `${told.points.length} tokens; these two directions hold ${percent(told.explained[0] + told.explained[1])} of how they differ`;
      this.draw();
    } catch (error) {
      if (!stopped(error)) this.reading.textContent = error.message;
    }
    return undefined;
  }

  draw() {
    const width = this.box.clientWidth;
    if (!width || !this.points.length) return;
    const context = canvas2d(this.canvas, width, HEIGHT);
    const span = (name) => [Math.min(...this.points.map((one) => one[name])),
      Math.max(...this.points.map((one) => one[name]))];
    const [xs, ys] = [span("x"), span("y")];
    const scale = (value, [low, high], size) => EDGE + ((value - low) / (high - low || 1)) * (size - 2 * EDGE);
    this.places = this.points.map(({ x, y }) => [scale(x, xs, width), HEIGHT - scale(y, ys, HEIGHT)]);
    const [ink, accent] = [colour("ink"), colour("accent")];
    context.font = "14px Georgia, 'Liberation Serif', serif";
    context.textAlign = "center";
    this.points.forEach((one, index) => this.dot(context, one, this.places[index], this.matches(one) ? accent : ink));
    if (this.at !== null) this.ring(context, accent);
  }

  matches(one) {
    return this.find.value !== "" && one.text.includes(this.find.value);
  }

  dot(context, one, [x, y], kind) {
    context.fillStyle = rgba(kind, this.matches(one) ? 1 : 0.6);
    if (this.points.length <= NAMED || this.matches(one)) context.fillText(label(one.text, 12), x, y + 4);
    else context.fillRect(x - 1, y - 1, 2, 2);
  }

  ring(context, accent) {
    const [x, y] = this.places[this.at];
    context.strokeStyle = rgba(accent);
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x, y, 13, 0, 2 * Math.PI);
    context.stroke();
    context.fillStyle = rgba(accent);
    context.fillText(label(this.points[this.at].text, 16), x, y + (y > 40 ? -18 : 28));
  }

  go(index) {
    this.at = index;
    const [x, y] = this.places[index];
    const far = this.places.map(([other, down], near) => [Math.hypot(other - x, down - y), near]).sort((a, b) =>
      a[0] - b[0]);
    this.reading.textContent = `${spoken(this.points[index].text)}; near it ${far.slice(1, 6).map(([, near]) => spoken(this.points[near].text)).join(", ")}`;
    this.draw();
  }

  point(event) {
    if (!this.places) return;
    const box = this.canvas.getBoundingClientRect();
    const far = this.places.map(([x, y], index) => [Math.hypot(x - event.clientX + box.left,
      y - event.clientY + box.top), index]);
    const [distance, index] = far.reduce((best, one) => (one[0] < best[0] ? one : best));
    if (distance < 20 && index !== this.at) this.go(index);
  }

  step(event) {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!way || !this.places) return;
    event.preventDefault();
    if (this.at === null) return this.go(0);
    const [x, y] = this.places[this.at];
    const ahead = this.places.map(([other, down], index) => {
      const [along, aside] = [(other - x) * way[0] + (down - y) * way[1],
        Math.abs((other - x) * way[1]) + Math.abs((down - y) * way[0])];
      return [along > 0.5 ? along + 2 * aside : Infinity, index];
    }).reduce((best, one) => (one[0] < best[0] ? one : best));
    if (ahead[0] < Infinity) this.go(ahead[1]);
    return undefined;
  }

  seek() {
    const found = this.points.findIndex((one) => this.matches(one));
    if (found >= 0) this.go(found);
    else this.draw();
  }
}
