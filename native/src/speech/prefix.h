// Label prefixes: a tree of what has been said so far. The twin of solomonic/speech/decode/prefix.py.
#pragma once

#include <vector>

#include "bias.h"
#include "label_model.h"
#include "pointer.h"
#include "pool.h"

namespace slm {

// Labels from the start of an utterance; equal prefixes are one, and known by number.
struct Prefix {
  int parent;  // -1 at the root
  int token;
  int depth;
  int child, sibling;  // of the list of known longer prefixes; -1: none
  int used;            // frame in which a hypothesis last needed it
  int slot;            // where its label vector and state are, or -1
  int mark;            // scratch of `sweep`; 0 when the place is free
  uint64_t key;        // hash of all labels
  uint64_t context;    // hash of what path merging compares
  int64_t bias_state;
  int64_t listed;      // where in the listed phrases the labels stand
  double bias;         // what biasing paid so far, nats
};

class PrefixTree {
 public:
  // `slots`: label vectors held; the least recently used ones go first.
  PrefixTree(const LabelModel& model, int capacity, int slots, int label_context);
  void start(Bias* bias, Listed* listed, const char* starts);

  Prefix& operator[](int prefix) { return pool_[prefix]; }
  const Prefix& operator[](int prefix) const { return pool_[prefix]; }
  int root() const { return root_; }
  int child(int parent, int token);
  bool starts(int prefix) const { return starts_[pool_[prefix].token] != 0; }
  // Whether path merging takes them for one.
  bool same_context(int first, int second) const;
  // Whether `prefix` is `start` or a longer one of it.
  bool begins(int start, int prefix) const;
  // The longest prefix that begins both.
  int common(int first, int second) const;

  // Forget prefixes that no hypothesis has needed since frame `before`. `alive` are those of the
  // hypotheses, all of which `top` begins; `others` are remembered elsewhere.
  void sweep(const int* alive, int count, int top, int before, const int* others, int others_count);

  // Fill in the label vectors of n different or equal prefixes, in as few steps as there are
  // missing ones. Parents' are there (or found again). The vectors are good until the next call
  // with another `stamp`.
  void labels(const int* prefixes, int n, int64_t stamp, const float** out);

  int left() const { return pool_.left(); }
  int capacity() const { return pool_.capacity(); }
  size_t bytes() const { return pool_.bytes() + slots_.size() * sizeof(Slot) + memory_.bytes(); }

 private:
  struct Slot {
    int prefix;     // -1: free
    int64_t stamp;  // when it was last asked for
  };
  float* label(int slot) { return reinterpret_cast<float*>(aligned_ + size_t(slot) * stride_); }
  void* state(int slot) { return aligned_ + size_t(slot) * stride_ + label_bytes_; }
  int take_slot(int prefix, int64_t stamp);
  void fill(int prefix, int64_t stamp);
  void flush();
  void mark_up(int prefix, int value);

  const LabelModel& model_;
  Pool<Prefix> pool_;
  int label_context_;
  int root_ = -1;
  Bias* bias_ = nullptr;
  Listed* listed_ = nullptr;
  const char* starts_ = nullptr;
  std::vector<Slot> slots_;
  size_t label_bytes_, stride_;
  Zeroed<char> memory_;
  char* aligned_ = nullptr;
  // Scratch of `labels`.
  std::vector<const void*> from_;
  std::vector<void*> to_;
  std::vector<float*> vectors_;
  std::vector<int> tokens_;
};

}  // namespace slm
