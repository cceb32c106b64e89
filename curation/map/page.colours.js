// Colours: of the page's theme, of the values of a column, and the legend that tells them.

const HUES = [250, 40, 145, 310, 90, 200, 0, 120];
const STEPS = 32; // of the scale of a number
const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = {};
let column = null; // that colours the images

function readTheme() {
  const probe = element("span", {});
  document.body.append(probe);
  for (const name of ["text", "quiet", "good", "bad", "focus", "line", "card"]) {
    probe.style.color = `var(--${name})`;
    theme[name] = getComputedStyle(probe).color;
  }
  probe.remove();
}

// As many colours as hues twice, the second time in another lightness.
function palette() {
  const [first, second] = dark.matches ? [0.72, 0.88] : [0.6, 0.42];
  return [...HUES.map((hue) => `oklch(${first} 0.17 ${hue})`), ...HUES.map((hue) => `oklch(${second} 0.1 ${hue + 22})`)];
}

function scale() {
  return Array.from({ length: STEPS }, (_, step) => {
    const share = step / (STEPS - 1);
    return `oklch(${(0.5 + 0.3 * share).toFixed(3)} 0.16 ${(300 - 205 * share).toFixed(1)})`;
  });
}

// The range of a column's numbers without the 1 % at either end, which would take most of the scale.
function range(numbers) {
  const sorted = numbers.filter((value) => value !== null).sort((a, b) => a - b);
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  return [at(0.01), at(0.99)];
}

function colourBy(name) {
  column = content.columns.find((each) => each.name === name) || { name: "", values: [], codes: X.map(() => -1) };
  state.hidden.clear();
  if (column.numbers) colourByNumber();
  else colourByCategory();
  readColours();
  replace();
}

function colourByNumber() {
  const [low, high] = range(column.numbers);
  column.range = [low, high];
  state.colours = [...scale(), theme.line];
  column.numbers.forEach((value, i) => {
    const share = (value - low) / (high - low || 1);
    state.codes[i] = value === null ? STEPS : Math.round(Math.min(Math.max(share, 0), 1) * (STEPS - 1));
  });
  numberLegend();
}

function colourByCategory() {
  const known = palette();
  const named = column.values.length <= known.length ? column.values.length : known.length - 1;
  const own = { verdict: { keep: theme.good, drop: theme.bad }, origin: { real: known[0], generated: known[1] } };
  state.colours = column.values.slice(0, named).map((value, n) => (own[column.name] || {})[value] || known[n]);
  state.colours.push(theme.quiet, theme.line); // of the other values, and of none
  column.codes.forEach((code, i) => (state.codes[i] = code < 0 ? named + 1 : Math.min(code, named)));
  const others = column.values.length - named;
  categoryLegend([...column.values.slice(0, named), others ? `${others} other values` : null, "none"]);
}

function categoryLegend(names) {
  const numbers = new Array(names.length).fill(0);
  for (const code of state.codes) numbers[code]++;
  const rows = names.map((name, code) => numbers[code] && kind(name, code, numbers[code])).filter(Boolean);
  $("legend").replaceChildren(...rows);
}

function kind(name, code, number) {
  const box = element("input", { type: "checkbox", id: `kind-${code}` });
  box.checked = true;
  box.addEventListener("change", () => {
    if (box.checked) state.hidden.delete(code);
    else state.hidden.add(code);
    replace();
  });
  const swatch = element("span", { class: "swatch" });
  swatch.style.background = state.colours[code];
  const button = element("button", { type: "button", "aria-label": `Select ${name}` }, "select");
  button.addEventListener("click", () => select((i) => state.codes[i] === code));
  const label = element("label", { for: `kind-${code}` }, name);
  return element("div", { class: "kind" }, box, swatch, label,
    element("span", { class: "number" }, number.toLocaleString("en")), button);
}

function numberLegend() {
  const bar = element("div", { class: "scale" });
  bar.style.background = `linear-gradient(90deg, ${scale().join(", ")})`;
  const [low, high] = column.range.map((value) => String(Number(value.toPrecision(4))));
  const lacking = column.numbers.filter((value) => value === null).length;
  const rows = [bar, element("div", { class: "ends" }, element("span", {}, low), element("span", {}, high))];
  if (lacking) rows.push(kind("none", STEPS, lacking));
  $("legend").replaceChildren(...rows);
}
