// Streams: making, clearing, and copying parts in and out in the layout of the Python state.
#include "stream.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "rotary.h"

namespace slm {

void Cache::grow(int more) {
  if (count_ + more > capacity_) {
    const int larger = std::max(count_ + more, std::max(64, capacity_ * 3 / 2));
    for (Floats* data : {&keys_, &values_}) {
      Floats wider(size_t(groups_) * larger * head_);
      for (int g = 0; g < groups_; g++)
        std::copy_n(data->data() + int64_t(g) * capacity_ * head_, size_t(count_) * head_,
                    wider.data() + int64_t(g) * larger * head_);
      data->swap(wider);
    }
    capacity_ = larger;
  }
  count_ += more;
}

namespace {

LayerState empty(const Stack& stack, const Layer& layer) {
  const Config& c = stack.config;
  LayerState out;
  if (layer.recurrent) {
    out.h.assign(size_t(c.state_heads()) * c.state * c.state_head, 0.0f);
    out.tail.assign(size_t(c.ssm_taps - 1) * layer.recurrence.mixed, 0.0f);
  }
  if (layer.kind == 'L') out.cell.assign(c.width, 0.0f), out.output = out.cell;
  if (!layer.attends) return out;
  if (layer.conv.taps) out.short_tail.assign(size_t(layer.conv.taps - 1) * c.width, 0.0f);
  if (layer.kind == 'T') {
    out.cache = Cache(c.groups, c.head);
    return out;
  }
  out.keys = out.values = Slide(c.groups, c.ring(), c.head);
  if (c.theta) out.rotated = out.keys;
  if (layer.recurrent)
    out.faded_keys = out.faded_values = Slide(c.groups, c.fading_ring(), c.head);
  if (layer.kind == 'B' && c.slots > 0) {
    out.eps = Slide(1, c.ring(), 1);
    out.eps.clear(-INFINITY);
    out.past = Slide(1, c.taps, c.width);
    out.slots.keys.assign(size_t(c.groups) * c.slots * c.head, 0.0f);
    out.slots.values = out.slots.keys;
    out.slots.eps.assign(c.slots, -INFINITY);
    out.slots.time.assign(c.slots, -1);
  }
  return out;
}

void clear(LayerState& s) {
  for (Floats* floats : {&s.h, &s.tail, &s.cell, &s.output, &s.short_tail, &s.slots.keys,
                         &s.slots.values})
    std::fill(floats->begin(), floats->end(), 0.0f);
  for (Slide* slide : {&s.keys, &s.values, &s.rotated, &s.past, &s.faded_keys, &s.faded_values})
    slide->clear();
  s.eps.clear(-INFINITY);
  std::fill(s.slots.eps.begin(), s.slots.eps.end(), -INFINITY);
  std::fill(s.slots.time.begin(), s.slots.time.end(), -1);
  s.cache.clear();
}

}  // namespace

void Slide::save(float* to) const {
  for (int plane = 0; plane < planes_; plane++, to += int64_t(n_) * width_)
    std::copy_n(entry(plane, 0), int64_t(n_) * width_, to);
}

void Slide::load(const float* from) {
  at_ = 0;
  for (int plane = 0; plane < planes_; plane++, from += int64_t(n_) * width_)
    std::copy_n(from, int64_t(n_) * width_, entry(plane, 0));
}

StackState::StackState(const Stack& stack) : stack(&stack) {
  for (const Layer& layer : stack.layers) layers.push_back(empty(stack, layer));
}

void StackState::reset() {
  for (LayerState& layer : layers) clear(layer);
  time = 0;
}

LayerState& StackState::state(int layer) {
  require(layer >= 0 && layer < int(layers.size()),
          "layer " + std::to_string(layer) + " does not exist; the model has " +
              std::to_string(layers.size()) + ".");
  return layers[layer];
}

int64_t StackState::bytes() const {
  size_t total = 0;
  for (const LayerState& s : layers) {
    total += (s.h.size() + s.tail.size() + s.cell.size() + s.output.size() + s.short_tail.size()) * 4 +
             s.cache.bytes();
    for (const Slide* slide : {&s.keys, &s.values, &s.rotated, &s.eps, &s.past, &s.faded_keys,
                               &s.faded_values})
      total += slide->bytes();
    total += (s.slots.keys.size() + s.slots.values.size() + s.slots.eps.size()) * 4 +
             s.slots.time.size() * 8;
  }
  return int64_t(total);
}

int64_t StackState::count(int layer, const std::string& part) const {
  const LayerState& s = const_cast<StackState*>(this)->state(layer);
  const Config& c = stack->config;
  const auto carried = [](const Slide& slide) { return std::max(slide.size() - 1, 0); };
  if (part == "ssm.h") return int64_t(s.h.size());
  if (part == "ssm.conv") return int64_t(s.tail.size());
  if (part == "lstm.h") return int64_t(s.output.size());
  if (part == "lstm.c") return int64_t(s.cell.size());
  if (part == "conv") return int64_t(s.short_tail.size());
  if (part == "raw") return int64_t(s.keys.size() ? std::max(c.window - 1, 0) : 0) * c.pairs();
  if (part == "raw_eps") return s.eps.size() ? std::max(c.window - 1, 0) : 0;
  if (part == "faded") return int64_t(carried(s.faded_keys)) * c.pairs();
  if (part == "slots") return int64_t(s.slots.eps.size()) * c.pairs();
  if (part == "slot_eps") return int64_t(s.slots.eps.size());
  if (part == "past") return int64_t(s.past.size()) * c.width;
  if (part == "kv") return int64_t(s.cache.count()) * c.pairs();
  refuse("a stream has no part '" + part + "'.");
}

void StackState::get(int layer, const std::string& part, float* values, int64_t n) const {
  require(n == count(layer, part), "part '" + part + "' has " + std::to_string(count(layer, part)) +
                                       " numbers, not " + std::to_string(n) + ".");
  if (n == 0) return;
  require(values != nullptr, "values is NULL.");
  const_cast<StackState*>(this)->copy_part(layer, part, values, true);
}

void StackState::set(int layer, const std::string& part, const float* values, int64_t n) {
  require(values || n == 0, "values is NULL.");
  if (part == "kv") {  // its length is part of what is given
    LayerState& mine = state(layer);
    const Config& c = stack->config;
    require(stack->layers[layer].kind == 'T', "only a T layer has a part 'kv'.");
    require(n >= 0 && n % c.pairs() == 0 && n / c.pairs() <= INT32_MAX,
            "part 'kv' must be whole tokens of " + std::to_string(c.pairs()) + " numbers.");
    Cache fresh(c.groups, c.head);
    fresh.grow(int(n / c.pairs()));
    mine.cache = std::move(fresh);
  }
  require(n == count(layer, part), "part '" + part + "' needs " +
                                       std::to_string(count(layer, part)) + " numbers, not " +
                                       std::to_string(n) + ".");
  if (n == 0) return;
  copy_part(layer, part, const_cast<float*>(values), false);
}

void StackState::copy_part(int layer, const std::string& part, float* values, bool out) {
  const Config& c = stack->config;
  LayerState& s = state(layer);
  const auto move = [&](float* mine, float* theirs, int64_t n) {
    std::copy_n(out ? mine : theirs, n, out ? theirs : mine);
  };
  // (tokens, 2, G, D) outside; planes of keys and of values inside.
  const auto move_pairs = [&](Slide& keys, Slide& theirs_values, int carried) {
    for (int i = 0; i < carried; i++)
      for (int g = 0; g < c.groups; g++) {
        const int entry = keys.size() - carried + i;
        float* at = values + (int64_t(i) * 2 * c.groups + g) * c.head;
        move(keys.entry(g, entry), at, c.head);
        move(theirs_values.entry(g, entry), at + int64_t(c.groups) * c.head, c.head);
      }
  };
  if (part == "ssm.h") {
    // SSD states are (H, P, N) outside and (H, N, P) inside; the delta rule's are (H, N, P).
    const bool turn = !stack->layers[layer].recurrence.delta;
    for (int h = 0; h < c.state_heads(); h++)
      for (int n = 0; n < c.state; n++)
        for (int p = 0; p < c.state_head; p++) {
          float* theirs = values + int64_t(h) * c.state * c.state_head +
                          (turn ? p * c.state + n : n * c.state_head + p);
          move(&s.h[(int64_t(h) * c.state + n) * c.state_head + p], theirs, 1);
        }
  } else if (part == "ssm.conv") {
    move(s.tail.data(), values, int64_t(s.tail.size()));
  } else if (part == "lstm.h") {
    move(s.output.data(), values, int64_t(s.output.size()));
  } else if (part == "lstm.c") {
    move(s.cell.data(), values, int64_t(s.cell.size()));
  } else if (part == "conv") {
    move(s.short_tail.data(), values, int64_t(s.short_tail.size()));
  } else if (part == "raw") {
    const int carried = std::max(c.window - 1, 0);
    move_pairs(s.keys, s.values, carried);
    if (!out && c.theta) {
      const Rotary rotary(c.theta, c.head);
      Turn turn;
      for (int i = 0; i < carried; i++) {
        rotary.at(time - carried + i, turn);
        const int entry = s.keys.size() - carried + i;
        for (int g = 0; g < c.groups; g++)
          rotate(s.keys.entry(g, entry), turn, c.head, s.rotated.entry(g, entry));
      }
    }
  } else if (part == "raw_eps") {
    for (int i = 0; i < c.window - 1; i++)
      move(s.eps.entry(0, s.eps.size() - (c.window - 1) + i), values + i, 1);
  } else if (part == "faded") {
    move_pairs(s.faded_keys, s.faded_values, s.faded_keys.size() - 1);
  } else if (part == "slots") {
    for (int i = 0; i < c.slots; i++)
      for (int g = 0; g < c.groups; g++) {
        const int64_t mine = (int64_t(g) * c.slots + i) * c.head;
        float* at = values + (int64_t(i) * 2 * c.groups + g) * c.head;
        move(&s.slots.keys[mine], at, c.head);
        move(&s.slots.values[mine], at + int64_t(c.groups) * c.head, c.head);
      }
  } else if (part == "slot_eps") {
    move(s.slots.eps.data(), values, int64_t(s.slots.eps.size()));
  } else if (part == "past") {
    move(s.past.entry(0, 0), values, int64_t(s.past.size()) * c.width);
  } else if (part == "kv") {
    const Rotary rotary(c.theta ? c.theta : 1.0f, c.head);
    Turn turn;
    for (int i = 0; i < s.cache.count(); i++) {
      if (c.theta) rotary.at(i, turn);
      for (int g = 0; g < c.groups; g++) {
        float* at = values + (int64_t(i) * 2 * c.groups + g) * c.head;
        if (!c.theta) move(s.cache.key(g, i), at, c.head);
        else if (out) rotate(s.cache.key(g, i), turn, c.head, at, true);
        else rotate(at, turn, c.head, s.cache.key(g, i));
        move(s.cache.value(g, i), at + int64_t(c.groups) * c.head, c.head);
      }
    }
  }
}

template <class State, class Body>
void StackState::each_part(State& state, const Body& body) {
  for (auto& s : state.layers) {
    for (auto* floats : {&s.h, &s.tail, &s.cell, &s.output, &s.short_tail, &s.slots.keys,
                         &s.slots.values, &s.slots.eps})
      body.plain(floats->data(), floats->size() * 4);
    body.plain(s.slots.time.data(), s.slots.time.size() * 8);
    for (auto* slide : {&s.keys, &s.values, &s.rotated, &s.eps, &s.past, &s.faded_keys,
                        &s.faded_values})
      body.slide(*slide);
  }
}

namespace {

struct Counted {
  size_t& total;
  void plain(const void*, size_t bytes) const { total += bytes; }
  void slide(const Slide& slide) const { total += slide.saved_bytes(); }
};
struct Saved {
  char*& to;
  void plain(const void* from, size_t bytes) const {
    if (bytes) std::memcpy(to, from, bytes);
    to += bytes;
  }
  void slide(const Slide& slide) const {
    slide.save(reinterpret_cast<float*>(to));
    to += slide.saved_bytes();
  }
};
struct Loaded {
  const char*& from;
  void plain(void* to, size_t bytes) const {
    if (bytes) std::memcpy(to, from, bytes);
    from += bytes;
  }
  void slide(Slide& slide) const {
    slide.load(reinterpret_cast<const float*>(from));
    from += slide.saved_bytes();
  }
};

}  // namespace

size_t StackState::saved_bytes() const {
  size_t total = sizeof time;
  each_part(*this, Counted{total});
  return total;
}

void StackState::save(void* to) const {
  char* at = static_cast<char*>(to);
  std::memcpy(at, &time, sizeof time);
  at += sizeof time;
  each_part(*this, Saved{at});
}

void StackState::load(const void* from) {
  const char* at = static_cast<const char*>(from);
  std::memcpy(&time, at, sizeof time);
  at += sizeof time;
  each_part(*this, Loaded{at});
}

}  // namespace slm

slm_stream::slm_stream(const slm_model& m) : StackState(m.stack), model(&m) {}
