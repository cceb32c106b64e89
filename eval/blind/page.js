// The blind test: $ and element() are those of page.js, which stands before this in the same script.

const pairs = $("test").dataset.kind === "pair";
const answers = pairs
  ? [["left", "Left"], ["right", "Right"]]
  : [["real", "Real"], ["generated", "Generated"]];
const keys = { ArrowLeft: 0, ArrowRight: 1, 1: 0, 2: 1 };
let state = null; // what the server has told: session, question, how many are answered
let since = 0; // when the pictures were there, in milliseconds

$("about").textContent = pairs
  ? "Of two pictures one is real. Which? Press ← for the left or → for the right one, or tap it."
  : "One picture at a time. Is it real, or did a computer generate it? Press ← for real or → for generated, or tap.";
$("asked").textContent = pairs ? "Which of the two is real?" : "Is this picture real or generated?";

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function busy(now) {
  $("test").setAttribute("aria-busy", String(now));
}

async function show() {
  const { question, answered, total } = state;
  $("start").hidden = true;
  $("trial").hidden = !question;
  $("end").hidden = Boolean(question);
  if (!question) {
    const right = "right" in state ? ` ${state.right} of them are right.` : "";
    $("told").textContent = `You have answered all ${total} questions.${right} You may close this page.`;
    return;
  }
  $("progress").textContent = `${answered + 1} of ${total}`;
  const images = question.pictures.map((name, place) => {
    const alt = pairs ? `${answers[place][1]} picture` : "Picture";
    const source = `picture?session=${encodeURIComponent(state.session)}&name=${encodeURIComponent(name)}`;
    return element("img", { src: source, alt, draggable: "false" });
  });
  await Promise.all(images.map((image) => image.decode())); // both at once, however long each takes
  $("pictures").replaceChildren(...images.map((image, place) => {
    if (!pairs) return element("figure", {}, image);
    const button = element("button", { type: "button", "aria-label": `The ${answers[place][0]} one is real` }, image);
    button.addEventListener("click", () => choose(place));
    return button;
  }));
  since = performance.now();
  busy(false);
}

async function choose(place) {
  if (!state?.question || $("test").getAttribute("aria-busy") === "true") return;
  busy(true);
  const seconds = (performance.now() - since) / 1000;
  const body = { session: state.session, question: state.question.id, answer: answers[place][0], seconds };
  await tried(async () => {
    state = { ...state, ...(await post("answer", body)) };
    await show();
  });
}

async function tried(work) {
  try {
    await work();
    $("status").textContent = "";
  } catch (error) {
    $("status").textContent = `${error.message || error}. Try again, or reload the page.`;
    busy(false);
  }
}

$("choices").append(...answers.map(([, name], place) => {
  const key = element("kbd", {}, place ? "→" : "←");
  const button = element("button", { type: "button" }, ...(place ? [`${name} `, key] : [key, ` ${name}`]));
  button.addEventListener("click", () => choose(place));
  return button;
}));

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  tried(async () => {
    state = await post("join", { judge: $("judge").value });
    busy(true);
    await show();
  });
});

addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
  if (!state?.question) return;
  event.preventDefault();
  choose(keys[event.key]);
});

$("judge").focus();
