// The speech tab: audio goes out, events come in, and every picture is drawn from the session.

import { AudioError, BLOCK, decodeFile, levels, Microphone } from "./audio.js";
import { $, banner, clock, el, perFrame, toast } from "./dom.js";
import { asJson, asSrt, asText, download } from "./exports.js";
import { Hypotheses } from "./hypotheses.js";
import { LatticeView } from "./lattice-view.js";
import { Phrases } from "./phrases.js";
import { RATE } from "./resample.js";
import { Session } from "./session.js";
import { openSettings } from "./settings.js";
import { SpeechStream } from "./stream.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";

const STATES = {
  idle: "ready", connecting: "connecting …", decoding: "reading the file …", open: "listening", waiting: "connection lost",
  finishing: "finishing …", done: "ready", failed: "stopped",
};

const NONE = [];

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

class SpeechTab {
  constructor() {
    this.session = new Session();
    this.timeline = new Timeline(this.session);
    this.lattice = new LatticeView();
    this.hypotheses = new Hypotheses((path) => this.lattice.show(this.current(), path));
    this.transcript = new Transcript((number) => this.choose(number));
    this.phrases = new Phrases();
    this.chosen = null; // a sentence that was picked; null: the newest
    this.stream = null;
    this.microphone = null;
    this.samples = 0;
    this.draw = perFrame(() => this.paint());
    this.buttons();
    this.dropping();
  }

  buttons() {
    $("mic").addEventListener("click", () => (this.busy ? this.end() : this.speak()));
    $("choose").addEventListener("click", () => $("file").click());
    $("file").addEventListener("change", () => {
      const [file] = $("file").files;
      $("file").value = "";
      if (file) this.play(file);
    });
    $("clear").addEventListener("click", () => this.clear());
    $("copy").addEventListener("click", () => this.copy());
    $("save-txt").addEventListener("click", () => download("speech.txt", asText(this.session), "text/plain"));
    $("save-json").addEventListener("click", () => download("speech.json", asJson(this.session), "application/json"));
    $("save-srt").addEventListener("click", () => download("speech.srt", asSrt(this.session), "application/x-subrip"));
    $("lattice-previous").addEventListener("click", () => this.step(-1));
    $("lattice-next").addEventListener("click", () => this.step(1));
  }

  dropping() {
    const panel = $("panel-speech");
    let depth = 0;
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    panel.addEventListener("dragenter", (event) => { if (carries(event)) { depth += 1; $("drop").hidden = false; } });
    panel.addEventListener("dragleave", (event) => { if (carries(event) && (depth -= 1) <= 0) { depth = 0; $("drop").hidden = true; } });
    panel.addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
    panel.addEventListener("drop", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      depth = 0;
      $("drop").hidden = true;
      this.play(event.dataTransfer.files[0]);
    });
  }

  get busy() {
    return Boolean(this.stream) || this.starting;
  }

  /** A new stream; what was heard before is cleared. */
  open() {
    this.clear();
    banner($("speech-banner"), "");
    // Words that the server keeps for the user are used without being sent again.
    const options = { remember: $("remember").checked, source: "page" };
    if (!this.phrases.kept) options.phrases = this.phrases.words;
    this.stream = new SpeechStream({
      message: (message) => { this.session.take(message); this.draw(); },
      state: (state, sentence, kind) => this.state(state, sentence, kind),
      notice: toast,
    }, options);
  }

  async speak() {
    this.begin();
    const microphone = new Microphone((pcm) => this.push(pcm), () => {
      banner($("speech-banner"), "The microphone was disconnected.");
      this.end();
    });
    try {
      await microphone.start();
    } catch (error) {
      this.refuse(error);
      return;
    }
    this.microphone = microphone;
    this.starting = false;
    this.open();
    this.controls();
  }

  async play(file) {
    if (this.busy) await this.abandon();
    this.begin();
    this.show("decoding");
    let pcm;
    try {
      pcm = await decodeFile(file);
    } catch (error) {
      this.refuse(error);
      return;
    }
    this.starting = false;
    this.open();
    this.controls();
    const stream = this.stream;
    const real = $("pace").value === "real";
    const begun = performance.now();
    let sent = 0;
    while (sent < pcm.length && this.stream === stream) {
      if (real ? performance.now() - begun < (sent / RATE) * 1000 : stream.full) {
        await wait(20);
        continue;
      }
      const size = real ? BLOCK : 4 * BLOCK;
      this.push(pcm.slice(sent, sent + size));
      sent += size;
    }
    if (this.stream === stream) stream.finish();
  }

  begin() {
    this.starting = true;
    banner($("speech-banner"), "");
    this.show("connecting");
    this.controls();
  }

  refuse(error) {
    this.starting = false;
    this.show("idle");
    this.controls();
    banner($("speech-banner"), error instanceof AudioError ? error.message : `That did not work: ${error.message}`);
  }

  push(pcm) {
    if (!this.stream) return;
    this.samples += pcm.length;
    this.timeline.push(pcm);
    this.meter(levels(pcm));
    this.stream.push(pcm);
  }

  /** No more audio; what was said is finished. */
  async end() {
    const { stream, microphone } = this;
    this.microphone = null;
    if (microphone) await microphone.stop();
    if (!stream) return;
    if (microphone) stream.finish();
    else {
      stream.stop(); // a file that is broken off
    }
    this.meter({ peak: 0, rms: 0 });
  }

  async abandon() {
    const { stream, microphone } = this;
    this.microphone = null;
    if (microphone) await microphone.stop();
    stream?.stop();
  }

  state(state, sentence, kind) {
    if (state === "waiting") this.session.dropUnfinished();
    if (state === "waiting" || state === "failed") {
      const key = kind === "key" ? { action: openSettings, label: "Enter the key" } : {};
      banner($("speech-banner"), sentence, { bad: state === "failed", ...key });
    } else if (state === "open") banner($("speech-banner"), "");
    this.show(state);
    if (state === "done" || state === "failed") {
      const { microphone, stream } = this;
      if (state === "done" && stream?.fault) banner($("speech-banner"), stream.fault);
      this.stream = null;
      this.microphone = null;
      microphone?.stop();
      this.meter({ peak: 0, rms: 0 });
      if (state === "done" && this.samples && !this.session.spoken.length) toast("No speech was found in it.");
    }
    this.controls();
    this.draw();
  }

  show(state) {
    $("state").textContent = STATES[state];
    $("state").dataset.state = state;
  }

  controls() {
    const button = $("mic");
    button.classList.toggle("recording", this.busy);
    button.classList.toggle("primary", !this.busy);
    button.querySelector("span").textContent = this.busy ? "Stop" : "Speak";
    $("choose").disabled = this.busy;
    $("pace").disabled = this.busy;
  }

  meter({ peak, rms }) {
    const decibels = (value) => Math.max(0, Math.min(1, 1 + Math.log10(Math.max(value, 1e-6)) / 3)); // -60 dB .. 0
    const shown = Math.round(100 * decibels(rms));
    const node = $("meter");
    node.setAttribute("aria-valuenow", shown);
    node.classList.toggle("loud", peak > 0.98);
    node.firstElementChild.style.transform = `scaleX(${decibels(rms)})`;
    $("clock").textContent = clock(this.samples / RATE);
  }

  clear() {
    this.session.clear();
    this.timeline.clear();
    this.chosen = null;
    this.samples = 0;
    $("clock").textContent = clock(0);
    $("partial-live").textContent = "";
    this.draw();
  }

  choose(number) {
    this.chosen = this.chosen === number ? null : number;
    const one = this.current();
    if (this.chosen !== null && one) this.timeline.reveal(one.start ?? 0);
    this.draw();
  }

  step(by) {
    const spoken = this.session.spoken;
    const next = spoken[spoken.indexOf(this.current()) + by];
    if (!next) return;
    this.chosen = next === spoken.at(-1) ? null : next.number;
    this.timeline.reveal(next.start ?? 0);
    this.draw();
  }

  /** The sentence that lattice and alternatives are shown of. */
  current() {
    const spoken = this.session.spoken;
    return spoken.find((one) => one.number === this.chosen) ?? spoken.at(-1) ?? null;
  }

  paint() {
    const one = this.current();
    const spoken = this.session.spoken;
    this.transcript.show(this.session, this.chosen);
    this.timeline.draw();
    if (one !== this.lattice.one || one?.lattice !== this.lattice.lattice || one?.reranked !== this.lattice.reranked) this.lattice.show(one);
    this.hypotheses.show(one);
    this.hits(one?.reranked?.memory_hits ?? NONE);
    const place = spoken.indexOf(one);
    $("lattice-previous").disabled = place <= 0;
    $("lattice-next").disabled = place < 0 || place === spoken.length - 1;
    const none = !this.session.finals.length;
    for (const id of ["copy", "save-txt", "save-json", "save-srt"]) $(id).disabled = none;
    $("clear").disabled = !spoken.length || this.busy;
  }

  hits(hits) {
    if (hits === this.shownHits) return;
    this.shownHits = hits;
    $("speech-hits").hidden = !hits.length;
    $("speech-hits").replaceChildren(...memoryHits(hits));
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(asText(this.session));
      toast("Copied.");
    } catch {
      toast("The browser does not allow copying here; save the text instead.");
    }
  }
}

/** What the long-term memory found, with where it is from. */
export function memoryHits(hits) {
  if (!hits.length) return [];
  return [el("h3", { text: "From long-term memory" }), el("ul", {}, hits.map((hit) => el("li", {}, hit.text ?? String(hit),
    el("span", { class: "muted", text: [hit.score === undefined ? "" : `score ${Number(hit.score).toFixed(2)}`, hit.time ? new Date(hit.time * 1000).toLocaleString() : ""].filter(Boolean).join(" · ") }))))];
}

export const setUpSpeech = () => new SpeechTab();
