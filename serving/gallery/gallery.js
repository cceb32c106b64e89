"use strict";

// The address of the page holds all that it shows. Whatever a visitor does changes the address, and the page follows it:
// it asks /scene for the images of that address, which are generated then, and shows them. What a visitor can do stands in
// gallery_controls.js, and $ and element() in page.js, which are loaded before.

// Values of `view` in addresses, which links hold: a grid, an image, a style mix, an interpolation.
const VIEWS = ["wall", "picture", "mix", "journey"];
let about = null; // generators and limits, as /about tells them
let state = {}; // parameters of the address
let scene = []; // images of the view, as /scene tells them
let asking = null; // the request under way
let again = null; // the timer of the next attempt

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
}

function parameters(given) {
  const { view, seed, to, layers, psi, step, v } = given;
  const query = new URLSearchParams({ view, model: given.model, seed, psi });
  if (model().classes.length) query.set("class", given.class);
  if (view === "mix" || view === "journey") query.set("to", to);
  if (view === "mix") query.set("layers", layers.join(","));
  if (view === "journey" && step) query.set("step", step);
  if (v) query.set("v", v);
  return query.toString().replaceAll("%2C", ",");
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
  ask();
}

// Asking the server

class Refused extends Error {}

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
  if (asking) asking.abort();
  clearTimeout(again);
  const mine = (asking = new AbortController());
  $("stage").setAttribute("aria-busy", "true");
  try {
    const answer = await get(sceneAddress(), mine.signal);
    await Promise.all(answer.pictures.map((image) => load(image.src)));
    if (mine !== asking) return;
    scene = answer.pictures;
    note(answer.snapshot);
    show();
    $("stage").setAttribute("aria-busy", "false");
  } catch (error) {
    if (mine !== asking || error.name === "AbortError") return;
    $("status").textContent = error.message;
    if (error.wait) again = setTimeout(ask, error.wait * 1000);
  }
}

async function load(address) {
  const image = new Image();
  image.src = address;
  await image.decode().catch(() => {
    throw Object.assign(new Refused("An image did not arrive. The page asks again."), { wait: 3 });
  });
}

function note(snapshot) {
  const other = state.v && state.v !== snapshot;
  $("status").textContent = other
    ? "This link is of an earlier snapshot of the generator; the image of this seed has changed." : "";
  if (other) return;
  model().snapshot = state.v = snapshot;
  history.replaceState(null, "", `?${parameters(state)}`);
}

// Showing

function styles(image, count) {
  if (!image.verdict) return "";
  return image.verdict.slice(0, count).map(([style, p]) => `${style}\u00a0${Math.round(100 * p)}\u00a0%`).join(" · ");
}

function thumbnail(image) {
  const href = `?${parameters({ ...state, view: "picture", seed: image.seed })}`;
  const link = element("a", { href }, element("img", { src: image.src, alt: image.alt }));
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ view: "picture", seed: image.seed });
  });
  const caption = element("figcaption", {}, element("span", {}, image.title), element("span", {}, styles(image, 1)));
  return element("figure", {}, link, caption);
}

function show() {
  const { view } = state;
  $("grid").replaceChildren(...(view === "wall" ? scene.map(thumbnail) : []));
  $("parents").replaceChildren(...(view === "mix" ? scene.slice(0, 2).map(thumbnail) : []));
  $("step").max = scene.length - 1;
  if (view === "journey") state.step = Math.min(state.step, scene.length - 1);
  if (view !== "wall") showOne(scene[view === "journey" ? state.step : scene.length - 1]);
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
  $("image").src = image.src;
  $("image").alt = image.alt;
  $("title").textContent = image.title;
  $("styles").textContent = styles(image, 3);
  $("download").href = image.file;
  $("download").download = image.name;
  $("step").value = state.step;
}

async function begin() {
  try {
    about = await get("about");
  } catch (error) {
    $("status").textContent = error.message;
    setTimeout(begin, (error.wait || 3) * 1000);
    return;
  }
  $("status").textContent = "";
  listen();
  follow();
}

begin();
