// Sound, words and both end-pointers over time. Only the visible stretch is drawn, so that an hour
// scrolls as well as a sentence.

import { $, clock, el, perFrame, score, svg, table } from "./dom.js";
import { RATE } from "./resample.js";

const BUCKET = RATE / 100; // samples of one line of the waveform
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600];
const NAMES = { speech_start: "speech starts", speculative_end: "probably over", reset: "reset", final: "over" };
const LANES = [["words", 46], ["sound", 74], ["speculative", 28], ["final", 28]];
const AXIS = 24;
const HEIGHT = LANES.reduce((sum, [, size]) => sum + size, 0) + AXIS;

export class Timeline {
  constructor(session) {
    this.session = session;
    this.scale = 110; // px a second
    this.following = true;
    this.clear();
    this.inner = el("div", { class: "timeline-inner" });
    this.scroller = el("div", { class: "timeline-scroll", tabindex: "0", role: "region", "aria-label": "Time line; scrolls" }, this.inner);
    this.names = el("div", { class: "timeline-names", "aria-hidden": "true" }, LANES.map(([name, size], index) => {
      const node = el("span", { text: name, class: `lane-${index}` });
      node.style.height = `${size}px`;
      return node;
    }));
    $("timeline").append(this.names, this.scroller);
    this.draw = perFrame(() => this.paint());
    this.scroller.addEventListener("scroll", () => {
      const { scrollLeft, clientWidth, scrollWidth } = this.scroller;
      this.following = scrollWidth - scrollLeft - clientWidth < 24;
      this.draw();
    });
    new ResizeObserver(this.draw).observe(this.scroller);
    $("time-in").addEventListener("click", () => this.zoom(1.5));
    $("time-out").addEventListener("click", () => this.zoom(1 / 1.5));
    $("time-table").addEventListener("toggle", () => this.list());
    legend();
    this.draw();
  }

  clear() {
    this.low = [];
    this.high = [];
    this.samples = 0;
    this.following = true;
    this.draw?.();
    this.list();
  }

  get seconds() {
    return this.samples / RATE;
  }

  /** Takes audio: 16 kHz PCM. */
  push(pcm) {
    for (const sample of pcm) {
      const at = Math.floor(this.samples / BUCKET);
      if (at === this.low.length) { this.low.push(sample); this.high.push(sample); }
      else {
        if (sample < this.low[at]) this.low[at] = sample;
        if (sample > this.high[at]) this.high[at] = sample;
      }
      this.samples += 1;
    }
    this.draw();
  }

  zoom(by) {
    const { scrollLeft, clientWidth } = this.scroller;
    const middle = (scrollLeft + clientWidth / 2) / this.scale;
    this.scale = Math.min(600, Math.max(12, this.scale * by));
    this.paint();
    this.scroller.scrollLeft = middle * this.scale - clientWidth / 2;
    this.draw();
  }

  /** Brings a moment into the middle. */
  reveal(time) {
    this.following = false;
    this.scroller.scrollLeft = time * this.scale - this.scroller.clientWidth / 3;
  }

  paint() {
    const width = this.scroller.clientWidth;
    if (!width) return; // the other tab is shown
    const whole = Math.max(width, Math.ceil((this.seconds + 0.4) * this.scale));
    this.inner.style.width = `${whole}px`;
    if (this.following && whole > width) this.scroller.scrollLeft = whole - width;
    const left = Math.min(this.scroller.scrollLeft, whole - width);
    const view = { from: left / this.scale, to: (left + width) / this.scale, x: (time) => time * this.scale - left, width };
    const picture = svg("svg", {
      width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img",
      "aria-label": `${this.session.marks.length} events in ${clock(this.seconds)}; the same as a table below`,
    }, this.axis(view), this.wave(view), this.words(view), this.lanes(view), this.marks(view));
    picture.style.left = `${left}px`;
    this.inner.replaceChildren(picture);
    if ($("time-table").open) this.list();
  }

  axis(view) {
    const step = STEPS.find((one) => one * this.scale >= 56) ?? STEPS.at(-1);
    const marks = [];
    for (let index = Math.max(0, Math.floor(view.from / step)); index * step <= view.to; index += 1) {
      const x = view.x(index * step);
      marks.push(svg("path", { class: "grid", d: `M${x.toFixed(1)} 0V${HEIGHT - AXIS + 4}` }));
      if (index && (x < 22 || x > view.width - 16)) continue; // cut at the edge
      const text = step < 1 ? (index * step).toFixed(1) : clock(index * step, 0);
      marks.push(svg("text", { class: "tick", x: Math.max(x, 2), y: HEIGHT - 6, "text-anchor": index ? "middle" : "start", text }));
    }
    return marks;
  }

  wave(view) {
    const top = LANES[0][1];
    const size = LANES[1][1];
    const middle = top + size / 2;
    const [from, to] = [Math.max(0, Math.floor(view.from * 100)), Math.min(this.low.length, Math.ceil(view.to * 100) + 1)];
    const every = Math.max(1, Math.round((to - from) / view.width / 0.6));
    let peak = 3000;
    for (let at = from; at < to; at += 1) peak = Math.max(peak, this.high[at], -this.low[at]);
    const y = (value) => (middle - (value / peak) * (size / 2 - 5)).toFixed(1);
    const up = [];
    const down = [];
    for (let at = from - (from % every); at < to; at += every) {
      if (at < 0) continue;
      const end = Math.min(at + every, to);
      const x = view.x(at / 100).toFixed(1);
      up.push(`${x} ${y(Math.max(...this.high.slice(at, end), 60))}`);
      down.push(`${x} ${y(Math.min(...this.low.slice(at, end), -60))}`);
    }
    if (!up.length) return [svg("path", { class: "zero", d: `M0 ${middle}H${view.width}` })];
    return [svg("path", { class: "wave", d: `M${up.join("L")}L${down.reverse().join("L")}Z` })];
  }

  words(view) {
    const nodes = [];
    const free = [-Infinity, -Infinity]; // where the last word of either row ends
    for (const one of this.session.spoken) {
      for (const [index, word] of one.words.entries()) {
        if (word.start === null || word.end < view.from - 1 || word.start > view.to) continue;
        const [x0, x1] = [view.x(word.start), view.x(word.end)];
        const open = one.phase === "speaking" && index >= one.stable;
        nodes.push(svg("path", { class: open ? "span open" : "span", d: `M${x0.toFixed(1)} 42H${Math.max(x1, x0 + 3).toFixed(1)}` }));
        const row = x0 >= free[1] ? 1 : 0;
        if (x0 < free[row]) continue;
        free[row] = x0 + word.text.length * 7.4 + 6;
        nodes.push(svg("text", { class: open ? "word open" : "word", x: x0.toFixed(1), y: row ? 34 : 17, text: word.text }));
      }
    }
    return nodes;
  }

  /** A bar from each speculative end to what became of it, and one from speech start to final. */
  lanes(view) {
    const top = LANES[0][1] + LANES[1][1];
    const [guessY, finalY] = [top + 5, top + LANES[2][1] + 5];
    const nodes = [];
    const open = new Map();
    const bar = (kind, y, from, to, text) => {
      if (to < view.from || from > view.to) return;
      const x = Math.max(view.x(from), -4);
      const wide = Math.max(3, Math.min(view.x(to), view.width + 4) - x);
      nodes.push(svg("g", {}, svg("title", { text }), svg("rect", { class: `bar ${kind}`, x: x.toFixed(1), y, width: wide.toFixed(1), height: 18, rx: 4 })));
    };
    for (const mark of this.session.marks) {
      const key = mark.utterance;
      if (mark.kind === "speech_start") open.set(`start ${key}`, mark.start);
      if (mark.kind === "speculative_end") open.set(`guess ${key}`, mark);
      const guess = open.get(`guess ${key}`);
      if (guess && (mark.kind === "reset" || mark.kind === "final")) {
        open.delete(`guess ${key}`);
        const kept = mark.kind === "final" && mark.commit;
        bar(kept ? "kept" : "lost", guessY, guess.time, mark.time, `revision ${guess.revision}: probably over at ${clock(guess.time, 2)}, ${kept ? "committed" : "dropped"} at ${clock(mark.time, 2)}`);
      }
      if (mark.kind === "final") {
        const from = open.get(`start ${key}`) ?? mark.time;
        open.delete(`start ${key}`);
        bar("whole", finalY, from, mark.time, `sentence ${key + 1}: ${clock(from, 2)} to ${clock(mark.time, 2)}, ended by ${mark.reason}`);
      }
    }
    for (const [key, mark] of open) {
      if (key.startsWith("guess")) bar("guess", guessY, mark.time, Math.max(this.seconds, mark.time), `revision ${mark.revision}: probably over at ${clock(mark.time, 2)}`);
      else bar("speaking", finalY, mark, Math.max(this.seconds, mark), "being spoken");
    }
    return nodes;
  }

  marks(view) {
    const top = LANES[0][1];
    const after = top + LANES[1][1];
    const bottom = HEIGHT - AXIS;
    const nodes = [];
    let free = -Infinity;
    for (const mark of [...this.session.marks].sort((a, b) => a.time - b.time)) {
      if (mark.time < view.from - 2 || mark.time > view.to + 0.1) continue;
      const x = view.x(mark.kind === "speech_start" ? mark.start : mark.time);
      const guess = mark.kind === "speculative_end" || mark.kind === "reset";
      nodes.push(svg("g", {}, svg("title", { text: tell(mark) }),
        svg("path", { class: `mark ${mark.kind}`, d: `M${x.toFixed(1)} ${top + 2}V${guess ? after + LANES[2][1] - 2 : bottom}` })));
      const lane = { speculative_end: after + 18, reset: after + 18, final: after + LANES[2][1] + 18 }[mark.kind];
      if (!lane || mark.kind === "speculative_end") continue;
      const text = mark.kind === "reset" ? `reset ${mark.time.toFixed(2)}` : `${mark.time.toFixed(2)} s ${mark.commit ? "✓" : ""}`;
      if (mark.kind === "final") nodes.push(svg("text", { class: "label final", x: (x - 7).toFixed(1), y: lane, "text-anchor": "end", text }));
      else if (x > free) {
        nodes.push(svg("text", { class: "label reset", x: (x + 6).toFixed(1), y: lane, text }));
        free = x + 80;
      }
    }
    return nodes;
  }

  list() {
    if (!$("time-table").open) return;
    const rows = [...this.session.marks].sort((a, b) => a.time - b.time).map((mark) => [
      mark.time.toFixed(2), NAMES[mark.kind], mark.utterance + 1, mark.revision ?? "",
      mark.kind === "final" ? (mark.commit ? "committed" : "new result") : "", mark.reason ?? "",
    ]);
    $("time-table").querySelector("div").replaceChildren(rows.length
      ? table("Events", ["time (s)", "event", "sentence", "revision", "work begun", "because of"], rows, new Set([2, 3]))
      : el("p", { class: "muted pad", text: "Nothing has happened yet." }));
  }
}

function tell(mark) {
  const at = `${clock(mark.time, 2)}`;
  if (mark.kind === "speech_start") return `speech starts at ${clock(mark.start, 2)}, known at ${at}`;
  if (mark.kind === "speculative_end") return `probably over at ${at} (revision ${score(mark.revision, 0)}, ${mark.reason})`;
  if (mark.kind === "reset") return `reset at ${at}: revision ${mark.revision} is void`;
  return `over at ${at}: ${mark.reason}; ${mark.commit ? `revision ${mark.revision} committed` : "a new result"}`;
}

function legend() {
  const sample = (shape, text) => el("span", {}, svg("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" }, shape), text);
  const line = (kind) => svg("path", { class: `mark ${kind}`, d: "M13 0V12" });
  const bar = (kind) => svg("rect", { class: `bar ${kind}`, x: 1, y: 1, width: 24, height: 10, rx: 3 });
  $("time-legend").append(sample(line("speech_start"), "speech starts"), sample(bar("kept"), "probably over, then committed"),
    sample(bar("lost"), "probably over, then reset"), sample(line("final"), "over"));
}
