// Prediction network and joint network, for many hypotheses at once.
#include <algorithm>
#include <cstring>

#include "net.h"
#include "runtime/error.h"

namespace slm {

namespace {
constexpr int kRows = 16;  // hypotheses that are multiplied together; bounds the scratch
}

// Scratch of one thread, which all nets share: nets are read-only and calls are many and short. It
// grows to the largest net's needs at the first call.
struct SpeechNet::LabelScratch {
  Threads alone{1};
  Operand input, before;
  Rows x, hidden, gates, fed, units, vectors, zero;
};

SpeechNet::LabelScratch& SpeechNet::label_scratch() {
  static thread_local LabelScratch scratch;
  return scratch;
}

size_t SpeechNet::state_bytes() const {
  return config_.lstm ? size_t(config_.predictor_layers) * 2 * config_.predictor_size * 4
                      : size_t(config_.predictor_context) * sizeof(int32_t);
}

void SpeechNet::start(void* state, float* label) const {
  if (!config_.lstm) {
    std::memset(state, 0, state_bytes());
    mix_labels(state, label_scratch().x.shape(kRows, config_.predictor_size));
    return label_vectors(1, &label);
  }
  float* zero = label_scratch().zero.shape(1, int64_t(state_bytes() / 4));
  std::memset(zero, 0, state_bytes());
  step(zero, 0, state, label);
}

void SpeechNet::step(const void* from, int token, void* to, float* label) const {
  steps_together(&from, &token, 1, &to, &label);
}

void SpeechNet::steps(const void* const* from, const int* tokens, int n, void* const* to,
                      float* const* labels) const {
  const int most = whole_ ? kRows : 1;
  for (int first = 0; first < n; first += most)
    steps_together(from + first, tokens + first, std::min(most, n - first), to + first,
                   labels + first);
}

void SpeechNet::steps_together(const void* const* from, const int* tokens, int n, void* const* to,
                               float* const* labels) const {
  for (int i = 0; i < n; i++)
    require(tokens[i] >= 0 && tokens[i] < vocab(),
            "label " + std::to_string(tokens[i]) + " lies outside the vocabulary of " +
                std::to_string(vocab()) + ".");
  if (config_.lstm) {
    read_lstm(from, tokens, n, to);
  } else {
    const int size = config_.predictor_size, context = config_.predictor_context;
    float* x = label_scratch().x.shape(kRows, size);
    for (int i = 0; i < n; i++) {
      const int32_t last = tokens[i];
      std::memcpy(to[i], static_cast<const int32_t*>(from[i]) + 1, size_t(context - 1) * 4);
      std::memcpy(static_cast<int32_t*>(to[i]) + context - 1, &last, 4);
      mix_labels(to[i], x + int64_t(i) * size);
    }
  }
  label_vectors(n, labels);
}

// The last layer's output of each hypothesis, in the rows of `x`.
void SpeechNet::read_lstm(const void* const* from, const int* tokens, int n,
                          void* const* to) const {
  LabelScratch& s = label_scratch();
  const int size = config_.predictor_size, wide = 4 * size;
  float* x = s.x.shape(kRows, size);
  float* hidden = s.hidden.shape(kRows, size);
  float* gates = s.gates.shape(kRows, wide);
  float* fed = s.fed.shape(kRows, wide);
  for (int i = 0; i < n; i++) labels_.row(tokens[i], x + int64_t(i) * size);
  for (size_t layer = 0; layer < lstms_.size(); layer++) {
    const Lstm& lstm = lstms_[layer];
    const size_t at = layer * 2 * size;  // output, then cell
    for (int i = 0; i < n; i++) {
      std::copy_n(lstm.bias.data(), wide, gates + int64_t(i) * wide);
      std::copy_n(static_cast<const float*>(from[i]) + at, size, hidden + int64_t(i) * size);
    }
    s.input.set(x, size, n, size);
    s.input.times(lstm.input, gates, wide, true, s.alone);
    s.before.set(hidden, size, n, size);
    s.before.times(lstm.recurrent, fed, wide, false, s.alone);
    for (int i = 0; i < n; i++) {
      float* output = static_cast<float*>(to[i]) + at;
      float* cell = output + size;
      std::copy_n(static_cast<const float*>(from[i]) + at + size, size, cell);
      kernels().axpy(1, fed + int64_t(i) * wide, wide, gates + int64_t(i) * wide);
      lstm_step(lstm, size, gates + int64_t(i) * wide, cell, output);
      std::copy_n(output, size, x + int64_t(i) * size);
    }
  }
}

// relu(sum of the last labels' embeddings, each times its weights) (size).
void SpeechNet::mix_labels(const void* state, float* out) const {
  const int size = config_.predictor_size;
  const int32_t* tokens = static_cast<const int32_t*>(state);
  float* one = label_scratch().hidden.shape(kRows, size);
  std::fill_n(out, size, 0.0f);
  for (int j = 0; j < config_.predictor_context; j++) {
    labels_.row(tokens[j], one);
    const float* weight = mix_.data() + int64_t(j) * size;
    for (int k = 0; k < size; k++) out[k] += one[k] * weight[k];
  }
  for (int k = 0; k < size; k++) out[k] = std::max(out[k], 0.0f);
}

// Label vectors of the rows of `x`.
void SpeechNet::label_vectors(int n, float* const* labels) const {
  LabelScratch& s = label_scratch();
  const int size = config_.predictor_size;
  float* vectors = s.vectors.shape(kRows, joint());
  for (int i = 0; i < n; i++) std::copy_n(output_bias_.data(), joint(), vectors + int64_t(i) * joint());
  s.input.set(s.x.data(), size, n, size);
  s.input.times(output_, vectors, joint(), true, s.alone);
  for (int i = 0; i < n; i++) std::copy_n(vectors + int64_t(i) * joint(), joint(), labels[i]);
}

void SpeechNet::log_probs(const float* acoustic, const float* const* labels, int n,
                          float* out) const {
  const int most = whole_ ? kRows : 1;
  for (int first = 0; first < n; first += most)
    rows_of_log_probs(acoustic, labels + first, std::min(most, n - first),
                      out + int64_t(first) * vocab());
}

void SpeechNet::rows_of_log_probs(const float* acoustic, const float* const* labels, int n,
                                  float* out) const {
  LabelScratch& s = label_scratch();
  const TrainKernels& k = *kernels().train;
  float* units = s.units.shape(kRows, joint());
  for (int i = 0; i < n; i++) {
    k.hidden_row(acoustic, labels[i], joint(), units + int64_t(i) * joint());
    std::copy_n(symbols_bias_.data(), vocab(), out + int64_t(i) * vocab());
  }
  s.input.set(units, joint(), n, joint());
  s.input.times(symbols_, out, vocab(), true, s.alone);
  for (int i = 0; i < n; i++) {
    float* row = out + int64_t(i) * vocab();
    const float total = k.log_sum(row, vocab());
    for (int j = 0; j < vocab(); j++) row[j] -= total;
  }
}

}  // namespace slm
