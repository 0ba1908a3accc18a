// Where audio comes from: the microphone, or a file that the browser decodes.

import { RATE, toPcm } from "./resample.js";

export const BLOCK = RATE / 10; // samples a message
const LONGEST = 3600; // s of a file: an hour is 230 MB as the browser decodes it

/** A fault with a sentence for people. */
export class AudioError extends Error {}

const REFUSALS = {
  NotAllowedError: "The browser does not let this page use the microphone. Allow it next to the address and try again.",
  NotFoundError: "No microphone was found. Plug one in, or choose a file.",
  NotReadableError: "The microphone is in use by another program, or does not answer.",
};

/** The microphone; `onBlock` gets Int16Array blocks of 16 kHz. */
export class Microphone {
  constructor(onBlock, onEnd) {
    this.onBlock = onBlock;
    this.onEnd = onEnd;
  }

  async start() {
    if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
      throw new AudioError(window.isSecureContext
        ? "This browser has no microphone access; choose a file instead."
        : "Browsers give the microphone only to https:// pages and to localhost. Serve with a certificate (--tls-cert), or choose a file.");
    }
    try {
      this.media = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: true, noiseSuppression: false, autoGainControl: true },
      });
    } catch (error) {
      throw new AudioError(REFUSALS[error.name] ?? `The microphone cannot be opened: ${error.message}`);
    }
    try {
      this.context = new AudioContext();
      await this.context.audioWorklet.addModule("/static/worklet.js");
      this.node = new AudioWorkletNode(this.context, "solomonic-capture", { numberOfInputs: 1, numberOfOutputs: 0 });
    } catch (error) {
      this.release();
      throw new AudioError(`The browser's audio cannot be started: ${error.message}`);
    }
    this.node.port.onmessage = ({ data }) => (data ? this.onBlock(data) : this.flushed?.());
    this.media.getAudioTracks()[0].addEventListener("ended", () => this.onEnd());
    this.context.createMediaStreamSource(this.media).connect(this.node);
    await this.context.resume();
  }

  /** Ends it; what is in the last, partial block still comes. */
  async stop() {
    if (this.node) {
      const flushed = new Promise((done) => { this.flushed = done; setTimeout(done, 300); });
      this.node.port.postMessage("end");
      await flushed;
    }
    this.release();
  }

  release() {
    for (const track of this.media?.getTracks() ?? []) track.stop();
    if (this.context && this.context.state !== "closed") this.context.close();
    this.node = null;
  }
}

/** A file as mono 16 kHz PCM. */
export async function decodeFile(file) {
  if (!file.size) throw new AudioError(`${file.name} is empty.`);
  let buffer;
  try {
    // The browser resamples to the context's rate while it decodes.
    buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new AudioError(`The browser cannot decode ${file.name}; give WAV, FLAC, MP3, Ogg, Opus or M4A.`);
  }
  if (buffer.duration > LONGEST) throw new AudioError(`${file.name} is longer than an hour; cut it into parts.`);
  if (!buffer.length) throw new AudioError(`${file.name} holds no sound.`);
  const mixed = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel += 1) {
    const samples = buffer.getChannelData(channel);
    for (let index = 0; index < mixed.length; index += 1) mixed[index] += samples[index] / buffer.numberOfChannels;
  }
  return toPcm(mixed);
}

/** Largest size and root mean square of a block, 0 to 1. */
export function levels(pcm) {
  let peak = 0;
  let sum = 0;
  for (const sample of pcm) {
    peak = Math.max(peak, Math.abs(sample));
    sum += sample * sample;
  }
  return { peak: peak / 32768, rms: Math.sqrt(sum / Math.max(1, pcm.length)) / 32768 };
}
