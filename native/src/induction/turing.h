// Every Turing machine of n states and 2 symbols from a blank tape, counted without running each.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace slm::induction {

struct Census {
  uint64_t halting = 0;                               // machines that halt within the limit
  uint64_t runs = 0, steps = 0;                       // what was really run
  std::unordered_map<std::string, uint64_t> outputs;  // machines by what they leave
};

// A machine has 2n entries of 4n + 2 choices (write, move, next state; or write and halt); its
// output are the cells it visited. A run that needs an entry not chosen yet branches there and
// counts for all machines that agree so far; states not met are interchangeable, and so are left
// and right.
Census enumerate(int states, int limit);

}  // namespace slm::induction
