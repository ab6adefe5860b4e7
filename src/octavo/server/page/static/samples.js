// What the model wrote while it learned: a slider through the samples, and from each the way inside.

import { h, put, section } from "./dom.js";
import { shown } from "./text.js";

export class Samples {
  // `kept` are the steps whose weights can be looked into.
  constructor(kept) {
    Object.assign(this, { lines: [], kept });
    this.slider = h("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Which sample",
      oninput: () => this.show() });
    this.step = h("output", { class: "sample-step" });
    this.text = h("blockquote", { class: "sample", dir: "auto", "aria-live": "polite" });
    this.inside = h("a", {});
    this.element = section("What it wrote", "Its own words at each look, from the first babble on.",
      h("div", { class: "slide" }, this.slider, this.step), this.text,
      h("p", { class: "hint inside" }, this.inside));
  }

  know(kept) {
    this.kept = kept;
    this.show();
  }

  set(lines) {
    const atEnd = Number(this.slider.value) >= this.lines.length - 1;
    this.lines = lines;
    this.slider.max = Math.max(lines.length - 1, 0);
    this.slider.disabled = lines.length < 2;
    if (atEnd) this.slider.value = lines.length - 1;
    this.element.hidden = !lines.length;
    this.show();
  }

  add(line) {
    this.set([...this.lines, line]);
  }

  show() {
    const line = this.lines[Number(this.slider.value)];
    if (!line) return;
    this.step.textContent = `step ${line.step.toLocaleString("en")}`;
    this.slider.setAttribute("aria-valuetext", this.step.textContent);
    put(this.text, shown(line.text));
    const kept = this.kept.findLast((step) => step <= line.step);
    this.inside.hidden = kept === undefined;
    this.inside.href = `/look#step=${kept}`;
    this.inside.textContent = `Look inside, as it was after step ${kept?.toLocaleString("en")}`;
  }
}
