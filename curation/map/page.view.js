// The view: where images lie on the canvas, which of them are drawn as pictures, and the drawing itself. $ and element()
// are those of the page.js of all pages, which stands before this in the same script.

const content = JSON.parse($("content").textContent);
const count = content.x.length;
const real = content.names.length; // images before this place are real, the others generated
const canvas = $("map");
const pen = canvas.getContext("2d");
const bitmaps = []; // sheets of thumbnails, as they are decoded
const view = { scale: 1, whole: 1, x: 0, y: 0, width: 1, height: 1 }; // a point's place: x * scale + view.x
const state = {
  codes: new Int16Array(count), // the place of each image's colour in `colours`
  colours: [], // CSS colours
  hidden: new Set(), // codes that are not shown
  selected: new Uint8Array(count),
  shown: -1, // the image that is told about
  outline: null, // corners of the region that is being drawn, on the canvas
};
const X = Float64Array.from(content.x, (value) => value / 65535);
const Y = Float64Array.from(content.y, (value) => value / 65535);
// In which images are given room as pictures: mixed, since those of one kind often stand together in a dataset.
const order = [...X.keys()].sort((a, b) => Math.imul(a, 0x9e3779b1) - Math.imul(b, 0x9e3779b1) || a - b);
const MOST = 400; // times that one can zoom in
const MOST_PICTURES = 2500; // at once, where all in view are asked for
const MARGIN = 24; // of the whole map, in pixels
const extent = [X, Y].map((values) => values.reduce((most, value) => Math.max(most, Math.abs(value - 0.5) * 2), 0.01));
let pictures = "some";
let placed = { level: NaN, list: [], size: 1 }; // images drawn as pictures at a level of zoom
let drawn = []; // images that are pictures on the canvas now
let frame = 0;

function redraw() {
  if (!frame) frame = requestAnimationFrame(draw);
}

// The images drawn as pictures have to be found anew: other ones are visible, or other pictures wanted.
function replace() {
  placed.level = NaN;
  redraw();
}

// The scale at which the whole map is in view. Which images are pictures depends on it.
function measure() {
  const sides = [view.width, view.height].map((side, axis) => (side - 2 * MARGIN) / extent[axis]);
  view.whole = Math.max(1, Math.min(...sides));
  placed.level = NaN;
}

function fit() {
  measure();
  view.scale = view.whole;
  view.x = (view.width - view.scale) / 2;
  view.y = (view.height - view.scale) / 2;
  redraw();
}

function zoom(factor, x = view.width / 2, y = view.height / 2) {
  const scale = Math.min(Math.max(view.scale * factor, view.whole / 2), view.whole * MOST);
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  redraw();
}

function placeOnCanvas(i) {
  return [X[i] * view.scale + view.x, Y[i] * view.scale + view.y];
}

function inView(x, y, margin) {
  return x > -margin && y > -margin && x < view.width + margin && y < view.height + margin;
}

function pan(dx, dy) {
  view.x += dx;
  view.y += dy;
  redraw();
}

function resize() {
  if (!canvas.clientWidth || !canvas.clientHeight) return undefined;
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const first = view.width === 1;
  const middle = [(view.width / 2 - view.x) / view.scale, (view.height / 2 - view.y) / view.scale];
  view.width = canvas.clientWidth;
  view.height = canvas.clientHeight;
  canvas.width = Math.round(view.width * ratio);
  canvas.height = Math.round(view.height * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (first) return fit();
  measure();
  view.x = view.width / 2 - middle[0] * view.scale;
  view.y = view.height / 2 - middle[1] * view.scale;
  redraw();
}

// Which images are pictures at this zoom: each at a distance from those before it, so that dots show between them. The
// same ones wherever the view is, and between two levels of zoom.
function place() {
  const level = Math.round(4 * Math.log2(view.scale / view.whole));
  if (level === placed.level) return placed;
  const closer = 2 ** (level / 4);
  const size = Math.min(Math.max(22 * Math.sqrt(closer), 16), Math.max(content.side, 96) * 1.25);
  const list = [];
  const gap = size * (closer < 3 ? 1.7 : 1.15);
  const scale = view.whole * closer;
  const cells = new Map();
  for (const i of order) {
    if (state.hidden.has(state.codes[i])) continue;
    const x = X[i] * scale;
    const y = Y[i] * scale;
    const column = Math.floor(x / gap);
    const row = Math.floor(y / gap);
    let free = true;
    for (let r = row - 1; free && r <= row + 1; r++) {
      for (let c = column - 1; free && c <= column + 1; c++) {
        const other = cells.get(r * 1048576 + c);
        free = other === undefined || Math.abs(X[other] * scale - x) >= gap || Math.abs(Y[other] * scale - y) >= gap;
      }
    }
    if (!free) continue;
    cells.set(row * 1048576 + column, i);
    list.push(i);
  }
  placed = { level, list, size };
  return placed;
}

function thumbnail(target, image, x, y, size) {
  const sheet = bitmaps[Math.floor(image / content.full)];
  if (!sheet) return false;
  const at = image % content.full;
  const side = content.side;
  const column = (at % content.across) * side;
  target.drawImage(sheet, column, Math.floor(at / content.across) * side, side, side, x, y, size, size);
  return true;
}

function draw() {
  frame = 0;
  const { size } = place();
  const closer = view.scale / view.whole;
  const smallest = (count > 5000 ? 1.6 : 2.6) * Math.min(Math.sqrt(view.width / 800), 1);
  drawDots(Math.min(smallest * Math.sqrt(Math.max(closer, 1)), 7));
  pen.imageSmoothingQuality = "medium";
  const edge = Math.max(2, Math.min(size / 14, 4));
  drawn = shownAsPictures();
  for (const i of drawn) {
    const [x, y] = placeOnCanvas(i);
    if (inView(x, y, size)) frameOf(i, x - size / 2, y - size / 2, size, edge);
  }
  if (state.shown >= 0) emphasise(Math.max(size, 40), edge);
  if (state.outline) region();
  if (document.activeElement === canvas && canvas.matches(":focus-visible")) cross();
}

// Those that have room; or all in view, where these are not too many to be drawn at once.
function shownAsPictures() {
  if (pictures === "none") return [];
  if (pictures === "some") return placed.list;
  const all = [];
  for (let i = 0; i < count && all.length <= MOST_PICTURES; i++) {
    if (!state.hidden.has(state.codes[i]) && inView(...placeOnCanvas(i), placed.size)) all.push(i);
  }
  return all.length > MOST_PICTURES ? placed.list : all;
}

function frameOf(i, x, y, size, edge) {
  const box = (wide) => pen.fillRect(x - wide, y - wide, size + 2 * wide, size + 2 * wide);
  if (state.selected[i]) {
    pen.fillStyle = theme.text;
    box(edge + 3);
  }
  pen.fillStyle = state.colours[state.codes[i]];
  box(edge);
  thumbnail(pen, i, x, y, size);
}

function emphasise(size, edge) {
  const [x, y] = placeOnCanvas(state.shown).map((middle) => middle - size / 2);
  pen.fillStyle = theme.focus;
  pen.fillRect(x - edge - 6, y - edge - 6, size + 2 * edge + 12, size + 2 * edge + 12);
  frameOf(state.shown, x, y, size, edge);
}

function region() {
  pen.beginPath();
  for (const [x, y] of state.outline) pen.lineTo(x, y);
  pen.closePath();
  pen.globalAlpha = 0.15;
  pen.fillStyle = theme.focus;
  pen.fill();
  pen.globalAlpha = 1;
  pen.strokeStyle = theme.focus;
  pen.lineWidth = 1.5;
  pen.stroke();
}

function cross() {
  pen.strokeStyle = theme.text;
  pen.lineWidth = 1;
  pen.beginPath();
  const [x, y] = [view.width / 2, view.height / 2];
  pen.moveTo(x - 8, y);
  pen.lineTo(x + 8, y);
  pen.moveTo(x, y - 8);
  pen.lineTo(x, y + 8);
  pen.stroke();
}

// The image at a place of the canvas: the uppermost picture there, else the nearest dot; -1 for none.
function imageAt(x, y, reach = 12) {
  const { size } = place();
  for (let n = drawn.length - 1; n >= 0; n--) {
    const i = drawn[n];
    const [dx, dy] = [X[i] * view.scale + view.x - x, Y[i] * view.scale + view.y - y];
    if (Math.abs(dx) <= size / 2 && Math.abs(dy) <= size / 2) return i;
  }
  let nearest = -1;
  let least = reach * reach;
  for (let i = 0; i < count; i++) {
    if (state.hidden.has(state.codes[i])) continue;
    const [dx, dy] = [X[i] * view.scale + view.x - x, Y[i] * view.scale + view.y - y];
    const distance = dx * dx + dy * dy;
    if (distance <= least) [nearest, least] = [i, distance];
  }
  return nearest;
}
