// All heads at a glance: a small picture each, with the kind of head it is; whole heads and halves of blocks can be silenced.

import { button, colour, h, onTheme, put } from "./dom.js";
import { rove } from "./grid.js";
import { bytes, percent } from "./text.js";

const KINDS = { previous: "previous token", first: "first token", itself: "itself", same: "same token",
  induction: "induction", mixed: "mixed" };
export const kindName = (kind) => KINDS[kind] ?? kind;

// A pixel for each weight from 0 to 255: the colour, the fuller the more; red comes first in memory, which is lowest.
function shades([red, green, blue]) {
  return Uint32Array.from({ length: 256 }, (_, value) =>
    ((Math.sqrt(value / 255) * 255) << 24) | (blue << 16) | (green << 8) | red);
}

export class Heads {
  // `select(layer, head)` hears which head is to be looked at, `toggle(part)` what is to be silenced or heard again.
  constructor(select, toggle) {
    Object.assign(this, { select, toggle, cells: [], shape: "", chosen: [0, 0] });
    this.table = h("div", { class: "heads", role: "group",
      "aria-label": "Heads by layer; the arrow keys go from head to head, X silences one" });
    this.element = h("div", { class: "scroll" }, this.table);
    this.take = rove(this.table, () => this.cells.map((row) => row.map(({ cell }) => cell)));
    onTheme(() => this.result && this.paint());
  }

  show(result, off, [layer, head]) {
    Object.assign(this, { result, off, chosen: [layer, head] });
    const shape = `${result.kinds.length} ${result.kinds[0].length} ${result.thumbnails.size}`;
    if (shape !== this.shape) this.build(result);
    this.shape = shape;
    this.paint();
    this.name();
  }

  build({ kinds, thumbnails }) {
    this.cells = kinds.map((row, layer) => row.map((_, head) => this.cell(layer, head, thumbnails.size)));
    this.rows = kinds.map((_, layer) => ["attention", "feed_forward"].map((half) =>
      button(half === "attention" ? "attention" : "feed-forward", () => this.toggle(`${layer}.${half}`),
        { class: "half" })));
    this.table.replaceChildren(...this.cells.map((row, layer) => h("div", { class: "layer" },
      h("div", { class: "layer-name" }, h("span", { text: `layer ${layer}` }), this.rows[layer]),
        h("div", { class: "layer-heads" }, row.map(({ cell }) => cell)))));
    this.take(this.cells[0][0].cell);
  }

  cell(layer, head, size) {
    const canvas = h("canvas", { width: size, height: size, "aria-hidden": "true" });
    const kind = h("span", { class: "kind" });
    const cell = button("", () => this.select(layer, head), { class: "head-cell", tabindex: -1 });
    cell.append(canvas, kind);
    cell.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() === "x" && !event.ctrlKey && !event.metaKey) this.toggle(`${layer}.${head}`);
    });
    return { cell, canvas, kind };
  }

  paint() {
    const { size, data } = this.result.thumbnails;
    const values = bytes(data);
    const inks = shades(colour("accent"));
    let at = 0;
    for (const row of this.cells) {
      for (const { canvas } of row) {
        const context = canvas.getContext("2d");
        const image = context.createImageData(size, size);
        const pixels = new Uint32Array(image.data.buffer);
        for (let pixel = 0; pixel < pixels.length; pixel += 1) pixels[pixel] = inks[values[at + pixel]];
        context.putImageData(image, 0, 0);
        at += size * size;
      }
    }
  }

  name() {
    this.cells.forEach((row, layer) => {
      row.forEach(({ cell, kind }, head) => {
        const found = this.result.kinds[layer][head];
        const silent = this.off.has(`${layer}.${head}`) || this.off.has(`${layer}.attention`);
        const here = layer === this.chosen[0] && head === this.chosen[1];
        put(kind, silent ? "off" : found.kind);
        cell.classList.toggle("off", silent);
        cell.setAttribute("aria-pressed", String(here));
        cell.setAttribute("aria-label",
          `Layer ${layer}, head ${head}: ${kindName(found.kind)}${silent ? ", switched off" : ""}`);
        cell.title = ["previous", "first", "itself", "same", "induction"].map((name) =>
          `${kindName(name)} ${percent(found[name])}`).join("\n");
      });
      for (const [index, half] of ["attention", "feed_forward"].entries()) {
        const silent = this.off.has(`${layer}.${half}`);
        this.rows[layer][index].setAttribute("aria-pressed", String(silent));
        this.rows[layer][index].setAttribute("aria-label",
          `Switch off ${half === "attention" ? "attention" : "feed-forward"} of layer ${layer}`);
      }
    });
  }
}
