// The end head: P(the utterance is complete | what was heard so far), frame by frame. The network of
// src/solomonic/speech/endpoint/head.py with the features of endpoint/features.py.
#pragma once

#include <vector>

namespace slm {

constexpr int kPauseFeatures = 5;

// Pause features of one frame (kPauseFeatures), all in 0..1; arguments as in Python's pause_vector.
void pause_vector(double best, double expected, double blank_probability, double silence,
                  int n_tokens, double frame_seconds, float* out);

// Parameters in PyTorch's layout and order; they must outlive the head.
struct EndHeadWeights {
  int hidden_size = 0, label_size = 0, width = 0, memory = 0;
  const float *hidden = nullptr, *hidden_bias = nullptr;  // (width, hidden_size), (width)
  const float *label = nullptr, *label_bias = nullptr;    // (width, label_size), (width)
  const float *pauses = nullptr, *pauses_bias = nullptr;  // (width / 2, 5), (width / 2)
  const float *input = nullptr, *input_bias = nullptr;    // (3 memory, 2.5 width), (3 memory)
  const float *recur = nullptr, *recur_bias = nullptr;    // (3 memory, memory), (3 memory)
  const float *out = nullptr, *out_bias = nullptr;        // (1, memory), (1)
};

// Read-only: shared by streams.
class EndHead {
 public:
  explicit EndHead(const EndHeadWeights& weights) : weights_(weights) {}

  int hidden_size() const { return weights_.hidden_size; }
  int label_size() const { return weights_.label_size; }
  int memory() const { return weights_.memory; }
  // Floats of scratch that `step` needs.
  int scratch() const;
  // Multiplications of a step.
  long long macs() const;
  // Probability after the next frame; `memory` (memory()) begins as zeros and is moved on.
  float step(const float* hidden, const float* label, const float* pauses, float* memory,
             float* scratch) const;

 private:
  EndHeadWeights weights_;
};

}  // namespace slm
