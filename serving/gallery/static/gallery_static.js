"use strict";

// The page of the gallery without a server. Its address, after the #, holds all that it shows: whatever a visitor does
// changes the address, and the page follows it. A worker generates the images. $ and element() are page.js's.

const VIEWS = ["wall", "picture", "mix"]; // values of `view` in addresses, as the served gallery has them
const WALL = 12; // images of a grid
const KEPT = 240; // files that are kept
const REACH = 3; // standard deviations to which the sliders of directions go
const SECONDS = 6; // for which a message stays that needs nothing more
const about = JSON.parse($("about").textContent);
const files = new Map(); // what an image is, as JSON -> address of its file, the oldest first
let worker = null;
let state = {}; // parameters of the address
let turn = 0; // number of the scene that is being generated: what belongs to an older one is passed over
let ready = null; // ends the wait for the worker to begin; null: it has begun
let asked = new Promise((done) => (ready = done)); // what the worker is at: its beginning, then image after image
let answers = new Map(); // id -> what to call with the worker's answer
let fading = null; // the timer that takes a message away

// State and address

const small = () => about.width * about.height < 256 * 256;
const last = about.num_ws - 1;
const integer = (text, maximum) => (/^\d{1,10}$/.test(text ?? "") && Number(text) <= maximum ? Number(text) : null);
const within = (text, low, high) => {
  const number = Math.round(Number(text || NaN) * 1e4) / 1e4;
  return number >= low && number <= high ? number + 0 : null; // -0 is 0
};

function read() {
  const query = new URLSearchParams(location.hash.slice(1));
  state = { view: VIEWS.includes(query.get("view")) ? query.get("view") : "wall" };
  state.seed = integer(query.get("seed"), about.max_seed) ?? 0;
  state.to = integer(query.get("to"), about.max_seed) ?? (state.seed < about.max_seed ? state.seed + 1 : 0);
  state.psi = within(query.get("psi"), ...about.psi) ?? 1;
  state.label = integer(query.get("class"), about.classes.length - 1) ?? 0;
  const [first, end] = (query.get("layers") ?? "").split("-").map((text) => integer(text, last));
  state.layers = first !== null && end >= first ? [first, end] : [Math.round((2 * about.num_ws) / 3), last];
  const edits = (query.get("edit") ?? "").split(",").map((part) => part.split(":"));
  const named = edits.map(([name, text]) => [name, within(text, -about.most, about.most)]);
  const known = about.directions.map((each) => each.name);
  state.edits = Object.fromEntries(named.filter(([name, amount]) => known.includes(name) && amount));
}

function address({ view, seed, psi, label, to, layers, edits }) {
  const query = new URLSearchParams({ view, seed, psi });
  if (about.classes.length) query.set("class", label);
  if (view === "mix") query.set("to", to);
  if (view === "mix") query.set("layers", layers.join("-"));
  const moved = Object.entries(edits).map(([name, amount]) => `${name}:${amount}`);
  if (moved.length) query.set("edit", moved.join(","));
  return `#${query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":")}`;
}

function go(changes, { live = false } = {}) {
  const before = address(state);
  state = { ...state, ...changes };
  if (live) history.replaceState(null, "", address(state));
  else if (address(state) !== before || location.hash !== before) history.pushState(null, "", address(state));
  follow({ live });
}

function follow({ live = false } = {}) {
  read();
  arrange();
  generate(live);
}

// Messages

function tell(text, seconds = 0) {
  clearTimeout(fading);
  $("status").textContent = text;
  if (seconds) fading = setTimeout(() => tell(""), seconds * 1000);
}

// What the page is at, and how much of it is done; "": nothing.
function busy(text, share = null, live = false) {
  $("working").toggleAttribute("data-busy", Boolean(text));
  $("stage").setAttribute("aria-busy", Boolean(text) && !live);
  if (text) $("working").querySelector("span").textContent = text;
  const bar = $("working").querySelector("progress");
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}

// Generating

function scene() {
  const { view, seed, psi, label, to, layers, edits } = state;
  const one = { seed, psi, label: about.classes.length ? label : 0, to: null, layers: [], edits: {} };
  const range = Array.from({ length: layers[1] - layers[0] + 1 }, (_, i) => layers[0] + i);
  if (view === "mix") return [{ ...one, to, layers: range }, one, { ...one, seed: to }];
  const count = view === "wall" ? Math.min(WALL, about.max_seed + 1 - seed) : 1;
  return Array.from({ length: count }, (_, i) => ({ ...one, seed: seed + i, edits }));
}

async function generate(live) {
  const mine = ++turn;
  const specs = scene();
  const figures = frames(specs);
  try {
    for (const [index, spec] of specs.entries()) {
      if (!ready) busy(specs.length > 1 ? `Generating ${index + 1} of ${specs.length}` : "Generating …", null, live);
      const file = await fileOf(spec, mine);
      if (mine !== turn) return;
      await show(figures[index], spec, file);
      if (mine !== turn) return;
    }
    busy("");
  } catch (error) {
    if (mine !== turn) return;
    busy("");
    tell(`The image could not be generated: ${error.message}`);
  }
}

// The address of an image's file; null where another scene is wanted by now. The worker is given one image at a time.
async function fileOf(spec, mine) {
  const key = JSON.stringify(spec);
  if (!files.has(key)) {
    await asked.catch(() => null);
    if (mine !== turn) return null;
    asked = ask(spec);
    files.set(key, URL.createObjectURL(new Blob([await asked], { type: "image/png" })));
    const [oldest] = files.keys();
    if (files.size > KEPT) {
      URL.revokeObjectURL(files.get(oldest));
      files.delete(oldest);
    }
  }
  return files.get(key);
}

function ask(spec) {
  const id = crypto.getRandomValues(new Uint32Array(1))[0];
  return new Promise((done, failed) => {
    answers.set(id, ({ file, error }) => (error ? failed(new Error(error)) : done(file)));
    worker.postMessage({ id, spec });
  });
}

// Showing

function title({ seed, to, layers, edits }) {
  const moved = Object.entries(edits).map(([name, amount]) => `, ${name} ${amountText(amount)}`);
  if (to === null) return `Seed ${seed}${moved.join("")}`;
  const range = layers.length > 1 ? `layers ${layers[0]} to ${layers.at(-1)}` : `layer ${layers[0]}`;
  return `Seed ${seed} with ${range} of seed ${to}`;
}

function name({ seed, to, layers, edits }) {
  const mixed = to === null ? "" : `-layers${layers[0]}-${layers.at(-1)}-seed${to}`;
  return `seed${String(seed).padStart(4, "0")}${mixed}${Object.keys(edits).length ? "-edited" : ""}.png`;
}

// Where the images of a scene go: thumbnails of a grid, or of a mix's parents, and the large one, which is null here.
// Thumbnails that are there stay until the new ones come.
function frames(specs) {
  const { view } = state;
  const place = $(view === "wall" ? "grid" : "parents");
  const count = view === "wall" ? specs.length : specs.length - 1;
  while (place.children.length > count) place.lastChild.remove();
  while (place.children.length < count) {
    place.append(element("figure", {}, element("span", { class: "blank" }), element("figcaption", {}, " ")));
  }
  return view === "wall" ? [...place.children] : [null, ...place.children];
}

async function show(figure, spec, file) {
  const image = figure ? element("img", { src: file, alt: `Generated image: ${title(spec)}` }) : $("image");
  image.className = small() ? "small" : "";
  if (figure) {
    await image.decode();
    const href = address({ ...state, view: "picture", seed: spec.seed });
    const caption = element("figcaption", {}, element("span", {}, title(spec)));
    figure.replaceChildren(element("a", { href }, image), caption);
    return;
  }
  const loader = new Image();
  loader.src = file;
  await loader.decode(); // so that the old one stays until the new one can be shown
  image.src = file;
  image.alt = `Generated image: ${title(spec)}`;
  image.hidden = false;
  $("blank").hidden = true;
  $("title").textContent = title(spec);
  $("size").textContent = `${about.width} × ${about.height} pixels`;
  $("download").href = file;
  $("download").download = name(spec);
}

// The worker

function answered({ data }) {
  if (data.total) {
    const [loaded, total] = [Math.min(data.loaded, data.total), data.total].map((bytes) => (bytes / 1e6).toFixed(1));
    return busy(loaded === total ? "Starting …" : `Loading ${loaded} of ${total} MB`, data.loaded / data.total);
  }
  if (data.ready) {
    busy("Generating …");
    ready();
    return (ready = null);
  }
  if (data.id === undefined) return failed(data.error);
  answers.get(data.id)(data);
  return answers.delete(data.id);
}

function failed(reason) {
  busy("");
  $("main").hidden = true;
  tell(`The generator could not be started: ${reason || "this browser cannot run it"}`);
}

function start() {
  if (location.protocol === "file:") {
    busy("");
    for (const id of ["views", "foot"]) $(id).hidden = true;
    $("main").replaceWith(element(
      "div", { id: "alone", class: "finding" },
      element("p", {}, "This gallery needs a web server"),
      element("p", {}, "Browsers run its generator from the web alone, not from a folder. Put the folder on any host of "
        + "static pages, or look at it here with"),
      element("pre", {}, "python3 -m http.server --bind 127.0.0.1"),
      element("p", {}, "in this folder, at http://127.0.0.1:8000/"),
    ));
    return;
  }
  worker = new Worker(about.files.worker, { type: "module" });
  worker.onmessage = answered;
  worker.onerror = (event) => failed(event.message);
  worker.postMessage({ about });
  listen();
  follow();
}
