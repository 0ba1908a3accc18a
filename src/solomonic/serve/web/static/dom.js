// Making elements, and how numbers are written.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element; text is always text, never markup. */
export const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

/** An SVG element. */
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** 83.4 -> "1:23.4" */
export function clock(seconds, digits = 1) {
  const scale = 10 ** digits;
  const whole = Math.max(0, Math.round(seconds * scale));
  const minutes = Math.floor(whole / (60 * scale));
  const rest = (whole / scale - 60 * minutes).toFixed(digits);
  return `${minutes}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

/** A score with a proper minus sign: -3.2 -> "−3.2" */
export function score(value, digits = 2) {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return "–";
  const shown = Number(value).toFixed(digits);
  return Number(shown) === 0 ? (0).toFixed(digits) : shown.replace("-", "−");
}

/** A table with a heading row; the first cell of a row is its heading. Cells that are numbers or
 * scores stand to the right when their column is in `numeric`. */
export function table(caption, heads, rows, numeric = new Set()) {
  const kind = (column) => (numeric.has(column) ? { class: "number" } : {});
  return el("table", {},
    el("caption", { class: "hidden", text: caption }),
    el("thead", {}, el("tr", {}, heads.map((text, column) =>
      el("th", { scope: "col", text, ...kind(column) })))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((text, column) =>
      el(column ? "td" : "th", { text, ...(column ? {} : { scope: "row" }), ...kind(column) }))))));
}

/** Calls `work` at most once a frame, however often it is asked for. */
export function perFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; work(); });
  };
}

let hiding = 0;

/** A short notice at the bottom; also read out. */
export function toast(text) {
  const node = $("toast");
  node.textContent = text;
  node.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { node.hidden = true; }, 3500);
}

/** What stands above a tab until it is solved: a sentence, and perhaps a button. */
export function banner(node, text, { bad = true, action = null, label = "" } = {}) {
  node.hidden = !text;
  node.classList.toggle("bad", bad);
  node.replaceChildren(...(text ? [el("span", { text })] : []));
  if (text && action) node.append(el("button", { class: "button small", type: "button", text: label, onclick: action }));
}
