// The review: $ and element() are those of page.js, which stands before this in the same script.

const content = JSON.parse($("content").textContent);
const images = new Map(content.images.map((image) => [image.id, image]));
const filters = {};

function caption(image) {
  const lines = [element("span", { class: "verdict" }, image.verdict)];
  const quiet = (text) => text && lines.push(element("span", { class: "quiet" }, text));
  quiet(image.reason);
  for (const score of image.scores) quiet(score);
  quiet(image.flags);
  quiet(image.copy);
  quiet(content.filters.map((kind) => image[kind]).filter(Boolean).join(" · "));
  quiet(image.source);
  quiet(image.overruled ? `overruled by ${content.reviewer}` : image.reviewer && `by ${image.reviewer}`);
  return element("figcaption", {}, ...lines);
}

function card(image) {
  const figure = element("figure", { tabindex: "0", "data-id": image.id });
  figure.append(element("img", { src: image.thumbnail, alt: image.source || image.id, loading: "lazy" }));
  figure.append(element("div", { class: "caption" }));
  if (content.reviewer) {
    const buttons = element("div", { class: "buttons" });
    for (const verdict of ["keep", "drop"]) {
      const button = element("button", { type: "button", tabindex: "-1" }, verdict);
      button.addEventListener("click", () => overrule(image, verdict));
      buttons.append(button);
    }
    figure.append(buttons);
  }
  return figure;
}

function show(image) {
  for (const figure of document.querySelectorAll(`figure[data-id="${CSS.escape(image.id)}"]`)) {
    figure.dataset.verdict = image.verdict;
    figure.toggleAttribute("data-overruled", Boolean(image.overruled));
    figure.querySelector(".caption").replaceChildren(caption(image));
  }
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
    const count = content.images.filter((each) => each.overruled).length;
    status.textContent = `${image.source || image.id}: ${image.verdict}. ${count} overruled.`;
  } catch (error) {
    status.textContent = `Not recorded: ${error.message || error}. Is the command still running?`;
  }
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
  if (all[to]) all[to].focus();
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
      element("p", {}, `${section.about} `, element("span", { class: "count" })), grid),
  );
}
for (const image of content.images) show(image);
filter();
$("keys").hidden = !content.reviewer;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select")) return;
  const figure = event.target.closest ? event.target.closest("figure") : null;
  if (event.key.startsWith("Arrow")) {
    event.preventDefault();
    move(figure, event.key);
  } else if (figure && content.reviewer) {
    const verdict = { k: "keep", d: "drop", u: "undo" }[event.key];
    if (verdict) overrule(images.get(figure.dataset.id), verdict);
  }
});
