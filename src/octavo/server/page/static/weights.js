// The weights in figures, one row for each matrix, sorted by whichever column is wanted.

import { post, stopped } from "./api.js";
import { button, h, row } from "./dom.js";
import { figure } from "./text.js";

const COLUMNS = [["name", "Weight"], ["shape", "Shape"], ["mean", "Mean"], ["std", "Deviation"], ["largest", "Largest"],
  ["norm", "Norm"], ["update", "Moved"]];
const sortable = (value) => (Array.isArray(value) ? value.reduce((product, one) => product * one, 1) : value
  ?? -Infinity);

export class Weights {
  constructor(asked) {
    Object.assign(this, { asked, rows: [], by: null, down: true, key: null });
    this.body = h("tbody");
    this.heads = COLUMNS.map(([name, title]) => h("th", { scope: "col", class: name === "name" ? null : "number" },
      button(title, () => this.sort(name), { class: "quiet" })));
    this.reading = h("p", { class: "hint", role: "status" });
    this.element = h("div", {}, h("div", { class: "scroll", tabindex: 0, role: "region",
      "aria-label": "Weights in figures" },
      h("table", {}, h("thead", {}, h("tr", {}, this.heads)), this.body)), this.reading);
  }

  // Ask once for each snapshot; the newest weights may be others by now.
  async load() {
    const asked = this.asked();
    this.running?.abort();
    if (asked.step !== undefined && this.key === asked.step) return;
    this.running = new AbortController();
    try {
      this.rows = (await post("/page/weights", { model: asked.model, step: asked.step }, this.running.signal)).weights;
      this.key = asked.step;
      this.reading.textContent = this.rows.some(({ update }) => update !== null)
        ? "Moved: how far a weight is from its first snapshot, in parts of its norm then." : "";
      this.draw();
    } catch (error) {
      if (!stopped(error)) this.reading.textContent = error.message;
    }
  }

  sort(name) {
    this.down = this.by === name ? !this.down : name !== "name";
    this.by = name;
    COLUMNS.forEach(([column], index) => {
      if (column === name) this.heads[index].setAttribute("aria-sort", this.down ? "descending" : "ascending");
      else this.heads[index].removeAttribute("aria-sort");
    });
    this.draw();
  }

  draw() {
    const rows = [...this.rows];
    const order = (one, other) => (sortable(one[this.by]) < sortable(other[this.by]) ? -1 : 1) * (this.down ? -1 : 1);
    if (this.by) rows.sort(order);
    const told = (one, name) => (name === "shape" ? one.shape.join(" × ") : figure(one[name]));
    this.body.replaceChildren(...rows.map((one) => row([one.name, ...COLUMNS.slice(1).map(([name]) => told(one, name))],
      (index) => ({ class: index ? "number" : "weight-name" }))));
  }
}
