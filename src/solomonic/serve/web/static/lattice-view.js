// The lattice on the page: SVG with one tab stop, arrow keys between arcs, score parts of the arc
// that is pointed at, and the same as a table.

import { $, el, score, svg, table } from "./dom.js";
import { curve, LANE, layOut, xAt } from "./lattice-layout.js";

const TOP = 18;
const AXIS = 30;
const PARTS = [["acoustic", "acoustic"], ["bias", "personal words"], ["lm", "language model"], ["internal", "internal model"], ["memory", "memory"], ["words", "words"]];

const ruler = document.createElement("canvas").getContext("2d");

/** Px of a label: the word and its probability. */
function labelWidth(arc) {
  ruler.font = '600 14px Inter, system-ui, "DejaVu Sans", sans-serif';
  const word = ruler.measureText(arc.word || "ε").width;
  ruler.font = '500 11px Inter, system-ui, "DejaVu Sans", sans-serif';
  return word + (probability(arc) ? ruler.measureText(probability(arc)).width + 5 : 0) + 18;
}

const probability = (arc) => (arc.posterior === null || arc.posterior >= 0.995 ? "" : arc.posterior.toFixed(2).replace(/^0/, ""));

export class LatticeView {
  constructor() {
    this.zoom = 1;
    this.one = null;
    this.path = null; // arcs of the hypothesis that is pointed at, in place of the reranked one's
    this.seen = new Set(); // arcs drawn before: new ones fade in
    this.box = $("lattice");
    $("lattice-in").addEventListener("click", () => this.setZoom(this.zoom * 1.3));
    $("lattice-out").addEventListener("click", () => this.setZoom(this.zoom / 1.3));
    $("lattice-fit").addEventListener("click", () => this.fit());
    this.box.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.setZoom(this.zoom * Math.exp(-event.deltaY / 300));
    }, { passive: false });
    this.box.addEventListener("keydown", (event) => this.key(event));
    $("lattice-table").addEventListener("toggle", () => this.list());
    $("lattice-all").addEventListener("change", () => { this.begun = false; this.show(this.one, this.path); });
    legend();
    this.show(null);
  }

  /** @param {object|null} one sentence of the session */
  show(one, path = null) {
    const other = one?.number !== this.one?.number;
    const lattice = one?.lattice;
    if (this.begun && !other && lattice === this.lattice && one?.reranked === this.reranked && path === this.path) return;
    this.begun = true;
    if (other) this.seen = new Set();
    Object.assign(this, { one, lattice, reranked: one?.reranked, path });
    if (!lattice?.arcs.length) {
      this.layout = null;
      this.seen = new Set();
      this.box.replaceChildren(el("p", { class: "empty-small muted", text: "Every way in which a sentence may be read appears here as soon as somebody speaks." }));
      this.inspect(null);
      this.list();
      return;
    }
    this.best = new Set(one.best);
    this.chosen = new Set(path ?? one.reranked?.arcs ?? []);
    this.layout = layOut(lattice, this.best, this.chosen, labelWidth, this.box.clientWidth - 2, $("lattice-all").checked);
    this.draw(other);
    this.inspect(null);
    this.list();
  }

  setZoom(zoom) {
    this.zoom = Math.min(2.5, Math.max(0.25, zoom));
    this.resize();
  }

  fit() {
    if (!this.layout) return;
    this.setZoom(Math.min(1.6, (this.box.clientWidth - 4) / this.layout.width));
    this.box.scrollLeft = 0;
  }

  resize() {
    const picture = this.box.querySelector("svg");
    if (!picture) return;
    picture.setAttribute("width", Math.round(this.layout.width * this.zoom));
    picture.setAttribute("height", Math.round(this.size * this.zoom));
  }

  draw(other) {
    const { layout } = this;
    this.size = TOP + layout.height + AXIS;
    const y = (lane) => TOP + (lane - layout.low + 0.5) * LANE;
    const order = [...layout.arcs].sort((a, b) => this.weight(a) - this.weight(b));
    const seen = new Set();
    const bands = order.filter((arc) => this.chosen.has(arc.index))
      .map((arc) => svg("path", { class: "band", d: curve(layout, arc, y) }));
    const curves = order.map((arc) => {
      const key = `${arc.word} ${arc.start} ${arc.lane}`;
      seen.add(key);
      return svg("path", {
        class: this.kind(arc, this.seen.has(key) ? "" : " fresh"), d: curve(layout, arc, y),
        "stroke-width": (1 + 2.4 * (arc.posterior ?? 1)).toFixed(1),
        opacity: this.best.has(arc.index) || this.chosen.has(arc.index) ? 1 : (0.35 + 0.6 * Math.sqrt(arc.posterior ?? 1)).toFixed(2),
      });
    });
    this.seen = seen;
    const dots = layout.x.flatMap((x, node) => (layout.nodeLane.has(node)
      ? [svg("circle", { class: layout.nodeLane.get(node) === 0 ? "node main" : "node", cx: x.toFixed(1), cy: y(layout.nodeLane.get(node)), r: layout.nodeLane.get(node) === 0 ? 4 : 3 })] : []));
    const labels = [...layout.arcs].sort((a, b) => a.start - b.start || a.lane - b.lane).map((arc, place) => this.label(arc, y, place));
    const picture = svg("svg", {
      viewBox: `0 0 ${layout.width.toFixed(0)} ${this.size}`, role: "group",
      "aria-label": `Lattice of sentence ${this.one.number + 1}: ${layout.arcs.length} arcs. Arrow keys go from arc to arc.`,
    }, this.axis(), bands, curves, dots, labels);
    const left = this.box.scrollLeft;
    this.box.replaceChildren(picture);
    this.resize();
    if (this.lattice.growing) this.box.scrollLeft = this.box.scrollWidth;
    else this.box.scrollLeft = other ? 0 : left;
    this.box.scrollTop = y(0) * this.zoom - this.box.clientHeight / 2;
  }

  weight(arc) {
    return (this.best.has(arc.index) ? 4 : 0) + (this.chosen.has(arc.index) ? 2 : 0) + (arc.posterior ?? 1);
  }

  kind(arc, more = "") {
    return `arc${this.best.has(arc.index) ? " best" : ""}${this.chosen.has(arc.index) ? " path" : ""}${arc.open ? " open" : ""}${more}`;
  }

  label(arc, y, place) {
    const x = arc.middle;
    const top = y(arc.lane) - 12;
    const node = svg("g", {
      class: this.kind(arc).replace("arc", "tag"), role: "img", tabindex: place ? "-1" : "0", "data-arc": arc.index, "data-place": place,
      "aria-label": `${arc.word || "silence"}, ${arc.start.toFixed(2)} to ${arc.end.toFixed(2)} s${arc.posterior === null ? "" : `, probability ${arc.posterior.toFixed(2)}`}${this.best.has(arc.index) ? ", one-best" : ""}${this.chosen.has(arc.index) ? ", reranked" : ""}`,
    },
    svg("rect", { x: (x - arc.width / 2 + 3).toFixed(1), y: top, width: (arc.width - 6).toFixed(1), height: 24, rx: 7 }),
    svg("text", { x: x.toFixed(1), y: top + 17, "text-anchor": "middle" }, svg("tspan", { text: arc.word || "ε" }),
      probability(arc) ? svg("tspan", { class: "p", dx: 5, text: probability(arc) }) : null));
    node.addEventListener("pointerenter", () => this.inspect(arc));
    node.addEventListener("focus", () => this.inspect(arc));
    return node;
  }

  axis() {
    const { layout } = this;
    const seconds = this.lattice.frame_seconds;
    const [first, last] = [layout.place[0][0] * seconds, layout.place.at(-1)[0] * seconds];
    const step = last - first > 20 ? 1 : 0.2;
    const bottom = this.size - AXIS;
    const nodes = [];
    let free = -Infinity;
    for (let mark = Math.ceil(first / step - 1e-9); mark * step <= last + 1e-9; mark += 1) {
      const at = xAt(layout, (mark * step) / seconds);
      if (at < free) continue;
      free = at + 56;
      const x = at.toFixed(1);
      nodes.push(svg("path", { class: "grid", d: `M${x} 4V${bottom + 5}` }),
        svg("text", { class: "tick", x, y: bottom + 20, "text-anchor": "middle", text: `${(mark * step).toFixed(1)} s` }));
    }
    return nodes;
  }

  key(event) {
    const now = event.target.closest?.("[data-place]");
    if (!now) return;
    const tags = [...this.box.querySelectorAll("[data-place]")].sort((a, b) => a.dataset.place - b.dataset.place);
    const at = tags.indexOf(now);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: tags.length - 1 }[event.key];
    if (to === undefined || !tags[to]) return;
    event.preventDefault();
    now.setAttribute("tabindex", "-1");
    tags[to].setAttribute("tabindex", "0");
    tags[to].focus();
    tags[to].scrollIntoView({ block: "nearest", inline: "center" });
  }

  /** The parts of an arc's score, and of the best sentence that goes through it. */
  inspect(arc) {
    const box = $("lattice-inspector");
    if (!this.layout) { box.replaceChildren(); return; }
    if (!arc) {
      box.replaceChildren(el("p", { class: "muted", text: this.lattice.growing
        ? "Still being spoken: the words so far." : "Point at a word, or move to it with Tab and the arrow keys, to see where its score comes from." }));
      return;
    }
    const ways = (this.reranked?.hypotheses ?? []).filter((one) => one.arcs?.includes(arc.index));
    box.replaceChildren(
      el("p", {}, el("strong", { text: arc.word || "(silence)" }),
        el("span", { class: "muted", text: ` ${arc.start.toFixed(2)} to ${arc.end.toFixed(2)} s` })),
      parts([["probability", arc.posterior], ["acoustic", arc.acoustic], ["personal words", arc.bias]]),
      ...(ways.length ? [
        el("p", {}, el("span", { class: "muted", text: "best sentence through it: " }), ways[0].text),
        parts([["score", ways[0].score], ...PARTS.map(([name, title]) => [title, ways[0][name]])]),
      ] : []),
    );
  }

  list() {
    const { layout } = this;
    const note = layout ? `${this.lattice.arcs.length} ${this.lattice.arcs.length === 1 ? "arc" : "arcs"}${layout.dropped ? `, ${layout.arcs.length} shown` : ""}` : "";
    $("lattice-note").textContent = layout ? `sentence ${this.one.number + 1} · ${note}` : "";
    if (!$("lattice-table").open) return;
    const rows = (layout?.arcs ?? []).map((arc) => [
      arc.word || "ε", arc.start.toFixed(2), arc.end.toFixed(2), score(arc.posterior, 3), score(arc.acoustic), score(arc.bias),
      this.best.has(arc.index) ? "yes" : "", this.chosen.has(arc.index) ? "yes" : "",
    ]);
    $("lattice-table").querySelector("div").replaceChildren(rows.length
      ? table("Arcs", ["word", "from (s)", "to (s)", "probability", "acoustic", "bias", "one-best", "reranked"], rows, new Set([1, 2, 3, 4, 5]))
      : el("p", { class: "muted pad", text: "No lattice yet." }));
  }
}

/** A list of named figures; those that are not known are left out. */
export function parts(pairs) {
  return el("dl", { class: "parts" }, pairs.filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => el("div", {}, el("dt", { text: name }), el("dd", { text: score(value, name === "words" ? 0 : 2) }))));
}

export const scoreParts = (one) => parts(PARTS.map(([name, title]) => [title, one[name]]));

function legend() {
  const sample = (kinds, text) => el("span", {}, svg("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" },
    kinds.map((kind) => svg("path", { class: kind, d: "M2 6H24", "stroke-width": 3 }))), text);
  $("lattice-legend").append(sample(["arc best"], "recogniser's best"), sample(["band", "arc path"], "after reranking"),
    sample(["arc"], "other readings, thicker if likelier"));
}
