// Text as tokens, each tinted by how surprising it was, with what the model would have said instead.

import { h, put, tint } from "./dom.js";
import { rove } from "./grid.js";
import { between, label, percent, shown, spoken } from "./text.js";

const MOST = 10; // bits at which the tint is full
export const bits = (probability) => (probability > 0 ? -Math.log2(probability) : 40);
export const level = (probability) => (probability === null ? 0 : Math.min(bits(probability) / MOST, 1));

// Whether two tokens are shown the same.
const alike = (one, other) => ["text", "probability", "chosen", "part"].every((name) => one[name] === other[name]);

function description(token) {
  if (token.probability === null || token.probability === undefined) return spoken(token.text);
  return `${spoken(token.text)}, ${percent(token.probability)}`;
}

let leaves = 0;

export class TokenList {
  // `choose(index, alternative)` makes alternatives buttons; `select(index)` hears of a token that is pressed.
  constructor({ label: name, choose = null, select = null, hint = "" }) {
    Object.assign(this, { choose, select, tokens: [], cells: [], over: null, timer: 0 });
    this.text = h("div", { class: "tokens", role: "group", "aria-label": name, dir: "auto" });
    this.leaf = h("div", { class: "leaf", id: `leaf-${(leaves += 1)}`, hidden: true, role: "group",
      "aria-label": "Alternatives" });
    this.element = h("div", { class: "token-list" }, this.text, this.leaf,
      hint && h("p", { class: "hint", text: hint }));
    this.take = rove(this.text, () => [this.cells], (cell) => this.open(this.cells.indexOf(cell)));
    this.listen();
  }

  listen() {
    const index = (event) => this.cells.indexOf(event.target.closest?.(".token"));
    this.text.addEventListener("pointerover", (event) => index(event) >= 0 && this.open(index(event)));
    this.element.addEventListener("pointerleave", () => this.closeSoon());
    this.leaf.addEventListener("pointerenter", () => clearTimeout(this.timer));
    this.element.addEventListener("focusout", (event) => !this.element.contains(event.relatedTarget) && this.close());
    this.text.addEventListener("click", (event) => index(event) >= 0 && this.press(index(event)));
    this.element.addEventListener("keydown", (event) => this.key(event));
    rove(this.leaf, () => [...this.leaf.querySelectorAll("button")].map((one) => [one]));
  }

  key(event) {
    const inLeaf = this.leaf.contains(event.target);
    if (event.key === "Escape" && !this.leaf.hidden) {
      event.stopPropagation(); // what is being written goes on
      if (inLeaf) this.cells[this.over]?.focus();
      this.close();
    } else if (!inLeaf && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      this.press(this.cells.indexOf(event.target), true);
    } else if (!inLeaf && event.key === "ArrowDown" && this.choose) {
      event.preventDefault();
      this.press(this.cells.indexOf(event.target), true);
    }
  }

  press(index, byKey = false) {
    if (index < 0) return;
    this.select?.(index);
    if (!this.choose) return;
    this.open(index);
    if (byKey) this.leaf.querySelector("button")?.focus();
  }

  clear() {
    this.close();
    this.tokens = [];
    this.cells = [];
    this.text.replaceChildren();
  }

  // A text before the tokens that is not the model's.
  lead(text) {
    this.text.prepend(h("span", { class: "lead", text: shown(text) }));
  }

  add(...tokens) {
    const cells = tokens.map((token) => this.cell(token));
    this.tokens.push(...tokens);
    this.cells.push(...cells);
    this.text.append(...cells);
    if (this.cells.length === cells.length && cells.length) this.take(cells[0]);
  }

  // Other tokens in the cells that are there, which is quicker than to make them anew.
  set(tokens) {
    const { over } = this;
    const same = over !== null && tokens[over]?.text === this.tokens[over].text;
    this.close();
    for (const cell of this.cells.splice(tokens.length)) cell.remove();
    this.cells.forEach((cell, index) => alike(this.tokens[index], tokens[index]) || this.dress(cell, tokens[index]));
    this.tokens = tokens.slice(0, this.cells.length);
    if (this.cells.length && !this.text.querySelector("[tabindex='0']")) this.take(this.cells[0]);
    this.add(...tokens.slice(this.cells.length));
    if (same) this.open(over); // whoever points at it still does
  }

  cell(token) {
    return this.dress(h("span", { role: "button", tabindex: -1 }), token);
  }

  dress(cell, token) {
    const text = shown(token.text);
    const plain = token.text.trim() === "" || text !== token.text || between(token.text);
    const kind = ["token", /^\r?\n$/.test(token.text) && "line", token.chosen && "chosen", token.part && "part"];
    cell.className = kind.filter(Boolean).join(" ");
    put(cell, text);
    if (plain) cell.setAttribute("aria-label", description(token));
    else cell.removeAttribute("aria-label");
    const known = token.probability !== null && token.probability !== undefined;
    tint(cell, "tint", known ? level(token.probability) : null);
    return cell;
  }

  mark(index) {
    for (const cell of this.text.querySelectorAll(".here")) cell.classList.remove("here");
    this.cells[index]?.classList.add("here");
  }

  open(index) {
    clearTimeout(this.timer);
    if (this.over === index && !this.leaf.hidden) return;
    this.over = index;
    this.leaf.replaceChildren(...this.about(index));
    this.leaf.hidden = false;
    this.describe(index);
    this.put(this.cells[index]);
  }

  // What stands in the leaf is said of the token that it belongs to.
  describe(index) {
    this.text.querySelector("[aria-describedby]")?.removeAttribute("aria-describedby");
    this.cells[index]?.setAttribute("aria-describedby", this.leaf.id);
  }

  about(index) {
    const token = this.tokens[index];
    const known = token.probability !== null && token.probability !== undefined;
    const head = h("p", { class: "leaf-head" }, h("b", { text: label(token.text) }),
      h("span", { text: known ? `${percent(token.probability)} · ${bits(token.probability).toFixed(1)} bits`
        : "given" }));
    const rows = (token.alternatives ?? []).map((one) => this.row(index, one, one.id === token.id));
    return rows.length ? [head, h("ol", { class: "alternatives" }, rows)] : [head];
  }

  row(index, one, taken) {
    const parts = [h("span", { class: "word", text: label(one.text) }),
      h("span", { class: "share", text: percent(one.probability) })];
    const name = `${spoken(one.text)}, ${percent(one.probability)}${taken ? ", taken" : ""}`;
    const row = this.choose
      ? h("button", { type: "button", "aria-label": `Go on with ${name}`, onclick: () => this.choose(index, one) },
        parts)
      : h("span", { class: "row-of" }, parts);
    row.style.setProperty("--share", `${(one.probability * 100).toFixed(1)}%`);
    return h("li", { class: taken ? "taken" : null }, row);
  }

  put(cell) {
    const box = this.element.getBoundingClientRect();
    const rect = cell.getClientRects()[0] ?? cell.getBoundingClientRect();
    const left = Math.min(Math.max(rect.left - box.left, 0), Math.max(box.width - this.leaf.offsetWidth, 0));
    this.leaf.style.left = `${left}px`;
    this.leaf.style.top = `${rect.bottom - box.top + 3}px`;
  }

  closeSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => !this.element.contains(document.activeElement) && this.close(), 250);
  }

  close() {
    clearTimeout(this.timer);
    this.leaf.hidden = true;
    this.over = null;
    this.describe(null);
  }
}

// What the tints mean.
export function legend() {
  const swatch = (share, text) => {
    const cell = h("span", { class: "token", text });
    tint(cell, "tint", level(share));
    return cell;
  };
  return h("p", { class: "legend" }, "How surprising each token was: ", swatch(0.9, "hardly"), " ",
    swatch(0.25, "2 bits"), " ",
    swatch(0.03, "5 bits"), " ", swatch(0.001, "10 bits"));
}
