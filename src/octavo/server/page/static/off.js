// The same text written on with and without the parts that are switched off, side by side.

import { stopped } from "./api.js";
import { button, debounced, h, put } from "./dom.js";
import { figure, shown } from "./text.js";

const LATER = 400; // milliseconds
const INVITED = "Switch a head or half a block off, above, and see what is missed.";

// How far two texts are the same.
export function common(one, other) {
  let index = 0;
  while (index < one.length && one[index] === other[index]) index += 1;
  return index;
}

export class Regenerated {
  // `ask(path, asked, signal)` asks about what is seen.
  constructor(ask) {
    Object.assign(this, { ask, seen: null, wanted: false,
      writeSoon: debounced(LATER, () => this.seen?.off && this.write()) });
    this.status = h("p", { class: "reading", role: "status", text: INVITED });
    this.columns = h("div", { class: "columns" });
    this.found = h("div", { class: "found" }, this.status, this.columns);
    this.go = button("Write on with and without", () => this.write());
    this.element = h("div", {}, h("div", { class: "row" }, this.go), this.found);
  }

  // Something else is being looked at: what stands here is of another text, other parts or other weights.
  leave() {
    this.running?.abort();
    this.seen = null;
    this.found.setAttribute("aria-busy", "true");
  }

  // What is seen now. With parts off it is written anew, else nothing is until somebody asks for it.
  follow(seen) {
    this.seen = seen;
    if (seen && this.wanted) return this.write();
    if (seen?.off) return this.writeSoon();
    this.columns.replaceChildren();
    return this.say(INVITED);
  }

  say(words) {
    put(this.status, words);
    this.found.removeAttribute("aria-busy");
  }

  async write() {
    this.wanted = !this.seen; // then it waits until something is seen
    if (this.wanted) return;
    this.running?.abort();
    const running = (this.running = new AbortController());
    put(this.status, "Writing…");
    try {
      const { before, after } = await this.ask("/page/regenerate",
        { ...this.seen, max_new_tokens: 60, temperature: 0, seed: 0 }, running.signal);
      const same = common(before.text, after.text);
      this.columns.replaceChildren(this.column("As it is", before, same), this.column("With parts off", after, same));
      const alike = before.text === after.text ? " What it writes is the same." : "";
      this.say(this.verdict(before, after) + alike);
    } catch (error) {
      if (stopped(error)) return;
      this.columns.replaceChildren();
      this.say(error.message);
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
