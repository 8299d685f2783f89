"use strict";
// Everything that came from the corpus enters the page as text (textContent), never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const make = (tag, text, attributes) => {
  const node = Object.assign(document.createElement(tag), attributes || {});
  if (text !== undefined) node.textContent = text;
  return node;
};
const player = new Audio();
let playing = null;
// A clip is in the page, or lies beside it on the disk, where the corpus was when it was scanned.
const address = (point) => data.audio[point.clip] ||
  data.root + point.path.split("/").map(encodeURIComponent).join("/");
function play(point) {
  playing = point;
  player.src = address(point);
  player.play().then(
    () => { $("told").textContent = told(point); },
    () => { $("told").textContent = "cannot be played from here: " + point.path; });
}
const told = (point) => `${point.path}, labelled ${point.label}` +
  (point.likely ? `, sounds like ${point.likely}` : "") + (point.reasons ? `: ${point.reasons}` : "");

function bars() {
  const most = Math.max(data.call * 1.5, ...data.classes.map((c) => c.excess));
  for (const c of data.classes) {
    const track = make("div", undefined, { className: "track" });
    const bar = make("div", undefined, { className: "bar" + (c.called ? " called" : "") });
    bar.style.width = `${Math.max(0, c.excess) / most * 100}%`;
    const line = make("div", undefined, { className: "call" });
    line.style.left = `${data.call / most * 100}%`;
    track.append(bar, line);
    $("bars").append(make("span", c.name), track, make("span", `${c.excess.toFixed(1)} (${c.clips} clips)`));
  }
}

const points = data.points.map(([clip, x, y, path, label, likely, reasons]) =>
  ({ clip, x, y, path, label, likely, reasons }));
const suspects = points.filter((p) => p.reasons);
let at = null;
function draw() {
  const canvas = $("map"), box = canvas.getBoundingClientRect(), scale = window.devicePixelRatio || 1;
  canvas.width = box.width * scale; canvas.height = box.height * scale;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.body);
  const colour = (name) => style.getPropertyValue(name).trim();
  pen.scale(scale, scale);
  const chosen = $("highlight").value;
  const dots = (some, fill, size) => {
    pen.fillStyle = fill;
    for (const p of some) {
      p.px = 12 + p.x * (box.width - 24); p.py = 12 + (1 - p.y) * (box.height - 24);
      pen.beginPath(); pen.arc(p.px, p.py, size, 0, 7); pen.fill();
    }
  };
  dots(points.filter((p) => !p.reasons && p.label !== chosen), colour("--dot"), 1.6);
  dots(points.filter((p) => !p.reasons && p.label === chosen), colour("--mark"), 2.4);
  dots(suspects, colour("--bad"), 2.6);
  if (at) { pen.strokeStyle = colour("--text"); pen.lineWidth = 2; pen.beginPath(); pen.arc(at.px, at.py, 7, 0, 7); pen.stroke(); }
}
function near(event) {
  const box = $("map").getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let best = null, least = 225;
  for (const p of points) {
    const far = (p.px - x) ** 2 + (p.py - y) ** 2 - (p.reasons ? 9 : 0);
    if (far < least) { least = far; best = p; }
  }
  return best;
}
function show(point) { at = point; $("told").textContent = point ? told(point) : ""; draw(); }
function map() {
  for (const c of data.classes) $("highlight").append(make("option", c.name, { value: c.name }));
  const accused = data.classes.find((c) => c.called);
  if (accused) $("highlight").value = accused.name;
  $("highlight").addEventListener("change", draw);
  const canvas = $("map");
  canvas.addEventListener("pointermove", (event) => show(near(event)));
  canvas.addEventListener("click", (event) => { const p = near(event); if (p) { show(p); play(p); } });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const some = suspects.length ? suspects : points;
    if (step && some.length) {
      event.preventDefault();
      show(some[(some.indexOf(at) + step + some.length) % some.length]);
    } else if ((event.key === "Enter" || event.key === " ") && at) { event.preventDefault(); play(at); }
  });
  window.addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}

const dropped = new Set(data.flagged.map((f) => f.clip));
let sorted = { key: "score", up: false }, shown = 200;
function visible() {
  const words = $("find").value.toLowerCase(), label = $("label").value, reason = $("reason").value;
  const rows = data.flagged.filter((f) => (!label || f.label === label) &&
    (!reason || f.reasons.split("; ").includes(reason)) &&
    (!words || `${f.path} ${f.label} ${f.likely} ${f.reasons}`.toLowerCase().includes(words)));
  const { key, up } = sorted;
  const order = (a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
  return rows.sort((a, b) => (up ? 1 : -1) * order(a[key], b[key]));
}
function table() {
  const body = $("rows"), rows = visible();
  body.replaceChildren();
  for (const f of rows.slice(0, shown)) {
    const row = make("tr"), cell = (node, name, kind) => {
      const td = make("td", undefined, { className: kind || "" });
      if (name) td.dataset.name = name;
      td.append(node); row.append(td);
    };
    const tick = make("input", undefined, { type: "checkbox", checked: dropped.has(f.clip) });
    tick.setAttribute("aria-label", `drop ${f.path}`);
    tick.addEventListener("change", () => { dropped[tick.checked ? "add" : "delete"](f.clip); count(); });
    cell(tick);
    const button = make("button", "▶", { type: "button" });
    button.setAttribute("aria-label", `play ${f.path}`);
    button.addEventListener("click", () => play(f));
    cell(button);
    cell(data.pictures[f.clip] ? make("img", undefined, { src: data.pictures[f.clip], alt: "spectrogram" }) : "");
    if (data.audio[f.clip]) cell(f.path, "", "path");
    else cell(make("a", f.path, { href: address(f) }), "", "path");
    cell(f.label, "label"); cell(f.likely, "likely"); cell(f.reasons, "", "reasons"); cell(f.score.toFixed(2), "score");
    body.append(row);
  }
  $("more").hidden = rows.length <= shown;
  $("count").textContent = `${rows.length} of ${data.flagged.length} flagged clips`;
  for (const head of document.querySelectorAll("th[data-key]")) {
    if (head.dataset.key === sorted.key) head.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
  count();
}
const count = () => { $("export").textContent = `Export drop list (${dropped.size})`; };
function flagged() {
  for (const name of new Set(data.flagged.map((f) => f.label))) $("label").append(make("option", name, { value: name }));
  for (const name of new Set(data.flagged.flatMap((f) => f.reasons.split("; ")))) $("reason").append(make("option", name, { value: name }));
  for (const id of ["find", "label", "reason"]) $(id).addEventListener("input", () => { shown = 200; table(); });
  for (const head of document.querySelectorAll("th[data-key] button")) head.addEventListener("click", () => {
    const key = head.parentNode.dataset.key;
    sorted = { key, up: sorted.key === key ? !sorted.up : key !== "score" };
    table();
  });
  $("more").addEventListener("click", () => { shown += 200; table(); });
  $("all").addEventListener("click", () => {
    const rows = visible(), every = rows.every((f) => dropped.has(f.clip));
    for (const f of rows) dropped[every ? "delete" : "add"](f.clip);
    table();
  });
  $("export").addEventListener("click", () => {
    const safe = (text, path) => (/^[=+\-@\t\r]/.test(text) ? (path ? "./" : "'") : "") + text;
    const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
    const spans = data.flagged.some((f) => "start" in f);
    const lines = data.flagged.filter((f) => dropped.has(f.clip))
      .map((f) => `${quoted(safe(f.path, true))},${quoted(safe(f.label))}${spans ? `,${f.start},${f.stop}` : ""}\n`);
    const link = make("a", undefined, { download: "drop_list.csv" });
    link.href = URL.createObjectURL(new Blob([`path,label${spans ? ",start,stop" : ""}\n`, ...lines], { type: "text/csv" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  table();
}
bars(); map(); flagged();
