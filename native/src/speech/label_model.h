// What the search asks of a model: the prediction network, one label at a time, and the joint network.
// `SpeechNet` is one; tests have toy ones.
#pragma once

#include <cstddef>

namespace slm {

// Read-only while searches use it. States and vectors lie in memory of the caller's, states at
// addresses that are multiples of 64. None of the functions allocates, and a row's result does not
// depend on which other rows share the call.
class LabelModel {
 public:
  virtual ~LabelModel() = default;

  virtual int vocab() const = 0;           // symbols V, the blank (0) included
  virtual int joint() const = 0;           // size J of acoustic and label vectors
  virtual size_t state_bytes() const = 0;  // of one label state; any bytes, copied with memcpy

  // The state and the label vector (J) before any label.
  virtual void start(void* state, float* label) const = 0;
  // The state `to` and the label vector (J) after one more label. `to` is not `from`.
  virtual void step(const void* from, int token, void* to, float* label) const = 0;
  // The same for n hypotheses: from[i], tokens[i] -> to[i], labels[i].
  virtual void steps(const void* const* from, const int* tokens, int n, void* const* to,
                     float* const* labels) const {
    for (int i = 0; i < n; i++) step(from[i], tokens[i], to[i], labels[i]);
  }
  // Log-probabilities (n, V) of the next symbol at one encoder frame: log-softmax of the joint
  // network of acoustic (J) and each of n label vectors (J).
  virtual void log_probs(const float* acoustic, const float* const* labels, int n,
                         float* out) const = 0;
};

}  // namespace slm
