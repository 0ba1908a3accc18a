// The LSTM layer: Hochreiter and Schmidhuber 1997 with a forget gate, as layers/lstm.py.
#include "context.h"

namespace slm {

void lstm_step(const Lstm& lstm, int width, float* gates, float* cell, float* output) {
  // The logistic function by tanh: one call for all gates.
  const auto halve = [&](int from, int to) {
    for (int i = from; i < to; i++) gates[i] *= 0.5f;
  };
  halve(0, 2 * width);
  halve(3 * width, 4 * width);
  const auto tanh_sum = kernels().train->hidden_row;
  tanh_sum(gates, lstm.zero.data(), 4 * width, gates);
  const float *in = gates, *forget = gates + width, *fresh = forget + width, *out = fresh + width;
  for (int i = 0; i < width; i++)
    cell[i] = (0.5f + 0.5f * forget[i]) * cell[i] + (0.5f + 0.5f * in[i]) * fresh[i];
  tanh_sum(cell, lstm.zero.data(), width, output);
  for (int i = 0; i < width; i++) output[i] *= 0.5f + 0.5f * out[i];
}

void run_lstm(Workspace& scratch, int index, const Segments& segments, Operand& u, int rows) {
  const Lstm& lstm = scratch.stack.layers[index].lstm;
  const int width = scratch.stack.config.width, wide = 4 * width;
  Threads& team = *scratch.team;
  float* gates = scratch.projected.shape(rows, wide);
  for (int row = 0; row < rows; row++)
    std::memcpy(gates + int64_t(row) * wide, lstm.bias.data(), size_t(wide) * 4);
  u.times(lstm.input, gates, wide, true, team);
  float* before = scratch.inner.shape(int64_t(segments.size()), width);
  float* fed = scratch.convolved.shape(int64_t(segments.size()), wide);
  for (int step = 0;; step++) {
    int count = 0;  // streams that have a token left: their outputs, side by side
    for (const Segment& s : segments)
      if (step < s.count)
        std::memcpy(before + int64_t(count++) * width, s.stream->layers[index].output.data(),
                    size_t(width) * 4);
    if (count == 0) return;
    scratch.second.set(before, width, count, width);
    scratch.second.times(lstm.recurrent, fed, wide, false, team);
    int next = 0;
    for (const Segment& s : segments) {
      if (step >= s.count) continue;
      LayerState& state = s.stream->layers[index];
      float* mine = gates + int64_t(s.row + step) * wide;
      kernels().axpy(1, fed + int64_t(next++) * wide, wide, mine);
      lstm_step(lstm, width, mine, state.cell.data(), state.output.data());
      kernels().axpy(1, state.output.data(), width, scratch.x.row(s.row + step));
    }
  }
}

}  // namespace slm
