// Three projections, a GRU and a sigmoid in float32; see end_head.h.
#include "end_head.h"

#include <algorithm>
#include <cmath>

namespace slm {

namespace {

constexpr double kLongestPause = 3.0;  // seconds beyond which a pause makes no difference any more
constexpr int kLanes = 8;              // partial sums: one order on every machine, and it vectorises

double scaled(double seconds) {
  return std::log1p(std::min(std::max(seconds, 0.0), kLongestPause) / 0.1) /
         std::log1p(kLongestPause / 0.1);
}

float dot(const float* a, const float* b, int n) {
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int j = 0; j < kLanes; j++) lanes[j] += a[i + j] * b[i + j];
  float rest = 0;
  for (; i < n; i++) rest += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
         ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7])) + rest;
}

void linear(const float* weight, const float* bias, const float* x, int outputs, int inputs,
            float* y) {
  for (int o = 0; o < outputs; o++) y[o] = dot(weight + size_t(o) * inputs, x, inputs) + bias[o];
}

void normed(const float* x, int n, float* y) {
  float sum = 0;
  for (int i = 0; i < n; i++) sum += x[i];
  const float mean = sum / float(n);
  float squares = 0;
  for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / std::sqrt(squares / float(n) + 1e-5f);
  for (int i = 0; i < n; i++) y[i] = (x[i] - mean) * scale;
}

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

void pause_vector(double best, double expected, double blank_probability, double silence,
                  int n_tokens, double frame_seconds, float* out) {
  out[0] = float(scaled(best * frame_seconds));
  out[1] = float(scaled(expected * frame_seconds));
  out[2] = float(std::min(std::max(blank_probability, 0.0), 1.0));
  out[3] = float(scaled(silence * frame_seconds));
  out[4] = n_tokens > 0 ? 1.0f : 0.0f;
}

int EndHead::scratch() const {
  const EndHeadWeights& w = weights_;
  return std::max(w.hidden_size, w.label_size) + 2 * w.width + w.width / 2 + 6 * w.memory;
}

long long EndHead::macs() const {
  const EndHeadWeights& w = weights_;
  const long long joined = 2 * w.width + w.width / 2;
  return 1LL * w.width * (w.hidden_size + w.label_size) + w.width / 2 * kPauseFeatures +
         3LL * w.memory * (joined + w.memory) + w.memory;
}

float EndHead::step(const float* hidden, const float* label, const float* pauses, float* memory,
                    float* scratch) const {
  const EndHeadWeights& w = weights_;
  const int size = std::max(w.hidden_size, w.label_size), n = w.memory;
  const int joined_size = 2 * w.width + w.width / 2;
  float *flat = scratch, *joined = flat + size, *given = joined + joined_size, *kept = given + 3 * n;
  normed(hidden, w.hidden_size, flat);
  linear(w.hidden, w.hidden_bias, flat, w.width, w.hidden_size, joined);
  normed(label, w.label_size, flat);
  linear(w.label, w.label_bias, flat, w.width, w.label_size, joined + w.width);
  linear(w.pauses, w.pauses_bias, pauses, w.width / 2, kPauseFeatures, joined + 2 * w.width);
  for (int i = 0; i < joined_size; i++) joined[i] = std::tanh(joined[i]);
  linear(w.input, w.input_bias, joined, 3 * n, joined_size, given);
  linear(w.recur, w.recur_bias, memory, 3 * n, n, kept);
  for (int i = 0; i < n; i++) {
    const float r = sigmoid(given[i] + kept[i]);
    const float z = sigmoid(given[n + i] + kept[n + i]);
    const float fresh = std::tanh(given[2 * n + i] + r * kept[2 * n + i]);
    memory[i] = fresh + z * (memory[i] - fresh);
  }
  float logit = 0;
  linear(w.out, w.out_bias, memory, 1, n, &logit);
  return sigmoid(logit);
}

}  // namespace slm
