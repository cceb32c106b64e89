// The controls of the gallery without a server: what they show of the address, and how they change it.

const psiText = (psi) => `ψ ${psi.toFixed(2).replace("-", "\u2212")}`;
const amountText = (amount) => `${amount > 0 ? "+" : ""}${amount.toFixed(1).replace("-", "\u2212")} σ`;
const randomSeed = () => Math.floor(Math.random() * 100000);
const RANDOM = { wall: "Random grid", picture: "Random image", mix: "Random pair" };
const sliders = new Map(); // name of a direction -> its slider and what shows its amount

function arrange() {
  const { view } = state;
  for (const link of document.querySelectorAll("#views a")) {
    link.removeAttribute("aria-current");
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    link.href = address({ ...state, view: link.dataset.view });
  }
  const hide = (id, hidden) => ($(id).hidden = hidden);
  hide("grid", view !== "wall");
  hide("parents", view !== "mix");
  hide("shown", view === "wall");
  for (const id of ["to-field", "layers-field"]) hide(id, view !== "mix");
  hide("edits", view === "mix" || !about.directions.length);
  hide("download", view === "wall");
  hide("class-field", !about.classes.length);
  $("class").value = state.label;
  $("seed").value = state.seed;
  $("to").value = state.to;
  $("seed-label").textContent = view === "wall" ? "First seed" : "Seed";
  [$("first").value, $("last").value] = state.layers;
  reach($("psi"), 0, 1.5, 0.05, state.psi);
  $("psi-value").textContent = psiText(state.psi);
  $("psi-low").textContent = state.psi < 0 ? "reversed" : "typical";
  for (const [name, { slider, output }] of sliders) {
    const amount = state.edits[name] ?? 0;
    reach(slider, -REACH, REACH, 0.1, amount);
    output.textContent = amountText(amount);
  }
  for (const keys of $("keys").querySelectorAll("[data-views]")) keys.hidden = !keys.dataset.views.includes(view);
  $("stage").dataset.view = view;
  $("random").textContent = RANDOM[view];
  document.title = view === "wall" ? "Salon" : `Seed ${state.seed} · Salon`;
}

// A slider has the usual range, and reaches as far as the value that it shows.
function reach(slider, low, high, step, value) {
  slider.min = Math.min(low, value);
  slider.max = Math.max(high, value);
  const steps = value / step;
  slider.step = Math.abs(steps - Math.round(steps)) < 1e-6 ? step : "any";
  slider.value = value;
}

function options(select, texts, from = 0) {
  select.append(...texts.map((text, index) => element("option", { value: index + from }, text)));
}

// What a visitor does

function step(forwards) {
  const by = (state.view === "wall" ? WALL : 1) * (forwards ? 1 : -1);
  const seed = Math.max(state.seed + by, 0);
  if (seed <= about.max_seed && seed !== state.seed) go({ seed });
}

function random() {
  go(state.view === "mix" ? { seed: randomSeed(), to: randomSeed() } : { seed: randomSeed() });
}

async function copy() {
  try {
    await navigator.clipboard.writeText(location.href);
    tell("The link is copied. It shows this again.", SECONDS);
  } catch {
    tell(`This link shows this again: ${location.href}`, 5 * SECONDS);
  }
}

// A slider moves one image with it, and a grid when it is let go.
function slide(slider, changes) {
  slider.addEventListener("input", () => state.view !== "wall" && go(changes(), { live: true }));
  slider.addEventListener("change", () => go(changes()));
}

function direction(each, index) {
  const id = `direction-${index}`;
  const output = element("output", { for: id });
  const slider = element("input", { type: "range", id });
  sliders.set(each.name, { slider, output });
  slider.addEventListener("input", () => (output.textContent = amountText(Number(slider.value))));
  slide(slider, () => {
    const amount = Math.round(Number(slider.value) * 1e4) / 1e4;
    const { [each.name]: _, ...others } = state.edits;
    return { edits: amount ? { ...others, [each.name]: amount } : others };
  });
  return element("div", {}, element("label", { for: id }, each.name, output), slider);
}

function listen() {
  $("stage").style.setProperty("--ratio", about.width / about.height);
  $("stage").style.setProperty("--scale", Math.sqrt(about.width / about.height));
  $("stage").toggleAttribute("data-alpha", about.channels === 4);
  options($("class"), about.classes);
  for (const id of ["first", "last"]) options($(id), Array.from({ length: about.num_ws }, (_, layer) => String(layer)));
  const reset = element("button", { type: "button", id: "reset" }, "Reset");
  reset.addEventListener("click", () => go({ edits: {} }));
  $("edits").append(...about.directions.map(direction), element("div", { class: "buttons" }, reset));
  for (const name of ["seed", "to"]) {
    $(name).addEventListener("change", () => {
      const number = integer($(name).value.trim(), about.max_seed);
      if (number === null) tell(`A seed must be from 0 to ${about.max_seed}.`, SECONDS);
      else go({ [name]: number });
    });
    document.querySelector(`[data-random=${name}]`).addEventListener("click", () => go({ [name]: randomSeed() }));
  }
  $("class").addEventListener("change", () => go({ label: Number($("class").value) }));
  for (const [id, other] of [["first", "last"], ["last", "first"]]) {
    $(id).addEventListener("change", () => {
      const [chosen, kept] = [Number($(id).value), Number($(other).value)];
      go({ layers: id === "first" ? [chosen, Math.max(kept, chosen)] : [Math.min(kept, chosen), chosen] });
    });
  }
  $("psi").addEventListener("input", () => ($("psi-value").textContent = psiText(Number($("psi").value))));
  slide($("psi"), () => ({ psi: Number($("psi").value) }));
  $("before").addEventListener("click", () => step(false));
  $("after").addEventListener("click", () => step(true));
  $("random").addEventListener("click", random);
  $("copy").addEventListener("click", copy);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("popstate", () => follow()); // of links and of addresses that are typed, too
  addEventListener("keydown", pressed);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  const view = VIEWS[Number(event.key) - 1];
  const actions = {
    ArrowLeft: () => step(false),
    ArrowRight: () => step(true),
    r: random,
    d: () => state.view !== "wall" && $("download").click(),
    c: copy,
  };
  if (view) go({ view });
  else if (!actions[event.key]) return;
  else actions[event.key]();
  event.preventDefault();
}

start();
