// The logit lens: what the model would say if it stopped after each layer, for every token of the text.

import { h } from "./dom.js";
import { rove } from "./grid.js";
import { label, percent, spoken } from "./text.js";

export class Lens {
  // `select(token)` hears the column that is looked at.
  constructor(select) {
    this.select = select;
    this.table = h("table", { class: "lens", role: "grid",
      "aria-label": "What each layer would say next; the arrow keys go from cell to cell" });
    this.scroll = h("div", { class: "scroll unseen" }, this.table);
    this.reading = h("p", { class: "reading", "aria-live": "polite" });
    this.element = h("div", {}, this.scroll, this.reading);
    this.cells = [];
    this.take = rove(this.table, () => this.cells, (cell) => this.read(cell));
    this.table.addEventListener("click", (event) => {
      const cell = event.target.closest("td");
      if (cell) this.select(cell.cellIndex - 1);
    });
    this.table.addEventListener("pointerover", (event) => event.target.closest("td")
      && this.read(event.target.closest("td")));
    this.table.addEventListener("keydown", (event) => event.key === "Enter" && event.target.closest("td")
      && this.select(event.target.cellIndex - 1));
  }

  show({ tokens, lens }) {
    this.tokens = tokens;
    this.layers = [...lens].reverse(); // the last layer on top, for it has the last word
    const head = h("tr", {}, h("th", { scope: "col", class: "corner", text: "after" }),
      tokens.map((token) => h("th", { scope: "col", text: label(token.text, 10) })));
    this.cells = this.layers.map((layer) => layer.says.map((says, index) => this.cell(says[0], tokens[index + 1])));
    this.table.replaceChildren(h("thead", {}, head), h("tbody", {}, this.layers.map(({ layer }, row) =>
      h("tr", {}, h("th", { scope: "row", text: layer === 0 ? "embedding" : `layer ${layer - 1}` }),
        this.cells[row]))));
    if (this.cells[0]?.length) this.take(this.cells[0][0]);
    this.reading.textContent = "";
  }

  cell(best, came) {
    const cell = h("td", { tabindex: -1, class: came && best && came.id === best.id ? "right" : null,
      text: best ? label(best.text, 10) : "" });
    cell.style.setProperty("--share", `${((best?.probability ?? 0) * 100).toFixed(1)}%`);
    return cell;
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
    for (const one of this.table.querySelectorAll(".here")) one.classList.remove("here");
    for (const row of this.table.rows) row.cells[index + 1]?.classList.add("here");
  }
}
