// Wrote or copied: what of the model's own writing, and of the text that it is judged by, stands in what it learned from.

import { h, section } from "./dom.js";
import { label, percent, several, shown } from "./text.js";

const FIRST = 3; // samples that are shown at once

const place = ({ source, line }) => `${shown(source)}, line ${line.toLocaleString("en")}`;

// As few of the overlaps as cover all that any of them does; each begins and ends behind the one before.
export function fewest(overlaps) {
  const chosen = [];
  for (const overlap of overlaps) {
    if (chosen.length > 1 && overlap.start <= chosen.at(-2).end) chosen.pop();
    chosen.push(overlap);
  }
  return chosen;
}

// Places are told in characters, of which JavaScript makes two where one is beyond the first 65,536.
function marked(text, overlaps) {
  const characters = [...text];
  const pieces = [];
  let come = 0;
  overlaps.forEach(({ start, end }, index) => {
    const from = Math.max(come, start);
    pieces.push(shown(characters.slice(come, from).join("")),
      h("mark", { text: shown(characters.slice(from, end).join("")) }), h("sup", { text: String(index + 1) }));
    come = end;
  });
  return [...pieces, shown(characters.slice(come).join(""))];
}

function sample({ prompt, text, copied, overlaps }) {
  const chosen = fewest(overlaps);
  return h("figure", { class: "passage" },
    h("blockquote", { class: "written", dir: "auto" }, h("span", { class: "same", text: shown(prompt) }),
      marked(text, chosen)),
    h("figcaption", { class: "hint" }, copied > 0 ? `${percent(copied)} copied` : "nothing copied",
      chosen.length ? h("ol", {}, chosen.map((one) =>
        h("li", { text: `${several(one.end - one.start, "character")} of ${place(one.place)}` }))) : null));
}

function longest(who, match) {
  return match && h("li", {}, `${who}: ${several(match.characters, "character")}, `, h("q", { text: label(match.text, 120) }),
    ` (${place(match.place)})`);
}

export function copies(found) {
  if (!found) return null;
  const samples = [...found.samples].sort((one, other) => other.copied - one.copied);
  const rest = samples.slice(FIRST);
  return section("Wrote or copied?",
    [`${percent(found.share)} of what it writes stands word for word in what it learned from, and ${percent(found.human_share)} of what people wrote in the same places.`,
      `Only stretches of ${found.at_least} characters or more are counted: shorter ones two people might well write without `
      + "knowing of each other. The pale beginning of each sample was given to it."],
    h("ul", {}, longest("Its longest", found.longest), longest("That of people", found.human_longest)),
    samples.slice(0, FIRST).map(sample),
    rest.length ? h("details", {}, h("summary", { text: `${rest.length} more that it wrote` }), rest.map(sample)) : null);
}

export function duplicates(found) {
  if (!found) return null;
  return section("Is the text it is judged by new?",
    [`${percent(found.share)} of it stands in the training text too.`,
      `Stretches of ${found.at_least} characters or more are counted. What stands in both was learned, not foretold, and `
      + "flatters the figures above."],
    found.longest.map((one) => h("figure", { class: "passage" },
      h("blockquote", { class: "written", dir: "auto", text: shown(one.text) }),
      h("figcaption", { class: "hint",
        text: `${one.characters.toLocaleString("en")} characters of ${place(one.held_out)}, as in ${place(one.training)}` }))));
}
