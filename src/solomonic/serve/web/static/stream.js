// The WebSocket to /v1/stream. A connection that breaks is made again, and the audio since the last
// finished sentence is sent once more, so that nothing spoken is lost.
//
// Times and numbers of sentences that the server tells count from the start of its own stream; here
// they are made to count from the start of the page's.

import { capital, streamAddress } from "./api.js";
import { RATE } from "./resample.js";

const TRIES = 6;
const KEPT = 120 * RATE; // samples that may wait for a final, at most
const FULL = 256 * 1024; // bytes on their way, from which on the sender waits

/** States: connecting, open, waiting (to try again), finishing, done, failed. */
export class SpeechStream {
  /**
   * @param {{message: function(object): void, state: function(string, string, string): void, notice: function(string): void}} told
   * @param {object} options of the start message
   */
  constructor(told, options = {}) {
    this.told = told;
    this.options = options;
    this.kept = []; // blocks since the last final, all sent or not
    this.keptSamples = 0;
    this.sent = 0; // blocks of `kept` that this connection has had
    this.base = 0; // s of audio before `kept`
    this.start = 0; // s of audio before this connection's stream
    this.utterance = 0; // sentences before this connection's stream
    this.next = 0; // number of the next sentence
    this.tries = 0;
    this.finished = false;
    this.ended = false;
    this.connect();
  }

  connect() {
    this.ready = false;
    this.sent = 0;
    this.start = this.base;
    this.utterance = this.next;
    this.fault = "";
    this.change("connecting");
    const [url, protocols] = streamAddress();
    let socket;
    try {
      socket = new WebSocket(url, protocols);
    } catch {
      // A key with characters that cannot stand in a header.
      this.fail("The API key has characters that no key has; look at it again.", "key");
      return;
    }
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify({
      type: "start", sample_rate: RATE, encoding: "pcm_s16le", endpointing: true,
      lattices: "json", rerank: true, ...this.options,
    }));
    socket.onmessage = ({ data }) => { if (socket === this.socket) this.take(JSON.parse(data)); };
    socket.onclose = (event) => { if (socket === this.socket) this.closed(event); };
  }

  /** Takes a block of 16 kHz PCM. */
  push(pcm) {
    this.kept.push(pcm);
    this.keptSamples += pcm.length;
    while (this.keptSamples > KEPT && this.sent > 0) this.forget();
    this.flush();
  }

  /** Whether the sender should wait. */
  get full() {
    return !this.ready || this.socket.bufferedAmount > FULL;
  }

  /** No more audio will come. */
  finish() {
    this.finished = true;
    this.flush();
  }

  /** Ends it at once. */
  stop() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket.close(1000);
    this.change("done");
  }

  flush() {
    if (!this.ready || this.socket.readyState !== WebSocket.OPEN) return;
    while (this.sent < this.kept.length) {
      this.socket.send(this.kept[this.sent]);
      this.sent += 1;
    }
    if (this.finished && !this.told_finish) {
      this.told_finish = true;
      this.socket.send(JSON.stringify({ type: "finish" }));
      this.change("finishing");
    }
  }

  forget() {
    const samples = this.kept.shift().length;
    this.keptSamples -= samples;
    this.base += samples / RATE;
    this.sent -= 1;
  }

  take(message) {
    switch (message.type) {
      case "ready":
        this.ready = true;
        this.told_finish = false;
        this.tries = 0;
        this.change("open");
        this.flush();
        return;
      case "error":
        if (message.utterance !== undefined) { // one sentence could not be reranked or remembered
          this.told.notice(capital(message.error.message));
          return;
        }
        this.fault = capital(message.error?.message ?? "the server reports a fault.");
        return;
      case "done":
        this.ended = true;
        this.change("done");
        return;
      default:
        this.told.message(this.shifted(message));
    }
  }

  shifted(message) {
    const moved = { ...message, utterance: (message.utterance ?? 0) + this.utterance };
    if (this.start) shiftTimes(moved, this.start);
    if (message.type === "final") {
      this.next = moved.utterance + 1;
      while (this.sent > 0 && this.kept.length && this.base + this.kept[0].length / RATE <= moved.time) this.forget();
    }
    return moved;
  }

  closed(event) {
    if (this.ended) return;
    this.ready = false;
    if (event.code === 4401) return this.fail(this.fault || "The server asks for an API key, or does not take this one.", "key");
    const passing = [1001, 1006, 1011, 1012, 1013, 4429].includes(event.code);
    if (!passing || this.tries >= TRIES) {
      return this.fail(this.fault || event.reason && capital(event.reason)
        || (passing ? "The server cannot be reached; see whether it runs." : `The server ended the stream (code ${event.code}).`));
    }
    const wait = 500 * 2 ** this.tries * (0.8 + 0.4 * Math.random());
    this.tries += 1;
    const why = this.fault || (event.reason.includes(" ") ? capital(event.reason) : "The connection broke.");
    this.change("waiting", `${why} Trying again (${this.tries} of ${TRIES}); what you say meanwhile is kept.`);
    this.timer = setTimeout(() => this.connect(), wait);
  }

  fail(sentence, kind = "") {
    this.ended = true;
    this.change("failed", sentence, kind);
  }

  change(state, sentence = "", kind = "") {
    this.told.state(state, sentence, kind);
  }
}

/** Adds `by` seconds to every time in a message. */
function shiftTimes(message, by) {
  for (const name of ["time", "start", "end"]) {
    if (typeof message[name] === "number") message[name] += by;
  }
  const words = (list) => list?.map((word) => ({ ...word, start: word.start + by, end: word.end + by }));
  if (message.words) message.words = words(message.words);
  if (message.result) {
    const { result } = message;
    message.result = { ...result, start: result.start + by, end: result.end + by, words: words(result.words) };
  }
  if (message.lattice) {
    const { lattice } = message;
    const frames = by / lattice.frame_seconds;
    message.lattice = {
      ...lattice, nodes: lattice.nodes.map((frame) => frame + frames), arcs: words(lattice.arcs),
    };
  }
}
