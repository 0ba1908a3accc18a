// What a model remembers of one text, in the form that reading wants.
#pragma once

#include <cstring>

#include "model.h"

namespace slm {

// The last n entries of a sequence, contiguous in memory, in `planes` parallel planes. Pushing moves
// a window over a buffer twice as long, so that entries are moved back only once in n pushes.
class Slide {
 public:
  Slide() = default;
  Slide(int planes, int n, int width)
      : planes_(planes), n_(n), width_(width), capacity_(2 * n + 16),
        data_(size_t(planes) * capacity_ * width, 0.0f) {}

  int size() const { return n_; }
  int width() const { return width_; }
  // Entry 0 is the oldest, entry n - 1 the newest.
  float* entry(int plane, int i) {
    return data_.data() + (int64_t(plane) * capacity_ + at_ + i) * width_;
  }
  const float* entry(int plane, int i) const { return const_cast<Slide*>(this)->entry(plane, i); }
  // Make room for a new newest entry, which the caller then writes.
  void push() {
    if (at_ + n_ == capacity_) {
      for (int plane = 0; plane < planes_; plane++) {
        float* base = data_.data() + int64_t(plane) * capacity_ * width_;
        std::memmove(base, base + int64_t(at_) * width_, size_t(n_) * width_ * 4);
      }
      at_ = 0;
    }
    at_++;
  }
  void clear(float value = 0.0f) {
    at_ = 0;
    std::fill(data_.begin(), data_.end(), value);
  }
  // The n entries of all planes, to and from memory of n * planes * width floats.
  size_t saved_bytes() const { return size_t(planes_) * n_ * width_ * 4; }
  void save(float* to) const;
  void load(const float* from);
  size_t bytes() const { return data_.size() * 4; }

 private:
  int planes_ = 0, n_ = 0, width_ = 0, capacity_ = 0, at_ = 0;
  Floats data_;
};

// All keys and values of a T layer: planes of rows that grow.
class Cache {
 public:
  Cache() = default;
  Cache(int groups, int head) : groups_(groups), head_(head) {}
  int count() const { return count_; }
  void grow(int more);  // room for `more` tokens, which then count
  void clear() { count_ = 0; }
  float* key(int group, int token) { return at(keys_, group, token); }
  float* value(int group, int token) { return at(values_, group, token); }
  size_t bytes() const { return (keys_.size() + values_.size()) * 4; }

 private:
  float* at(Floats& data, int group, int token) {
    return data.data() + (int64_t(group) * capacity_ + token) * head_;
  }
  int groups_ = 0, head_ = 0, count_ = 0, capacity_ = 0;
  Floats keys_, values_;
};

// One kept token each: best first, eps -inf and time -1 where empty.
struct Slots {
  Floats keys, values;  // (G, m, D)
  Floats eps;           // (m)
  std::vector<int64_t> time;
};

struct LayerState {
  Floats h, tail;        // recurrent state (H, N, P), convolution tail (taps - 1, channels)
  Floats cell, output;   // LSTM: c and h (d)
  Floats short_tail;     // (taps - 1, d)
  Slide keys, values;    // raw window: planes are groups
  Slide rotated;         // keys turned by their position, with rotary positions only
  Slide eps, past;       // innovations of the window; last outputs of the fading memory
  Slide faded_keys, faded_values;
  Slots slots;
  Cache cache;
};

// What a stack remembers of one sequence of tokens.
struct StackState {
  explicit StackState(const Stack& stack);

  // Nothing is allocated.
  void reset();
  int64_t bytes() const;
  int64_t count(int layer, const std::string& part) const;
  void get(int layer, const std::string& part, float* values, int64_t count) const;
  void set(int layer, const std::string& part, const float* values, int64_t count);
  LayerState& state(int layer);

  // Everything as bytes, of a stack without T layers: their number never changes.
  size_t saved_bytes() const;
  void save(void* to) const;
  void load(const void* from);

  const Stack* stack;
  int64_t time = 0;
  std::vector<LayerState> layers;

 private:
  void copy_part(int layer, const std::string& part, float* values, bool out);
  // body.plain(data, bytes) and body.slide(slide) for all that is saved.
  template <class State, class Body>
  static void each_part(State& state, const Body& body);
};

}  // namespace slm

// One text that a language model reads.
struct slm_stream : slm::StackState {
  explicit slm_stream(const slm_model& model);
  const slm_model* model;
};
