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

LayerState empty(const slm_model& model, const Layer& layer) {
  const Config& c = model.config;
  LayerState out;
  if (layer.recurrent) {
    out.h.assign(size_t(c.state_heads()) * c.state * c.state_head, 0.0f);
    out.tail.assign(size_t(c.ssm_taps - 1) * layer.recurrence.mixed, 0.0f);
  }
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

}  // namespace
}  // namespace slm

using slm::LayerState;
using slm::require;
using slm::Slide;

slm_stream::slm_stream(const slm_model& m) : model(&m) { reset(); }

void slm_stream::reset() {
  std::vector<LayerState> fresh;
  for (const slm::Layer& layer : model->layers) fresh.push_back(slm::empty(*model, layer));
  layers.swap(fresh);
  time = 0;
}

LayerState& slm_stream::state(int layer) {
  require(layer >= 0 && layer < int(layers.size()),
          "layer " + std::to_string(layer) + " does not exist; the model has " +
              std::to_string(layers.size()) + ".");
  return layers[layer];
}

int64_t slm_stream::bytes() const {
  size_t total = 0;
  for (const LayerState& s : layers) {
    total += (s.h.size() + s.tail.size() + s.short_tail.size()) * 4 + s.cache.bytes();
    for (const Slide* slide : {&s.keys, &s.values, &s.rotated, &s.eps, &s.past, &s.faded_keys,
                               &s.faded_values})
      total += slide->bytes();
    total += (s.slots.keys.size() + s.slots.values.size() + s.slots.eps.size()) * 4 +
             s.slots.time.size() * 8;
  }
  return int64_t(total);
}

int64_t slm_stream::count(int layer, const std::string& part) const {
  const LayerState& s = const_cast<slm_stream*>(this)->state(layer);
  const slm::Config& c = model->config;
  const auto carried = [](const Slide& slide) { return std::max(slide.size() - 1, 0); };
  if (part == "ssm.h") return int64_t(s.h.size());
  if (part == "ssm.conv") return int64_t(s.tail.size());
  if (part == "conv") return int64_t(s.short_tail.size());
  if (part == "raw") return int64_t(s.keys.size() ? std::max(c.window - 1, 0) : 0) * c.pairs();
  if (part == "raw_eps") return s.eps.size() ? std::max(c.window - 1, 0) : 0;
  if (part == "faded") return int64_t(carried(s.faded_keys)) * c.pairs();
  if (part == "slots") return int64_t(s.slots.eps.size()) * c.pairs();
  if (part == "slot_eps") return int64_t(s.slots.eps.size());
  if (part == "past") return int64_t(s.past.size()) * c.width;
  if (part == "kv") return int64_t(s.cache.count()) * c.pairs();
  slm::refuse("a stream has no part '" + part + "'.");
}

void slm_stream::get(int layer, const std::string& part, float* values, int64_t n) const {
  require(n == count(layer, part), "part '" + part + "' has " + std::to_string(count(layer, part)) +
                                       " numbers, not " + std::to_string(n) + ".");
  if (n == 0) return;
  require(values != nullptr, "values is NULL.");
  const_cast<slm_stream*>(this)->copy_part(layer, part, values, true);
}

void slm_stream::set(int layer, const std::string& part, const float* values, int64_t n) {
  require(values || n == 0, "values is NULL.");
  if (part == "kv") {  // its length is part of what is given
    LayerState& mine = state(layer);
    const slm::Config& c = model->config;
    require(model->layers[layer].kind == 'T', "only a T layer has a part 'kv'.");
    require(n >= 0 && n % c.pairs() == 0 && n / c.pairs() <= INT32_MAX,
            "part 'kv' must be whole tokens of " + std::to_string(c.pairs()) + " numbers.");
    slm::Cache fresh(c.groups, c.head);
    fresh.grow(int(n / c.pairs()));
    mine.cache = std::move(fresh);
  }
  require(n == count(layer, part), "part '" + part + "' needs " +
                                       std::to_string(count(layer, part)) + " numbers, not " +
                                       std::to_string(n) + ".");
  if (n == 0) return;
  copy_part(layer, part, const_cast<float*>(values), false);
}

void slm_stream::copy_part(int layer, const std::string& part, float* values, bool out) {
  const slm::Config& c = model->config;
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
    const bool turn = !model->layers[layer].recurrence.delta;
    for (int h = 0; h < c.state_heads(); h++)
      for (int n = 0; n < c.state; n++)
        for (int p = 0; p < c.state_head; p++) {
          float* theirs = values + int64_t(h) * c.state * c.state_head +
                          (turn ? p * c.state + n : n * c.state_head + p);
          move(&s.h[(int64_t(h) * c.state + n) * c.state_head + p], theirs, 1);
        }
  } else if (part == "ssm.conv") {
    move(s.tail.data(), values, int64_t(s.tail.size()));
  } else if (part == "conv") {
    move(s.short_tail.data(), values, int64_t(s.short_tail.size()));
  } else if (part == "raw") {
    const int carried = std::max(c.window - 1, 0);
    move_pairs(s.keys, s.values, carried);
    if (!out && c.theta) {
      const slm::Rotary rotary(c.theta, c.head);
      for (int i = 0; i < carried; i++) {
        const slm::Turn turn = rotary.at(time - carried + i);
        const int entry = s.keys.size() - carried + i;
        for (int g = 0; g < c.groups; g++)
          slm::rotate(s.keys.entry(g, entry), turn, c.head, s.rotated.entry(g, entry));
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
    const slm::Rotary rotary(c.theta ? c.theta : 1.0f, c.head);
    slm::Turn turn;
    for (int i = 0; i < s.cache.count(); i++) {
      if (c.theta) turn = rotary.at(i);
      for (int g = 0; g < c.groups; g++) {
        float* at = values + (int64_t(i) * 2 * c.groups + g) * c.head;
        if (!c.theta) move(s.cache.key(g, i), at, c.head);
        else if (out) slm::rotate(s.cache.key(g, i), turn, c.head, at, true);
        else slm::rotate(at, turn, c.head, s.cache.key(g, i));
        move(s.cache.value(g, i), at + int64_t(c.groups) * c.head, c.head);
      }
    }
  }
}
