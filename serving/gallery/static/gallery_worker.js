// What generates, beside the page, which never waits for it. The page sends { about } once, and then images to make, one
// at a time; it gets { loaded, total } while files arrive, { ready }, { id, file } for each image, or { error }.

ort.env.wasm.numThreads = 1; // more need headers that hosts of static pages do not send
ort.env.logLevel = "error";
let about = null;
let mapping = null;
let synthesis = null;
let directions = {};

onmessage = async ({ data }) => {
  try {
    if (data.about) await load(data.about);
    else postMessage({ id: data.id, file: await image(data.spec) });
  } catch (error) {
    postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};

async function load(told) {
  about = told;
  directions = Object.fromEntries(about.directions.map((each) => [each.name, { ...each, vector: floats(each.vector) }]));
  const arrived = {};
  const report = (name, bytes) => {
    arrived[name] = bytes;
    postMessage({ loaded: Object.values(arrived).reduce((a, b) => a + b), total: about.bytes });
  };
  const names = [about.files.runtime, about.files.mapping, about.files.synthesis];
  const [runtime, ...graphs] = await Promise.all(names.map((name) => content(name, (bytes) => report(name, bytes))));
  ort.env.wasm.wasmBinary = (await inflated(runtime)).buffer;
  for (const graph of graphs) sessions.push(await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] }));
  [mapping, synthesis] = sessions;
  postMessage({ ready: true });
}

const sessions = [];

async function content(name, report) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name.split("?")[0]}: ${answer.status} ${answer.statusText}`);
  const parts = [];
  let bytes = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    report((bytes += value.length));
  }
  return joined(parts);
}

// A host may have told the browser that the file is compressed, which then is no more.
async function inflated(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// float32 in little endian, as base64
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer);

// ws of a seed, float32 [num_ws * w_dim].
async function map({ seed, psi, label }) {
  const feed = {
    z: new ort.Tensor("float32", latent(seed, about.z_dim), [1, about.z_dim]),
    truncation_psi: new ort.Tensor("float32", Float32Array.of(psi), [1, 1]),
  };
  if (about.classes.length) feed.label = new ort.Tensor("int64", BigInt64Array.of(BigInt(label)), [1, 1]);
  return (await mapping.run(feed)).ws.data;
}

// A PNG file of { seed, psi, label, to, layers, edits }: of a seed, mixed with another where there is `to`, and moved
// along directions.
async function image(spec) {
  const ws = Float32Array.from(await map(spec));
  const width = about.w_dim;
  if (spec.to !== null) {
    const other = await map({ ...spec, seed: spec.to });
    for (const layer of spec.layers) ws.set(other.subarray(layer * width, (layer + 1) * width), layer * width);
  }
  for (const name of Object.keys(spec.edits).sort()) {
    const { vector, sigma, first, last } = directions[name];
    const amount = Math.fround(spec.edits[name] * sigma);
    for (let i = first * width; i < (last + 1) * width; i++) ws[i] += Math.fround(amount * vector[i % width]);
  }
  const pixels = (await synthesis.run({ ws: new ort.Tensor("float32", ws, [1, about.num_ws, width]) })).image.data;
  return png(pixels, about.width, about.height, about.channels, texts(recipe(spec), about.xmp));
}

// As gan.data.recipe.Recipe has it.
function recipe({ seed, psi, label, to, layers, edits }) {
  const made = { kind: "image", seeds: [seed] };
  if (to !== null) Object.assign(made, { columns: [to], layers });
  if (Object.keys(edits).length) Object.assign(made, { edits, directions: about.directions_file });
  if (about.classes.length) made.class_name = about.classes[label];
  return { ...made, truncation_psi: psi, ...about.recipe };
}
