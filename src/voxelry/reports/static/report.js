"use strict";
// Tables that sort and filter, and one viewer whose scan is exchanged by a click. No text of a case is ever taken for markup.
const voxelry = { cases: {}, add(key, data) { this.cases[key] = data; } };
window.voxelry = voxelry;

(() => {
  const $ = (id) => document.getElementById(id);

  // ---- tables
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = (cell.dataset.value ?? cell.textContent).trim();
    const number = Number.parseFloat(text);
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const order = (a, b) => {
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1; // numbers before texts, such as the dash of a missing score
  };
  function sort(table, column) {
    const head = table.tHead.rows[0].cells;
    const down = head[column].getAttribute("aria-sort") === "ascending";
    for (const cell of head) cell.removeAttribute("aria-sort");
    head[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => order(value(a, column), value(b, column)) * (down ? -1 : 1));
    table.tBodies[0].append(...rows);
  }
  for (const table of document.querySelectorAll("table.sorts")) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      if (cell.tagName !== "TH") return; // over buttons
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = cell.textContent;
      button.addEventListener("click", () => sort(table, column));
      cell.replaceChildren(button);
    });
  }
  for (const field of document.querySelectorAll("input.filter")) {
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      let left = 0;
      for (const row of $(field.dataset.table).tBodies[0].rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        left += row.hidden ? 0 : 1;
      }
      $(field.dataset.table + "-count").textContent = `${left} shown`;
    });
  }

  // ---- viewer
  const fields = [...document.querySelectorAll("#viewer-controls input[data-layer]")];
  const LAYERS = fields.map((field) => field.dataset.layer); // what may lie on the scan, in the order of drawing
  const NAMES = Object.fromEntries(fields.map((field) => [field.dataset.layer, field.dataset.name]));
  const legendOf = (layer, data) => (layer.endsWith("errors") ? data.mistakes : data.labels);
  let nv = null;
  let volumes = {}; // layer -> number of its volume
  let shown = null;

  function option(select, text, data) {
    const item = document.createElement("option");
    item.textContent = text;
    item.value = data;
    select.append(item);
  }
  function say(state, text) {
    $("viewer-state").dataset.state = state;
    $("viewer-state").textContent = text;
  }

  function load(key) {
    if (voxelry.cases[key]) return Promise.resolve(voxelry.cases[key]);
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `${encodeURIComponent($("viewer").dataset.folder)}/${key}.js`;
      script.onload = () => resolve(voxelry.cases[key]);
      script.onerror = () => reject(new Error(`${script.src} is not beside this page`));
      document.head.append(script);
    });
  }

  let turn = Promise.resolve();
  function view(key) { // one after the other, so that no case is shown with the labels of another
    turn = turn.then(() => show(key));
    return turn;
  }

  async function show(key) {
    $("viewer").hidden = false;
    say("loading", "Loading.");
    try {
      const data = await load(key);
      shown = data;
      if (data.picture) showPicture(data);
      else await showVolume(data);
      controls(data);
      $("viewer-case").textContent = data.id;
      for (const button of document.querySelectorAll("button.view")) button.toggleAttribute("aria-current", button.dataset.case === key);
      for (const layer of LAYERS) fade(layer);
      say("shown", "");
      $("viewer").scrollIntoView({ block: "nearest" });
    } catch (error) {
      say("failed", `Cannot be shown: ${error.message}.`);
    }
  }

  function showPicture(data) {
    $("viewer-canvas").hidden = true;
    $("viewer-place").textContent = "";
    const place = $("viewer-picture");
    place.hidden = false;
    place.replaceChildren();
    for (const name of ["scan", ...LAYERS]) {
      if (!data[name]) continue;
      const image = new Image();
      image.src = `data:image/png;base64,${data[name]}`;
      image.alt = name;
      image.dataset.layer = name;
      place.append(image);
    }
  }

  async function showVolume(data) {
    $("viewer-picture").hidden = true;
    $("viewer-canvas").hidden = false; // before the viewer measures it
    if (!nv) {
      nv = new niivue.Niivue({
        isRadiologicalConvention: true, backColor: [0.06, 0.07, 0.09, 1], show3Dcrosshair: true, isNearestInterpolation: true,
        multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarLayout: niivue.MULTIPLANAR_TYPE.AUTO, multiplanarPadPixels: 4,
        sagittalNoseLeft: true, showAllOrientationMarkers: true, fontMinPx: 18,
        crosshairWidth: 0.4, crosshairWidthUnit: "percent", crosshairColor: [0.47, 0.72, 0.96, 0.7],
        logLevel: "error", loadingText: "", dragAndDropEnabled: false,
      });
      const letters = nv.drawSliceOrientationText.bind(nv);
      nv.drawSliceOrientationText = ([left, top, width, height], ...more) => { // with a dark rim, to be read on any grey
        for (const [x, y] of [[-1.5, 0], [1.5, 0], [0, -1.5], [0, 1.5], [0, 0]]) {
          nv.opts.fontColor = x || y ? [0, 0, 0, 1] : [1, 0.85, 0.3, 1];
          letters([left + x, top + y, width, height], ...more);
        }
      };
      nv.onLocationChange = (place) => { $("viewer-place").textContent = describe(place); };
      await nv.attachToCanvas($("viewer-canvas"));
    }
    while (nv.volumes.length) nv.removeVolume(nv.volumes[nv.volumes.length - 1]);
    volumes = {};
    for (const name of ["scan", ...LAYERS]) {
      if (!data[name]) continue;
      const image = await niivue.NVImage.loadFromBase64({ base64: data[name], name: `${name}.nii.gz` });
      nv.addVolume(image);
      if (name !== "scan") {
        volumes[name] = nv.volumes.length - 1;
        image.setColormapLabel(colours(legendOf(name, data)));
      }
    }
    nv.updateGLVolume();
    layout();
  }

  function colours(labels) {
    const top = Math.max(0, ...labels.map((label) => label.value));
    const map = { R: [], G: [], B: [], A: [], I: [], labels: [] };
    for (let index = 0; index <= top; index += 1) {
      const label = labels.find((each) => each.value === index);
      map.I.push(index);
      map.R.push(label ? label.rgb[0] : 0);
      map.G.push(label ? label.rgb[1] : 0);
      map.B.push(label ? label.rgb[2] : 0);
      map.A.push(label ? 255 : 0);
      map.labels.push(label ? label.name : "");
    }
    return map;
  }

  function describe(place) {
    const [x, y, z] = place.mm;
    const side = (number, letters) => `${Math.abs(number).toFixed(1)} ${letters[number < 0 ? 1 : 0]}`;
    const names = LAYERS.filter((layer) => layer in volumes).map((layer) => {
      const number = Math.round(place.values[volumes[layer]]?.value ?? 0);
      const label = legendOf(layer, shown).find((each) => each.value === number);
      return label ? `${NAMES[layer]}: ${label.name}` : "";
    });
    const grey = place.values.length ? `value ${Number(Number(place.values[0].value).toPrecision(5))}` : "";
    return [`${side(x, "RL")} ${side(y, "AP")} ${side(z, "SI")} mm`, grey, ...names].filter(Boolean).join(" · ");
  }

  function controls(data) {
    $("viewer-window").replaceChildren();
    (data.windows ?? []).forEach((each, number) => option($("viewer-window"), each.name, number));
    $("viewer-jump").replaceChildren();
    option($("viewer-jump"), data.objects?.length ? "choose" : "none", "");
    (data.objects ?? []).forEach((each, number) => option($("viewer-jump"), each.name, number));
    for (const id of ["viewer-window", "viewer-jump", "viewer-layout"]) $(id).disabled = Boolean(data.picture);
    for (const layer of LAYERS) $(`viewer-${layer}`).disabled = !data[layer];
    legend(data);
    $("viewer-note").textContent = data.note ?? "";
    if (data.picture) return;
    range();
    nv.createOnLocationChange();
  }

  function legend(data) {
    const list = $("viewer-legend");
    list.replaceChildren();
    for (const label of [...data.labels, ...(data.errors ? data.mistakes : [])]) {
      const item = document.createElement("li");
      const colour = document.createElement("span");
      colour.style.background = `rgb(${label.rgb.join(",")})`;
      item.append(colour, label.name);
      list.append(item);
    }
  }

  function fade(layer) {
    const amount = Number($(`viewer-${layer}`).value);
    if (shown?.picture) {
      for (const image of $("viewer-picture").children) if (image.dataset.layer === layer) image.style.opacity = amount;
    } else if (nv && layer in volumes) nv.setOpacity(volumes[layer], amount);
  }
  function range() {
    const chosen = shown.windows[Number($("viewer-window").value)];
    if (!chosen) return;
    nv.volumes[0].cal_min = chosen.low;
    nv.volumes[0].cal_max = chosen.high;
    nv.updateGLVolume();
  }
  function layout() {
    nv.setSliceType(Number($("viewer-layout").value));
  }
  function jump() {
    const place = shown.objects[Number($("viewer-jump").value)];
    if (!place || $("viewer-jump").value === "") return;
    nv.scene.crosshairPos = nv.mm2frac(place.mm);
    nv.updateGLVolume();
    nv.createOnLocationChange();
  }

  if ($("viewer")) {
    for (const button of document.querySelectorAll("button.view")) button.addEventListener("click", () => view(button.dataset.case));
    for (const layer of LAYERS) $(`viewer-${layer}`).addEventListener("input", () => fade(layer));
    $("viewer-window").addEventListener("change", range);
    $("viewer-layout").addEventListener("change", layout);
    $("viewer-jump").addEventListener("change", jump);
    // of each view: the axes (in RAS) to the left of the screen, upwards and out of it; the patient's right is at the left
    const AXES = { 0: ["R", "A", "S"], 1: ["R", "S", "A"], 2: ["A", "S", "R"] };
    const KEYS = { ArrowLeft: [0, 1], ArrowRight: [0, -1], ArrowUp: [1, 1], ArrowDown: [1, -1], PageUp: [2, 1], PageDown: [2, -1] };
    $("viewer-canvas").addEventListener("keydown", (event) => {
      if (!nv || !(event.key in KEYS)) return;
      event.preventDefault();
      const [axis, step] = KEYS[event.key];
      const along = (AXES[$("viewer-layout").value] ?? AXES[0])[axis];
      nv.moveCrosshairInVox(...["R", "A", "S"].map((each) => (each === along ? step : 0)));
    });
    voxelry.view = view;
    voxelry.viewer = () => nv;
  }
})();
