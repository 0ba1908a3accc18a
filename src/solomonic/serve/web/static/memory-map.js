// The memory map: for every token, what each layer holds of it after so many tokens read.
//
// A layer sees the last `window` tokens and, behind them, those that its eidetic memory keeps; the
// rest is in its fading memory alone.

import { $, el, svg, table } from "./dom.js";

const COLOURS = 8; // --layer-0 .. --layer-7
const MOST = 4000; // tokens that are drawn

export class MemoryMap {
  constructor(box) {
    this.box = box;
    this.map = null;
    this.empty("Which tokens each layer of the model keeps, and which it lets go, appears here after the model has read a text.");
  }

  empty(text) {
    this.map = null;
    $("map-note").textContent = "";
    this.box.replaceChildren(el("p", { class: "empty-small muted", text }));
  }

  busy() {
    this.box.setAttribute("aria-busy", "true");
    $("map-note").textContent = "reading …";
  }

  /** @param {object} map answer of /v1/memory_map */
  show(map) {
    this.box.removeAttribute("aria-busy");
    const length = map.tokens.length;
    this.map = map;
    this.hidden = new Set();
    this.time = length;
    this.at = null;
    const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;
    $("map-note").textContent = `${plural(length, "token")}, window of ${map.window}`;
    this.held = el("div", { class: "map-layers", role: "group", "aria-label": "Layers that are shown" });
    this.range = el("input", { type: "range", id: "map-time", min: 1, max: length, value: length, oninput: () => { this.time = Number(this.range.value); this.colour(); } });
    this.moment = el("output", { for: "map-time" });
    this.flow = el("div", { class: "map-flow", role: "group", "aria-label": "Tokens; arrow keys go from one to the next" });
    this.inspector = el("div", { class: "inspector", role: "status" });
    this.details = el("details", { class: "table-box" }, el("summary", { text: "Map as a table" }), el("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Tokens and layers" }));
    this.details.addEventListener("toggle", () => this.list());
    this.tokens = map.tokens.slice(0, MOST).map((text, position) => this.token(text, position));
    this.flow.append(...this.tokens);
    this.flow.addEventListener("keydown", (event) => this.key(event));
    this.flow.addEventListener("pointerover", (event) => this.point(event.target.closest("[data-position]")));
    this.flow.addEventListener("focusin", (event) => this.point(event.target.closest("[data-position]")));
    this.box.replaceChildren(
      this.held,
      el("div", { class: "map-time" }, el("label", { for: "map-time", text: "After reading" }), this.range, this.moment),
      this.flow,
      length > MOST ? el("p", { class: "muted", text: `The first ${MOST} tokens are shown.` }) : "",
      this.inspector,
      el("div", { class: "under" }, legend(), this.details),
    );
    this.layers();
    this.colour();
    this.point(null);
  }

  token(text, position) {
    const shown = text.replaceAll("\n", "↵").replaceAll("\t", "⇥");
    const node = el("span", { class: "token", tabindex: position ? "-1" : "0", role: "img", "data-position": position },
      el("span", { class: "token-text", text: shown }), this.strip());
    if (!text.endsWith("\n")) return node;
    node.classList.add("line-end");
    return node;
  }

  strip() {
    const { layers } = this.map;
    return svg("svg", { class: "strip", viewBox: `0 0 10 ${layers.length * 5}`, preserveAspectRatio: "none", "aria-hidden": "true", height: layers.length * 5 },
      layers.map((_, row) => svg("rect", { x: 0, y: row * 5, width: 10, height: 4 })));
  }

  layers() {
    this.held.replaceChildren(...this.map.layers.map((layer, row) => {
      const button = el("button", { type: "button", class: `layer-chip layer-${row % COLOURS}`, "aria-pressed": "true" },
        el("i", {}), `layer ${layer.layer}`, el("span", { class: "count" }));
      button.addEventListener("click", () => {
        if (this.hidden.has(row)) this.hidden.delete(row);
        else this.hidden.add(row);
        button.setAttribute("aria-pressed", String(!this.hidden.has(row)));
        this.colour();
      });
      return button;
    }));
  }

  /** What `layer` has of a token at the moment that is shown. */
  status(layer, position) {
    if (position >= this.time) return "unread";
    const kept = layer.since[position] >= 0 && layer.since[position] <= this.time
      && (this.time < layer.until[position] || (this.time === this.map.tokens.length && layer.kept.includes(position)));
    if (kept) return "kept";
    if (position >= this.time - this.map.window) return "window";
    return layer.since[position] >= 0 && layer.since[position] <= this.time ? "let-go" : "faded";
  }

  colour() {
    this.moment.textContent = `${this.time} of ${this.map.tokens.length}`;
    const counts = this.map.layers.map(() => 0);
    for (const [position, node] of this.tokens.entries()) {
      const rects = node.lastElementChild.children;
      node.classList.toggle("unread", position >= this.time);
      for (const [row, layer] of this.map.layers.entries()) {
        const status = this.status(layer, position);
        if (status === "kept") counts[row] += 1;
        // What was let go is a line: a form of its own, not only a paler colour.
        rects[row].setAttribute("y", row * 5 + (status === "let-go" ? 1.4 : 0));
        rects[row].setAttribute("height", status === "let-go" ? 1.3 : 4);
        rects[row].setAttribute("class", this.hidden.has(row) ? "off" : `${status} layer-${row % COLOURS}`);
      }
      node.setAttribute("aria-label", this.describe(position));
    }
    for (const [row, button] of [...this.held.children].entries()) {
      const { slots } = this.map.layers[row];
      button.querySelector(".count").textContent = `${counts[row]}${slots ? ` of ${slots}` : ""}`;
    }
    if (this.at !== null) this.point(this.tokens[this.at]);
    this.list();
  }

  describe(position) {
    const kept = this.map.layers.filter((layer, row) => !this.hidden.has(row) && this.status(layer, position) === "kept").map((layer) => layer.layer);
    const text = this.map.tokens[position].replaceAll("\n", "new line").trim() || "blank";
    return `${text}, token ${position}${kept.length ? `, kept by layer ${kept.join(", ")}` : ""}`;
  }

  point(node) {
    if (!node) {
      this.inspector.replaceChildren(el("p", { class: "muted", text: "Point at a token, or move to it with Tab and the arrow keys." }));
      return;
    }
    this.at = Number(node.dataset.position);
    const names = { kept: "kept", window: "in the window", "let-go": "kept, then let go", faded: "faded", unread: "not read yet" };
    this.inspector.replaceChildren(
      el("p", {}, el("strong", { class: "mono", text: JSON.stringify(this.map.tokens[this.at]).slice(1, -1).replaceAll(" ", "␣") }), el("span", { class: "muted", text: ` token ${this.at}` })),
      el("dl", { class: "parts" }, this.map.layers.map((layer, row) => {
        const innovation = layer.innovation?.[this.at];
        return el("div", { class: `layer-${row % COLOURS}` }, el("dt", { text: `layer ${layer.layer}` }),
          el("dd", { text: `${names[this.status(layer, this.at)]}${layer.since[this.at] >= 0 ? ` (from ${layer.since[this.at]})` : ""}${innovation === undefined ? "" : `, innovation ${innovation.toPrecision(3)}`}` }));
      })),
    );
  }

  key(event) {
    const now = event.target.closest("[data-position]");
    const at = now ? Number(now.dataset.position) : -1;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: this.tokens.length - 1 }[event.key];
    if (!now || to === undefined || !this.tokens[to]) return;
    event.preventDefault();
    now.setAttribute("tabindex", "-1");
    this.tokens[to].setAttribute("tabindex", "0");
    this.tokens[to].focus();
  }

  list() {
    if (!this.details.open) return;
    const heads = ["token", "position", ...this.map.layers.map((layer) => `layer ${layer.layer}`)];
    const rows = this.tokens.map((_, position) => [this.map.tokens[position].replaceAll("\n", "↵"), position, ...this.map.layers.map((layer) => this.status(layer, position).replace("-", " "))]);
    this.details.querySelector("div").replaceChildren(table("Memory map", heads, rows, new Set([1])));
  }
}

function legend() {
  const sample = (kind, text) => el("span", {}, svg("svg", { viewBox: "0 0 26 12", "aria-hidden": "true", class: "strip-sample" }, svg("rect", { class: `${kind} layer-0`, x: 1, y: kind === "let-go" ? 5 : 3, width: 24, height: kind === "let-go" ? 2 : 6 })), text);
  return el("p", { class: "legend" }, sample("kept", "kept in eidetic memory"), sample("window", "in the window"), sample("let-go", "was kept, let go"), sample("faded", "in fading memory alone"));
}
