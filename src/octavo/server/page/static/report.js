// The report, built from its JSON whatever that holds: objects become sections, lists of objects tables, the rest words.

import { get } from "./api.js";
import { h } from "./dom.js";
import { figure, shown } from "./text.js";

const WAIT = 1000; // milliseconds between two looks at how far it is
const TITLES = new Set(["title", "name", "heading"]);
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const words = (name) => name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());

function plain(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? value.toLocaleString("en") : figure(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return shown(typeof value === "string" ? value : JSON.stringify(value));
}

function table(rows, name) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const numeric = (column) => rows.every((row) => row[column] === null || row[column] === undefined
    || typeof row[column] === "number");
  const kind = Object.fromEntries(columns.map((column) => [column, numeric(column) ? "number" : null]));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": words(name) },
    h("table", {}, h("thead", {}, h("tr", {}, columns.map((column) =>
      h("th", { scope: "col", class: kind[column], text: words(column) })))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((column) =>
        h("td", { class: kind[column], text: plain(row[column]) })))))));
}

// A row whose values are themselves a few values has a column for each of them.
function flat(row) {
  return Object.fromEntries(Object.entries(row).flatMap(([name, value]) =>
    isObject(value) ? Object.entries(value).map(([inner, one]) => [`${name} ${inner}`, one]) : [[name, value]]));
}

// A table that comes as its columns and rows.
function columned({ columns, rows }, name) {
  return table(rows.map((row) => (Array.isArray(row) ? Object.fromEntries(columns.map((column, at) => [column,
    row[at]])) : row)), name);
}

function list(values, name, depth) {
  if (values.every(isObject)) {
    const nested = values.some((value) => Object.values(value).some((one) => Array.isArray(one) && one.some(isObject)));
    const named = (value, index) => value.title ?? value.name ?? `${words(name)} ${index + 1}`;
    return nested ? h("div", {}, values.map((value, index) => part(value, named(value, index), depth)))
      : table(values.map(flat), name);
  }
  return values.every((value) => typeof value === "string")
    ? h("ul", {}, values.map((value) => h("li", { text: shown(value) })))
    : h("p", { text: values.map(plain).join(", ") });
}

function part(value, name, depth) {
  const heading = h(`h${Math.min(depth, 5)}`, { text: words(String(name)) });
  if (isObject(value) && Array.isArray(value.columns) && Array.isArray(value.rows)) return h("section", {}, heading,
    columned(value, name));
  if (isObject(value)) return h("section", {}, heading, body(value, depth + 1));
  return h("section", {}, heading, list(value, name, depth + 1));
}

// The plain values of an object first, then what has parts of its own.
export function body(report, depth = 2) {
  const entries = Object.entries(report).filter(([name, value]) => !TITLES.has(name) && value !== null);
  const simple = entries.filter(([, value]) => !isObject(value) && !Array.isArray(value));
  const rest = entries.filter(([, value]) => isObject(value) || (Array.isArray(value) && value.length));
  const long = simple.filter(([, value]) => typeof value === "string" && value.length > 60);
  const short = simple.filter((entry) => !long.includes(entry));
  return h("div", {}, long.map(([, value]) => h("p", { text: shown(value) })),
    short.length ? h("dl", { class: "facts" }, short.map(([name, value]) =>
      h("div", {}, h("dt", { text: words(name) }), h("dd", { text: plain(value) })))) : null,
    rest.map(([name, value]) => part(value, name, depth)));
}

export async function follow(place, model, signal) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "How far the report is" });
  place.replaceChildren(h("p", { class: "about",
    text: "The report is being made: the model is read over the test part of its text." }), bar);
  for (;;) {
    const told = await get(`/page/report?model=${encodeURIComponent(model)}`, signal);
    if (told.ready && told.report) return place.replaceChildren(h("article", { class: "report" }, body(told.report)));
    if (told.ready) return place.replaceChildren(h("p", { class: "empty",
      text: "There is nothing to report on this model." }));
    bar.value = told.progress ?? 0;
    await new Promise((resolve) => setTimeout(resolve, WAIT));
  }
}
