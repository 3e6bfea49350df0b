// The page: photos are added, derained one after the other, shown and downloaded.

import { Compare } from "./compare.js";
import { RequestError, derain, models } from "./server.js";
import { addThemeButton } from "./theme.js";
import { zip } from "./zip.js";

const $ = (id) => document.getElementById(id);
const items = [];
let current = null;
let running = false;
let count = 0;

const hero = new Compare($("hero"), "Before and after: an example");
hero.show("static/samples/rocket.jpg", "static/samples/rocket-derained.jpg", "A rocket at night");
const stage = new Compare($("stage"), "Before and after");
addThemeButton($("theme"));

// --- adding photos -----------------------------------------------------------------------------

function add(files) {
  const added = [...files].map((file) => ({
    id: ++count, file, name: file.name || `pasted-${count}.png`, before: URL.createObjectURL(file), status: "waiting", progress: 0, results: new Map(),
  }));
  if (!added.length) return;
  items.push(...added);
  $("welcome").hidden = true;
  $("work").hidden = false;
  announce(added.length === 1 ? `${added[0].name} added` : `${added.length} photos added`);
  select(added[0]);
  processNext();
}

for (const button of document.querySelectorAll("[data-choose]")) button.addEventListener("click", () => $("files").click());
$("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    const name = button.dataset.sample;
    add([new File([await (await fetch(`static/samples/${name}`)).blob()], name, { type: "image/jpeg" })]);
  });
}
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) add(event.clipboardData.files);
});
let depth = 0;
addEventListener("dragenter", (event) => {
  if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
  depth += 1;
  $("drop").hidden = false;
});
addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  $("drop").hidden = depth === 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  $("drop").hidden = true;
  if (event.dataTransfer.files.length) add(event.dataTransfer.files);
});

// --- processing --------------------------------------------------------------------------------

async function processNext() {
  if (running) return;
  running = true;
  for (let item; (item = items.find((candidate) => candidate.status === "waiting")); ) {
    item.status = "working";
    item.progress = 0;
    item.control = new AbortController();
    draw(item);
    const model = $("model").value || undefined;
    try {
      await makeDisplayable(item);
      const onUpload = (share) => {
        item.progress = share;
        draw(item);
      };
      const blob = await derain(item.file, { model, format: item.format }, { onUpload, signal: item.control.signal });
      if (item.status !== "working") continue; // another model was chosen in the meantime
      item.results = new Map([[`${model} 1 ${item.format}`, blob]]);
      item.model = model;
      release(item.after);
      item.after = URL.createObjectURL(blob);
      item.status = "done";
      announce(`${item.name} is done`);
    } catch (error) {
      fail(item, error);
    }
    draw(item);
  }
  running = false;
}

// The server converts what the browser cannot show, such as a TIFF, to a JPEG for display.
async function makeDisplayable(item) {
  const probe = new Image();
  probe.src = item.before;
  try {
    await probe.decode();
  } catch {
    const shown = await derain(item.file, { strength: 0, format: "jpeg" });
    release(item.before);
    item.before = URL.createObjectURL(shown);
    item.format = "jpeg";
  }
}

function fail(item, error) {
  if (item.status !== "working" && item.status !== "done") return; // removed, or queued again
  if (!(error instanceof RequestError)) console.error(error);
  item.status = "failed";
  item.permanent = Boolean(error.permanent);
  item.error = error instanceof RequestError ? error.message : "Something went wrong on this page. Please try again.";
  announce(`${item.name}: ${item.error}`);
}

// The file to download: the displayed result, or a new one if strength or format differ.
async function resultFile(item) {
  const strength = $("strength").value / 100;
  const key = `${item.model} ${strength} undefined`;
  if (!item.results.has(key)) item.results.set(key, await derain(item.file, { model: item.model, strength }));
  const blob = item.results.get(key);
  const suffix = { "image/jpeg": "jpg", "image/tiff": "tif" }[blob.type] ?? blob.type.split("/")[1];
  return { name: `${item.name.replace(/\.[^.]*$/, "")}_derained.${suffix}`, blob };
}

// --- display -----------------------------------------------------------------------------------

function select(item) {
  current = item;
  for (const other of items) draw(other);
}

function draw(item) {
  if (!items.includes(item)) return;
  thumb(item);
  $("download-all").hidden = items.filter((one) => one.status === "done").length < 2;
  if (item !== current) return;
  const failed = item.status === "failed";
  $("stage").hidden = failed;
  $("trouble").hidden = !failed;
  $("download").disabled = item.status !== "done";
  if (failed) {
    $("trouble-title").textContent = item.name;
    $("trouble-text").textContent = item.error;
    $("retry").hidden = item.permanent;
    $("choose-other").hidden = !item.permanent;
    return;
  }
  const uploaded = Math.round(100 * item.progress);
  const words = { waiting: "Waiting…", working: uploaded < 100 ? `Uploading, ${uploaded} %` : "Removing the rain…", done: "" };
  stage.setStatus(words[item.status]);
  stage.show(item.before, item.status === "done" ? item.after : null, item.name);
}

function thumb(item) {
  let entry = $(`photo-${item.id}`);
  if (!entry) {
    entry = document.createElement("li");
    entry.id = `photo-${item.id}`;
    entry.innerHTML = `<button class="thumb" type="button"><img alt=""><span class="mark" aria-hidden="true"></span><span class="bar"></span></button>
      <button class="away" type="button">×</button>`;
    entry.querySelector(".thumb").addEventListener("click", () => select(item));
    entry.querySelector(".away").addEventListener("click", () => remove(item));
    entry.querySelector(".away").setAttribute("aria-label", `Remove ${item.name}`);
    $("strip").append(entry);
  }
  entry.className = item.status;
  const state = { waiting: "waiting", working: "processing", done: "done", failed: "failed" }[item.status];
  const button = entry.querySelector(".thumb");
  button.setAttribute("aria-label", `${item.name}, ${state}`);
  button.setAttribute("aria-current", item === current);
  const image = entry.querySelector("img");
  const source = item.after ?? item.before;
  image.hidden = item.status === "failed";
  if (!image.hidden && image.src !== source) image.src = source;
  entry.querySelector(".mark").textContent = { waiting: "…", working: "…", done: "✓", failed: "!" }[item.status];
  entry.querySelector(".bar").style.width = item.status === "working" ? `${20 + 60 * item.progress}%` : "0";
}

function remove(item) {
  const index = items.indexOf(item);
  items.splice(index, 1);
  item.status = "removed";
  item.control?.abort();
  $(`photo-${item.id}`).remove();
  release(item.before);
  release(item.after);
  announce(`${item.name} removed`);
  if (!items.length) {
    current = null;
    $("work").hidden = true;
    $("welcome").hidden = false;
    document.querySelector("#welcome [data-choose]").focus();
  } else {
    if (current === item) select(items[Math.min(index, items.length - 1)]);
    document.querySelector("#strip [aria-current=true]").focus();
  }
}

function release(url) {
  if (url?.startsWith("blob:")) URL.revokeObjectURL(url);
}

function announce(text) {
  $("status").textContent = text;
}

// --- controls ----------------------------------------------------------------------------------

$("strength").addEventListener("input", () => {
  $("strength-value").textContent = `${$("strength").value} %`;
  stage.strength($("strength").value / 100);
});
$("zoom").addEventListener("click", () => {
  const on = !stage.zoomed;
  $("zoom").setAttribute("aria-pressed", on);
  stage.zoom(on);
});
$("model").addEventListener("change", () => {
  showLicense();
  for (const item of items) {
    if (item.status === "failed") continue;
    item.status = "waiting";
    item.control?.abort();
  }
  for (const item of items) draw(item);
  processNext();
});
$("retry").addEventListener("click", () => {
  current.status = "waiting";
  draw(current);
  processNext();
});
$("remove").addEventListener("click", () => remove(current));
$("download").addEventListener("click", () => save($("download"), [current], async ([file]) => file));
$("download-all").addEventListener("click", () => {
  const done = items.filter((item) => item.status === "done");
  save($("download-all"), done, async (files) => ({ name: "derained.zip", blob: await zip(files) }));
});

async function save(button, chosen, pack) {
  const label = button.textContent;
  button.disabled = true;
  button.textContent = "Preparing…";
  try {
    const files = [];
    for (const item of chosen) files.push(await resultFile(item));
    const { name, blob } = await pack(files);
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    announce(`${name} saved`);
  } catch (error) {
    for (const item of chosen.slice(0, 1)) fail(item, error);
    draw(current);
  }
  button.textContent = label;
  button.disabled = false;
}

// --- models ------------------------------------------------------------------------------------

const labels = { default: "Best", fast: "Faster" }; // of aliases
const served = new Map();

function showLicense() {
  const model = served.get($("model").value);
  $("license").hidden = !model;
  if (!model) return;
  const license = model.license ?? "unknown; it was imported on this server";
  $("license").textContent = `License of ${model.alias_of ?? model.name}: ${license}.`;
}

models().then((description) => {
  const groups = new Map(); // each model once, under its label if it has one
  for (const model of description.models) {
    served.set(model.name, model);
    const target = model.alias_of ?? model.name;
    groups.set(target, [...(groups.get(target) ?? []), model.name]);
  }
  for (const [target, names] of groups) {
    const alias = names.find((name) => labels[name]);
    const speed = served.get(target)?.speed;
    const label = labels[alias] ?? (speed ? `${target}, ${speed}` : target);
    const value = names.includes(description.default) ? description.default : alias ?? target;
    $("model").add(new Option(label, value));
  }
  $("model").value = description.default;
  showLicense();
}).catch((error) => announce(error.message));
