// The slider through the weights that a training kept on its way; its last place is the model as it is.

import { button, h } from "./dom.js";

const PACE = 700; // milliseconds for each of them, while one watches

export class Time {
  // `step` is where to begin; `turned()` hears that others are wanted: those after `step`, or the newest without one.
  constructor(steps, step, turned) {
    Object.assign(this, { step: steps.includes(step) ? step : undefined, running: false, watching: null, turned });
    this.slider = h("input", { type: "range", min: 0, "aria-label": "Step of the training",
      oninput: () => this.go(Number(this.slider.value)) });
    this.said = h("output", {});
    this.play = button("Watch it learn", () => this.watch());
    this.element = h("div", { class: "slide time" }, this.play, this.slider, this.said);
    this.know(steps);
  }

  // More of them may have been kept, and some are gone where the training went back. Who looks at one stays there.
  know(steps) {
    this.steps = steps;
    this.slider.max = steps.length;
    this.element.hidden = !steps.length;
    const place = steps.indexOf(this.step);
    this.go(place < 0 ? steps.length : place);
  }

  // Whether it still learns; what it is in the end is not known before.
  tell(running) {
    this.running = running;
    this.say();
  }

  go(place) {
    this.slider.value = place;
    const before = this.step;
    this.step = this.steps[place];
    this.say();
    if (this.step !== before) this.turned();
  }

  say() {
    const newest = this.running ? "the best so far" : "as trained";
    this.said.textContent = this.step === undefined ? newest : `step ${this.step.toLocaleString("en")}`;
    this.slider.setAttribute("aria-valuetext", this.said.textContent);
  }

  async watch() {
    if (this.watching) return this.hold();
    const mine = (this.watching = {}); // whoever holds and watches again does not wake the one before
    this.play.textContent = "Hold";
    for (let place = 0; place <= this.steps.length && this.watching === mine; place += 1) {
      this.go(place);
      await new Promise((resolve) => setTimeout(resolve, PACE));
    }
    if (this.watching === mine) this.hold();
    return undefined;
  }

  hold() {
    this.watching = null;
    this.play.textContent = "Watch it learn";
  }
}
