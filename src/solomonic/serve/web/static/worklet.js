// Runs on the browser's audio thread: the microphone's blocks as 16 kHz PCM, a tenth of a second each.

import { RATE, Resampler, toPcm } from "./resample.js";

const BLOCK = RATE / 10;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate);
    this.block = new Float32Array(BLOCK);
    this.filled = 0;
    this.ended = false;
    this.port.onmessage = () => { this.flush(); this.ended = true; this.port.postMessage(null); };
  }

  process([channels]) {
    if (this.ended) return false;
    if (!channels || !channels.length) return true;
    const mixed = new Float32Array(channels[0].length);
    for (const channel of channels) {
      for (let index = 0; index < mixed.length; index += 1) mixed[index] += channel[index] / channels.length;
    }
    const samples = this.resampler.push(mixed);
    for (let at = 0; at < samples.length;) {
      const size = Math.min(BLOCK - this.filled, samples.length - at);
      this.block.set(samples.subarray(at, at + size), this.filled);
      this.filled += size;
      at += size;
      if (this.filled === BLOCK) this.flush();
    }
    return true;
  }

  flush() {
    if (!this.filled) return;
    const pcm = toPcm(this.block.subarray(0, this.filled));
    this.filled = 0;
    this.port.postMessage(pcm, [pcm.buffer]);
  }
}

registerProcessor("solomonic-capture", Capture);
