// The turns of a conversation as they are printed: who speaks stands in the margin.

import { button, h } from "./dom.js";
import { shown } from "./text.js";

export class Turn {
  // `actions` are words and what they do, told the turn.
  constructor(who, mine, content, actions) {
    this.words = h("div", { class: "words", dir: "auto" });
    this.tools = Object.entries(actions).map(([name, call]) =>
      button(name, () => call(this), { class: "quiet", "aria-label": `${name}: ${who}` }));
    this.element = h("li", { class: mine ? "turn mine" : "turn" }, h("h2", { class: "who", text: who }), this.words,
      h("div", { class: "turn-tools" }, this.tools));
    this.say(content);
  }

  say(content) {
    this.content = content;
    this.words.textContent = shown(content);
  }

  // A piece more of an answer. Text nodes are added, so that a long answer is not laid out anew for each token.
  add(piece) {
    this.content += piece;
    this.words.append(shown(piece.replaceAll("\r", ""))); // of a line end whose other half may come later
  }

  // Let the turn be written anew; `done` hears the new words.
  edit(done) {
    const input = h("textarea", { rows: 3, dir: "auto", "aria-label": "Your words", value: this.content });
    const back = () => {
      form.replaceWith(this.words);
      this.element.classList.remove("editing");
      this.tools[0].focus();
    };
    const save = () => (back(), done(input.value));
    const form = h("div", { class: "edit" }, input,
      h("div", { class: "row" }, button("Say this instead", save, { class: "primary" }), button("Leave it", back)));
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation(); // what is being answered goes on
        back();
      }
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
    });
    this.words.replaceWith(form);
    this.element.classList.add("editing");
    input.focus();
  }
}
