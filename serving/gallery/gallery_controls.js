"use strict";

// The controls of the gallery: what they show of the address, and how they change it. about, state and scene are those
// of gallery.js, which calls arrange() and listen() when it has them.

const NEXT = { wall: "Another grid", picture: "Another image", mix: "Another pair", journey: "Another interpolation" };
let playing = null; // the timer of the interpolation
let direction = 1; // in which its steps go

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
  $("psi").value = state.psi;
  $("psi-value").textContent = `ψ ${state.psi.toFixed(2)}`;
  $("stage").dataset.view = view;
  $("next").textContent = NEXT[view];
  $("download").textContent = view === "journey" ? "This image" : "Download";
  for (const box of $("parts").querySelectorAll("input")) box.checked = state.layers.includes(box.value);
  document.title = view === "wall" ? "Salon" : `Seed ${state.seed}${pair ? ` and seed ${state.to}` : ""} · Salon`;
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
}

function play() {
  if (playing) return seek(state.step);
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
    $("status").textContent = "The link is copied. It shows this again.";
  } catch {
    $("status").textContent = `This link shows this again: ${location.href}`;
  }
}

function listen() {
  for (const name of ["seed", "to"]) {
    $(name).addEventListener("change", () => {
      const number = integer($(name).value.trim(), about.max_seed);
      if (number === null) $("status").textContent = `A seed must be from 0 to ${about.max_seed}.`;
      else go({ [name]: number, step: 0 });
    });
    document.querySelector(`[data-random=${name}]`).addEventListener("click", () => go({ [name]: randomSeed(), step: 0 }));
  }
  $("model").addEventListener("change", () => go({ model: $("model").value, class: 0 }));
  $("class").addEventListener("change", () => go({ class: Number($("class").value) }));
  $("psi").addEventListener("input", () => ($("psi-value").textContent = `ψ ${Number($("psi").value).toFixed(2)}`));
  $("psi").addEventListener("change", () => go({ psi: Number($("psi").value) }));
  $("parts").append(...about.parts.map((part) => {
    const box = element("input", { type: "checkbox", value: part, name: "parts" });
    box.addEventListener("change", () => {
      go({ layers: [...$("parts").querySelectorAll("input:checked")].map((each) => each.value) });
    });
    return element("label", {}, box, part);
  }));
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
