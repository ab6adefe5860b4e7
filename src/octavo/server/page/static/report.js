// The report: how far it is while it is made, then what it found, in the order of octavo report's own page.

import { get } from "./api.js";
import { reliability } from "./calibration.js";
import { copies, duplicates } from "./copies.js";
import { h, row, section } from "./dom.js";
import { rivals, standing } from "./rivals.js";
import { figure, percent, shown } from "./text.js";

const WAIT = 500; // milliseconds between two looks at how far it is
const EARLIER = "The training has come to better weights meanwhile; look at the report again to have another one made.";

function passages(title, found) {
  return h("div", {}, h("h3", { text: title }), found.map((passage) => h("figure", { class: "passage" },
    h("blockquote", { class: "written", dir: "auto", text: shown(passage.text.replace(/^\n+/, "")) }),
    h("figcaption", { class: "hint", text: `${figure(passage.bits_per_byte, 2)} bits per byte · from token ${passage.token.toLocaleString("en")}` }))));
}

function curve(points) {
  const heads = ["As many tokens", "Tokens read", "Nats per token", "Bits per byte"];
  const rows = points.map((point) => [`${point.times} ×`, point.tokens.toLocaleString("en"),
    `${figure(point.nats_per_token, 2)} ± ${figure(point.within, 2)}`, figure(point.bits_per_byte, 2)]);
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Other sizes in figures" },
    h("table", {}, h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col", text: name })))),
    h("tbody", {}, rows.map((cells) => row(cells)))));
}

function opened({ model, interval, held_out: text, baselines, notes }) {
  const facts = [["Bits per byte", figure(model.bits_per_byte)],
    ["In 95 of 100 such texts", `${figure(interval.low)} to ${figure(interval.high)}`],
    ["Read for it", `${text.characters.toLocaleString("en")} characters`]];
  return h("div", {}, h("p", { class: "about", text: "How well it foretells text that it has never seen." }),
    h("dl", { class: "facts wide report-facts" }, facts.map(([name, value]) =>
      h("div", {}, h("dt", { text: name }), h("dd", { text: value })))),
    h("p", { text: standing(model, baselines) }),
    notes.length ? h("ul", { class: "notes hint" }, notes.map((note) => h("li", { text: shown(note) }))) : null,
    h("p", { class: "hint", text: `The ${text.part} text, of ${shown(text.sources.join(", "))}` }));
}

export function told(found) {
  return h("article", { class: "report" }, opened(found),
    section("Beside others",
      ["Bits that it takes to write down a byte of the text if you let it guess: the fewer the better; a plain file takes 8.",
        "All of them have learned from the same text and are tried on the same text. N-grams count which token came after "
        + "the last few: bigrams look at one token before, 5-grams at four. xz and zstd are programs that pack files. The "
        + "bracket is where the figure would lie in 95 of 100 texts like this one."],
      rivals(found)),
    found.curve.length ? section("Other sizes",
      ["What loss to expect of trainings that read less of the same text, or more of it.",
        "Forecasts, each for a model of the size that suits what is read: a training four times as long reads four times "
        + "the tokens. Where the text would be read more than 40 times, it would only be learned by heart, and nothing is "
        + "said. Two of three trainings come as near to the figure as is said."],
      curve(found.curve)) : null,
    section("Does it know what it knows?",
      [`Its likeliest token came ${percent(found.calibration.right)} of the time; its certainty is off by ${percent(found.calibration.error)} on average.`,
        "Each dot gathers the places where it was about equally sure. On the dotted line it is right as often as it says; "
        + "below the line it is too sure of itself, above it too modest. Larger dots stand for more places."],
      reliability(found.calibration)),
    section("Easy and hard", "The passages that it foretold best and worst.",
      h("div", { class: "columns" }, passages("The easiest", found.easiest), passages("The hardest", found.hardest))),
    copies(found.copying), duplicates(found.duplicates));
}

export async function follow(place, model, signal) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "How far the report is" });
  const stage = h("p", { class: "status", role: "status" });
  place.replaceChildren(h("p", { class: "about",
    text: "The report is being made: the model reads text that was kept from it, and its own writing is searched for "
    + "copies. It takes seconds for a small model, minutes for a large text." }), bar, stage);
  for (;;) {
    const answer = await get(`/page/report?model=${encodeURIComponent(model)}`, signal);
    if (answer.ready) {
      const earlier = answer.earlier ? [h("p", { class: "hint", text: EARLIER })] : [];
      return place.replaceChildren(...earlier, told(answer.report));
    }
    bar.value = answer.progress;
    if (answer.stage !== stage.textContent) stage.textContent = answer.stage;
    await new Promise((resolve) => setTimeout(resolve, WAIT));
  }
}
