// The n-best list of the chosen sentence, with the parts of the scores.

import { $, el, score } from "./dom.js";
import { scoreParts } from "./lattice-view.js";
import { alternatives, bestText } from "./session.js";
import { marked } from "./transcript.js";

export class Hypotheses {
  /** @param {function(number[]|null): void} point shows a path in the lattice */
  constructor(point) {
    this.point = point;
    this.shown = null;
  }

  show(one) {
    const list = one ? alternatives(one) : [];
    if (list === this.shown) return;
    this.shown = list;
    this.chosen = null;
    const reranked = Boolean(one?.reranked);
    $("nbest-empty").hidden = list.length > 0;
    $("nbest-note").textContent = !list.length ? "" : reranked ? "reranked" : "as recognised";
    const top = list[0]?.score ?? 0;
    const first = one ? one.text : "";
    $("nbest").replaceChildren(...list.slice(0, 10).map((other, index) => this.row(other, index, top, first, one)));
  }

  row(other, index, top, first, one) {
    const button = el("button", {
      type: "button", class: "hypothesis", "aria-pressed": "false",
      onclick: () => this.choose(button, other),
    },
    el("span", { class: "rank", text: index + 1 }),
    el("span", { class: "words" }, index === 0 && bestText(one) === first ? other.text : marked(index ? bestText(one) : first, other.text)),
    el("span", { class: "total", title: "score in nats", text: index ? score(other.score - top, 1) : score(other.score, 1) }));
    const row = el("li", {}, button, el("div", { class: "more", hidden: index > 0 }, scoreParts(other)));
    return row;
  }

  choose(button, other) {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const node of $("nbest").querySelectorAll("button")) node.setAttribute("aria-pressed", "false");
    for (const [index, row] of [...$("nbest").children].entries()) row.querySelector(".more").hidden = index > 0;
    button.setAttribute("aria-pressed", String(on));
    if (on) button.nextElementSibling.hidden = false;
    this.point(on ? other.arcs ?? null : null);
  }
}
