// BrainPhoque: a machine whose programs are sampled while they run, so that every program is valid
// and the prior is self-delimiting. The semantics are those of the public code of "Learning Universal
// Predictors" (Grau-Moya et al., 2024), without its random input instruction.
#pragma once

#include "induction/numbers.h"

namespace slm::induction {

constexpr int kInstructions = 7;  // + - > < [ ] .

struct Ran {
  int printed = 0;
  int64_t steps = 0;
  int instructions = 0;
};

class Machine {
 public:
  Machine(int alphabet, int cells) : alphabet_(alphabet), cells_(cells), tape_(size_t(cells), 0) {}

  // Runs one program, its instructions drawn from `random` when they are first reached, until it
  // has printed `most` symbols to `out` or made `steps` steps. With a target it also stops at the
  // first symbol that differs from it (which is in `out`).
  Ran run(SplitMix& random, uint8_t* out, int most, int64_t steps, const uint8_t* target = nullptr);

  const std::vector<char>& program() const { return code_; }

 private:
  // '{' is a '[' met on a zero: its continuation follows it, its body is elsewhere. to_ is where
  // the part elsewhere begins; of a ']' where its bracket is; -1: not yet.
  int alphabet_, cells_;
  std::vector<uint8_t> tape_;
  std::vector<char> code_;
  std::vector<int> to_, open_;
};

// Counts of programs whose output begins with target[:t], for t = 0 .. size.
std::vector<int64_t> count_matches(int alphabet, int cells, int64_t steps,
                                   const std::vector<uint8_t>& target, int64_t programs,
                                   uint64_t seed);

}  // namespace slm::induction
