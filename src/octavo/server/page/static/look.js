// Look: inside the model, while it reads a text of your own.

import { get, kept, lasting, post, stopped } from "./api.js";
import { Attention, weigher, words } from "./attention.js";
import { Chips } from "./chips.js";
import { button, debounced, field, h, notice, opening, remember, remembered, section } from "./dom.js";
import { Heads, kindName } from "./heads.js";
import { Lens } from "./lens.js";
import { TokenMap } from "./map.js";
import { Regenerated } from "./off.js";
import { Parts } from "./parts.js";
import { figure, label, percent } from "./text.js";
import { Time } from "./time.js";
import { legend, TokenList } from "./tokens.js";
import { Weights } from "./weights.js";

const FIRST = "The quick brown fox jumps over the lazy dog. The quick brown fox";
const GONE = "other_weights"; // in the service's words
const MOST = 1024; // tokens that it looks at together

class Look {
  // `step` is the one to begin with, where its weights were kept.
  constructor(place, model, step) {
    Object.assign(this, { model, off: new Set(), at: Infinity, layer: 0, head: 0, attended: new Map() });
    this.first = FIRST.slice(0, model.context); // a character may be a token
    this.text = h("textarea", { rows: 3, dir: "auto", spellcheck: "false",
      value: remembered("sessionStorage", "look", this.first), oninput: () => this.refresh() });
    this.tokens = new TokenList({ label: "The text as tokens; the arrow keys go from token to token",
      select: (index) => this.select(index) });
    this.loss = h("p", { class: "reading", role: "status" });
    this.next = h("ol", { class: "next", "aria-label": "What might come next" });
    this.heads = new Heads((layer, head) => this.choose(layer, head), (part) => this.toggle(part));
    this.attention = new Attention((query) => this.select(query, true));
    this.headTitle = h("h3", {});
    this.silence = button("", () => this.toggle(`${this.layer}.${this.head}`));
    const about = (path, asked, signal) => this.about(path, asked, signal);
    this.lens = new Lens(about, (index) => this.select(index));
    this.parts = new Parts(about);
    this.regenerated = new Regenerated(about);
    this.chips = new Chips((part) => this.toggle(part), () => this.allOn(), this.text);
    this.refreshSoon = debounced(40, () => this.refresh());
    this.time = new Time(model.steps, step, () => this.lookAnew());
    this.asked = () => ({ model: model.name, text: this.text.value, step: this.time.step,
      off: this.off.size ? [...this.off] : undefined });
    this.map = new TokenMap(this.asked);
    this.weights = new Weights(this.asked);
    this.explain = debounced(60, () => this.parts.show(this.seen, this.result, this.at));
    place.append(opening("Look", "What goes on inside while it reads."), this.desk(), this.sections());
  }

  desk() {
    const { name, context } = this.model;
    const most = context > MOST ? `; ${MOST} can be looked at together` : "";
    return h("div", { class: "look-desk" }, field("A text", this.text, `${name} sees ${context} tokens${most}`),
      this.time.element, this.chips.element);
  }

  sections() {
    const later = (title, about, part) => h("details", { class: "section later",
      ontoggle: (event) => event.target.open && part.load() },
      h("summary", {}, h("h2", { text: title })), h("p", { class: "about", text: about }), part.element);
    this.later = [[this.map, later("A map of its tokens", "Each token is a point for the model, with many coordinates; here from the side that shows most. Tokens that it "
        + "uses alike come to lie together.",
      this.map)],
      [this.weights, later("Its weights in figures", "All that it has learned stands in these tables of numbers: mean, spread and size of each.", this.weights)]];
    return h("div", {},
      section("Surprise", ["How little each token was expected. Press one to look at it below.",
        "The model reads a text in pieces, its tokens, and before each of them says how likely every token is. What it "
        + "held for unlikely is a surprise, told in bits: 1 bit for a chance of 1 in 2, 2 bits for 1 in 4, 10 for 1 in "
        + "1,024. Point at a token to see what it had thought of."], this.tokens.element,
        legend(), this.loss, h("h3", { class: "look-next", text: "What might come next" }), this.next),
      section("Heads",
        ["Each small square is one head: rows look, columns are looked at. Press one to see it large; X switches it off.",
          "A layer is a round of thought. In each, first the heads fetch something from earlier tokens (attention), then "
          + "every token is thought over by itself (feed-forward). Some heads have a habit that can be named: they look "
          + "at the previous token, at the first, at itself, at where the same token stood before, or at what followed "
          + "it there (induction), which is how it goes on with what it has seen. The others are mixed."],
        this.heads.element,
        h("div", { class: "row head-row" }, this.headTitle, h("span", { class: "spring" }), this.silence),
        this.attention.element),
      section("The same text without", "What it would write, and how well it would read, with those parts silent.",
        this.regenerated.element),
      section("Layer by layer",
        ["What it would say next if it stopped after each layer. The fuller a cell, the surer; what came is underlined.",
          "Read it from below: under each token of the text stands the token that it would have followed by, first from "
          + "the embedding alone, which knows nothing but that token, then after one layer more at a time. Often a guess "
          + "is there early and is made better; sometimes the last layers turn it round."],
        this.lens.element),
      section("Who said it", ["What each part adds to the chosen token, after the token that is marked above.",
        "Every token that might come gets a score, its logit; the higher, the likelier. The score is a plain sum, and "
        + "these are what is added: red speaks for the token, grey against it."],
        this.parts.element),
      this.later.map(([, element]) => element));
  }

  lookAnew() {
    this.refreshSoon();
    for (const [part, element] of this.later) if (element.open) part.load();
  }

  // What has been kept by now. Whoever looks at the newest weights looks anew where others have been written.
  know({ steps, written = this.seen?.written }) {
    this.time.know(steps);
    const newest = this.time.step === undefined && this.seen?.step === undefined;
    if (newest && this.seen && this.seen.written !== written) this.lookAnew();
  }

  // At once, but one at a time: what comes meanwhile waits for the answer, and of that only the newest is asked.
  refresh() {
    this.stale = true;
    remember("sessionStorage", "look", this.text.value);
    this.regenerated.leave();
    return (this.catchingUp ??= this.catchUp());
  }

  async catchUp() {
    let seen = null;
    while (this.stale) {
      this.stale = false;
      seen = await this.tried();
    }
    this.catchingUp = null;
    this.regenerated.follow(seen);
  }

  // What is seen; null where nothing can be.
  async tried() {
    if (!this.text.value) {
      this.loss.textContent = "Write a text to look at.";
      return null;
    }
    try {
      await this.ask();
      notice("");
      return this.seen;
    } catch (error) {
      if (!stopped(error)) notice(error.message);
      return null;
    }
  }

  // A question about what is seen, and so about its weights. Where these were written over and are forgotten, all of it
  // is looked at anew.
  async about(path, asked, signal) {
    try {
      return await post(path, asked, signal);
    } catch (error) {
      if (error.code !== GONE) throw error;
      this.regenerated.wanted ||= path === "/page/regenerate"; // it was pressed, and is done when it can be
      this.refresh();
      throw new DOMException(error.message, "AbortError");
    }
  }

  // Both are asked at once: the tokens are drawn while the service goes on with the heads.
  async ask() {
    const { layer } = this;
    const asked = this.asked();
    this.attending?.abort();
    const answer = post("/page/look", asked);
    const heads = post("/page/heads", { ...asked, layer });
    heads.catch(() => {}); // what is wrong with the text is said of the first
    const result = await answer;
    this.seen = { ...asked, written: result.written }; // what is asked further is of this text, and of these weights
    this.attended = new Map();
    this.show(result);
    const found = await heads;
    this.found = found.written === result.written ? found : await this.about("/page/heads", { ...this.seen, layer });
    this.attended.set(layer, this.unpacked(this.found.attention));
    this.showHeads();
    await this.attend().catch((error) => { // another layer may have been chosen meanwhile, or be chosen now
      if (!stopped(error)) throw error;
    });
    this.explain();
  }

  unpacked({ data, tokens }) {
    return { data: words(data), tokens };
  }

  show(result) {
    const last = this.result ? this.result.tokens.length - 1 : 0;
    this.result = result;
    this.at = Math.min(this.at >= last ? Infinity : this.at, result.tokens.length - 1); // who looks at the end stays there
    this.layer = Math.min(this.layer, result.layers - 1);
    this.head = Math.min(this.head, result.heads - 1);
    this.tokens.set(result.tokens);
    this.loss.textContent = result.loss === null ? ""
      : `${result.tokens.length} tokens · ${figure(result.loss)} nats per token`;
    this.next.replaceChildren(...result.next.map((one) => {
      const row = h("li", {}, h("span", { class: "word", text: label(one.text) }),
        h("span", { class: "share", text: percent(one.probability) }));
      row.style.setProperty("--share", `${(one.probability * 100).toFixed(1)}%`);
      return row;
    }));
    this.lens.show(this.seen, result);
    this.mark(true);
  }

  showHeads() {
    this.heads.show(this.found, this.off, [this.layer, this.head]);
    this.title();
  }

  async attend() {
    const { layer, attended } = this;
    this.attending?.abort();
    if (!attended.has(layer)) {
      this.attending = new AbortController();
      const told = await this.about("/page/attention", { ...this.seen, layer }, this.attending.signal);
      attended.set(layer, this.unpacked(told));
    }
    if (attended !== this.attended) return; // of a text that is there no longer
    const { data, tokens } = attended.get(layer);
    this.attention.show(this.result.tokens.slice(0, tokens), weigher(data, tokens, this.head),
      Math.min(this.at, tokens - 1));
  }

  choose(layer, head) {
    Object.assign(this, { layer, head });
    this.showHeads();
    this.attend().catch((error) => !stopped(error) && notice(error.message));
  }

  title() {
    const found = this.found.kinds[this.layer][this.head];
    const share = found[found.kind];
    this.headTitle.textContent = `Layer ${this.layer}, head ${this.head}: ${kindName(found.kind)}${share === undefined || share === null ? "" : `, ${percent(share)}`}`;
    this.silence.textContent = this.off.has(`${this.layer}.${this.head}`) ? "Switch on again" : "Switch this head off";
  }

  select(index, fromAttention = false) {
    this.at = Math.min(index, this.result.tokens.length - 1); // the layers of a longer text may still stand there
    this.mark(fromAttention);
    this.explain();
  }

  mark(fromAttention = false) {
    this.tokens.mark(this.at);
    this.lens.mark(this.at);
    if (!fromAttention) this.attention.look(null, this.at, true);
  }

  toggle(part) {
    if (!this.off.delete(part)) this.off.add(part);
    this.chips.show(this.off);
    this.refresh();
  }

  allOn() {
    this.off.clear();
    this.chips.show(this.off);
    this.refresh();
  }
}

// A model of another alphabet does not know the letters of the text that stands here at first: it gets some of its own.
async function inItsOwnLetters(room) {
  const { first, model, result } = room;
  const read = (result?.tokens ?? []).map(({ text }) => text).join("");
  if (room.text.value !== first || read === first || !model.learned) return;
  const { samples } = await get(`/page/learn?model=${encodeURIComponent(model.name)}`);
  const written = samples.findLast(({ text }) => text);
  if (!written || room.text.value !== first) return; // somebody has begun to write meanwhile
  room.text.value = [...written.text].slice(0, first.length).join("");
  await room.refresh();
}

// A training's page stays while somebody looks on, in whichever room: whoever hears its news counts. They tell too
// whether it still learns, and when it may have kept more weights.
async function lookOn(room, own) {
  const { model, time } = room;
  const news = lasting(() => `/page/learn/events?model=${encodeURIComponent(model.name)}`);
  try {
    for await (const { event, data } of news) {
      const told = JSON.parse(data || "{}");
      if (event === "state") time.tell(told.running);
      if (["state", "reset"].includes(event) || "val_loss" in told) room.know(await kept(model).catch(() => time));
      if (!own && event === "state" && !told.running) return;
    }
  } catch (error) {
    notice(error.message);
  }
}

export async function open(place, { model, state }) {
  const room = new Look(place, model, Number(new URLSearchParams(location.hash.slice(1)).get("step")));
  const own = state.training?.model === model.name;
  if (own || model.learned) lookOn(room, own);
  await room.refresh();
  await inItsOwnLetters(room);
}
