// The knobs of sampling, as /v1/completions has them.

import { button, field, h, remember, remembered } from "./dom.js";

const KNOBS = [
  ["temperature", "Temperature", { min: 0, max: 2, step: 0.01, value: 0.8 }, "0 always takes the likeliest"],
  ["top_p", "Top p", { min: 0.01, max: 1, step: 0.01, value: 1 }, "the likeliest that make up this share"],
  ["top_k", "Top k", { min: 0, max: 1000, step: 1, value: 0 }, "the k likeliest; 0 keeps all"],
  ["min_p", "Min p", { min: 0, max: 0.99, step: 0.01, value: 0 }, "at least this share of the likeliest"],
  ["repetition_penalty", "Repetition penalty", { min: 0.5, max: 2, step: 0.05, value: 1 }, "1 is none"],
  ["frequency_penalty", "Frequency penalty", { min: -2, max: 2, step: 0.1, value: 0 }, "for each time it was said"],
  ["presence_penalty", "Presence penalty", { min: -2, max: 2, step: 0.1, value: 0 }, "once it was said"],
  ["max_tokens", "Tokens", { min: 1, max: 4096, step: 1, value: 120 }, "to write at most"],
  ["n", "Side by side", { min: 1, max: 8, step: 1, value: 1 }, "texts from neighbouring seeds"],
  ["seed", "Seed", { min: 0, step: 1, placeholder: "a new one each time" }, "the same seed, the same text"],
];
const FIRST = ["temperature", "max_tokens", "n", "seed"];

export class Knobs {
  constructor() {
    const kept = remembered("sessionStorage", "knobs", {});
    this.inputs = {};
    const fields = Object.fromEntries(KNOBS.map(([name, title, bounds, hint]) => {
      const input = h("input", { type: "number", inputmode: "decimal", name, ...bounds });
      if (kept[name] !== undefined) input.value = kept[name];
      this.inputs[name] = input;
      return [name, field(title, input, hint)];
    }));
    this.stop = h("input", { type: "text", name: "stop", placeholder: "\\n\\n", value: kept.stop ?? "" });
    const rest = Object.keys(fields).filter((name) => !FIRST.includes(name)).map((name) => fields[name]);
    this.element = h("aside", { class: "knobs", "aria-label": "How it is to write" },
      FIRST.map((name) => fields[name]),
      h("details", {}, h("summary", { text: "More knobs" }), rest,
        field("Stop at", this.stop, "a text that ends it; \\n is a new line"),
        button("As they were", () => this.reset(), { class: "quiet" })));
    this.element.addEventListener("change", () => remember("sessionStorage", "knobs", this.kept()));
  }

  kept() {
    return { ...Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, input.value])),
      stop: this.stop.value };
  }

  reset() {
    for (const [name, , { value }] of KNOBS) this.inputs[name].value = value ?? "";
    this.stop.value = "";
    remember("sessionStorage", "knobs", this.kept());
  }

  set seed(value) {
    this.inputs.seed.value = value;
    remember("sessionStorage", "knobs", this.kept());
  }

  // What is to be asked, with a seed that can be shown; null where a field holds what it may not.
  read() {
    const wrong = Object.values(this.inputs).find((input) => !input.checkValidity());
    if (wrong) {
      wrong.closest("details")?.setAttribute("open", "");
      wrong.reportValidity();
      return null;
    }
    const asked = {};
    for (const [name, input] of Object.entries(this.inputs)) if (input.value !== "") asked[name] = Number(input.value);
    asked.seed ??= Math.floor(Math.random() * 1_000_000);
    const stop = this.stop.value.replaceAll("\\n", "\n").replaceAll("\\t", "\t");
    return stop ? { ...asked, stop: [stop] } : asked;
  }
}
