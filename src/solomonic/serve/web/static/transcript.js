// The sentences: finished ones in ink, the one that is being spoken with its unstable words grey.

import { $, clock, el } from "./dom.js";
import { bestText } from "./session.js";

const PHASES = { speaking: "listening", guess: "probably over", final: "" };
const READ_EVERY = 1500; // ms between what a screen reader is told of a sentence under way

/** Which words of `after` are not in `before`, by their longest common sequence. */
export function changedWords(before, after) {
  const [a, b] = [before.split(" "), after.split(" ")];
  const size = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      size[i][j] = a[i] === b[j] ? size[i + 1][j + 1] + 1 : Math.max(size[i + 1][j], size[i][j + 1]);
    }
  }
  const changed = new Array(b.length).fill(true);
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) { changed[j] = false; i += 1; j += 1; }
    else if (size[i + 1][j] >= size[i][j + 1]) i += 1;
    else j += 1;
  }
  return b.map((word, index) => [word, changed[index]]);
}

/** Words with those that differ from `before` marked. */
export function marked(before, after) {
  return changedWords(before, after).flatMap(([word, changed], index) => [
    index ? " " : null, changed ? el("mark", { text: word }) : word,
  ]);
}

export class Transcript {
  /** @param {function(number): void} choose what to do when a sentence is pressed */
  constructor(choose) {
    this.choose = choose;
    this.shown = new Map(); // number -> [element, what it shows]
    this.read = 0;
    this.said = "";
  }

  show(session, chosen) {
    const spoken = session.spoken;
    $("transcript-empty").hidden = spoken.length > 0;
    const finals = new Set();
    for (const one of spoken.filter((item) => item.phase === "final")) {
      finals.add(one.number);
      this.final(one, chosen === one.number);
    }
    for (const [number, [node]] of this.shown) {
      if (finals.has(number)) continue;
      node.remove();
      this.shown.delete(number);
    }
    this.partial(spoken.findLast((one) => one.phase !== "final"));
  }

  final(one, chosen) {
    const key = JSON.stringify([bestText(one), one.text, one.flags]);
    let [node, shown] = this.shown.get(one.number) ?? [null, ""];
    if (!node) {
      node = el("li", { class: "utterance", "data-number": one.number });
      $("utterances").append(node);
      this.follow();
    }
    if (shown !== key) {
      node.replaceChildren(...this.body(one));
      this.shown.set(one.number, [node, key]);
    }
    node.classList.toggle("chosen", chosen);
    node.querySelector("button").setAttribute("aria-pressed", String(chosen));
  }

  body(one) {
    const text = bestText(one);
    const changed = text !== one.text;
    return [
      el("button", {
        class: "time", type: "button", text: clock(one.start ?? one.result?.start ?? 0), "aria-label": `Show the sentence at ${clock(one.start ?? 0)} in the lattice`,
        onclick: () => this.choose(one.number),
      }),
      el("div", { class: "said" },
        el("p", { class: "sentence" }, changed ? marked(one.text, text) : text),
        changed ? el("p", { class: "heard" }, "heard: ", marked(text, one.text)) : null,
        flags(one.flags)),
    ];
  }

  partial(one) {
    const node = $("partial");
    node.hidden = !one;
    if (!one) return;
    const words = one.words.map((word, index) => [
      index ? " " : null, el("span", { class: index < one.stable || one.phase === "guess" ? "stable" : "unstable", text: word.text }),
    ]);
    const phase = PHASES[one.phase];
    node.replaceChildren(
      el("span", { class: "time", text: clock(one.start ?? 0) }),
      el("span", { class: "said" }, el("span", { class: "sentence" }, words), " ", el("span", { class: `phase ${one.phase}`, text: phase })),
    );
    this.follow();
    this.tell(one);
  }

  /** Reads stable words to a screen reader, not too often. */
  tell(one) {
    const stable = one.words.slice(0, one.stable).map((word) => word.text).join(" ");
    const now = performance.now();
    if (!stable || stable === this.said || now - this.read < READ_EVERY) return;
    this.said = stable;
    this.read = now;
    $("partial-live").textContent = stable;
  }

  /** Keeps the end in sight unless somebody has scrolled up. */
  follow() {
    const box = $("transcript");
    if (box.scrollHeight - box.scrollTop - box.clientHeight < 120) {
      requestAnimationFrame(() => { box.scrollTop = box.scrollHeight; });
    }
  }
}

/** Badges of speaker, whisper and language, or null. */
function flags(found) {
  const badges = [];
  if (found.speaker) {
    const sure = found.speaker_score ? `, score ${Number(found.speaker_score).toFixed(2)}` : "";
    badges.push(el("li", { class: "flag", title: `speaker${sure}`, text: `speaker ${found.speaker}` }));
  }
  const whisper = typeof found.whisper === "boolean" ? Number(found.whisper) : Number(found.whisper ?? 0);
  if (whisper >= 0.5) badges.push(el("li", { class: "flag", title: `probability ${whisper.toFixed(2)}`, text: "whispered" }));
  if (found.language) badges.push(el("li", { class: "flag", text: `language ${found.language}` }));
  return badges.length ? el("ul", { class: "flags", "aria-label": "Flags" }, badges) : null;
}
