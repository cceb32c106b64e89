// The review: $ and element() are those of page.js, which stands before this in the same script.

const content = JSON.parse($("content").textContent);
const images = new Map(content.images.map((image) => [image.id, image]));
const figures = new Map(content.images.map((image) => [image.id, []])); // id -> its figures, one in each section
const filters = {};
let enlarged = null; // the figure whose image the dialog shows

// What is said of a verdict: who gave it, and what it was before.
function origin(image) {
  if (image.overruled) return `overruled by ${content.reviewer}, was ${image.before}`;
  if (image.confirmed) return `confirmed by ${content.reviewer}`;
  return image.reason || (image.reviewer && `by ${image.reviewer}`);
}

function caption(image) {
  const lines = [element("span", { class: "verdict" }, image.verdict)];
  for (const text of [origin(image), image.flags, image.copy]) {
    if (text) lines.push(element("span", { class: "quiet", title: text }, text));
  }
  return element("figcaption", {}, ...lines);
}

function verdictButtons(image) {
  const buttons = ["keep", "drop"].map((verdict) => {
    const pressed = String(image.verdict === verdict);
    const button = element("button", { type: "button", value: verdict, "aria-pressed": pressed }, verdict);
    button.addEventListener("click", () => overrule(image, verdict));
    return button;
  });
  return element("div", { class: "verdicts" }, ...buttons);
}

function card(image) {
  const figure = element("figure", { tabindex: "0", "data-id": image.id });
  const picture = element("img", { src: image.thumbnail, alt: image.source || image.id, loading: "lazy" });
  if (content.size < 64) picture.className = "small";
  picture.addEventListener("click", () => enlarge(figure));
  figure.append(picture);
  if (content.reviewer) {
    const buttons = verdictButtons(image);
    for (const button of buttons.children) button.tabIndex = -1; // the keyboard has keys for them
    figure.append(buttons);
  }
  figure.append(element("div", { class: "caption" }));
  figures.get(image.id).push(figure);
  return figure;
}

function show(image) {
  for (const figure of figures.get(image.id)) {
    figure.dataset.verdict = image.verdict;
    for (const button of figure.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.value === image.verdict));
    }
    figure.querySelector(".caption").replaceChildren(caption(image));
  }
  if (enlarged && enlarged.dataset.id === image.id) describe(image);
}

function decided() {
  const counts = ["overruled", "confirmed"].map((kind) => [content.images.filter((image) => image[kind]).length, kind]);
  const told = counts.filter(([count]) => count).map(([count, kind]) => `${count} ${kind}`);
  return told.length ? `${told.join(", ")}.` : "";
}

async function overrule(image, verdict) {
  const status = $("status");
  try {
    const answer = await fetch("verdict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ name: image.id, verdict }),
    });
    if (!answer.ok) throw new Error(await answer.text());
    Object.assign(image, await answer.json());
    show(image);
    status.textContent = `${image.source || image.id}: ${image.verdict}. ${decided()}`;
  } catch (error) {
    status.textContent = `Not recorded of ${image.source || image.id}: ${error.message || error}. Is the command still running?`;
  }
}

// All that is known of the image in the dialog.
function describe(image) {
  const rows = [
    ["verdict", image.overruled || image.confirmed ? origin(image) : image.reviewer && `by ${image.reviewer}`],
    ["reason", image.reason],
    ...image.scores,
    ["flags", image.flags],
    ["copies", image.copy],
    ...content.about.map((kind) => [kind, image[kind]]),
    ["shown", `${$("large-image").naturalWidth} pixels wide`],
  ];
  const list = element("dl", {});
  for (const [name, value] of rows) if (value) list.append(element("dt", {}, name), element("dd", {}, value));
  const verdict = element("p", { class: "verdict" }, image.verdict);
  const about = $("large-about");
  about.dataset.verdict = image.verdict;
  about.replaceChildren(element("strong", {}, image.source || image.id), verdict, list);
  if (content.reviewer) verdict.replaceWith(verdictButtons(image));
}

async function enlarge(figure) {
  enlarged = figure;
  const image = images.get(figure.dataset.id);
  const large = $("large-image");
  large.src = content.reviewer ? `image?name=${encodeURIComponent(image.id)}` : image.thumbnail;
  large.alt = image.source || image.id;
  await large.decode().catch(() => (large.src = image.thumbnail));
  if (!$("large").open) $("large").showModal();
  large.classList.toggle("small", large.naturalWidth * 2 < large.clientWidth);
  if (enlarged === figure) describe(image);
}

function visible() {
  return [...document.querySelectorAll("figure")].filter((figure) => figure.offsetParent !== null);
}

function move(from, key) {
  const all = visible();
  const at = all.indexOf(from);
  let to = at < 0 ? 0 : at + { ArrowRight: 1, ArrowLeft: -1 }[key];
  if (at >= 0 && (key === "ArrowDown" || key === "ArrowUp")) {
    const here = from.getBoundingClientRect();
    const down = key === "ArrowDown";
    const beyond = all.filter((figure) => {
      const top = figure.getBoundingClientRect().top;
      return down ? top > here.top + 1 : top < here.top - 1;
    });
    const distance = (figure) => {
      const there = figure.getBoundingClientRect();
      return Math.abs(there.top - here.top) * 1000 + Math.abs(there.left - here.left);
    };
    const next = beyond.reduce((best, each) => (!best || distance(each) < distance(best) ? each : best), null);
    to = all.indexOf(next);
  }
  if (!all[to]) return;
  if ($("large").open) enlarge(all[to]);
  else all[to].focus();
}

function filter() {
  for (const section of document.querySelectorAll("section")) {
    let shown = 0;
    for (const figure of section.querySelectorAll("figure")) {
      const image = images.get(figure.dataset.id);
      const fits = content.filters.every((kind) => !filters[kind] || image[kind] === filters[kind]);
      figure.hidden = !fits;
      shown += fits;
    }
    section.querySelector(".count").textContent = `${shown} shown of ${section.dataset.total}`;
  }
}

$("title").textContent = content.title;
$("summary").textContent = content.summary;
for (const kind of content.filters) {
  const names = [...new Set(content.images.map((image) => image[kind]).filter(Boolean))].sort();
  const select = element("select", { id: `filter-${kind}` }, element("option", { value: "" }, "all"));
  for (const name of names) select.append(element("option", { value: name }, name));
  select.addEventListener("change", () => {
    filters[kind] = select.value;
    filter();
  });
  $("filters").append(element("label", {}, `${kind} `, select));
}
for (const section of content.sections) {
  const grid = element("div", { class: "grid" }, ...section.images.map((id) => card(images.get(id))));
  $("sections").append(
    element("section", { "data-total": section.total }, element("h2", {}, section.title),
      element("p", { class: "quiet" }, `${section.about} `, element("span", { class: "count" })), grid),
  );
}
for (const image of content.images) show(image);
filter();
$("deciding").hidden = !content.reviewer;
$("status").textContent = decided();
$("close").addEventListener("click", () => $("large").close());
$("large").addEventListener("click", (event) => event.target === $("large") && $("large").close());
$("large").addEventListener("close", () => {
  enlarged.focus();
  enlarged = null;
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select")) return;
  const figure = enlarged || (event.target.closest ? event.target.closest("figure") : null);
  const verdict = { k: "keep", d: "drop", u: "undo" }[event.key];
  if (event.key.startsWith("Arrow")) {
    event.preventDefault();
    move(figure, event.key);
  } else if (event.key === "Enter" && event.target === figure) {
    enlarge(figure);
  } else if (figure && verdict && content.reviewer) {
    overrule(images.get(figure.dataset.id), verdict);
    if (content.next && verdict !== "undo") move(figure, "ArrowRight");
  }
});
