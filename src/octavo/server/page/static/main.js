// The shell: which rooms there are, which model is open, light or dark; then the room whose address this is.

import { get } from "./api.js";
import { button, h, notice, remember, remembered } from "./dom.js";
import { count, several } from "./text.js";

const ROOMS = {
  learn: ["Learn", () => import("./learn.js")],
  play: ["Play", () => import("./play.js")],
  look: ["Look", () => import("./look.js")],
  talk: ["Talk", () => import("./talk.js")],
};

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function themeButton() {
  const toggle = button("", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("octavo.theme", theme);
    } catch {
      // it holds until the page is left
    }
    say();
    window.dispatchEvent(new Event("octavo:theme"));
  }, { class: "quiet theme" });
  const say = () => {
    toggle.textContent = isDark() ? "☀" : "☾";
    toggle.setAttribute("aria-label", isDark() ? "Light page" : "Dark page");
    toggle.title = toggle.getAttribute("aria-label");
  };
  say();
  return toggle;
}

function modelChoice(models, model) {
  const about = `${count(model.parameters)} parameters, ${several(model.layers, "layer")} of ${several(model.heads, "head")}, ${model.context} tokens`;
  if (models.length === 1) return h("span", { class: "model", title: about, text: model.name });
  const select = h("select", { "aria-label": "Model", title: about, onchange: () => {
    remember("localStorage", "model", select.value);
    location.reload();
  } }, models.map(({ name }) => h("option", { text: name, selected: name === model.name })));
  return select;
}

function links(rooms, here) {
  return rooms.map((room) => h("a", { href: `/${room}`, "aria-current": room === here && "page",
    text: ROOMS[room][0] }));
}

// What there is; where a training is only being planned, that takes a moment.
async function known(place) {
  for (;;) {
    const state = await get("/page/state");
    if (state.models.length) return state;
    place.replaceChildren(h("p", { class: "empty",
      text: "There is no model here yet; wait for the training to begin." }));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function open() {
  const place = document.getElementById("room");
  const tools = document.getElementById("tools");
  tools.append(themeButton());
  const here = location.pathname.slice(1);
  const state = await known(place);
  const wanted = remembered("localStorage", "model");
  const model = state.models.find(({ name }) => name === wanted) ?? state.models[0];
  document.getElementById("rooms").append(...links(state.rooms, here));
  tools.prepend(modelChoice(state.models, model));
  if (!state.rooms.includes(here)) return place.replaceChildren(h("p",
    { class: "empty", text: "This room is not open here." }));
  const room = await ROOMS[here][1]();
  place.replaceChildren();
  document.body.dataset.room = here;
  await room.open(place, { state, model });
  document.body.dataset.ready = "yes";
}

open().catch((error) => notice(error.message));
