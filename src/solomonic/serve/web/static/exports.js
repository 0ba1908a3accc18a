// What was heard as text, JSON and SubRip subtitles.

import { alternatives, bestText, bestWords } from "./session.js";

const LONGEST = 5; // s of a caption
const GAP = 0.8; // s of silence that end one

export const asText = (session) => `${session.finals.map(bestText).join("\n")}\n`;

export function asJson(session) {
  const sentences = session.finals.map((one) => ({
    text: bestText(one), one_best: one.text, start: one.start, end: one.end, reason: one.result?.reason ?? "",
    ...one.flags, words: bestWords(one), alternatives: alternatives(one), lattice: one.lattice?.growing ? null : one.lattice,
  }));
  return `${JSON.stringify({ text: session.finals.map(bestText).join(" "), sentences, events: session.marks }, null, 2)}\n`;
}

/** A caption ends after five seconds, at a pause, or with its sentence. */
export function asSrt(session) {
  const captions = [];
  for (const one of session.finals) {
    let words = null;
    for (const word of bestWords(one)) {
      if (word.start === null) continue;
      if (!words || word.end - words[0].start > LONGEST || word.start - words.at(-1).end > GAP) {
        words = [];
        captions.push(words);
      }
      words.push(word);
    }
  }
  return captions.map((words, index) =>
    `${index + 1}\n${stamp(words[0].start)} --> ${stamp(words.at(-1).end)}\n${words.map((word) => word.text).join(" ")}\n`).join("\n");
}

function stamp(seconds) {
  const whole = Math.max(0, Math.round(seconds * 1000));
  const two = (value) => String(value).padStart(2, "0");
  return `${two(Math.floor(whole / 3600000))}:${two(Math.floor(whole / 60000) % 60)}:${two(Math.floor(whole / 1000) % 60)},`
    + String(whole % 1000).padStart(3, "0");
}

/** Hands a text to the browser as a file. */
export function download(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
