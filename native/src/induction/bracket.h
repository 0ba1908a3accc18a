// The rigorous any-time bracket on the universal measure M(x) of the BrainPhoque machine.
//
// Every program is in one of four classes: it has printed x (its weight is in `low`), it has printed
// something else or runs for ever without printing on (refuted: weight 0 for x), or it is still open.
// Open programs with the same future are one state: tape with the head at 0, the text that can run
// again, and how much of x is printed. A state is opened by drawing its next instruction seven ways.
#pragma once

#include <string>
#include <unordered_map>

#include "induction/numbers.h"

namespace slm::induction {

class Bracket {
 public:
  // cells times the bits of one cell must fit 64; targets have up to 30,000 symbols.
  Bracket(int alphabet, int cells, std::vector<uint8_t> target);

  // Opens `count` states, heaviest first (within a factor 2); fewer if none is left.
  int64_t work(int64_t count);

  // For t = 0 .. size: weight of programs known to print target[:t]; and of those still open
  // that have not, which is all that can be missing.
  std::vector<double> low() const { return low_; }
  std::vector<double> pending() const;
  int64_t states() const { return int64_t(weights_.size()); }
  int64_t opened() const { return opened_; }

  struct State {
    uint64_t tape = 0;
    int matched = 0;
    std::string code;
    std::vector<int16_t> to;    // as in Machine; of a closed ']' its bracket
    std::vector<int16_t> open;  // brackets without their ']'
  };

 private:
  struct Edge {
    int32_t child;  // -1: none
    int16_t from, matched;
    double share;
  };
  enum class End { kOpen, kDone, kRefuted };

  void open_state(int32_t id);
  End extend(State& state, char instruction) const;
  End run(State& state, size_t pc) const;
  void trim(State& state) const;
  std::string key(const State& state) const;
  int32_t number(const State& state);
  void give(int32_t id, double weight);
  void queue(int32_t id);
  uint64_t right(uint64_t tape) const;
  uint64_t left(uint64_t tape) const;
  uint64_t mirror(uint64_t tape) const;

  int alphabet_, cells_, width_;
  uint64_t cell_mask_;
  std::vector<uint8_t> target_;
  std::vector<double> low_;
  std::unordered_map<std::string, int32_t> numbers_;
  std::vector<const std::string*> keys_;
  std::vector<double> weights_;                 // pending, by state
  std::vector<int16_t> matched_;                // by state
  std::vector<std::vector<Edge>> edges_;        // empty until opened
  std::vector<int16_t> queued_;                 // in which queue, -1: none
  std::vector<std::vector<int32_t>> queues_;    // by -log2 of the weight
  int first_queue_ = 0;
  int64_t opened_ = 0;
};

}  // namespace slm::induction
