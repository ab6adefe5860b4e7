// Play: a beginning goes on, token by token; from each token another way can be taken.

import { choices, stopped } from "./api.js";
import { button, field, h, notice, opening, remember, remembered } from "./dom.js";
import { Knobs } from "./knobs.js";
import { several, shown } from "./text.js";
import { legend, TokenList } from "./tokens.js";

const ALTERNATIVES = 8;
const ENDS = { stop: "came to its end", length: "as long as was asked" };

// Tokens of a piece of the stream. Where a character is spread over several, the first of them shows it.
export function tokensOf(choice) {
  const { tokens = [], token_logprobs: logprobs = [], top_tokens: tops = [] } = choice.logprobs ?? {};
  const whole = tokens.join("") === choice.text;
  return tokens.map((word, index) => ({
    id: choice.token_ids[index],
    text: whole ? word : index === 0 ? choice.text : "",
    part: !whole && index > 0,
    probability: Math.exp(logprobs[index]),
    alternatives: tops[index].map((one) => ({ id: one.id, text: one.token, probability: Math.exp(one.logprob) })),
  }));
}

// One text on its page: what it began with, what was added, and how it can be had again.
class Leaf {
  constructor(room, { title, prompt, seed, asked, ids = null, tokens = [] }) {
    Object.assign(this, { room, prompt, seed, asked, ids });
    this.list = new TokenList({ label: `What the model wrote, ${title}; the arrow keys go from token to token`,
      choose: (index, one) => room.branch(this, index, one) });
    this.status = h("span", { class: "status", role: "status", "aria-live": "off" }); // until all is written
    this.more = button("Go on", () => room.goOn(this), { class: "quiet", hidden: true });
    this.element = h("article", { class: "page-leaf", "aria-label": title },
      h("header", {}, h("h3", { text: title }),
        button(`seed ${seed}`, () => room.again(this), { class: "quiet seed",
          title: "Take this seed for the next text" })),
      this.list.element, h("footer", {}, this.status, this.more));
    this.list.lead(prompt);
    this.list.add(...tokens);
    this.write("");
  }

  get tokens() {
    return this.list.tokens;
  }

  hear(choice) {
    if (choice.prompt_token_ids) this.ids ??= choice.prompt_token_ids;
    this.list.add(...tokensOf(choice));
    if (choice.finish_reason) this.end(ENDS[choice.finish_reason] ?? choice.finish_reason);
    else {
      this.status.setAttribute("aria-live", "off");
      this.write("…");
    }
  }

  write(words) {
    this.status.textContent = `${several(this.tokens.length, "token")} ${words}`;
  }

  end(words) {
    this.status.setAttribute("aria-live", "polite");
    this.write(`· ${words}`);
    this.more.hidden = this.ids === null;
  }
}

class Play {
  constructor(place, model) {
    this.model = model;
    this.knobs = new Knobs();
    this.prompt = h("textarea", { rows: 4, dir: "auto", spellcheck: "false", placeholder: "Once upon a time",
      value: remembered("sessionStorage", "prompt", ""), onkeydown: (event) => this.key(event) });
    this.go = button("Write", () => this.write(), { class: "primary" });
    this.stop = button("Stop", () => this.running?.abort(), { disabled: true });
    this.clear = button("Clear", () => this.empty(), { class: "quiet" });
    this.leaves = h("div", { class: "leaves" });
    place.append(opening("Play", "Give it a beginning, and it goes on."),
      h("div", { class: "desk" },
        h("div", { class: "writing" }, field("Beginning", this.prompt, "Ctrl + Enter writes, Escape stops"),
          h("div", { class: "row" }, this.go, this.stop, this.clear), this.leaves, legend(),
          h("p", { class: "hint",
            text: "Point at a token, or go to it with the arrow keys, to see what else it might have been. "
            + "Enter or a click takes another way from there." })),
        this.knobs.element));
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.running?.abort());
  }

  key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.write();
  }

  // What nobody will see is not written any further.
  empty() {
    this.running?.abort();
    this.leaves.replaceChildren();
  }

  async write() {
    const asked = this.knobs.read();
    if (!asked) return;
    remember("sessionStorage", "prompt", this.prompt.value);
    const copies = asked.n ?? 1;
    const leaves = Array.from({ length: copies }, (_, copy) => new Leaf(this, {
      title: copies > 1 ? `Text ${copy + 1}` : "Text", prompt: this.prompt.value, seed: asked.seed + copy, asked }));
    this.leaves.replaceChildren(...leaves.map((leaf) => leaf.element));
    await this.ask(this.prompt.value, asked, leaves);
  }

  // Another way from a token: the same beginning, the tokens before it, and the alternative in its place.
  async branch(from, index, one) {
    const tokens = [...from.tokens.slice(0, index), { ...from.tokens[index], ...one, chosen: true }];
    const leaf = new Leaf(this, { ...from, title: `Branch at token ${index + 1}`, tokens });
    from.element.after(leaf.element);
    leaf.element.scrollIntoView({ block: "nearest" });
    leaf.list.cells.at(-1).focus();
    leaf.list.close();
    await this.goOn(leaf);
  }

  async goOn(leaf) {
    const ids = [...leaf.ids, ...leaf.tokens.map((token) => token.id)];
    await this.ask(ids, { ...leaf.asked, n: 1, seed: leaf.seed }, [leaf]);
  }

  again(leaf) {
    this.knobs.seed = leaf.seed;
    this.knobs.inputs.seed.focus();
  }

  async ask(prompt, asked, leaves) {
    this.running?.abort();
    const running = (this.running = new AbortController());
    const unended = new Set(leaves);
    this.stop.disabled = false;
    for (const leaf of leaves) leaf.more.hidden = true;
    const body = { model: this.model.name, prompt, ...asked, logprobs: ALTERNATIVES, return_token_ids: true };
    notice("");
    try {
      for await (const choice of choices("/v1/completions", body, running.signal)) {
        leaves[choice.index].hear(choice);
        if (choice.finish_reason) unended.delete(leaves[choice.index]);
      }
    } catch (error) {
      for (const leaf of unended) leaf.end(stopped(error) ? "stopped" : "not written");
      if (!stopped(error)) notice(error.message);
    } finally {
      if (this.running === running) this.stop.disabled = true;
    }
  }
}

export function open(place, { model }) {
  const room = new Play(place, model);
  room.prompt.title = `${shown(model.name)} sees ${model.context} tokens`;
}
