// The page: images go to the server one by one; all that is done with an answer happens here.

import {above, byValue, coloured, count, grey} from "./marks.js";
import {fill} from "./gallery.js";
import {writeGrey} from "./png.js";
import {bytes, element, predict} from "./predict.js";

const $ = id => document.getElementById(id);
const items = []; // {file, name, state: "waiting" | "working" | "failed" | "done", ...}
let model = null;
let shown = null;
let working = false;
let layer = null; // canvas of the marks in colour, for the item that is shown

start();

async function start() {
  listen();
  try {
    const answer = await fetch("/api/model");
    if (!answer.ok) throw new Error((await answer.json()).error);
    model = await answer.json();
  } catch (error) {
    fail(`The server does not answer (${error.message}). Is it still running?`);
    return;
  }
  describe();
  work();
  showStudy();
}

async function showStudy() {
  const answer = await fetch("/api/gallery").catch(() => null);
  const gallery = answer && answer.ok ? await answer.json() : null;
  if (!gallery) return;
  $("scores-title").textContent = `${gallery.metric} of each image`;
  fill(gallery, $("pictures"), $("scores"));
  $("gallery").hidden = false;
}

function listen() {
  $("pick").addEventListener("change", event => {
    add(event.target.files);
    event.target.value = ""; // the same file may be chosen again
  });
  let inside = 0;
  const veil = by => { inside = Math.max(0, inside + by); $("veil").hidden = inside === 0; };
  addEventListener("dragenter", () => veil(1));
  addEventListener("dragleave", () => veil(-1));
  addEventListener("dragover", event => event.preventDefault());
  addEventListener("drop", event => {
    event.preventDefault();
    veil(-inside);
    add(event.dataTransfer.files);
  });
  addEventListener("paste", event => add(event.clipboardData.files));
  $("opacity").addEventListener("input", draw);
  $("threshold").addEventListener("input", () => {
    shown.threshold = $("threshold").value / 100;
    mark();
    draw();
  });
  $("reset").addEventListener("click", () => {
    shown.threshold = shown.answer.threshold;
    show(shown);
  });
  for (const view of document.querySelectorAll("[name=view]")) view.addEventListener("change", draw);
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => save(button.dataset.save));
  }
}

// The model

function describe() {
  const several = model.threshold === null;
  const marks = several ? `${model.classes.length} classes` : model.classes[0].name;
  document.title = `${model.study}: ${marks}`;
  $("title").textContent = `${model.study}: ${marks}`;
  $("subtitle").textContent = `${model.trial}, epoch ${model.epoch}, trained on ${model.reader}`;
  $("synthetic").hidden = !model.synthetic;
  const colour = model.channels === "rgb" ? "8-bit colour" : "8-bit colour or grey";
  $("takes").textContent = `${model.takes}; ${colour}; at most ${model.most_bytes / 1e6} MB ` +
    `and ${model.most_pixels / 1e6} million pixels`;
  const facts = {
    "study": model.study,
    "network": Object.entries(model.network).map(([key, value]) => `${key} ${value}`).join(", "),
    "threshold": several ? "none: each pixel gets the likeliest class" : model.threshold,
    "data": `${model.reader}, split ${model.split}`,
    "notes": model.notes.join("; "),
    "scores on validation": Object.entries(model.metrics)
      .filter(([key]) => key.startsWith("val/"))
      .map(([key, value]) => `${key.replace("val/", "")} ${value.toFixed(3)}`).join(", "),
    "versions": Object.entries(model.versions).map(pair => pair.join(" ")).join(", "),
  };
  for (const [key, value] of Object.entries(facts)) {
    if (value !== "") $("facts").append(element("dt", key), element("dd", String(value)));
  }
  $("card").textContent = model.card;
  $("sample").hidden = !model.sample_picture;
  if (model.sample_picture) $("sample").querySelector("img").src = "/sample.png";
  $("curl").textContent =
    `curl --data-binary @photo.png '${location.origin}/api/predict?name=photo.png'`;
  $("threshold-row").hidden = several;
  $("view-probability").disabled = several;
  document.querySelector("[for=view-probability]").hidden = several;
}

// The queue

function add(files) {
  let first = null;
  for (const file of files) {
    const item = {file, name: file.name || "pasted image", state: "waiting"};
    items.push(item);
    item.button = element("button");
    item.button.type = "button";
    item.button.addEventListener("click", () => show(item));
    const line = element("li");
    line.append(item.button);
    $("strip").append(line);
    label(item);
    first = first || item;
  }
  if (!first) return;
  $("strip").hidden = items.length < 2;
  $("drop").classList.add("small");
  $("gallery").open = false; // one's own images come first
  show(first);
  work();
}

async function work() {
  if (working || !model) return;
  working = true;
  for (let item; (item = items.find(each => each.state === "waiting"));) {
    item.state = "working";
    label(item);
    if (shown === item) show(item);
    try {
      await predict(item, model.most_bytes);
      item.state = "done";
      say(`${item.name} is done`);
    } catch (error) {
      item.state = "failed";
      item.reason = error.message;
      say(`${item.name} was not taken`);
    }
    label(item);
    if (shown === item) show(item);
  }
  working = false;
}

function label(item) {
  const words = {waiting: "waiting", working: "in work", failed: "not taken", done: "done"};
  const picture = item.thumb || element("span", item.state === "failed" ? "\u2715" : "", "thumb");
  item.button.replaceChildren(picture, element("span", item.name),
    element("span", words[item.state], item.state === "failed" ? "failed" : "quiet"));
  item.button.title = item.name;
}

// The item that is shown

function show(item) {
  shown = item;
  for (const each of items) each.button.setAttribute("aria-current", each === item);
  $("wait").hidden = item.state !== "waiting" && item.state !== "working";
  $("failure").hidden = item.state !== "failed";
  $("result").hidden = item.state !== "done";
  if (item.state === "failed") $("reason").textContent = item.reason;
  $("waiting").textContent = `${item.name} is ${item.state === "working" ? "in work" : "waiting"}`;
  if (item.state !== "done") return;
  const {width, height, of, seconds} = item.answer;
  $("name").textContent = item.name;
  $("size").textContent = `${width} x ${height} pixels, ${seconds.toFixed(1)} s`;
  $("of").textContent = `% of ${of}`;
  [$("canvas").width, $("canvas").height] = [width, height];
  $("canvas").classList.toggle("few", width < 600); // enlarged, its pixels as they are
  if (item.threshold !== null) $("threshold").value = Math.round(item.threshold * 100);
  mark();
  draw();
}

// Which pixels are marked, in numbers and colours.
function mark() {
  const {width, height, classes, of_pixels: whole, threshold} = shown.answer;
  shown.marks = shown.mask ? byValue(shown.mask, classes) : above(shown.probability, shown.threshold);
  layer = layer || element("canvas");
  [layer.width, layer.height] = [width, height];
  layer.getContext("2d").putImageData(coloured(shown.marks, width, height, classes), 0, 0);
  const counts = count(shown.marks, width, height, classes);
  $("areas").replaceChildren(...counts.map(({pixels, pieces}, i) => {
    const head = element("th");
    head.scope = "row";
    const swatch = element("span", "", "swatch");
    swatch.style.background = classes[i].colour;
    head.append(swatch, classes[i].name);
    const share = whole ? (100 * pixels / whole).toFixed(2) : "0.00";
    const line = element("tr");
    line.append(head, ...[pixels.toLocaleString("en"), share, pieces.toLocaleString("en")]
      .map(text => element("td", text)));
    return line;
  }));
  if (threshold !== null) {
    $("threshold-value").textContent = Number(shown.threshold.toFixed(3));
    $("reset").hidden = shown.threshold === threshold;
  }
}

function draw() {
  const canvas = $("canvas");
  const view = document.querySelector("[name=view]:checked").value;
  $("opacity-value").textContent = `${$("opacity").value} %`;
  $("opacity-row").hidden = view !== "overlay";
  paint(canvas.getContext("2d"), view);
  canvas.setAttribute("aria-label", `${view} of ${shown.name}`);
}

function paint(context, view) {
  const {width, height} = shown.answer;
  context.globalAlpha = 1;
  if (view === "mask") {
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.drawImage(layer, 0, 0);
  } else if (view === "probability") {
    context.putImageData(grey(shown.probability, width, height), 0, 0);
  } else {
    context.drawImage(shown.picture, 0, 0);
    if (view === "overlay") {
      context.globalAlpha = $("opacity").value / 100;
      context.drawImage(layer, 0, 0);
    }
  }
}

// Files

async function save(what) {
  const {width, height, classes, files} = shown.answer;
  const stem = shown.name.replace(/\.[^.]*$/, "") || "image";
  if (what === "overlay") {
    const canvas = element("canvas");
    [canvas.width, canvas.height] = [width, height];
    paint(canvas.getContext("2d"), "overlay");
    canvas.toBlob(blob => give(blob, `${stem}_overlay.png`));
  } else if (what === "mask") {
    const values = [0, ...classes.map(each => each.value)];
    give(await writeGrey(shown.marks.map(mark => values[mark]), width, height), `${stem}_mask.png`);
  } else {
    files.probability.forEach((file, i) => {
      const of = files.probability.length > 1 ? `_class${i + 1}` : "";
      give(new Blob([bytes(file)], {type: "image/png"}), `${stem}_probability${of}.png`);
    });
  }
}

function give(blob, name) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function fail(message) {
  $("reason").textContent = message;
  $("failure").hidden = false;
}

function say(text) {
  $("status").textContent = text;
}
