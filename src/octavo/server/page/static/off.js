// The same text written on with and without the parts that are switched off, side by side.

import { post, stopped } from "./api.js";
import { button, h } from "./dom.js";
import { figure, shown } from "./text.js";

// How far two texts are the same.
export function common(one, other) {
  let index = 0;
  while (index < one.length && one[index] === other[index]) index += 1;
  return index;
}

export class Regenerated {
  constructor(asked) {
    this.asked = asked;
    this.status = h("p", { class: "reading", role: "status",
      text: "Switch a head or half a block off, above, and see what is missed." });
    this.columns = h("div", { class: "columns" });
    this.go = button("Write on with and without", () => this.write());
    this.element = h("div", {}, h("div", { class: "row" }, this.go), this.status, this.columns);
  }

  async write() {
    const asked = this.asked();
    this.running?.abort();
    this.running = new AbortController();
    this.status.textContent = "Writing…";
    try {
      const { before, after } = await post("/page/regenerate",
        { ...asked, off: asked.off ?? [], max_new_tokens: 60, temperature: 0, seed: 0 }, this.running.signal);
      const same = common(before.text, after.text);
      this.columns.replaceChildren(this.column("As it is", before, same), this.column("With parts off", after, same));
      const alike = before.text === after.text ? " What it writes is the same." : "";
      this.status.textContent = this.verdict(before, after) + alike;
    } catch (error) {
      if (!stopped(error)) this.status.textContent = error.message;
    }
  }

  verdict(before, after) {
    if (before.loss === null || after.loss === null) return "";
    const more = after.loss - before.loss;
    return `This text costs ${figure(before.loss)} nats per token as it is and ${figure(after.loss)} without: ${figure(Math.abs(more))} ${more < 0 ? "less" : "more"}.`;
  }

  column(title, { text, loss }, same) {
    return h("article", {}, h("h3", { text: title }), h("p", { class: "written", dir: "auto" },
      h("span", { class: "same", text: shown(text.slice(0, same)) }), h("mark", { text: shown(text.slice(same)) })),
      h("p", { class: "hint", text: loss === null ? "" : `${figure(loss)} nats per token` }));
  }
}
