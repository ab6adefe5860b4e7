// The parts that are switched off, each with a button that switches it on again.

import { button, h } from "./dom.js";
import { partName } from "./parts.js";

export class Chips {
  // `toggle(part)` and `allOn()` hear what is to be on again; `next` takes the keyboard when there is no part left.
  constructor(toggle, allOn, next) {
    Object.assign(this, { toggle, allOn, next });
    this.element = h("div", { class: "chips", role: "group", "aria-label": "Switched off", hidden: true });
  }

  // What is pressed by keyboard is gone thereby: the one after it is the next to be pressed.
  show(parts) {
    const place = [...this.element.children].findIndex((one) => one.matches(":focus-visible"));
    const chips = [...parts].map((part) => button(`${partName(part)} ×`, () => this.toggle(part),
      { class: "chip", "aria-label": `Switch ${partName(part)} on again` }));
    this.element.hidden = !chips.length;
    this.element.replaceChildren("Switched off: ", ...chips, button("All on", () => this.allOn(), { class: "quiet" }));
    if (place >= 0) (chips[Math.min(place, chips.length - 1)] ?? this.next).focus();
  }
}
