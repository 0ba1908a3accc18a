// A logistic mixer of contexts over bytes, one bit at a time: orders 0 to 6, words, a sparse context,
// the verbatim match; two layers of gated mixing; secondary estimation. Sizes and rates were chosen
// on text (docs/induction.md); solomonic/induction/mixer_definition.py is the same in Python.
#pragma once

#include <memory>

#include "induction/coder.h"
#include "induction/numbers.h"

namespace slm::induction {

class ContextMixer {
 public:
  static constexpr int kContexts = 14;
  static constexpr int kInputs = 48;  // 3 a context, the match, a bias, an outside opinion, padding
  static constexpr int kSets = 6;

  explicit ContextMixer(int bits);
  std::unique_ptr<ContextMixer> copy() const;

  // Probability of a one in 65536ths, 1 .. 65535: already what the coder takes.
  int bit() const { return found_.q; }
  void learn(int bit);
  void distribution(double* out) const;  // 256, at the beginning of a byte
  bool whole() const { return partial_ == 1; }
  // An opinion on the next byte by somebody else (256 probabilities), mixed in until the byte ends.
  void hint(const double* probabilities);
  void write(Writer& writer) const;
  // Throws std::invalid_argument and changes nothing if it is no state of such a mixer.
  void read(Reader& reader);

 private:
  struct Slot {
    uint16_t p;       // of a one
    uint8_t history;  // the last seven bits behind a leading one; 0: never seen
    uint8_t count;
  };
  struct Bucket {  // what follows a context and, in the second half of a byte, the first half
    uint16_t check, unused;
    Slot slots[15];
  };
  struct Found {  // one bit's prediction and what learning from it needs
    alignas(64) float inputs[kInputs];
    const Slot* slots[kContexts];
    int maps[kContexts];
    float* weights[kSets];
    float dots[kSets];
    float chances[kSets];
    float* final_weights;
    float mixed;
    uint16_t* stages[3];
    int q;
  };
  ContextMixer(const ContextMixer&) = default;  // pointers then have to be found again
  ContextMixer& operator=(ContextMixer&&) = default;

  struct Before;

  void take(Reader& reader);
  void settle();
  void begin_byte();
  void end_byte(int byte);
  void follow(int byte);
  uint64_t key(int context, int root) const;
  const Bucket* peek(int context, int root) const;  // null: none
  Bucket* seat(int context, int root);
  void predict(int partial, const Bucket* const* buckets, Found& found) const;
  int inputs_of(int partial, const Bucket* const* buckets, Found& found) const;
  void sets_of(int partial, int known, Found& found) const;
  void refine(int partial, Found& found) const;
  void explore(double reach, double* out);
  void learn_here(int bit);
  void learn_slots(int bit);
  void learn_weights(int bit);
  int expected_bit(int partial) const;  // -1: none

  int bits_;
  size_t buckets_;  // a context
  int partial_ = 1;
  uint64_t bytes_ = 0;    // read so far
  uint64_t history_ = 0;  // the last eight
  uint64_t word_ = 0, words_[2] = {0, 0};
  uint64_t line_begin_ = 0, above_begin_ = 0;  // where this line and the one before begin
  uint64_t contexts_[kContexts] = {};
  Bucket* now_[kContexts] = {};
  // The match: where in the ring what came last came before, and how much of it agrees.
  uint32_t match_at_ = 0;
  int match_length_ = 0, expected_ = -1;
  float outside_[512] = {};  // reach of every partial byte by the outside opinion
  bool hinted_ = false;
  Found found_;
  Table<Bucket> table_;
  Table<uint8_t> ring_;
  Table<uint32_t> places_;
  std::vector<uint16_t> maps_, map_counts_;  // of histories, by context
  std::vector<uint16_t> match_p_;            // that the expected bit comes, by length
  mutable std::vector<float> weights_, final_;  // predictions point into them for learning
  mutable std::vector<uint16_t> stages_;
};

}  // namespace slm::induction
