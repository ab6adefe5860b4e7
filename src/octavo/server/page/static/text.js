// How text of any kind is shown: what would be invisible or would turn the line round is given a sign of its own.

const ODD = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u180e\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb]"
    + "|[\\u{e0000}-\\u{e007f}]|[\\ud800-\\udfff]", "gu");
// Nothing to be seen but between letters: where a line may end, how they join, and on which side a full stop stands.
export const between = (text) => /^[\u061c\u200b-\u200f]+$/u.test(text);
const LONGEST = 100_000; // characters that are shown of one text

function sign(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return "␡";
  return `‹${code.toString(16).toUpperCase().padStart(4, "0")}›`;
}

// Text as it is to be read, with its lines.
export function shown(text) {
  const cut = text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${text.length} characters)` : text;
  return cut.replaceAll("\r\n", "\n").replace(ODD, sign);
}

// A short piece of text as a thing: with its spaces and its ends of lines.
export function label(text, most = 24) {
  const signs = [...text];
  const cut = signs.length > most ? `${signs.slice(0, most).join("")}…` : text;
  const seen = cut.replace(between(text) ? /[^…]/gu : ODD, sign).replace(/[^\S \n\t]/gu, sign);
  const letter = /^\p{M}/u.test(text) ? "◌" : ""; // a mark without its letter stands on a circle
  return letter + seen.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "∅";
}

const NAMES = { " ": "space", "\n": "new line", "\t": "tab", "": "nothing" };

// Words from right to left, set apart: they would take the figures that stand behind them to their other side.
const apart = (words) => (/[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/u.test(words) ? `\u2068${words}\u2069` : words);

// What a screen reader says of it.
export const spoken = (text) => NAMES[text] ?? (between(text) ? label(text)
  : text.trim() ? apart(shown(text.slice(0, 80).trim())) : several(text.length, "blank"));

// A number of things, of which there may be one.
export const several = (number, name) => `${number.toLocaleString("en")} ${name}${number === 1 ? "" : "s"}`;

export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  if (value === 0) return "0 %";
  if (value >= 99.95) return "100 %";
  if (value >= 10) return `${value.toFixed(0)} %`;
  return value >= 0.1 ? `${value.toFixed(1)} %` : "< 0.1 %";
}

export function figure(value, digits = 3) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replaceAll("-", "−");
  const text = size >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(digits);
  return text.replace("-", "−");
}

export function count(value) {
  if (typeof value !== "number") return "–"; // nobody knows yet
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} billion`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} million`;
  return value.toLocaleString("en");
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index += 1) found[index] = text.charCodeAt(index);
  return found;
}
