"use strict";

// Sliders of the directions that are served with a generator. Their amounts, in standard deviations, are in the address.
// While one is dragged on the page of an image, the image follows: one request at a time, each for where the sliders
// stand when it begins, so that a server is asked no faster than it answers. The address changes when the slider is let go.

let sliders = []; // of the generator that is shown
let slidersOf = null; // that generator
let following = null; // the request for an image while a slider is dragged

const rounded = (amount) => Math.round(amount * 1e4) / 1e4;
const signed = (amount) => `${amount > 0 ? "+" : amount < 0 ? "\u2212" : ""}${Math.abs(amount)}`;

// "age:1.5,sky:-2" -> { age: 1.5, sky: -2 }, and back. Whatever there is no direction for is passed over.
function readEdits(text) {
  const edits = {};
  for (const [name, amount] of text.split(",").map((part) => part.split(":"))) {
    const number = rounded(Number(amount));
    const known = model().directions.some((each) => each.name === name);
    if (known && number && Math.abs(number) <= about.slider.most) edits[name] = number;
  }
  return edits;
}

function editsText(edits) {
  return Object.keys(edits).sort().map((name) => `${name}:${edits[name]}`).join(",");
}

function arrangeDirections() {
  const { directions } = model();
  if (slidersOf !== model()) {
    sliders = directions.map((direction, index) => slider(direction, `direction-${index}`));
    $("sliders").replaceChildren(...sliders.map((each) => each.field));
    slidersOf = model();
  }
  $("directions").hidden = $("slider-keys").hidden = !directions.length;
  $("stage").toggleAttribute("data-directions", directions.length > 0);
  $("reset").disabled = !Object.keys(state.edits).length;
  for (const each of sliders) place(each, state.edits[each.name] ?? 0);
}

function slider({ name, layers }, id) {
  const { usual } = about.slider;
  const input = element("input", { type: "range", id, min: -usual, max: usual, list: "middle" });
  const output = element("output", { for: id });
  const where = layers ? element("small", {}, ` layers ${layers[0]}\u2013${layers[1]}`) : "";
  const made = { name, input, output, field: element("div", { class: "field" }) };
  made.field.append(element("label", { for: id }, name, where, output), input);
  input.addEventListener("input", () => moved(made));
  input.addEventListener("change", () => go({ edits: standing() }));
  input.addEventListener("dblclick", () => reset(made));
  input.addEventListener("keydown", (event) => {
    if (!["0", "Delete", "Backspace"].includes(event.key)) return;
    event.preventDefault();
    reset(made);
  });
  return made;
}

// A slider has the usual range, and reaches as far as the amount that it shows.
function place({ input, output }, amount) {
  const { usual, step } = about.slider;
  input.min = Math.min(-usual, amount);
  input.max = Math.max(usual, amount);
  input.step = Math.abs(amount / step - Math.round(amount / step)) < 1e-6 ? step : "any";
  input.value = amount;
  tellAmount({ input, output }, amount);
}

function tellAmount({ input, output }, amount) {
  output.textContent = `${signed(amount)} \u03c3`;
  input.setAttribute("aria-valuetext", `${signed(amount)} standard deviations`);
}

// Where all sliders stand.
function standing() {
  const amounts = sliders.map(({ name, input }) => [name, rounded(Number(input.value))]);
  return Object.fromEntries(amounts.filter(([, amount]) => amount));
}

function reset({ name }) {
  go({ edits: Object.fromEntries(Object.entries(standing()).filter(([other]) => other !== name)) });
}

function moved(made) {
  tellAmount(made, rounded(Number(made.input.value)));
  state = { ...state, edits: standing(), v: "" };
  if (state.view === "picture") followSliders();
}

async function followSliders() {
  if (following) return; // it goes on when it has come, for where the sliders stand then
  const mine = (following = new AbortController());
  try {
    for (let address = null; address !== sceneAddress(); ) {
      address = sceneAddress();
      const answer = await get(address, mine.signal);
      await load(answer.pictures[0].src);
      if (mine.signal.aborted) break;
      scene = answer.pictures;
      showOne(scene[0]);
    }
  } catch (error) {
    if (!(error instanceof Refused) && error.name !== "AbortError") throw error;
    // What is asked for when the slider is let go says what is wrong.
  } finally {
    if (mine === following) following = null;
  }
}
