// Runs the script of a page in Node, without a browser: node node.js PAGE HASH. The few things of a browser that it uses are
// played here. Prints what a reader would see, as JSON: texts by the element's id, rows of the table, charts with the strokes
// drawn in them, lines between the axes; then what a click on the third head and on the first box of the table makes of it.
"use strict";
const fs = require("fs"), vm = require("vm");
const [page, hash] = process.argv.slice(2);
const html = fs.readFileSync(page, "utf8");

class Element {
  constructor(tag, svg) {
    Object.assign(this, { tag, children: [], own: "", dataset: {}, style: {}, attributes: {}, heard: {}, hidden: false, strokes: 0,
      clientWidth: 500, clientHeight: 300, namespaceURI: svg ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml" });
  }
  appendChild(child) { this.children.push(child); child.parentNode = this; return child; }
  append(text) { this.appendChild(Object.assign(new Element("#text"), { own: text })); }
  setAttribute(name, value) { this.attributes[name] = String(value); }
  addEventListener(name, act) { this.heard[name] = act; }
  set textContent(text) { this.children = []; this.own = String(text); }
  get textContent() { return this.own + this.children.map(child => child.textContent).join(""); }
  all(tag) { return this.children.flatMap(child => [...(child.tag === tag ? [child] : []), ...child.all(tag)]); }
  getBoundingClientRect() { return { left: 0, top: 0 }; }
  getContext() {
    const number = v => { if (typeof v === "number" && !Number.isFinite(v)) throw new Error("a place that is no number is drawn"); };
    return new Proxy({}, { get: (g, name) => name in g ? g[name] : (...args) => {
      args.forEach(number);
      if (name === "stroke" || name === "fill" || name === "fillRect") this.strokes++;
      return { width: 8 };
    }, set: (g, name, value) => { g[name] = value; return true; } });
  }
}

const ids = {};
for (const [, id] of html.matchAll(/ id="(\w+)"/g)) ids[id] = new Element(id);
const between = (start, end) => html.slice(html.indexOf(start) + start.length, html.indexOf(end, html.indexOf(start)));
ids.data.own = between('<script type="application/json" id="data">', "</script>");
const root = new Element("html"), window = new Element("window");
window.devicePixelRatio = 1;
const world = {
  window, location: { hash }, history: { replaceState: (a, b, to) => { world.location.hash = to; } }, performance, URLSearchParams,
  document: { documentElement: root, body: root, getElementById: id => ids[id], createElement: tag => new Element(tag), createElementNS: (ns, tag) => new Element(tag, true) },
  requestAnimationFrame: act => act(), getComputedStyle: () => ({ color: "black" }),
  Path2D: class { moveTo(...at) { this.lineTo(...at); } lineTo(...at) { if (!at.every(Number.isFinite)) throw new Error("a line leads nowhere"); } closePath() {} },
};
vm.runInNewContext(between("<script>", "</script>").replace(/^"use strict";/m, ""), world);

const seen = () => ({
  title: ids.title.textContent, shown: ids.shown.textContent, address: world.location.hash,
  heads: ids.head.all("button").map(b => b.textContent),
  rows: ids.rows.all("tr").map(tr => tr.children[0].textContent),
  charts: ids.charts.all("figure").map(f => [f.all("figcaption")[0].textContent, f.all("canvas")[0].strokes > 0]),
  lines: ids.axes.all("path").length, off: ids.axes.all("path").filter(p => p.attributes.class === "off").length,
  links: ids.rows.all("a").map(a => a.attributes.href),
});
const first = seen();
ids.head.all("button")[2].heard.click({});
const sorted = seen();
const box = ids.rows.all("input")[0];
if (box) { // an empty page has none
  box.checked = false;
  box.heard.change({});
}
console.log(JSON.stringify({ ready: root.dataset.ready, first, sorted, switched: seen() }));
