// How many bits a byte of the text takes: the model among those that could have foretold it instead.

import { h } from "./dom.js";
import { figure, percent, shown } from "./text.js";

// What the best of those without a model comes to, in a sentence.
export function standing(model, baselines) {
  const best = baselines.reduce((one, other) => (other.bits_per_byte < one.bits_per_byte ? other : one));
  const times = model.bits_per_byte / best.bits_per_byte;
  const beside = times >= 2 ? `${figure(times, 1)} times as many` : `${percent(Math.abs(times - 1))} ${times > 1 ? "more" : "fewer"}`;
  return `The best that does without a model, ${best.name}, needs ${figure(best.bits_per_byte)}; this model needs ${beside}.`;
}

function row(score, most, interval) {
  const share = (value) => `${((100 * value) / most).toFixed(2)}%`;
  const bar = h("span", { class: interval ? "length own" : "length" });
  bar.style.setProperty("--size", share(score.bits_per_byte));
  const lane = h("span", { class: "track" }, bar);
  if (interval) {
    const bracket = h("span", { class: "bracket" });
    bracket.style.left = share(interval.low);
    bracket.style.width = share(interval.high - interval.low);
    lane.append(bracket);
  }
  const name = h(interval ? "b" : "span", { class: "rival", text: shown(score.name) });
  return h("li", {}, name, lane, h("span", { class: "part-value", text: figure(score.bits_per_byte) }));
}

export function rivals({ model, interval, baselines }) {
  const ranked = [model, ...baselines].sort((one, other) => one.bits_per_byte - other.bits_per_byte);
  const most = Math.max(ranked.at(-1).bits_per_byte, interval.high);
  return h("ol", { class: "bars rivals", "aria-label": "Bits per byte, the best first" },
    ranked.map((score) => row(score, most, score === model ? interval : null)));
}
