#include "induction/bracket.h"

#include <algorithm>
#include <cmath>

#include "induction/machine.h"

namespace slm::induction {

namespace {
constexpr int kQueues = 1024;
constexpr size_t kLongest = 4096;  // live text; longer states stay open for ever

bool cancels(int alphabet, char before, char after) {
  if (alphabet == 2 && before == '+' && after == '+') return true;
  return (before == '+' && after == '-') || (before == '-' && after == '+') ||
         (before == '<' && after == '>') || (before == '>' && after == '<');
}

Bracket::State decoded(const std::string& key) {
  Bracket::State state;
  Reader reader(key.data(), key.size());
  state.tape = reader.get<uint64_t>();
  state.matched = reader.get<int16_t>();
  const int length = reader.get<int16_t>(), open = reader.get<int16_t>();
  state.code.resize(size_t(length));
  state.to.resize(size_t(length));
  state.open.resize(size_t(open));
  reader.bytes(state.code.data(), size_t(length));
  reader.bytes(state.to.data(), size_t(length) * 2);
  reader.bytes(state.open.data(), size_t(open) * 2);
  return state;
}
}  // namespace

Bracket::Bracket(int alphabet, int cells, std::vector<uint8_t> target)
    : alphabet_(alphabet), cells_(cells), width_(1), target_(std::move(target)), queues_(kQueues) {
  while ((1 << width_) < alphabet) width_++;
  cell_mask_ = (uint64_t(1) << width_) - 1;
  low_.assign(target_.size() + 1, 0);
  low_[0] = 1;
  if (!target_.empty()) give(number(State{}), 1);
}

// The tape as seen after the head has moved: the head's cell is the lowest.
uint64_t Bracket::right(uint64_t tape) const {
  return (tape >> width_) | ((tape & cell_mask_) << (width_ * (cells_ - 1)));
}
uint64_t Bracket::left(uint64_t tape) const {
  const int top = width_ * (cells_ - 1);
  return ((tape & ((uint64_t(1) << top) - 1)) << width_) | (tape >> top);
}
uint64_t Bracket::mirror(uint64_t tape) const {
  uint64_t out = 0;
  for (int i = 0; i < cells_; i++)
    out |= ((tape >> (width_ * i)) & cell_mask_) << (width_ * ((cells_ - i) % cells_));
  return out;
}

// Runs until an instruction has to be drawn. Text and tape are finite, so a run that prints nothing
// comes to the same place and tape again, or ends: Brent's search for cycles decides it.
Bracket::End Bracket::run(State& state, size_t pc) const {
  size_t seen_pc = pc;
  uint64_t seen_tape = state.tape;
  int64_t since = 0, power = 1;
  while (pc < state.code.size()) {
    const uint64_t cell = state.tape & cell_mask_;
    const size_t here = pc++;
    switch (state.code[here]) {
      case '+':
        state.tape = (state.tape & ~cell_mask_) | (cell + 1 == uint64_t(alphabet_) ? 0 : cell + 1);
        break;
      case '-':
        state.tape = (state.tape & ~cell_mask_) | (cell == 0 ? uint64_t(alphabet_ - 1) : cell - 1);
        break;
      case '>': state.tape = right(state.tape); break;
      case '<': state.tape = left(state.tape); break;
      case '.':
        if (cell != target_[size_t(state.matched)]) return End::kRefuted;
        if (size_t(++state.matched) == target_.size()) return End::kDone;
        seen_pc = pc, seen_tape = state.tape, since = 0, power = 1;
        continue;
      case '[':
        if (cell == 0) {
          if (state.to[here] < 0) state.to[here] = int16_t(state.code.size());
          pc = size_t(state.to[here]);
        }
        break;
      case '{':
        if (cell != 0) {
          if (state.to[here] < 0) {
            state.to[here] = int16_t(state.code.size());
            state.open.push_back(int16_t(here));
          }
          pc = size_t(state.to[here]);
        }
        break;
      default: pc = size_t(state.to[here]);
    }
    if (pc == seen_pc && state.tape == seen_tape) return End::kRefuted;
    if (++since == power) seen_pc = pc, seen_tape = state.tape, since = 0, power *= 2;
  }
  return End::kOpen;
}

// Draws `instruction` where the state waits, and runs on.
Bracket::End Bracket::extend(State& state, char instruction) const {
  const uint64_t cell = state.tape & cell_mask_;
  const size_t here = state.code.size();
  if (instruction == '[' && cell == 0) instruction = '{';
  if (instruction == ']' && state.open.empty()) return End::kOpen;  // nothing to close: no text
  if (alphabet_ == 2 && instruction == '-') instruction = '+';
  state.code.push_back(instruction);
  state.to.push_back(-1);
  if (instruction == '[') {
    state.open.push_back(int16_t(here));
    return run(state, here + 1);
  }
  if (instruction == '{') return run(state, here + 1);
  if (instruction == ']') {
    state.to[here] = state.open.back();
    state.open.pop_back();
  }
  const End end = run(state, here);
  if (end != End::kOpen || here == 0 || instruction == ']' || instruction == '.') return end;
  // '+-' and the like do nothing. They are one piece of text unless something else leads to its
  // middle; then the second may run without the first.
  for (const int16_t to : state.to)
    if (size_t(to) == here) return end;
  if (cancels(alphabet_, state.code[here - 1], instruction)) {
    state.code.resize(here - 1);
    state.to.resize(here - 1);
  }
  return end;
}

// Drops text that can never run again: what neither an open bracket nor live text leads to.
void Bracket::trim(State& state) const {
  const size_t length = state.code.size();
  std::vector<char> live(length + 1, 0);
  std::vector<int16_t> work(state.open);
  while (!work.empty()) {
    size_t at = size_t(work.back());
    work.pop_back();
    while (at < length && !live[at]) {
      live[at] = 1;
      const char one = state.code[at];
      if (one == ']') {
        at = size_t(state.to[at]);
        continue;
      }
      if ((one == '[' || one == '{') && state.to[at] >= 0) work.push_back(state.to[at]);
      at++;
    }
  }
  std::vector<int16_t> moved(length + 1);
  int16_t count = 0;
  for (size_t i = 0; i < length; i++) {
    moved[i] = count;
    if (!live[i]) continue;
    state.code[size_t(count)] = state.code[i];
    state.to[size_t(count)] = state.to[i];
    count++;
  }
  moved[length] = count;
  state.code.resize(size_t(count));
  state.to.resize(size_t(count));
  for (int16_t& to : state.to)
    if (to >= 0) to = moved[size_t(to)];
  for (int16_t& at : state.open) at = moved[size_t(at)];
}

// Left and right are names: of a state and its mirror image the smaller key stands for both.
std::string Bracket::key(const State& state) const {
  std::string keys[2];
  State other = state;
  other.tape = mirror(state.tape);
  for (char& one : other.code) one = one == '<' ? '>' : one == '>' ? '<' : one;
  for (int i = 0; i < 2; i++) {
    const State& from = i ? other : state;
    Writer writer;
    writer.put(from.tape);
    writer.put(int16_t(from.matched));
    writer.put(int16_t(from.code.size()));
    writer.put(int16_t(from.open.size()));
    writer.bytes(from.code.data(), from.code.size());
    writer.bytes(from.to.data(), from.to.size() * 2);
    writer.bytes(from.open.data(), from.open.size() * 2);
    keys[i] = std::move(writer.out);
  }
  return std::min(keys[0], keys[1]);
}

int32_t Bracket::number(const State& state) {
  const auto [place, fresh] = numbers_.try_emplace(key(state), int32_t(weights_.size()));
  if (fresh) {
    keys_.push_back(&place->first);
    weights_.push_back(0);
    matched_.push_back(int16_t(state.matched));
    edges_.emplace_back();
    queued_.push_back(-1);
  }
  return place->second;
}

void Bracket::queue(int32_t id) {
  const int at = std::min(kQueues - 1, std::max(0, -std::ilogb(weights_[size_t(id)])));
  if (queued_[size_t(id)] >= 0 && queued_[size_t(id)] <= at) return;
  queued_[size_t(id)] = int16_t(at);
  queues_[size_t(at)].push_back(id);
  first_queue_ = std::min(first_queue_, at);
}

void Bracket::give(int32_t id, double weight) {
  weights_[size_t(id)] += weight;
  if (keys_[size_t(id)]->size() < kLongest) queue(id);
}

void Bracket::open_state(int32_t id) {
  const State state = decoded(*keys_[size_t(id)]);
  std::vector<Edge> edges;
  const double share = 1.0 / kInstructions;
  for (const char instruction : {'+', '-', '>', '<', '[', ']', '.'}) {
    if (alphabet_ == 2 && instruction == '-') continue;
    State next = state;
    const End end = extend(next, instruction);
    if (end == End::kOpen) trim(next);
    Edge edge{end == End::kOpen ? number(next) : -1, int16_t(state.matched),
              int16_t(next.matched), alphabet_ == 2 && instruction == '+' ? 2 * share : share};
    edges.push_back(edge);
  }
  edges_[size_t(id)] = std::move(edges);
}

int64_t Bracket::work(int64_t count) {
  int64_t done = 0;
  while (done < count) {
    while (first_queue_ < kQueues && queues_[size_t(first_queue_)].empty()) first_queue_++;
    if (first_queue_ == kQueues) break;
    const int32_t id = queues_[size_t(first_queue_)].back();
    queues_[size_t(first_queue_)].pop_back();
    if (queued_[size_t(id)] != first_queue_) continue;  // moved to a heavier queue since
    queued_[size_t(id)] = -1;
    if (edges_[size_t(id)].empty()) open_state(id);
    const double weight = weights_[size_t(id)];
    weights_[size_t(id)] = 0;
    for (const Edge edge : edges_[size_t(id)]) {  // a state may lead to itself: by value
      for (int t = edge.from + 1; t <= edge.matched; t++) low_[size_t(t)] += weight * edge.share;
      if (edge.child >= 0) give(edge.child, weight * edge.share);
    }
    done++;
  }
  opened_ += done;
  return done;
}

std::vector<double> Bracket::pending() const {
  std::vector<double> by_matched(target_.size() + 1, 0);
  for (size_t i = 0; i < weights_.size(); i++) by_matched[size_t(matched_[i])] += weights_[i];
  // Missing for a prefix is what is open and has printed less than it.
  std::vector<double> out(target_.size() + 1, 0);
  double sum = 0;
  for (size_t t = 0; t <= target_.size(); t++) {
    out[t] = sum;
    sum += by_matched[t];
  }
  return out;
}

}  // namespace slm::induction
