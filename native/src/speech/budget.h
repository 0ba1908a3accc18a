// The compute budget: a recogniser shares its processor with other work. What every block of audio
// costs is measured, and the beam is narrowed before the stream falls behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace slm {

// Seconds of processor time of this thread, or what a test says they are.
struct Clock {
  double (*now)(void* user) = nullptr;  // NULL: the processor time of the calling thread
  void* user = nullptr;
  double seconds() const;
};

// Widths go from `beam` down by halves to 1. The width falls by one step when the work of some blocks
// did not fit into the share that it may take, or when audio waits because of it. It rises by one step
// after three calm seconds in which a fifth of the share was left; where that proves too early, the next
// attempt waits twice as long, up to a minute.
class Budget {
 public:
  // share: of one core, in (0, 1]; 0: no limit, and the width never changes.
  Budget(double share, int beam, double block_seconds);

  void reset();
  // The width for the next block, and whether it is the full one.
  int beam() const { return widths_[size_t(level_)]; }
  bool full() const { return level_ == 0; }
  bool limited() const { return share_ > 0; }
  // A block has been read at `seconds` of processor time while `waiting` blocks were left.
  void spent(double seconds, int waiting);
  // How often the width was lowered and raised.
  int64_t lowered() const { return lowered_; }
  int64_t raised() const { return raised_; }

 private:
  double share_, block_;
  std::vector<int> widths_;
  int level_ = 0;
  double cost_ = 0;  // of a block at this width, s, in the mean; 0: not known
  double debt_ = 0;  // processor seconds beyond the share, that blocks to come must save
  int calm_ = 0;     // blocks since there was reason to lower
  int patience_;     // blocks of calm before the width rises; doubled when that was too early
  int since_raise_ = 1 << 30;
  int64_t lowered_ = 0, raised_ = 0;
};

}  // namespace slm
