// Everything that is asked of the service. It is this page's own; nothing is asked of anybody else.

import { button, field, h, remember, remembered } from "./dom.js";

const AGAIN = 2000; // milliseconds until a stream that broke is asked for again
const TRIES = 3; // in vain, after which octavo counts as ended
const PLAIN = /^[!-~]+$/; // what a header can carry, and what a service takes for a key

export class Refused extends Error {
  constructor(message, status, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const stopped = (error) => error.name === "AbortError";

let given = null; // the key, where the browser keeps nothing
const held = () => remembered("sessionStorage", "key") ?? given;

function headers(body, key) {
  return {
    ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    ...(key ? { Authorization: `Bearer ${key}` } : {}),
  };
}

async function refusal(answer) {
  try {
    const { message, code } = (await answer.json()).error;
    return new Refused(message, answer.status, code);
  } catch {
    return new Refused(`the service answers ${answer.status}`, answer.status); // in none of its own words
  }
}

// What a browser says of a connection that failed, in words of its own, is told in octavo's.
function silent(error) {
  throw stopped(error) ? error : new Refused("octavo does not answer; is it still running?", 0);
}

async function send(path, body, signal) {
  const method = body === undefined ? "GET" : "POST";
  const key = held();
  const asked = { method, headers: headers(body, key), body: body && JSON.stringify(body), signal };
  const answer = await fetch(path, asked).catch(silent);
  if (answer.status === 401 && (await askKey(Boolean(key)))) return send(path, body, signal);
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export const get = async (path, signal) => (await send(path, undefined, signal)).json();
export const post = async (path, body, signal) => (await send(path, body, signal)).json();

// The steps of which a model's training has kept the weights by now, and when it has written the newest.
export async function kept({ name }) {
  const { models } = await get("/page/state");
  return models.find((one) => one.name === name) ?? { steps: [] };
}

// Server-sent events, as they come: {event, data}. Read by hand, since the browser's own way cannot send a key or a body.
export async function* events(path, body, signal) {
  const reader = (await send(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(silent); // it may end in the midst of a text
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) yield parsed(block);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Events without an end: a stream that breaks is asked for again, at the address of then, for as long as it is wanted.
// Throws what the last of some tries came to.
export async function* lasting(address, wanted = () => true) {
  let vain = 0;
  for (;;) {
    try {
      for await (const one of events(address())) {
        vain = 0;
        yield one;
      }
    } catch (error) {
      vain += 1;
      if (vain === TRIES) throw error.status ? error : new Refused("octavo has ended; what it told stays here", 0);
    }
    if (!wanted()) return;
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

function parsed(block) {
  const found = { event: "message", data: "" };
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) found.event = line.slice(6).trim();
    if (line.startsWith("data:")) found.data += line.slice(5).trimStart();
  }
  return found;
}

// The choices of a streamed answer, piece by piece.
export async function* choices(path, body, signal) {
  for await (const { data } of events(path, { ...body, stream: true }, signal)) {
    if (data === "[DONE]" || !data) continue;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Refused(chunk.error.message, 500);
    yield* chunk.choices;
  }
}

let asking = null;

// Ask for the key of a service that has one, perhaps once more; false where it is not given.
function askKey(refused) {
  asking ??= new Promise((resolve) => {
    const input = h("input", { type: "password", autocomplete: "off", required: true });
    const wrong = h("p", { class: "hint", role: "alert", text: refused ? "This service has another key." : "" });
    const check = (event) => {
      if (PLAIN.test(input.value.trim())) return;
      event.preventDefault();
      wrong.textContent = "This is no key: a key is a single word of plain letters, digits and signs.";
    };
    const dialog = h("dialog", { "aria-labelledby": "key-title" },
      h("form", { method: "dialog", onsubmit: check },
        h("h2", { id: "key-title", text: "This service asks for a key" }),
        field("Key", input, "It is kept until this tab is closed."), wrong,
        h("div", { class: "row" }, h("button", { class: "primary", value: "open", text: "Open" }),
          button("Leave", () => dialog.close("")))));
    dialog.addEventListener("close", () => {
      const key = dialog.returnValue ? input.value.trim() : "";
      given = key || null;
      remember("sessionStorage", "key", given);
      dialog.remove();
      asking = null;
      resolve(Boolean(key));
    });
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}
