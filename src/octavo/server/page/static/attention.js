// One head's attention, drawn as arcs over the text or as a matrix. Where it looks is also said in words.

import { button, canvas2d, colour, h, onTheme, rgba } from "./dom.js";
import { steer } from "./grid.js";
import { bytes, label, percent, spoken } from "./text.js";

const FAINT = 0.04; // weights below it are not drawn as arcs
const SHADES = 6;
const PULL = 4 / 3; // how much farther than its top a curve's handles are; an ellipse takes longer to draw
const LETTER = 8; // pixels across, about
const FONT = "14px Georgia, 'Liberation Serif', serif";

// Every machine that runs a browser keeps the low byte first, as the service sends it.
export const words = (base64) => new Uint16Array(bytes(base64).buffer);

// The weight with which token `query` looks at token `key`, in the triangles of all heads of a layer.
export function weigher(data, tokens, head) {
  const start = (head * tokens * (tokens + 1)) / 2;
  return (query, key) => data[start + (query * (query + 1)) / 2 + key] / 65535;
}

export class Attention {
  // `changed(query)` hears which token is looked from.
  constructor(changed) {
    Object.assign(this, { changed, form: "arcs", tokens: [], at: [0, 0], weight: null });
    this.canvas = h("canvas", { role: "application", tabindex: 0,
      "aria-label": "Attention of this head; the arrow keys go from token to token" });
    this.scroll = h("div", { class: "drawing" }, this.canvas);
    this.reading = h("p", { class: "reading", "aria-live": "polite" });
    this.forms = ["arcs", "matrix"].map((form) => button(form === "arcs" ? "Arcs" : "Matrix", () => this.turn(form),
      { "aria-pressed": String(form === "arcs"), class: "choice" }));
    this.element = h("div", { class: "attention" }, h("div",
      { class: "row", role: "group", "aria-label": "How it is drawn" }, this.forms), this.scroll, this.reading);
    steer(this.canvas, () => (this.form === "arcs" ? [this.at[1], 0] : this.at),
      () => [this.tokens.length, this.form === "arcs" ? 1 : this.tokens.length],
      (x, y) => (this.form === "arcs" ? this.look(null, x) : this.look(x, y)));
    for (const how of ["pointermove", "pointerdown"]) this.canvas.addEventListener(how, (event) => this.point(event));
    onTheme(() => this.draw());
    new ResizeObserver(([one]) => this.fit(one.contentRect.width)).observe(this.element);
  }

  turn(form) {
    this.form = form;
    for (const one of this.forms) one.setAttribute("aria-pressed", String(one.textContent.toLowerCase() === form));
    this.draw();
  }

  show(tokens, weight, query) {
    Object.assign(this, { tokens, weight, at: [Math.min(this.at[0], query), query] });
    this.draw();
  }

  // Look from `query`, at `key` if one is pointed at.
  look(key, wanted, quiet = false) {
    if (!this.tokens.length) return; // the first weights have not come yet
    const query = Math.min(wanted, this.tokens.length - 1); // a new text may be known before its weights are
    this.at = [key === null ? Math.min(this.at[0], query) : Math.min(key, query), query];
    this.draw();
    if (!quiet) this.changed(query);
  }

  point(event) {
    if (!this.cell) return;
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top].map((value) =>
      Math.floor((value - this.edge) / this.cell));
    const inside = (value) => value >= 0 && value < this.tokens.length;
    if (this.form === "matrix" && inside(x) && inside(y)) this.look(x, y, true);
    if (this.form === "arcs" && inside(x) && x !== this.at[1]) this.look(null, x, true);
  }

  // The width is another one; that the drawing itself made the page longer is no reason to draw again.
  fit(outer) {
    if (outer === this.outer) return;
    Object.assign(this, { outer, width: this.scroll.clientWidth });
    this.draw();
  }

  draw() {
    const width = (this.width ||= this.scroll.clientWidth); // to measure it each time would lay out the page twice
    if (!this.weight || !this.tokens.length || !width) return;
    this.ink = colour("ink");
    this.accent = colour("accent");
    if (this.form === "arcs") this.arcs(width);
    else this.matrix(width);
    this.say();
  }

  arcs(width) {
    const count = this.tokens.length;
    const cell = Math.max(Math.min(width / count, 84), 17);
    const tall = Math.max(Math.min(cell * count * 0.34, 190), 70);
    const longest = Math.max(...this.tokens.map((token) => label(token.text, 12).length));
    const upright = longest * LETTER > cell; // words stand upright where they would not fit side by side
    const context = canvas2d(this.canvas, Math.max(cell * count, 40),
      tall + (upright ? Math.min(longest * LETTER, 84) + 10 : 32));
    Object.assign(this, { cell, edge: 0 });
    context.font = FONT;
    const [, query] = this.at;
    requestAnimationFrame(() => this.follow((query + 0.5) * cell));
    this.others(context, query, tall);
    this.bows(context, query, tall);
    this.tokens.forEach((token, index) => this.word(context, label(token.text, 12), (index + 0.5) * cell, tall, upright,
      index));
  }

  // Where the text is wider than the page, the token that is looked from is brought into sight.
  follow(middle) {
    const left = this.scroll.scrollLeft;
    if (middle < left || middle + this.cell / 2 > left + this.width) this.scroll.scrollLeft = middle - this.width / 2;
  }

  // The arcs of all other tokens, faintly: a few strokes in all, for there may be ten thousand.
  others(context, query, tall) {
    const paths = Array.from({ length: SHADES }, () => new Path2D());
    for (let from = 0; from < this.tokens.length; from += 1) {
      if (from === query) continue;
      for (let key = 0; key <= from; key += 1) {
        const weight = this.weight(from, key);
        if (weight >= FAINT) this.bow(paths[Math.min(Math.floor(weight * SHADES), SHADES - 1)], from, key, tall);
      }
    }
    paths.forEach((path, shade) => {
      context.strokeStyle = rgba(this.ink, 0.05 + (0.12 * shade) / SHADES);
      context.lineWidth = 0.8 + shade / SHADES;
      context.stroke(path);
    });
  }

  bows(context, query, tall) {
    for (let key = 0; key <= query; key += 1) {
      const weight = this.weight(query, key);
      if (weight < FAINT) continue;
      const path = new Path2D();
      this.bow(path, query, key, tall);
      context.strokeStyle = rgba(this.accent, Math.min(weight + 0.08, 1));
      context.lineWidth = 0.8 + 3 * weight;
      context.stroke(path);
    }
  }

  bow(path, query, key, tall) {
    const [from, to] = [(query + 0.5) * this.cell, (key + 0.5) * this.cell];
    const high = 8 + (tall - 18) * Math.sqrt((query - key) / this.tokens.length);
    path.moveTo(key === query ? from + 5 : to, key === query ? tall - 9 : tall - 4);
    if (key === query) path.arc(from, tall - 9, 5, 0, 2 * Math.PI);
    else path.bezierCurveTo(to, tall - 4 - high * PULL, from, tall - 4 - high * PULL, from, tall - 4);
  }

  word(context, text, x, y, upright, index) {
    const query = this.at[1];
    context.fillStyle = index === query ? rgba(this.accent)
      : rgba(this.ink, index < query ? 0.68 + 0.32 * Math.sqrt(this.weight(query, index)) : 0.68);
    context.save();
    context.translate(x, y + 6);
    if (upright) context.rotate(Math.PI / 2);
    context.textAlign = upright ? "left" : "center";
    context.textBaseline = upright ? "middle" : "top";
    context.fillText(text, 0, 0, upright ? 84 : this.cell - 4);
    context.restore();
  }

  matrix(width) {
    const count = this.tokens.length;
    const cell = Math.max(Math.min((width - 84) / count, 26), 2);
    const edge = cell >= 11 ? 84 : 0;
    const size = edge + cell * count;
    const context = canvas2d(this.canvas, size + 1, size + 1);
    Object.assign(this, { cell, edge });
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture(count), edge, edge, cell * count, cell * count);
    context.strokeStyle = rgba(this.ink, 0.25);
    context.strokeRect(edge + 0.5, edge + 0.5, cell * count, cell * count);
    context.strokeStyle = rgba(this.ink);
    context.strokeRect(edge + this.at[0] * cell + 0.5, edge + this.at[1] * cell + 0.5, cell, cell);
    if (edge) this.sides(context, cell, edge);
  }

  picture(count) {
    const picture = new OffscreenCanvas(count, count);
    const context = picture.getContext("2d");
    const image = context.createImageData(count, count);
    for (let query = 0; query < count; query += 1) {
      for (let key = 0; key <= query; key += 1) {
        image.data.set(this.accent, 4 * (query * count + key));
        image.data[4 * (query * count + key) + 3] = 255 * Math.sqrt(this.weight(query, key));
      }
    }
    context.putImageData(image, 0, 0);
    return picture;
  }

  sides(context, cell, edge) {
    context.font = FONT;
    context.textBaseline = "middle";
    this.tokens.forEach((token, index) => {
      const text = label(token.text, 10);
      const middle = edge + (index + 0.5) * cell;
      context.fillStyle = index === this.at[1] ? rgba(this.accent) : rgba(this.ink, 0.8);
      context.textAlign = "right";
      context.fillText(text, edge - 6, middle, edge - 8);
      context.fillStyle = index === this.at[0] ? rgba(this.accent) : rgba(this.ink, 0.8);
      context.save();
      context.translate(middle, edge - 6);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillText(text, 0, 0, edge - 8);
      context.restore();
    });
  }

  say() {
    const [key, query] = this.at;
    const name = (index) => `${spoken(this.tokens[index].text)} (${index + 1})`;
    if (this.form === "matrix") {
      this.reading.textContent = `${name(query)} looks at ${name(key)} with ${percent(this.weight(query, key))}`;
      return;
    }
    const weights = Array.from({ length: query + 1 }, (_, index) => [this.weight(query, index), index]);
    const strongest = weights.sort((a, b) => b[0] - a[0]).slice(0, 3);
    this.reading.textContent = `${name(query)} looks at ${strongest.map(([weight, index]) => `${name(index)} ${percent(weight)}`).join(", ")}`;
  }
}
