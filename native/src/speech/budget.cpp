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
constexpr double kSpare = 0.8;       // part of the share within which the narrow beam must stay
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
  reset();
}

void Budget::reset() {
  level_ = 0;
  debt_ = cost_ = 0;
  calm_ = 0;
  patience_ = int(kPatience / block_);
  since_raise_ = 1 << 30;
}

void Budget::spent(double seconds, int waiting) {
  if (!limited()) return;
  const double allowed = share_ * block_;
  cost_ = cost_ == 0 ? seconds : cost_ + kNew * (seconds - cost_);
  // Silence saves nothing for later: a debt is paid back, a credit is not kept.
  debt_ = std::max(debt_ + seconds - allowed, 0.0);
  since_raise_ = std::min(since_raise_ + 1, 1 << 30);
  // Audio that waits counts only where the work is the reason: a file handed over at once waits too.
  const bool behind = waiting * block_ > kWaiting && cost_ > allowed;
  if ((debt_ > kMostDebt * share_ || behind) && level_ + 1 < int(widths_.size())) {
    if (since_raise_ * block_ < 2 * kPatience)  // raised too early: wait longer the next time
      patience_ = std::min(2 * patience_, int(kLongest / block_));
    level_++;
    lowered_++;
    debt_ = cost_ = 0;
    calm_ = 0;
    return;
  }
  calm_ = debt_ == 0 ? calm_ + 1 : 0;
  if (since_raise_ * block_ > kLongest) patience_ = int(kPatience / block_);
  if (level_ == 0 || calm_ < patience_) return;
  // Whether the wider beam fits is found by trying: what it costs depends on what is said.
  if (cost_ > kSpare * allowed) return;
  level_--;
  raised_++;
  calm_ = since_raise_ = 0;
  cost_ = 0;
}

}  // namespace slm
