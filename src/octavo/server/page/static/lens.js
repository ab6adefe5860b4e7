// The logit lens: what the model would say if it stopped after each layer, for every token of the text.

import { stopped } from "./api.js";
import { debounced, h, put, tint } from "./dom.js";
import { rove } from "./grid.js";
import { label, percent, spoken } from "./text.js";

const LATER = 2000; // milliseconds
const FULL = 0.22; // of the ink, behind what is sure: the words are to be read

export class Lens {
  // `ask(path, asked, signal)` asks about what is seen, `select(token)` hears the column that is looked at.
  constructor(ask, select) {
    Object.assign(this, { ask, select });
    this.table = h("table", { class: "lens", role: "grid",
      "aria-label": "What each layer would say next; the arrow keys go from cell to cell" });
    this.scroll = h("div", { class: "scroll unseen" }, this.table);
    this.reading = h("p", { class: "reading", "aria-live": "polite" });
    this.element = h("div", {}, this.scroll, this.reading);
    Object.assign(this, { cells: [], at: 0, seen: false, wanted: null, loadSoon: debounced(LATER, () => this.load()) });
    this.take = rove(this.table, () => this.cells, (cell) => this.read(cell));
    new IntersectionObserver(([one]) => {
      this.seen = one.isIntersecting;
      if (this.seen) this.load();
    }, { rootMargin: "400px" }).observe(this.scroll);
    this.table.addEventListener("click", (event) => {
      const cell = event.target.closest("td");
      if (cell) this.select(cell.cellIndex - 1);
    });
    this.table.addEventListener("pointerover", (event) => event.target.closest("td")
      && this.read(event.target.closest("td")));
    this.table.addEventListener("keydown", (event) => event.key === "Enter" && event.target.closest("td")
      && this.select(event.target.cellIndex - 1));
  }

  // It is asked for when it is nearly in sight, else when nothing was changed for long: to listen to each layer takes as
  // much of the service as all that is seen first.
  show(asked, { tokens }) {
    this.wanted = { asked, tokens };
    this.running?.abort();
    this.scroll.setAttribute("aria-busy", "true");
    if (this.seen) this.load();
    else this.loadSoon();
  }

  async load() {
    if (!this.wanted) return;
    const { asked, tokens } = this.wanted;
    this.wanted = null;
    this.running = new AbortController();
    try {
      this.draw(tokens, (await this.ask("/page/layers", asked, this.running.signal)).lens);
      if (!this.wanted) this.scroll.removeAttribute("aria-busy");
    } catch (error) {
      if (!stopped(error)) this.reading.textContent = error.message;
    }
  }

  draw(tokens, lens) {
    this.tokens = tokens;
    this.layers = [...lens].reverse(); // the last layer on top, for it has the last word
    if (this.cells.length !== this.layers.length) this.build();
    fit(this.heads, this.top, tokens.length, () => h("th", { scope: "col" }));
    this.heads.forEach((head, index) => put(head, label(tokens[index].text, 10)));
    this.layers.forEach(({ says }, row) => {
      fit(this.cells[row], this.rows[row], tokens.length, () => h("td", { tabindex: -1 }));
      this.cells[row].forEach((cell, index) => this.fill(cell, says[index][0], tokens[index + 1]));
    });
    if (!this.table.querySelector("td[tabindex='0']")) this.take(this.cells[0][0]);
    const cell = this.table.querySelector("td:focus");
    if (cell) this.read(cell);
    else this.reading.textContent = "";
    this.mark(this.at);
  }

  build() {
    Object.assign(this, { heads: [], cells: this.layers.map(() => []) });
    this.top = h("tr", {}, h("th", { scope: "col", class: "corner", text: "after" }));
    this.rows = this.layers.map(({ layer }) => h("tr", {},
      h("th", { scope: "row", text: layer === 0 ? "embedding" : `layer ${layer - 1}` })));
    this.table.replaceChildren(h("thead", {}, this.top), h("tbody", {}, this.rows));
  }

  fill(cell, best, came) {
    cell.className = came && best && came.id === best.id ? "right" : "";
    put(cell, best ? label(best.text, 10) : "");
    tint(cell, "ink", FULL * (best?.probability ?? 0));
  }

  read(cell) {
    const column = cell.cellIndex - 1;
    const { layer, says, actual } = this.layers[cell.parentElement.rowIndex - 1];
    const best = says[column].map((one) => `${spoken(one.text)} ${percent(one.probability)}`).join(", ");
    const came = this.tokens[column + 1];
    const truth = came && actual[column] !== null ? ` · what came, ${spoken(came.text)}: ${percent(actual[column])}`
      : "";
    this.reading.textContent = `After ${layer === 0 ? "the embedding" : `layer ${layer - 1}`}, ${spoken(this.tokens[column].text)} is followed by ${best}${truth}`;
  }

  mark(index) {
    this.at = index;
    for (const one of this.table.querySelectorAll(".here")) one.classList.remove("here");
    for (const row of this.table.rows) row.cells[index + 1]?.classList.add("here");
  }
}

// As many cells as are wanted, with those that are there.
function fit(cells, row, count, make) {
  for (const cell of cells.splice(count)) cell.remove();
  while (cells.length < count) cells.push(make());
  row.append(...cells.slice(row.cells.length - 1));
}
