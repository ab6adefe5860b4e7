// Talk: a conversation, streamed, that can be stopped, told anew, mended and taken along.

import { choices, stopped } from "./api.js";
import { button, field, h, notice, opening } from "./dom.js";
import { download, History } from "./history.js";
import { shown } from "./text.js";
import { Turn } from "./turns.js";

const TOO_LONG = "context_length_exceeded"; // in the API's words
const TRIES = 4; // of a model without manners, which may end before it has begun
const SILENCE = "Nothing was said: it takes these words for an end. Begin a sentence, and it goes on.";
const NOTHING = "Nothing was said.";
const PARTLY = "It answers without the oldest turns: it has no room for so long a conversation.";
const CUT = "It was cut off there, where the Tokens under How it answers end, or what it sees.";
const FORGOTTEN = "This browser keeps no more: the conversation is forgotten when the page is left.";

class Talk {
  constructor(place, model) {
    this.model = model;
    this.history = new History(model.name);
    this.turns = h("ol", { class: "turns" });
    this.live = h("p", { class: "status", role: "status" });
    this.heard = h("p", { class: "heard", role: "status" }); // an answer for a screen reader, once all of it is there
    this.input = h("textarea", { rows: 2, dir: "auto", placeholder: "Say something",
      onkeydown: (event) => this.key(event) });
    this.temperature = h("input", { type: "number", min: 0, max: 2, step: 0.01,
      placeholder: model.answers ? "0.3" : "0.8" });
    this.most = h("input", { type: "number", min: 1, max: 4096, step: 1, value: 200 });
    this.send = button("Say", () => this.say(), { class: "primary" });
    this.stop = button("Stop", () => this.running?.abort(), { disabled: true });
    place.append(opening("Talk", `A conversation with ${model.name}.`), model.answers ? "" : this.untaught(),
      this.turns, this.live, this.heard, this.desk());
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.running?.abort());
    window.addEventListener("storage", ({ key }) => key === `octavo.talk.${model.name}` && this.reread());
    this.print();
  }

  untaught() {
    return h("p", { class: "about untaught",
      text: "This model was never taught a conversation: it goes on with what was said last, as if it stood in its "
      + "text." });
  }

  desk() {
    const clear = button("Clear", () => this.clear(clear),
      { class: "quiet", onblur: () => (clear.textContent = "Clear") });
    return h("div", { class: "talk-desk" }, field("Your words", this.input,
      "Enter says it, Shift + Enter begins a new line"),
      h("div", { class: "row" }, this.send, this.stop,
        h("details", { class: "talk-knobs" }, h("summary", { text: "How it answers" }), field("Temperature", this.temperature),
          field("Tokens", this.most)),
        h("span", { class: "spring" }),
        button("Save as Markdown", () => download(`${this.model.name}.md`, "text/markdown", this.history.markdown),
          { class: "quiet" }),
        button("Save as JSON", () => download(`${this.model.name}.json`, "application/json", this.history.json),
          { class: "quiet" }),
        clear));
  }

  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.say();
  }

  // Another tab has held the same conversation, which goes on here from there: else one of them would be forgotten.
  reread() {
    if (this.running || this.turns.querySelector(".edit")) return;
    this.history.read();
    this.print();
  }

  print() {
    this.heard.textContent = "";
    this.turns.replaceChildren(...this.history.messages.map(({ role, content }, index) =>
      this.turn(role, content, index).element));
  }

  turn(role, content, index) {
    const mine = role === "user";
    const edit = (turn) => turn.edit((words) => this.instead(index, words));
    return new Turn(mine ? "You" : this.model.name, mine, content,
      mine ? { Edit: edit } : { Retry: () => this.retry(index) });
  }

  async say() {
    const words = this.input.value;
    if (!words.trim() || this.running || !this.fits()) return;
    this.input.value = "";
    await this.add(words);
  }

  // Whether its knobs are in their range; the one that is not says so.
  fits() {
    const wrong = [this.temperature, this.most].find((input) => !input.checkValidity());
    wrong?.closest("details").setAttribute("open", "");
    return wrong?.reportValidity() ?? true;
  }

  async add(words) {
    const index = this.history.messages.length;
    this.history.say("user", words);
    this.turns.append(this.turn("user", words, index).element);
    await this.answer();
  }

  // Stop what is being written, and wait until as much of it as there is was said; what was being typed stays.
  async halt() {
    const typed = this.input.value;
    this.running?.abort();
    await this.done;
    this.input.value = typed;
  }

  // Other words than those of a turn; the keyboard goes on in the turn `at` which it was, as that is now.
  async instead(index, words, at = index) {
    const held = this.turns.contains(document.activeElement);
    await this.halt();
    this.history.cut(index);
    this.print();
    const answered = this.add(words);
    if (held) this.turns.children[at].querySelector("button").focus();
    await answered;
  }

  async retry(index) {
    await this.instead(index - 1, this.history.messages[index - 1].content, index);
  }

  answer() {
    this.done = this.listen();
    return this.done;
  }

  async listen() {
    const running = (this.running = new AbortController());
    const turn = this.turn("assistant", "", this.history.messages.length);
    this.turns.append(turn.element);
    this.wait(true);
    let ended = true;
    try {
      for (let tries = this.model.answers ? 1 : TRIES; tries && !turn.content; tries -= 1) {
        await this.hear(turn, running.signal);
      }
    } catch (error) {
      ended = false;
      if (!stopped(error)) notice(error.message);
    }
    this.running = null;
    this.wait(false);
    this.close(turn, ended);
    if (!this.history.keep()) this.live.textContent = FORGOTTEN;
  }

  // One answer; a conversation that is too long is told without its oldest turns, and one of a single turn is
  // answered for as long as there is room.
  async hear(turn, signal, body = this.body()) {
    try {
      for await (const choice of choices("/v1/chat/completions", body, signal)) {
        if (choice.delta.content) turn.add(choice.delta.content);
        turn.cut = choice.finish_reason === "length";
      }
    } catch (error) {
      if (error.code !== TOO_LONG) throw error;
      const shorter = this.history.shorten();
      if (!shorter && body.max_tokens === undefined) throw error;
      await this.hear(turn, signal, shorter ? this.body() : { ...body, max_tokens: undefined });
    }
  }

  close(turn, ended) {
    if (turn.content) {
      this.history.say("assistant", turn.content);
      this.heard.textContent = `${this.model.name}: ${shown(turn.content)}`;
      this.live.textContent = [this.history.first && PARTLY, turn.cut && CUT].filter(Boolean).join(" ");
      return;
    }
    const held = this.turns.contains(document.activeElement);
    turn.element.remove();
    this.live.textContent = !ended ? "" : this.model.answers ? NOTHING : SILENCE;
    if (!ended || this.model.answers) this.takeBack();
    if (held && !this.turns.contains(document.activeElement)) this.input.focus();
  }

  // Words that nobody answered are not said, for two turns of the same speaker never follow each other.
  takeBack() {
    const { content } = this.history.messages.at(-1);
    this.history.cut(this.history.messages.length - 1);
    this.print();
    this.input.value = [content, this.input.value].filter(Boolean).join("\n");
  }

  body() {
    const number = (input) => (input.value === "" || !input.checkValidity() ? undefined : Number(input.value));
    return { model: this.model.name, messages: this.history.sent, temperature: number(this.temperature),
      max_tokens: number(this.most) };
  }

  wait(on) {
    this.stop.disabled = !on;
    this.send.disabled = on;
    this.live.textContent = on ? "Writing… Escape stops it." : "";
    this.heard.textContent = "";
    if (on) notice("");
    this.turns.lastElementChild?.scrollIntoView({ block: "nearest" });
  }

  // Asks once more, in the button itself, before everything is forgotten.
  async clear(asked) {
    if (asked.textContent === "Clear") {
      asked.textContent = "Forget it all?";
      return;
    }
    asked.textContent = "Clear";
    await this.halt();
    this.history.cut(0);
    this.print();
    this.input.focus();
  }
}

export function open(place, { model }) {
  new Talk(place, model);
}
