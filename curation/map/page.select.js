// The selection: which images are in a region, what the page tells of them, and the list that salon curate prune reads.

const MOST_LISTED = 200;

// Select the visible images for which `belongs` is true, beside those before where the page is adding.
function select(belongs, adding = $("adding").checked) {
  if (!adding) state.selected.fill(0);
  for (let i = 0; i < count; i++) if (!state.hidden.has(state.codes[i]) && belongs(i)) state.selected[i] = 1;
  tellSelection();
}

function selectRegion(corners, adding) {
  const points = corners.map(([x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale]);
  const [left, right] = [Math.min, Math.max].map((end) => end(...points.map(([x]) => x)));
  const [top, bottom] = [Math.min, Math.max].map((end) => end(...points.map(([, y]) => y)));
  select((i) => X[i] >= left && X[i] <= right && Y[i] >= top && Y[i] <= bottom && inside(points, X[i], Y[i]), adding);
}

// Whether a ray from the point crosses the outline an odd number of times.
function inside(points, x, y) {
  let odd = false;
  for (let n = 0, before = points.length - 1; n < points.length; before = n++) {
    const [ax, ay] = points[n];
    const [bx, by] = points[before];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}

function selectedImages() {
  return [...state.selected.keys()].filter((i) => state.selected[i]);
}

function listed() {
  return selectedImages().filter((i) => i < real && content.lines[i] !== null);
}

// One line an image, as salon curate prune reads it.
function list() {
  const lines = listed().map((i) => content.lines[i]);
  return [`# ${lines.length} images, chosen on a map of the manifest ${content.manifest}`, ...lines, ""].join("\n");
}

function nameOf(i) {
  return i < real ? content.sources[i] || content.names[i] : `generated from seed ${content.seed + i - real}`;
}

function tellSelection() {
  const all = selectedImages();
  const generated = all.filter((i) => i >= real).length;
  const unnamed = all.length - generated - listed().length;
  const notes = [`${all.length.toLocaleString("en")} images selected`];
  if (generated) notes.push(`${generated.toLocaleString("en")} of them generated, which no list names`);
  if (unnamed) notes.push(`${unnamed.toLocaleString("en")} of them with no name that a list can hold`);
  $("status").textContent = all.length ? `${notes.join(", ")}.` : "No image is selected.";
  for (const id of ["copy", "download"]) $(id).disabled = !listed().length;
  $("clear").disabled = !all.length;
  $("use").hidden = !listed().length;
  const rows = all.slice(0, MOST_LISTED).map((i) => {
    const small = element("canvas", { width: 72, height: 72 });
    thumbnail(small.getContext("2d"), i, 0, 0, 72);
    const button = element("button", { type: "button" }, small, nameOf(i));
    button.addEventListener("click", () => tell(i));
    return element("li", {}, button);
  });
  if (all.length > MOST_LISTED) {
    rows.push(element("li", { class: "quiet" }, `and ${(all.length - MOST_LISTED).toLocaleString("en")} more`));
  }
  $("chosen").replaceChildren(...rows);
  redraw();
}

function toggle(i) {
  state.selected[i] ^= 1;
  tellSelection();
  if (state.shown === i) tell(i);
}

// All that is known of an image, beside a larger picture of it.
function tell(i) {
  state.shown = i;
  redraw();
  if (i < 0) return;
  const large = $("large");
  large.hidden = false;
  large.width = large.height = 512;
  thumbnail(large.getContext("2d"), i, 0, 0, 512);
  const rows = content.columns.map((each) => {
    const value = each.numbers ? each.numbers[i] : each.texts && i < real ? each.texts[i] : each.values[each.codes[i]];
    return [each.name, value];
  });
  const details = element("dl", {});
  for (const [name, value] of [["name", content.names[i]], ...rows]) {
    if (value !== null && value !== undefined) details.append(element("dt", {}, name), element("dd", {}, String(value)));
  }
  const button = element("button", { type: "button" }, state.selected[i] ? "Take out of the selection" : "Select");
  button.addEventListener("click", () => toggle(i));
  $("about").replaceChildren(element("strong", {}, nameOf(i)), details, button);
}

async function copy() {
  const text = listed().map((i) => content.lines[i]).join("\n");
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a browser that gives files no clipboard
    const area = element("textarea", {});
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  $("status").textContent = `${listed().length.toLocaleString("en")} names copied.`;
}

function download() {
  const address = URL.createObjectURL(new Blob([list()], { type: "text/plain" }));
  element("a", { href: address, download: "selected.txt" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
