// The page: what pointers and keys do, and how it starts.

const pointers = new Map(); // id -> place of a finger or the mouse that is down
let dragged = null; // what the pointer that is down does: its start, its kind, whether it moved

function placeOf(event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left - canvas.clientLeft, event.clientY - box.top - canvas.clientTop];
}

function dragging() {
  return document.querySelector("[name=drag]:checked").value;
}

function press(event) {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, placeOf(event));
  if (pointers.size > 1) {
    dragged = null; // two fingers zoom
    state.outline = null;
    return redraw();
  }
  const start = placeOf(event);
  dragged = { start, last: start, kind: dragging(), moved: false, adding: event.shiftKey || $("adding").checked };
}

function movePointer(event) {
  const to = placeOf(event);
  const from = pointers.get(event.pointerId);
  if (!from) return event.pointerType === "mouse" ? hover(to) : undefined;
  if (pointers.size === 2) return pinch(event.pointerId, to);
  pointers.set(event.pointerId, to);
  if (!dragged) return undefined;
  if (!dragged.moved && Math.hypot(to[0] - dragged.start[0], to[1] - dragged.start[1]) < 4) return undefined;
  dragged.moved = true;
  if (dragged.kind === "move") {
    canvas.classList.add("moving");
    pan(to[0] - dragged.last[0], to[1] - dragged.last[1]);
  } else if (dragged.kind === "rectangle") {
    const [[a, b], [c, d]] = [dragged.start, to];
    state.outline = [[a, b], [c, b], [c, d], [a, d]];
  } else {
    state.outline = [...(state.outline || [dragged.start]), to];
  }
  dragged.last = to;
  redraw();
  return undefined;
}

function pinch(id, to) {
  const other = [...pointers.entries()].find(([key]) => key !== id)[1];
  const from = pointers.get(id);
  const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
  pan((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
  zoom(distance(to) / distance(from), (to[0] + other[0]) / 2, (to[1] + other[1]) / 2);
  pointers.set(id, to);
}

function release(event) {
  pointers.delete(event.pointerId);
  canvas.classList.remove("moving");
  const done = dragged;
  const outline = state.outline;
  if (pointers.size) return;
  dragged = state.outline = null;
  if (!done || event.type === "pointercancel") return redraw();
  if (outline) return selectRegion(outline, done.adding);
  if (done.moved) return;
  const at = imageAt(...done.start, event.pointerType === "touch" ? 24 : 12);
  if (at >= 0 && event.shiftKey) toggle(at);
  tell(at);
}

function hover(to) {
  const at = imageAt(...to);
  if (at >= 0 && at !== state.shown) tell(at);
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = Math.min(view.width, view.height) / 8;
  const middle = () => imageAt(view.width / 2, view.height / 2, Infinity);
  const act = {
    ArrowLeft: () => pan(step, 0),
    ArrowRight: () => pan(-step, 0),
    ArrowUp: () => pan(0, step),
    ArrowDown: () => pan(0, -step),
    "+": () => zoom(1.5),
    "=": () => zoom(1.5),
    "-": () => zoom(1 / 1.5),
    0: fit,
    Enter: () => tell(middle()),
    x: () => state.shown >= 0 && toggle(state.shown),
    v: () => selectRegion([[0, 0], [view.width, 0], [view.width, view.height], [0, view.height]], $("adding").checked),
    Escape: () => select(() => false, false),
  }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

async function load() {
  for (let n = 0; n < content.sheets.length; n++) {
    const image = new Image();
    image.src = content.sheets[n];
    content.sheets[n] = null; // the page keeps the pixels, and not the text as well
    await image.decode();
    bitmaps[n] = await createImageBitmap(image);
    redraw();
  }
  document.body.dataset.ready = "true";
}

function retheme() {
  readTheme();
  colourBy(column.name);
}

$("title").textContent = content.title;
$("summary").textContent = content.summary;
for (const each of content.columns) $("column").append(element("option", { value: each.name }, each.name));
readTheme();
colourBy(content.color);
if (content.color) $("column").value = content.color;
$("column").addEventListener("change", () => colourBy($("column").value));
$("pictures").addEventListener("change", () => {
  pictures = $("pictures").value;
  replace();
});
for (const radio of document.querySelectorAll("[name=drag]")) {
  radio.addEventListener("change", () => canvas.classList.toggle("drawing", dragging() !== "move"));
}
$("closer").addEventListener("click", () => zoom(1.5));
$("farther").addEventListener("click", () => zoom(1 / 1.5));
$("whole").addEventListener("click", fit);
$("copy").addEventListener("click", copy);
$("download").addEventListener("click", download);
$("clear").addEventListener("click", () => select(() => false, false));
canvas.addEventListener("pointerdown", press);
canvas.addEventListener("pointermove", movePointer);
for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, release);
canvas.addEventListener("keydown", key);
for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, redraw);
canvas.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    zoom(1.0015 ** -event.deltaY, ...placeOf(event));
  },
  { passive: false },
);
dark.addEventListener("change", retheme);
resize(); // before anything is drawn
new ResizeObserver(resize).observe(canvas);
tellSelection();
load();
