#include "induction/machine.h"

namespace slm::induction {

Ran Machine::run(SplitMix& random, uint8_t* out, int most, int64_t steps, const uint8_t* target) {
  std::fill(tape_.begin(), tape_.end(), 0);
  code_.clear();
  to_.clear();
  open_.clear();
  Ran ran;
  int at = 0;
  size_t pc = 0;
  while (ran.steps < steps && ran.printed < most) {
    const bool fresh = pc == code_.size();
    if (fresh) {
      char drawn = "+-><[]."[random.below(kInstructions)];
      if (drawn == '[' && tape_[size_t(at)] == 0) drawn = '{';
      code_.push_back(drawn);
      to_.push_back(-1);
      ran.instructions++;
    }
    ran.steps++;
    uint8_t& cell = tape_[size_t(at)];
    const size_t here = pc++;
    switch (code_[here]) {
      case '+': cell = uint8_t(cell + 1 == alphabet_ ? 0 : cell + 1); break;
      case '-': cell = uint8_t(cell == 0 ? alphabet_ - 1 : cell - 1); break;
      case '>': at = at + 1 == cells_ ? 0 : at + 1; break;
      case '<': at = at == 0 ? cells_ - 1 : at - 1; break;
      case '.':
        out[ran.printed++] = cell;
        if (target && target[ran.printed - 1] != cell) return ran;
        break;
      case '[':
        if (fresh) {
          open_.push_back(int(here));
        } else if (cell == 0) {
          if (to_[here] < 0) to_[here] = int(code_.size());
          pc = size_t(to_[here]);
        }
        break;
      case '{':
        if (!fresh && cell != 0) {
          if (to_[here] < 0) {
            to_[here] = int(code_.size());
            open_.push_back(int(here));
          }
          pc = size_t(to_[here]);
        }
        break;
      default:  // ']'
        if (fresh && !open_.empty()) {
          to_[here] = open_.back();
          open_.pop_back();
        }
        if (to_[here] >= 0) pc = size_t(to_[here]);  // else nothing to close: skipped for ever
    }
  }
  return ran;
}

std::vector<int64_t> count_matches(int alphabet, int cells, int64_t steps,
                                   const std::vector<uint8_t>& target, int64_t programs,
                                   uint64_t seed) {
  Machine machine(alphabet, cells);
  SplitMix random{seed};
  std::vector<int64_t> counts(target.size() + 1, 0);
  std::vector<uint8_t> out(target.size() + 1);
  for (int64_t i = 0; i < programs; i++) {
    const Ran ran = machine.run(random, out.data(), int(target.size()), steps, target.data());
    int good = ran.printed;
    if (good && out[size_t(good) - 1] != target[size_t(good) - 1]) good--;
    counts[size_t(good)]++;
  }
  for (size_t t = target.size(); t-- > 0;) counts[t] += counts[t + 1];
  return counts;
}

}  // namespace slm::induction
