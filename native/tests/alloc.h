// Counts what the library allocates, and lets allocations fail on purpose.
#pragma once

#include <cstdint>

namespace alloc {

// Blocks and bytes that operator new has given and not got back.
struct Held {
  int64_t blocks, bytes;
};
Held held();
// How often aligned memory was asked for since the start; -1 where it cannot be counted.
int64_t aligned();

// While it lives, the `after`-th allocation from now on and all later ones fail.
class Starved {
 public:
  explicit Starved(int64_t after);
  ~Starved();
  // Did any allocation fail?
  bool felt() const;
};

}  // namespace alloc
