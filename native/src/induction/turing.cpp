#include "induction/turing.h"

#include <algorithm>

namespace slm::induction {

namespace {

struct Search {
  int states, limit;
  Census census;
  std::vector<uint8_t> tape;
  struct Entry {
    int8_t write, move, next;  // next -1: not chosen yet
  };
  std::vector<Entry> table;
  std::vector<uint64_t> powers;  // of the number of choices

  Search(int n, int most)
      : states(n), limit(most), tape(size_t(2 * most + 3), 0), table(size_t(2 * n), {0, 0, -1}),
        powers(size_t(2 * n) + 1, 1) {
    for (size_t i = 1; i < powers.size(); i++) powers[i] = powers[i - 1] * uint64_t(4 * n + 2);
  }

  struct Place {
    int at, low, high, state, steps, met, left;  // left: entries not chosen
    uint64_t weight;
  };

  void halt(const Place& place, int write) {
    const uint64_t machines = place.weight * powers[size_t(place.left - 1)];
    census.halting += machines;
    std::string found;
    for (int i = place.low; i <= place.high; i++)
      found.push_back(char('0' + (i == place.at ? write : tape[size_t(i)])));
    if (place.steps == 0) {
      census.outputs[found] += machines;
      return;
    }
    // Half of them are mirror images.
    census.outputs[found] += machines / 2;
    std::reverse(found.begin(), found.end());
    census.outputs[found] += machines / 2;
  }

  void run(Place place) {
    std::vector<std::pair<int, uint8_t>> written;
    for (;;) {
      const Entry& entry = table[size_t(place.state * 2 + tape[size_t(place.at)])];
      if (entry.next < 0) {
        branch(place);
        break;
      }
      if (place.steps + 1 >= limit) break;  // halting is a step too
      step(place, entry, written);
    }
    census.runs++;
    for (size_t i = written.size(); i-- > 0;) tape[size_t(written[i].first)] = written[i].second;
  }

  void step(Place& place, const Entry& entry, std::vector<std::pair<int, uint8_t>>& written) {
    uint8_t& cell = tape[size_t(place.at)];
    if (cell != uint8_t(entry.write)) {
      written.emplace_back(place.at, cell);
      cell = uint8_t(entry.write);
    }
    place.at += entry.move;
    place.low = std::min(place.low, place.at);
    place.high = std::max(place.high, place.at);
    place.state = entry.next;
    place.steps++;
    census.steps++;
  }

  void branch(const Place& place) {
    halt(place, 0);
    halt(place, 1);
    if (place.left == 1) return;  // every entry chosen and none halts
    Entry& entry = table[size_t(place.state * 2 + tape[size_t(place.at)])];
    const bool first = place.steps == 0;
    for (int next = 0; next < std::min(place.met + 1, states); next++)
      for (int write = 0; write < 2; write++)
        for (int move = first ? 1 : -1; move <= 1; move += 2) {
          Place on = place;
          on.left--;
          if (first) on.weight *= 2;
          if (next == place.met) {
            on.weight *= uint64_t(states - place.met);
            on.met++;
          }
          entry = {int8_t(write), int8_t(move), int8_t(next)};
          run(on);
        }
    entry.next = -1;
  }
};

}  // namespace

Census enumerate(int states, int limit) {
  Search search(states, limit);
  const int middle = limit + 1;
  search.run({middle, middle, middle, 0, 0, 1, 2 * states, 1});
  return std::move(search.census);
}

}  // namespace slm::induction
