// How often the likeliest token came, beside how sure the model was of it.

import { h, row, s } from "./dom.js";
import { percent } from "./text.js";

const SIZE = 300;
const EDGE = { left: 46, bottom: 40, top: 8, right: 8 };
const LARGEST = 9; // radius of the dot that stands for the most places
const COLUMNS = ["Between", "Tokens", "Said", "Came"];

const x = (share) => EDGE.left + share * SIZE;
const y = (share) => EDGE.top + (1 - share) * SIZE;

function frame() {
  const marks = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    s("line", { class: "grid", x1: x(0), x2: x(1), y1: y(share), y2: y(share) }),
    s("text", { x: x(0) - 8, y: y(share) + 4, "text-anchor": "end" }, String(share * 100)),
    s("text", { x: x(share), y: y(0) + 18, "text-anchor": share === 1 ? "end" : "middle" }, String(share * 100))]);
  return [...marks, s("text", { class: "axis", x: x(0.5), y: y(0) + 36, "text-anchor": "middle" }, "how sure it was, %"),
    s("text", { class: "axis", x: 0, y: 0, "text-anchor": "middle", transform: `translate(12 ${y(0.5)}) rotate(-90)` },
      "how often it was right, %")];
}

function picture(bins) {
  const most = Math.max(...bins.map(({ tokens }) => tokens));
  const dots = bins.map(({ confidence, right, tokens }) =>
    s("circle", { cx: x(confidence), cy: y(right), r: Math.max(LARGEST * Math.sqrt(tokens / most), 2) }));
  const path = bins.map(({ confidence, right }, index) =>
    `${index ? "L" : "M"}${x(confidence).toFixed(1)} ${y(right).toFixed(1)}`);
  const [width, height] = [EDGE.left + SIZE + EDGE.right, EDGE.top + SIZE + EDGE.bottom];
  return s("svg", { class: "chart reliability", viewBox: `0 0 ${width} ${height}`, width, role: "img",
    "aria-label": "How often it was right by how sure it was; the table beside it has the figures" }, ...frame(),
    s("line", { class: "honest", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
    s("path", { class: "curve val", d: path.join("") || "M0 0" }), ...dots);
}

export function reliability({ bins }) {
  const there = bins.filter(({ tokens }) => tokens > 0);
  const rows = there.map(({ low, high, tokens, confidence, right }) =>
    [`${Math.round(low * 100)} and ${Math.round(high * 100)} %`, tokens.toLocaleString("en"), percent(confidence), percent(right)]);
  return h("div", { class: "columns" }, picture(there),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Certainty in figures" }, h("table", {},
      h("thead", {}, h("tr", {}, COLUMNS.map((name, index) =>
        h("th", { scope: "col", class: index ? "number" : null, text: name })))),
      h("tbody", {}, rows.map((cells) => row(cells, (index) => ({ class: index ? "number" : null })))))));
}
