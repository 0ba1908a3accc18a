// Scratch memory for reading with a stack, and the steps that a layer is read in.
#pragma once

#include <cstring>
#include <tuple>
#include <vector>

#include "kernels/table.h"
#include "matrix.h"
#include "model.h"
#include "rotary.h"
#include "stream.h"
#include "threads.h"

namespace slm {

// `count` tokens of one stream, which lie in rows [row, row + count) of this round.
struct Segment {
  StackState* stream;
  int row, count;
};
typedef std::vector<Segment> Segments;

// A segment this short goes token by token: a chunk costs more than it saves.
constexpr int kFew = 4;
inline bool few(const Segment& segment) { return segment.count <= kFew; }

// A matrix of floats that grows when a round needs more.
class Rows {
 public:
  float* shape(int64_t rows, int64_t width) {
    memory_.reserve(size_t(rows * width) * 4);
    width_ = width;
    return memory_.as<float>();
  }
  float* row(int64_t index) const { return memory_.as<float>() + index * width_; }
  float* data() const { return memory_.as<float>(); }
  int64_t width() const { return width_; }
  size_t bytes() const { return memory_.bytes(); }

 private:
  Memory memory_;
  int64_t width_ = 0;
};

// Scratch of one thread.
struct Local {
  Rows a, b, c, d, e, f;
  size_t bytes() const {
    return a.bytes() + b.bytes() + c.bytes() + d.bytes() + e.bytes() + f.bytes();
  }
};

// What the eidetic memory of one segment holds before each refresh block it touches and after the
// last one: the outcome of the selection, which all heads then read.
struct History {
  struct Kept {
    float eps;
    int64_t time;  // -1: empty
    int slot;      // the slot it came from, or -1 when it is a token of the raw buffer
  };
  int64_t start = 0;  // time at which the first block begins
  int blocks = 0;
  std::vector<Kept> kept;  // (blocks + 1, m)
};

// The same rows of activations in each kind that a matrix wants, made when one first asks.
class Operand {
 public:
  // x: (rows, inputs), rows `ldx` floats apart; they stay where they are.
  void set(const float* x, int64_t ldx, int rows, int inputs);
  // y (rows, ldy) = or += x W^T.
  void times(const Matrix& matrix, float* y, int64_t ldy, bool add, Threads& team);
  size_t bytes() const;

 private:
  const float* x_ = nullptr;
  int64_t ldx_ = 0;
  int rows_ = 0, inputs_ = 0;
  struct Kind {
    InputBuffer buffer;
    Input input;
    bool filled = false;
  } kinds_[4];
};

// Scratch of one reader. It grows to what the largest round so far needed.
struct Workspace {
  explicit Workspace(const Stack& stack);
  // The threads that read from now on; they must outlive it.
  void use(Threads& threads);
  int64_t bytes() const;

  const Stack& stack;
  Threads* team = nullptr;
  std::vector<Local> local;  // one a thread

  // Rows of the round: residual stream, a layer's normalised input, that input after the short
  // convolution, fading output, and so on.
  Rows x, u, mixed, y, projected, convolved, inner, scores, query, pairs, faded, attended, hidden,
      up, eps;
  Operand input, second, third;
  std::vector<int> segment_of;   // row -> segment
  std::vector<Turn> turns;       // rotary turn of each row, if there are positions
  Turn far;                      // turn of distance w, at which memories stand
  Rotary rotary;
  std::vector<History> history;  // one a segment
  std::vector<History::Kept> before, after, tokens;  // while slots change
  Slots fresh;
};

}  // namespace slm

struct slm_context : slm::Workspace {
  slm_context(const slm_model& model, int threads);

  const slm_model& model;
  slm::Threads threads;
  slm::Rows chosen;
};

namespace slm {

// The whole stack over one round: `scratch.x` (rows, width) is its input and then its output. The
// streams have moved on.
void read_stack(Workspace& scratch, const Segments& segments);
// A language model over one round; `context.x` is then the last layer's output.
void read_round(slm_context& context, const Segments& segments, const int32_t* tokens);
// Logits of some rows of `context.x`, one after the other, and the normalised rows that the head
// reads; either may be null.
void read_logits(slm_context& context, const std::vector<int>& rows, float* logits, float* hidden);

// The recurrent layer `index` (M, D, or the fading memory of F and B) on input u: out = or += y.
void recur(Workspace& scratch, int index, const Segments& segments, Operand& u, int rows, float* out,
           bool add);
// The LSTM layer `index` on input u: x of the scratch += y.
void run_lstm(Workspace& scratch, int index, const Segments& segments, Operand& u, int rows);
// One step of a cell: gates (4 d) before the non-linearities are spent; cell and output (d) change.
void lstm_step(const Lstm& lstm, int width, float* gates, float* cell, float* output);
// Depthwise convolution of rows x with a carried tail; `residual` adds x.
void convolve(Workspace& scratch, const Convolution& conv, Floats LayerState::*tail, int index,
              const Segments& segments, const float* x, int64_t ldx, bool activate, bool residual,
              Rows& out);
// Attention layers: `query`, `pairs` and `faded` of the scratch are filled, `attended` is made.
void attend_full(Workspace& scratch, int index, const Segments& segments);
void attend_memories(Workspace& scratch, int index, const Segments& segments);
// Innovations of the fading outputs `scratch.y` into `scratch.eps`, and the state's last outputs.
void innovate(Workspace& scratch, int index, const Segments& segments);
// Run the selection over a segment without touching the state.
void choose(const Workspace& scratch, int index, const Segment& segment, History& out);
// Is the token at `time` the last of a refresh block?
inline bool completes(const Config& c, int64_t time) { return (time + 1) % c.refresh == 0; }
// The tokens since the last refresh compete for the slots; the newest one is at the end of `keys`.
void commit(Workspace& scratch, LayerState& state, int64_t newest);

// Make `kept` the slots of a state; token(group, time) gives the {key, value} of one that is new.
template <class Token>
void install(Workspace& scratch, LayerState& state, const History::Kept* kept, const Token& token) {
  const Config& c = scratch.stack.config;
  Slots& fresh = scratch.fresh;
  fresh = state.slots;
  for (int i = 0; i < c.slots; i++) {
    fresh.eps[i] = kept[i].eps;
    fresh.time[i] = kept[i].time;
    if (kept[i].slot == i || kept[i].time < 0) continue;
    for (int g = 0; g < c.groups; g++) {
      const int64_t to = (int64_t(g) * c.slots + i) * c.head;
      const float *key, *value;
      if (kept[i].slot >= 0) {
        const int64_t old = (int64_t(g) * c.slots + kept[i].slot) * c.head;
        key = &state.slots.keys[old];
        value = &state.slots.values[old];
      } else {
        std::tie(key, value) = token(g, kept[i].time);
      }
      std::memcpy(&fresh.keys[to], key, size_t(c.head) * 4);
      std::memcpy(&fresh.values[to], value, size_t(c.head) * 4);
    }
  }
  std::swap(state.slots, fresh);
}

inline void product(int m, int n, int k, const float* a, int64_t a_row, int64_t a_column,
                    const float* b, int64_t ldb, float* c, int64_t ldc, bool add) {
  kernels().product_small(SmallProduct{m, n, k, a, a_row, a_column, b, ldb, c, ldc, add});
}

// out (columns, rows) = x (rows, columns)^T, ldo floats between rows of out.
inline void transpose(const float* x, int64_t ldx, int rows, int columns, float* out,
                      int64_t ldo) {
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) out[j * ldo + i] = x[i * ldx + j];
}

}  // namespace slm
