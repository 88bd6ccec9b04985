"use strict";
// What happens on the page. All that is shown comes from the element "data" (page.go: pageContent) and enters the page as
// text, never as markup. What the reader chooses stands in the address behind "#", so that a view can be kept as a link.

window.addEventListener("error", e => {
  const wrong = document.getElementById("wrong");
  wrong.hidden = false;
  wrong.textContent = "This page broke: " + e.message;
});

const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const firstRows = 300; // of the table; more on demand, since a browser lays out each of them
const mostAxes = 9;
const fewLines = 8; // up to so many are drawn with their bands
const view = { filter: "", sort: "", smooth: data.smooth, log: data.log, zoom: null, brushes: {}, off: new Set(), rows: firstRows };
let visible = new Set(); // indexes of the runs that are drawn

function start() {
  document.title = data.title;
  $("title").textContent = data.title;
  $("about").textContent = data.about + (data.left_out ? ` · ${data.left_out} curves had no room here` : "");
  view.sort = data.metric ? (data.goal === "min" ? "" : "-") + data.metric : "";
  readAddress();
  $("filter").value = view.filter;
  $("smooth").value = view.smooth;
  $("log").checked = view.log;
  $("filter").addEventListener("input", e => change({ filter: e.target.value }));
  $("smooth").addEventListener("input", e => change({ smooth: Number(e.target.value) }));
  $("log").addEventListener("change", e => change({ log: e.target.checked }));
  $("more").addEventListener("click", () => change({ rows: Infinity }));
  window.addEventListener("resize", later(drawCharts));
  window.addEventListener("hashchange", () => { readAddress(); update(); });
  makeCharts();
  makeAxes();
  update();
  document.documentElement.dataset.ready = Math.round(performance.now()); // ms from the start of loading
}

function change(what) {
  Object.assign(view, what);
  update();
  writeAddress();
}

function update() {
  const keeps = makeFilter(view.filter);
  visible = new Set();
  data.runs.forEach((run, i) => {
    if (keeps(run) && withinBrushes(run) && !view.off.has(i)) visible.add(i);
  });
  $("smoothed").textContent = view.smooth.toFixed(2);
  $("shown").textContent = visible.size === data.runs.length ? plural(visible.size, "run") : `${visible.size} of ${plural(data.runs.length, "run")}`;
  drawCharts();
  drawAxes();
  drawTable(keeps);
}

function readAddress() {
  const kept = new URLSearchParams(location.hash.slice(1));
  if (kept.has("filter")) view.filter = kept.get("filter");
  if (kept.has("sort")) view.sort = kept.get("sort");
  if (kept.has("smooth")) view.smooth = Math.min(Math.max(Number(kept.get("smooth")) || 0, 0), 0.99);
  if (kept.has("log")) view.log = kept.get("log") === "1";
}

const writeAddress = later(() => {
  const kept = new URLSearchParams();
  if (view.filter) kept.set("filter", view.filter);
  if (view.sort) kept.set("sort", view.sort);
  if (view.smooth) kept.set("smooth", view.smooth);
  if (view.log) kept.set("log", "1");
  history.replaceState(null, "", "#" + kept); // does not call readAddress
});

// ---- Values

// cell is what a run has in a column: a number, a text, or null.
function cell(run, column) {
  if (column === "name" || column === "state") return run[column];
  if (column === "seconds") return run.seconds ?? null;
  const value = column in run.vars ? run.vars[column] : run.metrics[column];
  return value === undefined || value === null || typeof value === "number" || typeof value === "string" ? value ?? null : JSON.stringify(value);
}

// compare puts numbers before texts, and nothing last.
function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

// makeFilter reads words that all have to hold: COLUMN OP VALUE, or a part of the run's name.
function makeFilter(text) {
  const tests = text.trim().split(/\s+/).filter(Boolean).map(word => {
    const [, column, op, value] = word.match(/^([^=!<>]+)(!=|<=|>=|=|<|>)(.*)$/) || [];
    if (!column || !["name", "state", "seconds", ...data.vars, ...data.metrics].includes(column))
      return run => run.name.toLowerCase().includes(word.toLowerCase());
    return run => {
      const has = cell(run, column);
      if (has === null) return op === "!=";
      const order = compare(has, typeof has === "number" && value !== "" && !isNaN(value) ? Number(value) : value);
      return { "=": order === 0, "!=": order !== 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0 }[op];
    };
  });
  return run => tests.every(test => test(run));
}

function short(v) {
  if (v === null || v === undefined) return "";
  if (typeof v !== "number") return String(v);
  return String(Number(v.toPrecision(5)));
}

const plural = (n, noun) => n + " " + noun + (n === 1 ? "" : "s");

// colour turns by the golden angle from run to run, so that neighbours differ; a few runs are neighbours among themselves.
function colour(run) {
  const at = visible.size <= 12 && visible.has(run) ? [...visible].indexOf(run) : run;
  return `hsl(${Math.round((at * 137.508 + 210) % 360)} 62% ${45 + at % 3 * 7}%)`;
}

function later(act) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; act(); });
  };
}

function make(parent, tag, text, attributes = {}) {
  const svg = parent.namespaceURI.endsWith("svg") || tag === "svg";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return parent.appendChild(element);
}

// ---- Curves

// smooth is the exponential moving average of the curve's points; one that stands for several counts as often.
function smooth(line) {
  const decay = Math.pow(view.smooth, line.each);
  let sum = 0, bias = 1;
  return line.y.map(v => {
    if (v === null) return null;
    sum = sum * decay + (1 - decay) * v;
    bias *= decay;
    return sum / (1 - bias);
  });
}

function makeCharts() {
  $("curves").hidden = data.charts.length === 0;
  for (const chart of data.charts) {
    const figure = make($("charts"), "figure");
    make(figure, "figcaption", chart.name);
    chart.canvas = make(figure, "canvas", "", { role: "img", "aria-label": chart.name });
    chart.canvas.addEventListener("pointermove", e => hover(chart, e));
    chart.canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
    chart.canvas.addEventListener("dblclick", () => change({ zoom: null }));
    chart.canvas.addEventListener("pointerdown", e => {
      const from = placeAt(chart, e);
      chart.canvas.setPointerCapture(e.pointerId);
      chart.canvas.addEventListener("pointerup", up => {
        const to = placeAt(chart, up);
        if (Math.abs(up.clientX - e.clientX) > 6 && chart.frame) change({ zoom: [Math.min(from, to), Math.max(from, to)] });
      }, { once: true });
    });
  }
}

function drawCharts() {
  for (const chart of data.charts) drawChart(chart);
}

function drawChart(chart) {
  const canvas = chart.canvas, scale = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  const g = canvas.getContext("2d");
  g.scale(scale, scale);
  chart.drawn = chart.lines.filter(line => visible.has(line.run)).map(line => ({ line, x: data.places[line.x], y: view.smooth ? smooth(line) : line.y }));
  chart.frame = frameOf(chart, width, height);
  if (!chart.frame) {
    g.fillStyle = getComputedStyle(canvas).color;
    g.fillText("no numbers to draw", 10, 20);
    return;
  }
  drawGrid(g, chart.frame, chart.axis, getComputedStyle(canvas).color);
  g.save();
  g.beginPath();
  g.rect(chart.frame.left, 0, chart.frame.width, height);
  g.clip();
  const few = chart.drawn.length <= fewLines;
  for (const { line, x, y } of chart.drawn) {
    g.strokeStyle = g.fillStyle = colour(line.run);
    if (few && line.lo) drawBand(g, chart.frame, x, line.lo, line.hi);
    if (few && view.smooth) drawCurve(g, chart.frame, x, line.y, 1, 0.25);
    drawCurve(g, chart.frame, x, y, few ? 1.7 : 1.1, few ? 1 : 0.75);
  }
  g.restore();
}

// frameOf finds the range that is drawn; null without a number. y is measured on the axis' scale.
function frameOf(chart, width, height) {
  const f = { x0: Infinity, x1: -Infinity, y0: Infinity, y1: -Infinity, left: 58, top: 8, width: width - 76, height: height - 34 };
  const few = chart.drawn.length <= fewLines;
  for (const { line, x, y } of chart.drawn) {
    for (let i = 0; i < y.length; i++) {
      if (view.zoom && (x[i] < view.zoom[0] || x[i] > view.zoom[1])) continue;
      for (const v of few && line.lo ? [line.lo[i], line.hi[i]] : [y[i]]) {
        if (v === null || x[i] === null || (view.log && v <= 0)) continue;
        const s = view.log ? Math.log10(v) : v;
        [f.x0, f.x1] = [Math.min(f.x0, x[i]), Math.max(f.x1, x[i])];
        [f.y0, f.y1] = [Math.min(f.y0, s), Math.max(f.y1, s)];
      }
    }
  }
  if (f.x0 > f.x1) return null;
  if (view.zoom) [f.x0, f.x1] = view.zoom;
  if (f.x0 === f.x1) { f.x0 -= 0.5; f.x1 += 0.5; }
  const spread = f.y1 - f.y0, room = spread > 1e-9 * Math.abs(f.y1) ? spread * 0.04 : Math.abs(f.y0) * 0.5 || 0.5;
  f.y0 -= room;
  f.y1 += room;
  f.toX = x => f.left + (x - f.x0) / (f.x1 - f.x0) * f.width;
  f.toY = v => f.top + (f.y1 - (view.log ? Math.log10(v) : v)) / (f.y1 - f.y0) * f.height;
  return f;
}

// ticks are round numbers within a range: 1, 2 or 5 times a power of ten apart.
function ticks(from, to, about) {
  const raw = (to - from) / about, power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= raw);
  const all = [];
  for (let i = Math.ceil(from / step); i * step <= to && all.length < 50; i++) all.push(i * step);
  return all;
}

// logTicks are round values between powers of ten: of each decade 1, or 1, 2 and 5; within one, as ticks has them.
function logTicks(from, to) {
  if (to - from < 1) return ticks(Math.pow(10, from), Math.pow(10, to), 5);
  const all = [], step = Math.ceil((to - from) / 8);
  for (let power = Math.ceil(from - 1); power <= to; power += step)
    for (const m of to - from < 3 ? [1, 2, 5] : [1]) if (Math.log10(m) + power >= from && Math.log10(m) + power <= to) all.push(m * Math.pow(10, power));
  return all;
}

function drawGrid(g, f, axis, text) {
  Object.assign(g, { font: "11px system-ui, sans-serif", fillStyle: text, strokeStyle: "#8883", lineWidth: 1 });
  Object.assign(g, { textAlign: "right", textBaseline: "middle" });
  for (const value of view.log ? logTicks(f.y0, f.y1) : ticks(f.y0, f.y1, 5)) {
    const y = f.toY(value);
    stroke(g, f.left, y, f.left + f.width, y);
    g.fillText(tickText(value), f.left - 6, y);
  }
  Object.assign(g, { textAlign: "center", textBaseline: "top" });
  for (const t of ticks(f.x0, f.x1, 5)) {
    const x = f.toX(t);
    stroke(g, x, f.top, x, f.top + f.height);
    g.fillText(tickText(t), x, f.top + f.height + 5);
  }
  g.textAlign = "right";
  g.fillText(axis, f.left + f.width, f.top + f.height + 16);
}

function tickText(v) {
  const size = Math.abs(v);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? v.toExponential(1).replace(".0e", "e") : String(Number(v.toPrecision(4)));
}

const stroke = (g, x, y, toX, toY) => g.stroke(new Path2D(`M${x} ${y}L${toX} ${toY}`));

const drawable = v => v !== null && (!view.log || v > 0);

function drawCurve(g, f, x, y, width, opacity) {
  g.lineWidth = width;
  g.globalAlpha = opacity;
  g.beginPath();
  let joined = false;
  for (let i = 0; i < y.length; i++) {
    if (!drawable(y[i]) || x[i] === null) { joined = false; continue; }
    const px = f.toX(x[i]), py = f.toY(y[i]);
    if (joined) g.lineTo(px, py);
    else if (drawable(y[i + 1] ?? null)) g.moveTo(px, py);
    else g.rect(px - 1, py - 1, 2, 2); // alone
    joined = true;
  }
  g.stroke();
  g.globalAlpha = 1;
}

function drawBand(g, f, x, low, high) {
  g.globalAlpha = 0.15;
  g.beginPath();
  for (let i = 0; i < x.length; i++) if (drawable(high[i])) g.lineTo(f.toX(x[i]), f.toY(high[i]));
  for (let i = x.length - 1; i >= 0; i--) if (drawable(low[i])) g.lineTo(f.toX(x[i]), f.toY(low[i]));
  g.fill();
  g.globalAlpha = 1;
}

function placeAt(chart, e) {
  const f = chart.frame;
  return f ? f.x0 + (e.clientX - chart.canvas.getBoundingClientRect().left - f.left) / f.width * (f.x1 - f.x0) : 0;
}

// hover names the line whose point is nearest to the pointer.
function hover(chart, e) {
  const f = chart.frame, box = chart.canvas.getBoundingClientRect();
  if (!f) return;
  let best = null, distance = 30 * 30;
  for (const one of chart.drawn) {
    for (let i = 0; i < one.y.length; i++) {
      if (!drawable(one.y[i])) continue;
      const dx = f.toX(one.x[i]) - (e.clientX - box.left), dy = f.toY(one.y[i]) - (e.clientY - box.top);
      if (dx * dx + dy * dy < distance) {
        distance = dx * dx + dy * dy;
        best = [one, i];
      }
    }
  }
  $("tip").hidden = !best;
  if (!best) return;
  const [{ line, x, y }, i] = best;
  $("tip").textContent = `${data.runs[line.run].name}${line.of ? " " + line.of : ""}\n${chart.axis} ${short(x[i])}: ${short(y[i])}` + (line.lo ? ` (${short(line.lo[i])} to ${short(line.hi[i])})` : "");
  $("tip").style.left = Math.min(e.clientX + 14, innerWidth - 260) + "px";
  $("tip").style.top = e.clientY + 14 + "px";
}

// ---- Parallel coordinates

const axes = [];

// makeAxes chooses the columns that say something: variables and metrics that differ, the metric aimed at last.
function makeAxes() {
  const metrics = data.metrics.filter(name => name !== data.metric);
  const chosen = [...data.vars, ...metrics].filter(differs).slice(0, mostAxes - 1);
  if (data.metric && differs(data.metric)) chosen.push(data.metric);
  $("parallel").hidden = chosen.length < 2;
  for (const column of chosen) {
    const values = data.runs.map(run => cell(run, column)).filter(v => v !== null);
    const numbers = values.every(v => typeof v === "number");
    const texts = numbers ? null : [...new Set(values.map(String))].sort();
    const low = numbers ? values.reduce((a, b) => Math.min(a, b)) : 0, high = numbers ? values.reduce((a, b) => Math.max(a, b)) : texts.length - 1;
    const wide = numbers && low > 0 && high / low > 30; // such as learning rates
    const share = v => wide ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low);
    axes.push({ column, low, high, texts, at: v => v === null ? null : share(numbers ? v : texts.indexOf(String(v))) });
  }
}

function differs(column) {
  const values = new Set();
  for (const run of data.runs) if (cell(run, column) !== null) values.add(cell(run, column));
  return values.size > 1;
}

function withinBrushes(run) {
  return axes.every(axis => {
    const range = view.brushes[axis.column];
    if (!range) return true;
    const at = axis.at(cell(run, axis.column));
    return at !== null && at >= range[0] && at <= range[1];
  });
}

function drawAxes() {
  if (axes.length < 2) return;
  $("axes").textContent = "";
  const width = $("axes").clientWidth, top = 28, height = 240, svg = make($("axes"), "svg", "", { viewBox: `0 0 ${width} 300` });
  axes.forEach((axis, i) => { axis.x = 50 + i * (width - 100) / (axes.length - 1); });
  const last = axes[axes.length - 1];
  const lines = data.runs.map((run, i) => {
    const points = axes.map(axis => [axis.x, axis.at(cell(run, axis.column))]).filter(p => p[1] !== null);
    const path = points.map(([x, at], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${(top + (1 - at) * height).toFixed(1)}`).join("");
    const value = last.at(cell(run, last.column));
    return { on: visible.has(i), path, colour: value === null ? "#8886" : `hsl(${Math.round(220 - value * 200)} 65% 50%)` };
  });
  for (const on of [false, true]) // those chosen above the others
    for (const line of lines) if (line.on === on && line.path) make(svg, "path", "", { d: line.path, stroke: line.colour, class: on ? "" : "off" });
  for (const axis of axes) drawAxis(svg, axis, top, height);
}

function drawAxis(svg, axis, top, height) {
  const anchor = axis === axes[0] ? "start" : axis === axes[axes.length - 1] ? "end" : "middle", x = anchor === "start" ? 4 : anchor === "end" ? axis.x + 46 : axis.x;
  make(svg, "line", "", { x1: axis.x, x2: axis.x, y1: top, y2: top + height });
  make(svg, "text", axis.column, { x, y: 10, "text-anchor": anchor, "font-weight": 600 });
  make(svg, "text", axis.texts ? axis.texts[axis.texts.length - 1] : short(axis.high), { x, y: top - 3, "text-anchor": anchor });
  make(svg, "text", axis.texts ? axis.texts[0] : short(axis.low), { x, y: top + height + 13, "text-anchor": anchor });
  const range = view.brushes[axis.column];
  if (range) make(svg, "rect", "", { class: "brush", x: axis.x - 7, width: 14, y: top + (1 - range[1]) * height, height: (range[1] - range[0]) * height });
  const touch = make(svg, "rect", "", { class: "touch", x: axis.x - 14, width: 28, y: top - 6, height: height + 12 });
  const at = e => 1 - (e.clientY - touch.getBoundingClientRect().top - 6) / height;
  touch.addEventListener("pointerdown", e => {
    const from = at(e);
    touch.setPointerCapture(e.pointerId);
    touch.addEventListener("pointerup", up => {
      const to = at(up);
      if (Math.abs(to - from) < 0.02) delete view.brushes[axis.column];
      else view.brushes[axis.column] = [Math.min(from, to), Math.max(from, to)];
      update();
    }, { once: true });
  });
}

// ---- Table

function drawTable(keeps) {
  const columns = ["name", ...data.vars, ...data.metrics, "seconds", "state"];
  const down = view.sort.startsWith("-"), sort = view.sort.replace(/^-/, "");
  const rows = data.runs.map((run, i) => i).filter(i => keeps(data.runs[i]) && withinBrushes(data.runs[i]));
  if (sort) rows.sort((i, j) => {
    const a = cell(data.runs[i], sort), b = cell(data.runs[j], sort);
    return (down && a !== null && b !== null ? compare(b, a) : compare(a, b)) || i - j;
  });
  const number = new Set(columns.filter(c => c === "seconds" || rows.some(i => typeof cell(data.runs[i], c) === "number")));
  $("head").textContent = $("rows").textContent = "";
  const head = make($("head"), "tr");
  for (const column of columns) {
    const th = make(head, "th", "", { class: number.has(column) ? "n" : "", "aria-sort": column !== sort ? "none" : down ? "descending" : "ascending" });
    make(th, "button", column + (column !== sort ? "" : down ? " ↓" : " ↑"))
      .addEventListener("click", () => change({ sort: column === sort && !down ? "-" + column : column }));
  }
  make(head, "th", "artifacts");
  for (const i of rows.slice(0, view.rows)) drawRow(i, columns, number);
  $("more").hidden = rows.length <= view.rows;
  $("more").textContent = `all ${rows.length} runs`;
}

function drawRow(i, columns, number) {
  const run = data.runs[i], tr = make($("rows"), "tr", "", { class: visible.has(i) ? "" : "dim" });
  for (const column of columns) {
    const td = make(tr, "td", column === "name" ? "" : short(cell(run, column)), { class: number.has(column) ? "n" : column === "state" ? run.state : "" });
    if (column !== "name") continue;
    const box = make(make(td, "label"), "input", "", { type: "checkbox" });
    box.checked = !view.off.has(i);
    box.addEventListener("change", () => { box.checked ? view.off.delete(i) : view.off.add(i); update(); });
    make(box.parentNode, "i").style.background = colour(i);
    box.parentNode.append(run.name);
  }
  const td = make(tr, "td");
  if (!run.artifacts) return;
  const list = make(td, "details");
  make(list, "summary", plural(run.artifacts.length, "output"));
  for (const one of run.artifacts) make(list, "a", `${one.name} (${one.size})`, { href: one.link });
}

start();
