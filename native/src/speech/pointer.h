// Attention of the joint network to a request's phrases: which of their pieces may come next. The twin
// of solomonic/speech/biasing/pointer.py, which defines it.
#pragma once

#include <memory>
#include <vector>

#include "bias.h"

namespace slm {

class PackFile;

// Weights, shared by any threads; (inputs, outputs) where Python has (outputs, inputs).
struct PointerWeights {
  int vocab = 0, joint = 0, embedding = 0, size = 0;
  float eps = 0;
  double search_scale = 1;  // what is left of the search's weights beside it
  std::vector<float> pieces;            // (vocab, embedding)
  std::vector<float> input, recurrent;  // (embedding, 4 embedding)
  std::vector<float> bias;              // (4 embedding): of both
  std::vector<float> key;               // (2 embedding, size), over sqrt(size)
  std::vector<float> acoustic_norm, label_norm;    // (joint)
  std::vector<float> acoustic_query, label_query;  // (joint, size)
  std::vector<float> depth;                        // of nodes at depth 1, 2, ...; the last for all
  float share = 0;

  // Null: the file's model has none.
  static std::unique_ptr<const PointerWeights> read(const PackFile& file, int vocab, int joint);
  size_t bytes() const;
};

// The phrases of one request, for one thread at a time.
class Listed {
 public:
  // `phrases`: not empty, and none of them is. The weights outlive it.
  Listed(const PointerWeights& weights, const std::vector<Spelling>& phrases);

  // The state after one more label; the first is 0.
  int64_t step(int64_t state, int token) { return graph_.step(state, token).first; }
  // What the frame `acoustic` (joint) asks of the phrases; for each `add` until the next.
  void hear(const float* acoustic);
  // Adds what is heard of the phrases to the log-probabilities (vocab) after one prefix with the
  // label vector (joint), and normalises them again. Null, or of each piece (vocab) whether it may
  // be heard; where none goes on nothing changes. Nothing is allocated.
  void add(const float* label, int64_t state, const char* allowed, float* log_probs);
  size_t bytes() const;

 private:
  void read_keys();
  void ask(const float* vector, const std::vector<float>& norm, const std::vector<float>& weight,
           std::vector<float>& query, bool more);

  const PointerWeights& weights_;
  PhraseGraph graph_;
  std::vector<float> keys_;       // (size, nodes)
  std::vector<float> constants_;  // (nodes)
  std::vector<float> frame_;                    // (size) what `hear` found
  std::vector<float> normal_, query_, scores_;  // scratch
};

}  // namespace slm
