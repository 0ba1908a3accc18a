// When the beam is narrowed and widened; see budget.h.
#include "budget.h"

#include <time.h>

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

namespace slm {

namespace {

constexpr double kMostDebt = 0.1;    // seconds of work too much before the beam is narrowed
constexpr double kWaiting = 0.5;     // seconds of audio that may wait
constexpr double kPatience = 3.0;    // seconds of calm before it is widened
constexpr double kLongest = 60.0;    // the longest that this waiting grows to
constexpr double kSpare = 0.75;      // part of the share that the wider beam may be expected to take
constexpr double kNew = 0.2;         // weight of a block in the mean cost

}  // namespace

double Clock::seconds() const {
  if (now) return now(user);
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

Budget::Budget(double share, int beam, double block_seconds) : share_(share), block_(block_seconds) {
  require(share >= 0 && share <= 1,
          "the compute budget must be a share of one core in (0, 1], or 0 for no limit.");
  require(beam >= 1, "beam must be at least 1.");
  for (int width = beam; width >= 1; width /= 2) widths_.push_back(width);
  cost_.resize(widths_.size());
  reset();
}

void Budget::reset() {
  std::fill(cost_.begin(), cost_.end(), 0.0);
  level_ = 0;
  debt_ = 0;
  calm_ = 0;
  patience_ = int(kPatience / block_);
  since_raise_ = 1 << 30;
}

void Budget::spent(double seconds, int waiting) {
  if (!limited()) return;
  const double allowed = share_ * block_;
  double& cost = cost_[size_t(level_)];
  cost = cost == 0 ? seconds : cost + kNew * (seconds - cost);
  // Silence saves nothing for later: a debt is paid back, a credit is not kept.
  debt_ = std::max(debt_ + seconds - allowed, 0.0);
  since_raise_ = std::min(since_raise_ + 1, 1 << 30);
  // Audio that waits counts only where the work is the reason: a file handed over at once waits too.
  const bool behind = waiting * block_ > kWaiting && cost > allowed;
  if ((debt_ > kMostDebt * share_ || behind) && level_ + 1 < int(widths_.size())) {
    if (since_raise_ * block_ < 2 * kPatience)  // raised too early: wait longer the next time
      patience_ = std::min(2 * patience_, int(kLongest / block_));
    level_++;
    lowered_++;
    debt_ = calm_ = 0;
    return;
  }
  calm_ = debt_ == 0 ? calm_ + 1 : 0;
  if (level_ == 0 || calm_ < patience_) return;
  // The wider beam is expected to cost what it did, or else in proportion to the width.
  const double wider = std::max(cost_[size_t(level_) - 1] * 0.5, cost);
  if (wider > kSpare * allowed) return;
  level_--;
  raised_++;
  calm_ = 0;
  since_raise_ = 0;
  cost_[size_t(level_)] = 0;
}

}  // namespace slm
