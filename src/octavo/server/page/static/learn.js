// Learn: a training as it goes, or as it went.

import { get, kept, lasting, post, stopped } from "./api.js";
import { Chart } from "./chart.js";
import { halved, left, points, smoothed } from "./curves.js";
import { button, explained, h, notice, opening, put, section } from "./dom.js";
import { follow } from "./report.js";
import { Samples } from "./samples.js";
import { count, duration, figure, shown } from "./text.js";

const TRIES = 60; // for the lines to beat
const AGAIN = 2000; // milliseconds between two of them
const FIGURES = "A step is one look at a handful of passages, and one small change of every weight for the better. The "
  + "held-out loss is measured on text that it does not learn from, so that learning by heart does not count. The same "
  + "in plainer words: on average it is as unsure of the next token as if it had to guess among so many. A token is a "
  + "piece of text, a character in the smallest models.";
const LOSS = "Before each token the model says how likely every token is. The loss is how surprised it is by what comes: "
  + "minus the natural logarithm of the probability that it gave it. The grey line is of the text that it learns from, "
  + "the red line of text that it does not. A 3-gram foretells each token by counting what came after the same two "
  + "tokens; uniform takes all tokens for equally likely.";

class Learn {
  constructor(place, { state, model }) {
    Object.assign(this, { model, training: state.training?.model === model.name ? state.training : null, drawing: 0 });
    this.chart = new Chart("Losses by step; the arrow keys go from step to step");
    this.samples = new Samples(model.steps);
    this.facts = h("dl", { class: "facts wide" });
    this.settings = h("dl", { class: "facts" });
    this.keys = h("ul", { class: "keys" });
    this.status = h("p", { class: "status", role: "status" });
    this.brake = button("", () => this.act(this.log.running ? "stop" : "resume"));
    this.buttons = h("div", { class: "row" });
    this.curvePanel = h("div", { role: "tabpanel", "aria-label": "Training" }, this.curves());
    this.reportPanel = h("div", { role: "tabpanel", "aria-label": "Report", hidden: true });
    place.append(opening("Learn", "What it reads, what it makes of it, and how far it has come."), this.tabs(),
      this.curvePanel, this.reportPanel);
  }

  curves() {
    const logarithmic = h("input", { type: "checkbox", id: "log-x", onchange: () => {
      this.chart.logarithmic = logarithmic.checked;
      this.chart.draw();
    } });
    return h("div", {}, this.status, this.facts, explained(FIGURES), this.buttons,
      section("The loss",
        ["In nats per token, the lower the better. The dotted lines are what plain counting reaches on the same text.", LOSS],
        h("div", { class: "row" }, this.keys, h("span", { class: "spring" }),
          h("label", { class: "check" }, logarithmic, " logarithmic steps")),
        this.chart.element),
      this.samples.element, h("details", { class: "section" }, h("summary", { text: "What was asked and chosen" }),
        this.settings));
  }

  tabs() {
    const tab = (name) => button(name, () => this.turn(name),
      { role: "tab", class: "tab", "aria-selected": String(name === "Training"),
      tabindex: name === "Training" ? 0 : -1 });
    this.tabList = [tab("Training"), tab("Report")];
    const list = h("div", { role: "tablist", class: "tabs", "aria-label": "Training or report" }, this.tabList);
    list.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
      const other = this.tabList.find((one) => one !== document.activeElement);
      other.focus();
      other.click();
    });
    return list;
  }

  turn(name) {
    for (const one of this.tabList) {
      one.setAttribute("aria-selected", one.textContent === name);
      one.tabIndex = one.textContent === name ? 0 : -1;
    }
    this.curvePanel.hidden = name !== "Training";
    this.reportPanel.hidden = name !== "Report";
    this.reading?.abort();
    if (name !== "Report") return this.chart.draw();
    this.reading = new AbortController();
    follow(this.reportPanel, this.model.name, this.reading.signal).catch((error) => this.failed(error));
  }

  failed(error) {
    if (stopped(error)) return;
    this.reportPanel.replaceChildren(h("p", { class: "empty", text: error.message }));
  }

  async start() {
    this.log = await get(this.address("/page/learn"));
    this.samples.set(this.log.samples);
    this.settle(this.log.running);
    this.settings.replaceChildren(...flat(this.log.settings).map(([name, value]) =>
      h("div", {}, h("dt", { text: name }), h("dd", { text: shown(String(value)) }))));
    this.show();
    if (this.wanted()) this.listen();
    if (!this.log.baselines) this.count().catch((error) => notice(error.message));
  }

  // The lines to beat are counted when they are first asked for; they come later.
  async count() {
    for (let tries = 0; tries < TRIES && !this.log.baselines; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
      this.log.baselines = (await get(this.address("/page/learn"))).baselines;
    }
    this.show();
  }

  address(path) {
    return `${path}?model=${encodeURIComponent(this.model.name)}`;
  }

  settle(running) {
    this.log.running = running;
    const ended = this.log.steps && this.log.metrics.at(-1)?.step >= this.log.steps;
    this.status.textContent = running ? "It is learning." : ended ? "It has come to its end." : "It is at rest.";
    if (!this.training) return;
    put(this.brake, running ? "Stop" : "Go on");
    this.brake.classList.toggle("primary", !running);
    if (!this.brake.isConnected) this.buttons.append(this.brake); // else whoever stands on it stays there
  }

  async act(name) {
    try {
      const { running } = await post(`/page/learn/${name}`, {});
      this.settle(running);
      if (running) this.listen();
    } catch (error) {
      notice(error.message);
    }
  }

  // Whether there is anything to hear: of a training until it rests, of the page's own for as long as octavo is there.
  wanted() {
    return this.log.running || this.training !== null;
  }

  async listen() {
    if (this.hearing) return;
    this.hearing = true;
    const address = () => `${this.address("/page/learn/events")}&after=${this.log.metrics.at(-1)?.step ?? 0}`;
    try {
      for await (const { event, data } of lasting(address, () => this.wanted())) {
        this.hear(event, JSON.parse(data || "{}"));
        if (event === "reset") await this.reread().catch((error) => notice(error.message));
      }
    } catch (error) {
      this.over(error.message);
    }
    this.hearing = false;
  }

  // Nobody is there any more who could say how it goes.
  over(words) {
    this.log.running = false;
    this.status.textContent = words;
    this.buttons.replaceChildren();
    this.show();
  }

  // The training went back and cut its logs: what was told is to be told again.
  async reread() {
    this.log = { ...this.log, ...(await get(this.address("/page/learn"))) };
    this.samples.set(this.log.samples);
    this.show();
  }

  hear(event, told) {
    notice("");
    if (event === "metrics") this.log.metrics = halved([...this.log.metrics, told]);
    else if (event === "sample") {
      this.samples.add(told);
      kept(this.model).then(({ steps }) => this.samples.know(steps), () => {}); // else the next one tells
    } else if (event === "state") {
      this.log.steps = told.steps ?? this.log.steps;
      if (typeof told.running === "boolean") this.settle(told.running);
    }
    this.drawing ||= requestAnimationFrame(() => {
      this.drawing = 0;
      this.show();
    });
  }

  show() {
    const { metrics, forecast, steps } = this.log;
    const baselines = this.log.baselines ?? [];
    const train = points(metrics, "train_loss");
    const held = points(metrics, "val_loss");
    this.chart.show({
      curves: [{ name: "batch", points: train, className: "raw", quiet: true },
        { name: "training", points: smoothed(train), className: "train", ahead: !held.length },
        { name: "held out", points: held, className: "val", ahead: held.length > 0 }],
      levels: baselines.map(({ name, loss }) => ({ name, value: loss })), forecast, end: steps });
    const ahead = forecast && metrics.at(-1)?.step < steps;
    const keys = [["train", "training"], ["val", "held out"], ahead && ["ahead", "expected"],
      baselines.length && ["level", "to beat"]];
    this.keys.replaceChildren(...keys.filter(Boolean).map(([kind, name]) => h("li", { class: kind, text: name })));
    this.tell(metrics, forecast, steps);
  }

  tell(metrics, forecast, steps) {
    const last = metrics.at(-1) ?? {};
    const held = points(metrics, "val_loss").at(-1)?.[1];
    const wait = this.log.running ? left(metrics, steps) : null;
    const of = steps ? ` of ${steps.toLocaleString("en")}` : "";
    const facts = [
      ["Step", last.step === undefined ? "–" : last.step.toLocaleString("en") + of],
      ["Held-out loss", held === undefined ? "not yet known" : figure(held)],
      ["Unsure among", held === undefined ? null : `${figure(Math.exp(held), 1)} tokens`],
      ["Expected", forecast ? `${figure(forecast.loss, 2)} ± ${figure(forecast.spread, 2)}` : null],
      ["Tokens per second", last.tokens_per_second ? count(Math.round(last.tokens_per_second)) : null],
      ["Time", last.seconds === undefined ? null : duration(last.seconds)],
      ["Time left", wait === null ? null : duration(wait)],
    ];
    this.facts.replaceChildren(...facts.filter(([, value]) => value !== null).map(([name, value]) =>
      h("div", {}, h("dt", { text: name }), h("dd", { text: value }))));
  }
}

// Settings within settings as one list of names and values.
function flat(settings, before = "") {
  return Object.entries(settings ?? {}).flatMap(([name, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? flat(value, `${before}${name}.`)
      : [[before + name, Array.isArray(value) ? value.join(", ") : value]]);
}

export async function open(place, known) {
  const { model, state } = known;
  if (model.learned || state.training) return new Learn(place, known).start();
  return place.append(opening("Learn", "What it reads, what it makes of it, and how far it has come."),
    h("p", { class: "empty", text: `${shown(model.name)} comes without a record of its training; serve a run that octavo trained.` }));
}
