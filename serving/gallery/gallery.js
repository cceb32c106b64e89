"use strict";

// The address of the page holds all that it shows. Whatever a visitor does changes the address, and the page follows it:
// it asks /scene for the images of that address, which are generated then, shows them, and asks /styles for their styles,
// which take longer. What a visitor can do stands in gallery_controls.js and gallery_directions.js, and $ and element() in
// page.js.

// Values of `view` in addresses, which links hold: a grid, an image, a style mix, an interpolation.
const VIEWS = ["wall", "picture", "mix", "journey"];
let about = null; // generators and limits, as /about tells them
let state = {}; // parameters of the address
let scene = []; // images of the view, as /scene tells them
let asking = null; // the request for images under way
let styling = null; // the request for their styles under way
let again = null; // the timer of the next attempt
let fading = null; // the timer that takes a message away

// State and address

const model = () => about.models.find((each) => each.name === state.model) || about.models[0];
const integer = (text, maximum) => (/^\d{1,10}$/.test(text) && Number(text) <= maximum ? Number(text) : null);

function read() {
  const query = new URLSearchParams(location.search);
  const psi = Number(query.get("psi") || "1");
  state = { view: query.get("view"), model: query.get("model") || about.model, v: query.get("v") || "" };
  const mixes = model().mixes;
  if (!VIEWS.includes(state.view) || (!mixes && ["mix", "journey"].includes(state.view))) state.view = "wall";
  state.seed = integer(query.get("seed"), about.max_seed) ?? 0;
  state.to = integer(query.get("to"), about.max_seed) ?? state.seed + 1;
  state.layers = (query.get("layers") ?? "colour").split(",").filter((part) => about.parts.includes(part));
  state.psi = psi >= about.psi[0] && psi <= about.psi[1] ? psi : 1;
  state.class = Math.min(integer(query.get("class"), 1e9) ?? 0, Math.max(model().classes.length - 1, 0));
  state.step = integer(query.get("step"), about.max_images - 1) ?? 0;
  state.edits = readEdits(query.get("edits") || "");
}

function parameters(given) {
  const { view, seed, to, layers, psi, step, edits, v } = given;
  const query = new URLSearchParams({ view, model: given.model, seed, psi });
  if (model().classes.length) query.set("class", given.class);
  if (view === "mix" || view === "journey") query.set("to", to);
  if (view === "mix") query.set("layers", layers.join(","));
  if (view === "journey" && step) query.set("step", step);
  if (Object.keys(edits).length) query.set("edits", editsText(edits));
  if (v) query.set("v", v);
  return query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
}

function go(changes) {
  state = { ...state, v: "", ...changes };
  const address = `?${parameters(state)}`;
  history.pushState(null, "", address);
  follow();
}

function follow() {
  read();
  stop();
  arrange();
  if (!scene.length) blanks();
  ask();
}

// Asking the server

class Refused extends Error {}

const SECONDS = 6; // for which a message stays that needs nothing more

function tell(text, seconds = 0) {
  clearTimeout(fading);
  $("status").textContent = text;
  if (seconds) fading = setTimeout(() => tell(""), seconds * 1000);
}

function busy(text) {
  $("working").toggleAttribute("data-busy", Boolean(text));
  if (text) $("working").querySelector("span").textContent = text;
  $("stage").setAttribute("aria-busy", Boolean(text));
}

async function get(address, signal) {
  let answer = null;
  try {
    answer = await fetch(address, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Refused("The gallery does not answer. The page looks for it every few seconds."), { wait: 3 });
  }
  if (answer.ok) return answer.json();
  const wait = Number(answer.headers.get("Retry-After")) || 0;
  throw Object.assign(new Refused((await answer.text()).trim()), { wait });
}

function sceneAddress() {
  const query = new URLSearchParams(parameters(state));
  if (state.view === "wall") query.set("count", about.wall);
  if (state.view === "journey") query.set("count", about.max_images);
  for (const unasked of ["v", "step"]) query.delete(unasked);
  return `scene?${query.toString()}`;
}

async function ask() {
  for (const request of [asking, styling, following]) request?.abort();
  clearTimeout(again);
  const mine = (asking = new AbortController());
  const address = sceneAddress();
  busy("Generating …");
  try {
    const answer = await get(address, mine.signal);
    await Promise.all(answer.pictures.map((image) => load(image.src)));
    if (mine !== asking) return;
    if (address !== sceneAddress()) return busy(""); // a slider has been dragged on since, and its image follows
    scene = answer.pictures;
    note(answer.snapshot);
    show();
    busy("");
    askStyles();
  } catch (error) {
    if (mine !== asking || error.name === "AbortError") return;
    tell(error.message, error.wait ? 0 : SECONDS);
    if (error.wait) again = setTimeout(ask, error.wait * 1000);
    else busy("");
  }
}

async function load(address) {
  const image = new Image();
  image.src = address;
  await image.decode().catch(() => {
    throw Object.assign(new Refused("An image did not arrive. The page asks again."), { wait: 3 });
  });
}

// Styles of what is shown, all in one request; of an interpolation only those of the image at which it stands.
async function askStyles() {
  styling?.abort();
  const images = state.view === "journey" ? scene.slice(state.step, state.step + 1) : scene;
  if (!model().classifier || playing || images.every((image) => image.verdict)) return;
  const mine = (styling = new AbortController());
  for (const image of images) caption(image, "…");
  const address = state.view === "journey" ? images[0].src.replace("image?", "") : sceneAddress().replace("scene?", "");
  let wait = 0;
  try {
    const { verdicts } = await get(`styles?${address}`, mine.signal);
    images.forEach((image, index) => (image.verdict = verdicts[index]));
  } catch (error) {
    if (error.name === "AbortError") return;
    wait = error.wait;
  }
  for (const image of images) caption(image, "");
  if (wait && mine === styling) setTimeout(() => mine === styling && askStyles(), wait * 1000);
}

function note(snapshot) {
  const other = state.v && state.v !== snapshot;
  tell("");
  $("note").hidden = !other;
  $("note").textContent = other
    ? "This link is of an earlier snapshot of the generator or its directions; the image of this seed has changed." : "";
  if (other) return;
  model().snapshot = state.v = snapshot;
  history.replaceState(null, "", `?${parameters(state)}`);
}

// Showing

function styles(image, count) {
  return image.verdict.slice(0, count).map(([style, p]) => `${style}\u00a0${Math.round(100 * p)}\u00a0%`).join(" · ");
}

// The styles of an image in its captions, or `otherwise` where they are not known.
function caption(image, otherwise) {
  if (image.span) image.span.textContent = image.verdict ? styles(image, 1) : otherwise;
  if (image.verdict && image.thumbnail) image.thumbnail.alt = described(image);
  if ($("image").getAttribute("src") !== image.src) return;
  $("styles").textContent = image.verdict ? styles(image, 3) : otherwise;
  $("image").alt = described(image);
}

function described(image) {
  if (!image.verdict) return image.alt;
  const [style, p] = image.verdict[0];
  return `${image.alt}, classified as ${style} at ${Math.round(100 * p)} %`;
}

// Small images are blown up with their pixels as they are, not blurred.
const small = () => model().width * model().height < 256 * 256;

// What is shown, or waited for, has the proportions of the generator's images, and their alpha a ground.
function fit() {
  $("stage").style.setProperty("--ratio", model().width / model().height);
  $("stage").style.setProperty("--scale", Math.sqrt(model().width / model().height));
  $("stage").toggleAttribute("data-alpha", model().channels === 4);
}

function thumbnail(image) {
  const href = `?${parameters({ ...state, view: "picture", seed: image.seed })}`;
  image.thumbnail = element("img", { src: image.src, alt: image.alt, ...(small() ? { class: "small" } : {}) });
  image.span = element("span", {});
  const link = element("a", { href }, image.thumbnail);
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ view: "picture", seed: image.seed });
  });
  return element("figure", {}, link, element("figcaption", {}, element("span", {}, image.title), image.span));
}

// Empty frames, where nothing was shown yet.
function blanks() {
  const { view } = state;
  fit();
  const frame = () => element("figure", {}, element("span", { class: "blank" }), element("figcaption", {}));
  $("grid").replaceChildren(...(view === "wall" ? Array.from({ length: about.wall }, frame) : []));
  $("parents").replaceChildren(...(view === "mix" ? [frame(), frame()] : []));
}

function show() {
  const { view } = state;
  fit();
  $("grid").replaceChildren(...(view === "wall" ? scene.map(thumbnail) : []));
  $("parents").replaceChildren(...(view === "mix" ? scene.slice(0, 2).map(thumbnail) : []));
  $("step").max = scene.length - 1;
  if (view === "journey") state.step = Math.min(state.step, scene.length - 1);
  if (view !== "wall") showOne(scene[view === "journey" ? state.step : scene.length - 1]);
  for (const image of scene) caption(image, "");
  if (view === "journey") {
    const query = new URLSearchParams(sceneAddress().split("?")[1]);
    for (const format of ["webp", "mp4"]) {
      query.set("format", format);
      $(format).href = `journey?${query.toString()}`;
      $(format).download = `${state.model}-${state.seed}-to-${state.to}.${format}`;
    }
  }
}

function showOne(image) {
  $("blank").hidden = true;
  $("image").hidden = false;
  $("image").src = image.src;
  $("image").className = small() ? "small" : "";
  $("title").textContent = image.title;
  $("size").textContent = `${model().width} × ${model().height} pixels`;
  caption(image, "");
  $("image").alt = described(image);
  $("download").href = image.file;
  $("download").download = image.name;
  $("step").value = state.step;
}

async function begin() {
  try {
    about = await get("about");
  } catch (error) {
    tell(error.message);
    setTimeout(begin, (error.wait || 3) * 1000);
    return;
  }
  tell("");
  listen();
  follow();
}

begin();
