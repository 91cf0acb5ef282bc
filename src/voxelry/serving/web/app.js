"use strict";
// The page of `voxelry serve`: sends a scan as a job, follows it, shows its slices, downloads its labels.

const $ = (id) => document.getElementById(id);
const POLL_MS = 300;
const MEASUREMENTS = "measurements";  // of a job, beside its files
const state = { models: [], job: null, scan: null, plane: "", upload: null, drawn: 0 };

function headers() {
  const token = $("token").value.trim();
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function ask(url, options = {}) {
  const response = await fetch(url, { ...options, headers: { ...headers(), ...options.headers } });
  if (!response.ok) throw await failure(response.status, await response.text());
  return response;
}

async function failure(status, text) {
  let content = {};
  try { content = JSON.parse(text); } catch { content = {}; }
  if (status === 401) $("token-field").hidden = false;
  const error = new Error(content.error || `the server answered ${status}`);
  error.choices = content.choices || [];
  return error;
}

function show(id, visible) { $(id).hidden = !visible; }

function complain(error) {
  $("error").textContent = error.message;
  show("error", true);
  show("progress", false);
  offerSeries(error.choices || []);
}

function offerSeries(choices) {
  if (!choices.length) return;
  $("series").replaceChildren(...choices.map((key) => new Option(key, key)));
  show("series-field", true);
  $("series").selectedIndex = -1;
}

async function loadModels() {
  try {
    const info = await (await ask("/info")).json();
    state.models = info.models;
    $("model").replaceChildren(...info.models.map((model) => new Option(`${model.id} (${model.dimensions}D)`, model.id)));
    show("error", false);
  } catch (error) {
    complain(error);
  }
}

// A folder travels as a zip archive without compression, which is made here: DICOM slices one after the other.
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = CRC_TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function zipEntry(signature, name, crc, size, tail) {
  const view = new DataView(new ArrayBuffer(30 + (tail ? 16 : 0)));
  let at = 0;
  const put = (value, width) => { width === 4 ? view.setUint32(at, value, true) : view.setUint16(at, value, true); at += width; };
  put(signature, 4);
  if (tail) put(20, 2);
  for (const value of [20, 0x800, 0, 0, 33]) put(value, 2);
  for (const value of [crc, size, size]) put(value, 4);
  put(name.length, 2);
  put(0, 2);
  if (tail) { for (const value of [0, 0, 0]) put(value, 2); put(0, 4); put(tail.offset, 4); }
  return new Uint8Array(view.buffer, 0, at);
}

async function zipped(files) {
  const parts = [], directory = [], encoder = new TextEncoder();
  let offset = 0, length = 0;
  for (const [number, file] of files.entries()) {
    const bytes = new Uint8Array(await file.arrayBuffer()), crc = crc32(bytes);
    const name = encoder.encode(`${String(number).padStart(6, "0")}/${file.name}`);
    const head = zipEntry(0x04034b50, name, crc, bytes.length);
    directory.push(zipEntry(0x02014b50, name, crc, bytes.length, { offset }), name);
    parts.push(head, name, file);
    offset += head.length + name.length + bytes.length;
    report("packing", number / files.length);
  }
  for (const piece of directory) length += piece.length;
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, length, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...directory, end.buffer]);
}

async function scanOf(files) {
  const visible = files.filter((file) => !file.name.startsWith("."));
  if (!visible.length) throw new Error("there is no file in it");
  if (visible.length > 65000) throw new Error("more than 65,000 files: drop one series");
  return visible.length === 1 ? visible[0] : zipped(visible);
}

async function droppedFiles(items) {
  const files = [];
  const walk = async (entry) => {
    if (entry.isFile) { files.push(await new Promise((take, refuse) => entry.file(take, refuse))); return; }
    const reader = entry.createReader();
    for (;;) {  // a reader gives 100 entries at a time
      const entries = await new Promise((take, refuse) => reader.readEntries(take, refuse));
      if (!entries.length) return;
      for (const inner of entries) await walk(inner);
    }
  };
  for (const entry of [...items].map((item) => item.webkitGetAsEntry()).filter(Boolean)) await walk(entry);
  return files;
}

function report(stage, share) {
  $("stage").textContent = stage;
  if (share === null) $("bar").removeAttribute("value"); else $("bar").value = share;
}

function upload(scan, url) {
  return new Promise((take, refuse) => {
    const request = new XMLHttpRequest();
    state.upload = request;
    request.open("POST", url);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => report("sending", event.lengthComputable ? event.loaded / event.total : null);
    request.onload = async () => {
      if (request.status === 202) take(JSON.parse(request.responseText));
      else refuse(await failure(request.status, request.responseText));
    };
    request.onerror = () => refuse(new Error("the server cannot be reached, or ended the upload"));
    request.onabort = () => refuse(new Error("cancelled"));
    request.send(scan);
  });
}

async function segment(files) {
  show("error", false); show("result", false); show("progress", true);
  state.job = null;
  try {
    if (files) {
      state.scan = await scanOf(files);
      show("series-field", false);
      $("series").replaceChildren();
    }
    const query = new URLSearchParams({ model: $("model").value });
    if ($("task").value) query.set("subtask", $("task").value);
    if ($("series").value) query.set("series", $("series").value);
    const job = await follow(await upload(state.scan, `/jobs?${query}`));
    if (job.state === "done") await showResult(job);
    else throw Object.assign(new Error(job.error || `the job is ${job.state}`), { choices: job.choices });
  } catch (error) {
    complain(error);
  }
}

async function follow(job) {
  state.job = job;
  while (job.state === "waiting" || job.state === "running") {
    report(job.state === "waiting" ? "waiting" : "segmenting", job.state === "waiting" ? null : job.progress);
    await new Promise((resume) => setTimeout(resume, POLL_MS));
    job = await (await ask(job.url)).json();
  }
  return job;
}

async function showResult(job) {
  const segments = await (await ask(`${job.url}/answer`)).json();
  const labels = state.models.find((model) => model.id === job.model).labels;
  state.job = job;
  $("segments").replaceChildren(...segments.map((segment) => {
    const row = document.createElement("tr"), label = labels.find((each) => each.name === segment.label);
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = label ? label.color : "gray";
    row.append(...[swatch, segment.label, segment.instance_id ?? "", segment.score === null ? "" : segment.score.toFixed(2)].map(cell));
    return row;
  }));
  $("flags").replaceChildren(...job.flags.map((flag) => Object.assign(document.createElement("li"), { textContent: flag })));
  const formats = job.formats.map((format) => new Option(format.title, format.name));
  $("format").replaceChildren(...formats, new Option("Measurements (JSON)", MEASUREMENTS));
  $("planes").replaceChildren(...Object.keys(job.planes).map((plane) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: plane });
    button.addEventListener("click", () => choosePlane(plane));
    return button;
  }));
  show("progress", false); show("result", true);
  await choosePlane(Object.keys(job.planes)[0]);
}

function cell(content) {
  const element = document.createElement("td");
  element.append(content);
  return element;
}

async function choosePlane(plane) {
  const { slices, fullest } = state.job.planes[plane];
  state.plane = plane;
  for (const button of $("planes").children) button.setAttribute("aria-pressed", String(button.textContent === plane));
  show("slider", slices > 1);
  $("index").max = slices - 1;
  $("index").value = fullest;
  await draw();
}

async function draw() {
  const index = Number($("index").value), turn = ++state.drawn;
  $("number").textContent = `${index + 1} of ${state.job.planes[state.plane].slices}`;
  try {
    const picture = await (await ask(`${state.job.url}/slices/${state.plane}/${index}`)).blob();
    if (turn !== state.drawn) return;  // a later slice was asked for meanwhile
    URL.revokeObjectURL($("slice").src);
    $("slice").src = URL.createObjectURL(picture);
  } catch (error) {
    complain(error);
  }
}

async function download() {
  try {
    const format = $("format").value, isFile = format !== MEASUREMENTS;
    const response = await ask(`${state.job.url}/${isFile ? `files/${encodeURIComponent(format)}` : MEASUREMENTS}`);
    const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") || "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = name ? name[1] : isFile ? "labels" : "measurements.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch (error) {
    complain(error);
  }
}

async function remove() {
  if (state.upload && !state.job) { state.upload.abort(); return; }
  if (!state.job) return;
  try { await ask(state.job.url, { method: "DELETE" }); } catch (error) { complain(error); }
}

$("file").addEventListener("change", (event) => { segment([...event.target.files]); event.target.value = ""; });
$("folder").addEventListener("change", (event) => { segment([...event.target.files]); event.target.value = ""; });
$("series").addEventListener("change", () => segment(null));
$("token").addEventListener("change", loadModels);
$("index").addEventListener("input", draw);
$("slice").addEventListener("wheel", (event) => {
  event.preventDefault();
  $("index").value = Number($("index").value) + Math.sign(event.deltaY);
  draw();
}, { passive: false });
$("download").addEventListener("click", download);
$("cancel").addEventListener("click", remove);
$("delete").addEventListener("click", async () => { await remove(); show("result", false); });
$("choices").addEventListener("submit", (event) => event.preventDefault());
$("drop").addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
$("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
$("drop").addEventListener("drop", async (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  segment(await droppedFiles(event.dataTransfer.items));
});
loadModels();
