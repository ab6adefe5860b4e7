// A conversation: what was said, kept in this browser per model, and how it is taken along.

import { h, remember, remembered } from "./dom.js";

export class History {
  constructor(model) {
    this.model = model;
    this.read();
  }

  read() {
    this.messages = remembered("localStorage", `talk.${this.model}`, []).filter(
      (one) => ["user", "assistant"].includes(one?.role) && typeof one.content === "string");
    this.first = 0;
  }

  // What the model is told: not the oldest turns where it has no room for them.
  get sent() {
    return this.messages.slice(this.first);
  }

  // Leave out two turns more; false where only the newest is left.
  shorten() {
    if (this.sent.length < 3) return false;
    this.first += 2;
    return true;
  }

  keep() {
    return remember("localStorage", `talk.${this.model}`, this.messages);
  }

  say(role, content) {
    this.messages.push({ role, content });
    this.keep();
  }

  // Forget everything from this turn on.
  cut(index) {
    this.messages.length = index;
    this.first = 0;
    this.keep();
  }

  // As Markdown, in which what was said stays what was said: each line is quoted as it is.
  get markdown() {
    const turns = this.messages.map(({ role, content }) =>
      `**${role === "user" ? "You" : this.model}**\n\n${content.split("\n").map((line) => `> ${line}`).join("\n")}\n`);
    return `# A conversation with ${this.model}\n\n${turns.join("\n")}`;
  }

  get json() {
    return `${JSON.stringify({ model: this.model, messages: this.messages }, null, 2)}\n`;
  }
}

export function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
