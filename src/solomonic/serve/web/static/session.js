// What was heard so far: sentences with everything the server told about them, and all events.

/** One sentence. `phase`: speaking, guess (probably over), final. */
function sentence(number) {
  return {
    number, phase: "speaking", revision: 0, commit: null, voided: 0, start: null, end: null, text: "", words: [],
    stable: 0, result: null, lattice: null, best: [], reranked: null, flags: {},
  };
}

export class Session {
  constructor() {
    this.clear();
  }

  clear() {
    this.sentences = new Map();
    this.marks = []; // {kind, time, utterance, revision, reason, commit, start}
  }

  get(number) {
    if (!this.sentences.has(number)) this.sentences.set(number, sentence(number));
    return this.sentences.get(number);
  }

  /** Sentences in which something was said, in order. */
  get spoken() {
    return [...this.sentences.values()].filter((one) => one.text).sort((a, b) => a.number - b.number);
  }

  get finals() {
    return this.spoken.filter((one) => one.phase === "final");
  }

  /** Forgets a sentence that was begun in a connection that broke: it will be told again. */
  dropUnfinished() {
    for (const one of [...this.sentences.values()]) {
      if (one.phase === "final") continue;
      this.sentences.delete(one.number);
      this.marks = this.marks.filter((mark) => mark.utterance !== one.number);
    }
  }

  /** Takes a message of the server; gives the sentence it is about. */
  take(message) {
    const one = this.get(message.utterance ?? 0);
    const mark = (more = {}) => this.marks.push({
      kind: message.type, time: message.time, utterance: one.number, revision: message.revision ?? null, ...more,
    });
    readFlags(one, message);
    switch (message.type) {
      case "speech_start":
        one.start = message.start ?? message.time;
        mark({ start: one.start });
        break;
      case "partial":
        if (one.phase === "final") break;
        one.phase = "speaking";
        one.words = readWords(message.words, message.text);
        one.text = message.text;
        one.stable = message.stable ?? 0;
        one.lattice = growing(one);
        one.best = one.lattice.arcs.map((_, index) => index);
        one.reranked = null;
        break;
      case "speculative_end":
        one.phase = "guess";
        this.result(one, message);
        mark({ reason: message.reason });
        break;
      case "reset":
        if (one.phase !== "final") one.phase = "speaking";
        one.voided = message.revision;
        mark();
        break;
      case "final":
        one.phase = "final";
        one.commit = message.commit;
        this.result(one, message);
        one.end = message.time;
        mark({ reason: message.reason, commit: message.commit });
        break;
      case "lattice":
        if (stale(one, message)) break;
        one.lattice = message.lattice;
        one.best = message.best ?? [];
        break;
      case "reranked":
        if (stale(one, message)) break;
        one.reranked = message;
        break;
      default: // something newer than this page
    }
    return one;
  }

  result(one, message) {
    const changed = one.text !== message.result.text;
    one.revision = message.revision;
    one.result = message.result;
    one.text = message.result.text;
    one.words = readWords(message.result.words, one.text);
    one.stable = one.words.length;
    if (changed) one.reranked = null;
  }
}

/** Whether a lattice or its reranking came too late: its revision was reset or replaced. */
const stale = (one, message) => message.revision < one.revision || message.revision <= one.voided;

/** What stands: the reranked sentence, or the recogniser's. */
export const bestText = (one) => one.reranked?.text ?? one.text;

/** Its words with times: those of the reranked path where there is one. */
export function bestWords(one) {
  const arcs = one.lattice?.arcs;
  if (!one.reranked?.arcs?.length || !arcs || one.reranked.text === one.text) return one.words;
  return one.reranked.arcs.map((index) => arcs[index]).filter((arc) => arc?.word)
    .map((arc) => ({ text: arc.word, start: arc.start, end: arc.end, confidence: arc.posterior }));
}

/** The n-best list, reranked or as the recogniser has it. */
export function alternatives(one) {
  if (one.reranked?.hypotheses?.length) return one.reranked.hypotheses;
  return one.result?.nbest ?? [];
}

const readWords = (words, text) => (words?.length
  ? words.map((word) => ({ ...word, text: word.text ?? word.word }))
  : (text ?? "").split(" ").filter(Boolean).map((word) => ({ text: word, start: null, end: null })));

/** Speaker, whisper and language, wherever the server put them. */
function readFlags(one, message) {
  for (const place of [message, message.result, message.lattice]) {
    for (const name of ["speaker", "speaker_score", "whisper", "language"]) {
      if (place?.[name] !== undefined && place[name] !== null && place[name] !== "") one.flags[name] = place[name];
    }
  }
}

/** A lattice of the words so far, one behind the other, until the server sends the real one. */
function growing(one) {
  const seconds = 0.06;
  const timed = one.words.filter((word) => word.start !== null);
  const frame = (time) => Math.round(time / seconds);
  const nodes = timed.length ? [frame(Math.min(one.start ?? timed[0].start, timed[0].start))] : [];
  for (const word of timed) nodes.push(Math.max(nodes.at(-1) + 1, frame(word.end)));
  const arcs = timed.map((word, index) => ({
    source: index, target: index + 1, word: word.text, acoustic: null, bias: null, start: word.start, end: word.end,
    posterior: word.confidence ?? null, open: index >= one.stable,
  }));
  return { frame_seconds: seconds, nodes, arcs, growing: true };
}
