"use strict";

// The controls of the gallery: what they show of the address, and how they change it. about, state and scene are those
// of gallery.js, which calls arrange() and listen() when it has them.

const NEXT = { wall: "Another grid", picture: "Another image", mix: "Another pair", journey: "Another interpolation" };
let playing = null; // the timer of the interpolation
let direction = 1; // in which its steps go
let resting = null; // the timer after which it stands at a step

const psiText = (psi) => `ψ ${psi.toFixed(2).replace("-", "\u2212")}`;
const randomSeed = () => Math.floor(Math.random() * 100000);

function arrange() {
  const { view } = state;
  const pair = view === "mix" || view === "journey";
  for (const link of document.querySelectorAll("#views a")) {
    link.toggleAttribute("aria-current", link.dataset.view === view);
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    link.href = `?${parameters({ ...state, view: link.dataset.view, v: "", step: 0 })}`;
    link.hidden = ["mix", "journey"].includes(link.dataset.view) && !model().mixes;
  }
  const hide = (id, hidden) => ($(id).hidden = hidden);
  hide("controls", false);
  hide("grid", view !== "wall");
  hide("parents", view !== "mix");
  hide("shown", view === "wall");
  hide("player", view !== "journey");
  hide("parts", view !== "mix");
  hide("to-field", !pair);
  hide("download", view === "wall");
  for (const id of ["webp", "mp4"]) hide(id, view !== "journey");
  hide("model-field", about.models.length < 2);
  hide("class-field", !model().classes.length);
  options($("model"), about.models.map((each) => [each.name, each.name]), model().name);
  options($("class"), model().classes.map((name, index) => [index, name]), state.class);
  $("seed").value = state.seed;
  $("to").value = state.to;
  $("seed-label").textContent = { wall: "First seed", picture: "Seed", mix: "Seed", journey: "From seed" }[view];
  $("to-label").textContent = view === "journey" ? "To seed" : "Second seed";
  range(state.psi);
  arrangeDirections();
  for (const keys of $("keys").querySelectorAll("[data-views]")) keys.hidden = !keys.dataset.views.includes(view);
  $("last-view").textContent = model().mixes ? 4 : 2;
  $("psi-value").textContent = psiText(state.psi);
  $("stage").dataset.view = view;
  $("stage").toggleAttribute("data-styles", model().classifier); // keeps room for them
  $("next").textContent = NEXT[view];
  $("download").textContent = view === "journey" ? "This image" : "Download";
  for (const box of $("parts").querySelectorAll("input")) box.checked = state.layers.includes(box.value);
  document.title = view === "wall" ? "Salon" : `Seed ${state.seed}${pair ? ` and seed ${state.to}` : ""} · Salon`;
}

// The slider has the usual range, and reaches as far as the value that it shows.
function range(psi) {
  const slider = $("psi");
  slider.min = Math.min(0, psi);
  slider.max = Math.max(1.5, psi);
  slider.step = Math.abs(psi * 20 - Math.round(psi * 20)) < 1e-6 ? 0.05 : "any";
  slider.value = psi;
  $("psi-low").textContent = psi < 0 ? "reversed" : "typical";
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  select.value = chosen;
}

// What a visitor does

function turn(forwards) {
  const by = (state.view === "wall" ? about.wall : 1) * (forwards ? 1 : -1);
  if (state.view === "journey") seek(Math.min(Math.max(state.step + by, 0), scene.length - 1));
  else if (state.seed + by >= 0 && state.seed + by <= about.max_seed) go({ seed: state.seed + by });
  else if (state.seed && !forwards) go({ seed: 0 });
}

function next() {
  if (state.view === "wall") turn(true);
  else go({ seed: randomSeed(), to: randomSeed(), step: 0 });
}

function seek(step) {
  stop();
  state.step = step;
  if (scene[step]) showOne(scene[step]);
  history.replaceState(null, "", `?${parameters(state)}`);
  clearTimeout(resting);
  resting = setTimeout(askStyles, 300);
}

function play() {
  if (playing) return seek(state.step);
  styling?.abort();
  $("play").textContent = "Pause";
  $("play").setAttribute("aria-pressed", "true");
  playing = setInterval(() => {
    if (scene.length < 2) return;
    if (state.step + direction < 0 || state.step + direction >= scene.length) direction = -direction;
    state.step += direction;
    showOne(scene[state.step]);
  }, 1000 / 12);
  return playing;
}

function stop() {
  clearInterval(playing);
  playing = null;
  $("play").textContent = "Play";
  $("play").setAttribute("aria-pressed", "false");
}

async function copy() {
  try {
    await navigator.clipboard.writeText(location.href);
    tell("The link is copied. It shows this again.", SECONDS);
  } catch {
    tell(`This link shows this again: ${location.href}`, 5 * SECONDS);
  }
}

function listen() {
  for (const name of ["seed", "to"]) {
    $(name).addEventListener("change", () => {
      const number = integer($(name).value.trim(), about.max_seed);
      if (number === null) tell(`A seed must be from 0 to ${about.max_seed}.`, SECONDS);
      else go({ [name]: number, step: 0 });
    });
    document.querySelector(`[data-random=${name}]`).addEventListener("click", () => go({ [name]: randomSeed(), step: 0 }));
  }
  $("model").addEventListener("change", () => go({ model: $("model").value, class: 0, edits: {} }));
  $("class").addEventListener("change", () => go({ class: Number($("class").value) }));
  $("psi").addEventListener("input", () => ($("psi-value").textContent = psiText(Number($("psi").value))));
  $("psi").addEventListener("change", () => go({ psi: Number($("psi").value) }));
  $("parts").append(...about.parts.map((part) => {
    const box = element("input", { type: "checkbox", value: part, name: "parts" });
    box.addEventListener("change", () => {
      go({ layers: [...$("parts").querySelectorAll("input:checked")].map((each) => each.value) });
    });
    return element("label", {}, box, part);
  }));
  $("reset").addEventListener("click", () => go({ edits: {} }));
  $("step").addEventListener("input", () => seek(Number($("step").value)));
  $("play").addEventListener("click", play);
  $("next").addEventListener("click", next);
  $("copy").addEventListener("click", copy);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const link of document.querySelectorAll("#views a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      go({ view: link.dataset.view, step: 0 });
    });
  }
  addEventListener("popstate", follow);
  addEventListener("keydown", pressed);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  const view = VIEWS[Number(event.key) - 1];
  const actions = {
    ArrowLeft: () => turn(false),
    ArrowRight: () => turn(true),
    r: () => (state.view === "wall" ? go({ seed: randomSeed() }) : next()),
    d: () => state.view !== "wall" && $("download").click(),
    c: copy,
    " ": () => state.view === "journey" && !event.target.closest("button, a") && play(),
  };
  if (view && (model().mixes || VIEWS.indexOf(view) < 2)) go({ view, step: 0 });
  else if (!actions[event.key]) return;
  else actions[event.key]();
  if (event.key !== " " || state.view === "journey") event.preventDefault();
}
