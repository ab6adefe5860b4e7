// Which parts of the model raise a token's logit, and which lower it: they sum to it.

import { stopped } from "./api.js";
import { button, h } from "./dom.js";
import { figure, label, spoken } from "./text.js";

const MOST = 16; // parts that are shown at first
const added = (value) => (Math.abs(value) < 0.005 ? "0.00" : figure(value, 2));

export function partName(name) {
  const [layer, what] = name.split(".");
  if (what === undefined) return name;
  if (what === "feed_forward") return `layer ${layer} feed-forward`;
  return /^\d+$/.test(what) ? `layer ${layer} head ${what}` : `layer ${layer} ${what.replace("_", " ")}`;
}

export class Parts {
  // `ask(path, asked, signal)` asks about what is seen.
  constructor(ask) {
    this.ask = ask;
    this.tokens = h("div", { class: "row", role: "group", "aria-label": "Which token" });
    this.sum = h("p", { class: "reading", "aria-live": "polite" });
    this.bars = h("ul", { class: "bars" });
    this.more = h("div", { class: "row" });
    this.element = h("div", {}, this.tokens, this.sum, this.bars, this.more);
  }

  // Ask about the token that came after `position`, and offer those that might have come.
  show(asked, result, position) {
    Object.assign(this, { asked, position, word: spoken(result.tokens[position]?.text ?? "") });
    const came = result.tokens[position + 1];
    const might = came ? came.alternatives : result.next;
    const choices = [...(came ? [came] : []), ...might.filter((one) => one.id !== came?.id)].slice(0, 6);
    this.choices = choices.map((one, index) => button(label(one.text), () => this.take(index),
      { class: "choice", "aria-pressed": "false",
      "aria-label": `${spoken(one.text)}${came && index === 0 ? ", which came" : ""}` }));
    this.wanted = choices;
    this.tokens.replaceChildren(...this.choices);
    if (choices.length) this.take(0);
    else this.bars.replaceChildren();
  }

  async take(index) {
    this.choices.forEach((one, other) => one.setAttribute("aria-pressed", String(index === other)));
    this.running?.abort();
    this.running = new AbortController();
    const one = this.wanted[index];
    try {
      const { logit, parts } = await this.ask("/page/parts", { ...this.asked, position: this.position, token: one.id },
        this.running.signal);
      this.sum.textContent = `after ${this.word}, the logit of ${spoken(one.text)} is ${figure(logit, 2)}: the sum of these ${parts.length} parts`;
      this.draw([...parts].sort((a, b) => Math.abs(b.value) - Math.abs(a.value)));
    } catch (error) {
      if (!stopped(error)) this.sum.textContent = error.message;
    }
  }

  draw(parts, most = MOST) {
    const largest = Math.max(...parts.map(({ value }) => Math.abs(value)), 1e-9);
    this.bars.replaceChildren(...parts.slice(0, most).map(({ name, value }) => {
      const bar = h("span", { class: value < 0 ? "bar less" : "bar" });
      bar.style.setProperty("--size", `${((Math.abs(value) / largest) * 50).toFixed(2)}%`);
      return h("li", {}, h("span", { class: "part-name", text: partName(name) }), h("span", { class: "lane" }, bar),
        h("span", { class: "part-value", text: added(value) }));
    }));
    this.more.replaceChildren(...(parts.length > most ? [button(`All ${parts.length} parts`,
      () => this.draw(parts, parts.length), { class: "quiet" })] : []));
  }
}
