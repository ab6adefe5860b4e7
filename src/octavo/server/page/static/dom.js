// Elements are made here and nowhere else. Text goes in as text: nothing that comes from a model is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function dress(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name === "value") element.value = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  return element;
}

export function h(tag, properties = {}, ...children) {
  const element = dress(document.createElement(tag), properties);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function s(tag, properties = {}, ...children) {
  const element = dress(document.createElementNS(SVG, tag), properties);
  element.append(...children.flat());
  return element;
}

// Text where it is not yet so; a browser lays out anew whatever is set.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function button(text, onclick, properties = {}) {
  return h("button", { type: "button", onclick, ...properties }, text);
}

// A row of a table, whose first cell says what the others are of; `dressed` has more to say of each.
export function row(texts, dressed = () => ({})) {
  return h("tr", {}, texts.map((text, index) =>
    h(index ? "td" : "th", { scope: !index && "row", text, ...dressed(index) })));
}

let fields = 0;

// A form field with its label; `input` is any element that has a value.
export function field(label, input, hint = null) {
  input.id ||= `field-${(fields += 1)}`;
  const about = hint && h("span", { class: "hint", id: `${input.id}-hint`, text: hint });
  if (about) input.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: input.id, text: label }), input, about);
}

// A section of a room with its heading, what it shows in a sentence, and what that means for who wants to know.
export function section(title, about, ...children) {
  const id = `section-${(fields += 1)}`;
  const [line, more] = [about].flat();
  return h("section", { class: "section", "aria-labelledby": id },
    h("h2", { id, text: title }), line && h("p", { class: "about", text: line }), more && explained(more), children);
}

// An explanation that waits until it is asked for.
export function explained(words) {
  return h("details", { class: "explained" }, h("summary", { text: "What is this?" }), h("p", { text: words }));
}

export function opening(title, words) {
  document.title = `${title} · octavo`;
  return h("div", { class: "opening" }, h("h1", { text: title }), h("p", { class: "motto", text: words }));
}

// A colour of the page as the browser computes it, for canvases, which know nothing of custom properties.
const colours = new Map();

export function colour(name) {
  if (!colours.has(name)) colours.set(name, computed(name));
  return colours.get(name);
}

function computed(name) {
  const probe = h("span", { class: "probe" });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  return found.slice(0, 3);
}

export const rgba = ([red, green, blue], alpha = 1) => `rgba(${red}, ${green}, ${blue}, ${alpha})`;

// A canvas in CSS pixels that is sharp on any screen.
export function canvas2d(canvas, width, height) {
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  return context;
}

onTheme(() => colours.clear());

// One of the page's colours behind an element, the fuller the larger the share of 1; none where it is null. To mix it from
// custom properties takes a browser much longer, and there may be thousands.
const pairs = new Map();

export function tint(element, name, share) {
  if (!pairs.has(name)) {
    const declared = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
    pairs.set(name, declared.match(/#[\da-f]{6}/gi)); // by day and by night
  }
  const fullness = Math.round(255 * share).toString(16).padStart(2, "0");
  const [light, dark] = pairs.get(name).map((one) => one + fullness);
  element.style.backgroundColor = share === null ? "" : `light-dark(${light}, ${dark})`;
}

// Calls once things have been quiet for so many milliseconds.
export function debounced(wait, call) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), wait);
  };
}

// Hears when light becomes dark or dark light, as it does for paper.
export function onTheme(call) {
  window.addEventListener("octavo:theme", call);
  for (const media of ["(prefers-color-scheme: dark)", "print"]) matchMedia(media).addEventListener("change", call);
}

export function notice(words) {
  const place = document.getElementById("notice");
  if (!words) return place.replaceChildren();
  place.replaceChildren(h("p", { text: words }), button("Close", () => place.replaceChildren(), { class: "quiet" }));
}

// What this browser keeps, in its `sessionStorage` or `localStorage`: to ask for one may be forbidden already.
export function remembered(storage, name, fallback = null) {
  try {
    return JSON.parse(window[storage].getItem(`octavo.${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function remember(storage, name, value) {
  try {
    window[storage].setItem(`octavo.${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false; // it is full or forbidden: the page works without
  }
}
