// Any rate to 16 kHz, block by block: a windowed sinc at the output's times, its edge at 0.92 of the
// lower Nyquist frequency, -80 dB beyond it.

export const RATE = 16000;
const ZEROS = 24; // of the sinc on either side, at the lower of the two rates

export class Resampler {
  /** @param {number} from samples a second that come in */
  constructor(from, to = RATE) {
    this.same = from === to;
    this.step = from / to;
    this.cut = 0.92 * Math.min(1, to / from);
    this.half = Math.ceil(ZEROS / Math.min(1, to / from));
    this.held = new Float32Array(this.half); // silence before the first sample
    this.at = this.half; // of the next output, in samples of `held`
    this.phases = 256;
    this.taps = 2 * this.half;
    this.table = kernels(this.half, this.cut, this.phases);
  }

  /** The samples that can be told so far. */
  push(block) {
    if (this.same) return block;
    const input = new Float32Array(this.held.length + block.length);
    input.set(this.held);
    input.set(block, this.held.length);
    const count = Math.max(0, Math.ceil((input.length - this.half - this.at) / this.step));
    const output = new Float32Array(count);
    let at = this.at;
    for (let index = 0; index < count; index += 1, at += this.step) {
      const base = Math.floor(at);
      const row = Math.round((at - base) * this.phases) * this.taps;
      const first = base - this.half + 1;
      let sum = 0;
      for (let tap = 0; tap < this.taps; tap += 1) sum += input[first + tap] * this.table[row + tap];
      output[index] = sum;
    }
    const keep = Math.max(0, Math.floor(at) - this.half);
    this.held = input.slice(keep);
    this.at = at - keep;
    return output;
  }
}

/** (phases + 1, 2 half) weights, each row of sum 1. */
function kernels(half, cut, phases) {
  const taps = 2 * half;
  const table = new Float32Array((phases + 1) * taps);
  for (let phase = 0; phase <= phases; phase += 1) {
    let sum = 0;
    for (let tap = 0; tap < taps; tap += 1) {
      const x = tap - half + 1 - phase / phases;
      const weight = sinc(cut * x) * blackman(x / half);
      table[phase * taps + tap] = weight;
      sum += weight;
    }
    for (let tap = 0; tap < taps; tap += 1) table[phase * taps + tap] /= sum;
  }
  return table;
}

const sinc = (x) => (Math.abs(x) < 1e-9 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const blackman = (x) =>
  (Math.abs(x) >= 1 ? 0 : 0.42 + 0.5 * Math.cos(Math.PI * x) + 0.08 * Math.cos(2 * Math.PI * x));

/** Samples in [-1, 1] as 16-bit integers. */
export function toPcm(samples) {
  const pcm = new Int16Array(samples.length);
  for (let index = 0; index < samples.length; index += 1) {
    pcm[index] = Math.round(32767 * Math.max(-1, Math.min(1, samples[index])));
  }
  return pcm;
}
