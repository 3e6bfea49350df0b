// The page: photos come in, are derained one after the other, and go out again.

import { Compare } from "./compare.js";
import { Refused, derain, models } from "./server.js";
import { zip } from "./zip.js";

const $ = (id) => document.getElementById(id);
const items = [];
let current = null;
let running = false;
let count = 0;

const hero = new Compare($("hero"), "Before and after, an example");
hero.show("static/samples/rocket.jpg", "static/samples/rocket-derained.jpg", "A rocket at night");
const stage = new Compare($("stage"), "Before and after");

// --- photos in ---------------------------------------------------------------------------------

function add(files) {
  const fresh = [...files].map((file) => ({
    id: ++count, file, name: file.name || `pasted-${count}.png`, before: URL.createObjectURL(file), status: "waiting", progress: 0, results: new Map(),
  }));
  if (!fresh.length) return;
  items.push(...fresh);
  $("welcome").hidden = true;
  $("work").hidden = false;
  tell(fresh.length === 1 ? `${fresh[0].name} added` : `${fresh.length} photos added`);
  select(fresh[0]);
  pump();
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

// --- the work ----------------------------------------------------------------------------------

async function pump() {
  if (running) return;
  running = true;
  for (let item; (item = items.find((one) => one.status === "waiting")); ) {
    item.status = "working";
    item.progress = 0;
    item.control = new AbortController();
    draw(item);
    const model = $("model").value || undefined;
    try {
      await makeVisible(item);
      const onUpload = (share) => {
        item.progress = share;
        draw(item);
      };
      const blob = await derain(item.file, { model, format: item.format }, { onUpload, signal: item.control.signal });
      if (item.status !== "working") continue; // another model was chosen meanwhile
      item.results = new Map([[`${model} 1 ${item.format}`, blob]]);
      item.model = model;
      release(item.after);
      item.after = URL.createObjectURL(blob);
      item.status = "done";
      tell(`${item.name} is dry`);
    } catch (error) {
      fail(item, error);
    }
    draw(item);
  }
  running = false;
}

// What the browser cannot show, such as a TIFF, the server turns into a JPEG for the screen.
async function makeVisible(item) {
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
  if (item.status !== "working" && item.status !== "done") return; // removed, or wanted anew
  if (!(error instanceof Refused)) console.error(error);
  item.status = "failed";
  item.lasting = Boolean(error.lasting);
  item.error = error instanceof Refused ? error.message : "Something went wrong on this page. Please try again.";
  tell(`${item.name}: ${item.error}`);
}

// The file to save: what is on the screen, or made anew by the server for another strength or format.
async function finished(item) {
  const strength = $("strength").value / 100;
  const key = `${item.model} ${strength} undefined`;
  if (!item.results.has(key)) item.results.set(key, await derain(item.file, { model: item.model, strength }));
  const blob = item.results.get(key);
  const suffix = { "image/jpeg": "jpg", "image/tiff": "tif" }[blob.type] ?? blob.type.split("/")[1];
  return { name: `${item.name.replace(/\.[^.]*$/, "")}_derained.${suffix}`, blob };
}

// --- what is shown -----------------------------------------------------------------------------

function select(item) {
  current = item;
  for (const one of items) draw(one);
}

function draw(item) {
  if (!items.includes(item)) return;
  thumb(item);
  $("all").hidden = items.filter((one) => one.status === "done").length < 2;
  if (item !== current) return;
  const failed = item.status === "failed";
  $("stage").hidden = failed;
  $("trouble").hidden = !failed;
  $("one").disabled = item.status !== "done";
  if (failed) {
    $("trouble-title").textContent = item.name;
    $("trouble-text").textContent = item.error;
    $("again").hidden = item.lasting;
    $("other").hidden = !item.lasting;
    return;
  }
  const uploaded = Math.round(100 * item.progress);
  const words = { waiting: "Waiting for its turn…", working: uploaded < 100 ? `Sending, ${uploaded} %` : "Taking the rain out…", done: "" };
  stage.tell(words[item.status]);
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
  const said = { waiting: "waiting", working: "in work", done: "done", failed: "failed" }[item.status];
  const button = entry.querySelector(".thumb");
  button.setAttribute("aria-label", `${item.name}, ${said}`);
  button.setAttribute("aria-current", item === current);
  const picture = entry.querySelector("img");
  const source = item.after ?? item.before;
  picture.hidden = item.status === "failed";
  if (!picture.hidden && picture.src !== source) picture.src = source;
  entry.querySelector(".mark").textContent = { waiting: "…", working: "…", done: "✓", failed: "!" }[item.status];
  entry.querySelector(".bar").style.width = item.status === "working" ? `${20 + 60 * item.progress}%` : "0";
}

function remove(item) {
  const place = items.indexOf(item);
  items.splice(place, 1);
  item.status = "removed";
  item.control?.abort();
  $(`photo-${item.id}`).remove();
  release(item.before);
  release(item.after);
  tell(`${item.name} removed`);
  if (!items.length) {
    current = null;
    $("work").hidden = true;
    $("welcome").hidden = false;
    document.querySelector("#welcome [data-choose]").focus();
  } else {
    if (current === item) select(items[Math.min(place, items.length - 1)]);
    document.querySelector("#strip [aria-current=true]").focus();
  }
}

function release(url) {
  if (url?.startsWith("blob:")) URL.revokeObjectURL(url);
}

function tell(text) {
  $("told").textContent = text;
}

// --- tools -------------------------------------------------------------------------------------

$("strength").addEventListener("input", () => {
  $("strength-told").textContent = `${$("strength").value} %`;
  stage.strength($("strength").value / 100);
});
$("zoom").addEventListener("click", () => {
  const on = !stage.zoomed;
  $("zoom").setAttribute("aria-pressed", on);
  stage.zoom(on);
});
$("model").addEventListener("change", () => {
  for (const item of items) {
    if (item.status === "failed") continue;
    item.status = "waiting";
    item.control?.abort();
  }
  for (const item of items) draw(item);
  pump();
});
$("again").addEventListener("click", () => {
  current.status = "waiting";
  draw(current);
  pump();
});
$("remove").addEventListener("click", () => remove(current));
$("one").addEventListener("click", () => saving($("one"), [current], async ([file]) => file));
$("all").addEventListener("click", () => {
  const done = items.filter((item) => item.status === "done");
  saving($("all"), done, async (files) => ({ name: "derained.zip", blob: await zip(distinct(files)) }));
});

async function saving(button, chosen, pack) {
  const label = button.textContent;
  button.disabled = true;
  button.textContent = "Preparing…";
  try {
    const files = [];
    for (const item of chosen) files.push(await finished(item));
    const { name, blob } = await pack(files);
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    tell(`${name} saved`);
  } catch (error) {
    for (const item of chosen.slice(0, 1)) fail(item, error);
    draw(current);
  }
  button.textContent = label;
  button.disabled = false;
}

function distinct(files) {
  const taken = new Set();
  return files.map(({ name, blob }) => {
    let free = name;
    for (let n = 2; taken.has(free.toLowerCase()); n++) free = name.replace(/(\.[^.]*)$/, `-${n}$1`);
    taken.add(free.toLowerCase());
    return { name: free, blob };
  });
}

// --- colors, models ---------------------------------------------------------------------------

const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
function theme(chosen) {
  if (chosen) {
    document.documentElement.dataset.theme = chosen;
    localStorage.setItem("theme", chosen);
  }
  $("theme").setAttribute("aria-pressed", isDark());
}
theme(localStorage.getItem("theme"));
system.addEventListener("change", () => theme());
$("theme").addEventListener("click", () => theme(isDark() ? "light" : "dark"));

models().then((told) => {
  const first = told.models.find((model) => model.name === told.default);
  for (const model of told.models) {
    if (model.name === first.alias_of || (model.alias_of && model !== first)) continue; // one name for each
    const speed = model.speed ? `, ${model.speed}` : "";
    $("model").add(new Option(`${model.name}${speed}`, model.name));
  }
  $("model").value = told.default;
}).catch((error) => tell(error.message));
