// What the training kernels work on: one task is what one thread does alone, start to end.
//
// Which tasks there are depends on the shapes and never on the number of threads, so that results
// do not either.
#pragma once

#include <stdint.h>

namespace slm {

// Tokens of numbers in float32 or bfloat16, `step` elements apart.
struct Tokens {
  char* data;
  int64_t step;
  bool half;

  char* at(int64_t row, int64_t column = 0) const {
    return data + (row * step + column) * (half ? 2 : 4);
  }
  Tokens moved(int64_t elements) const { return {data + elements * (half ? 2 : 4), step, half}; }
  explicit operator bool() const { return data != nullptr; }
};

// Floats of scratch handed out in whole cache lines.
struct Scratch {
  float* next;
  int64_t used;

  float* take(int64_t count) {
    const int64_t whole = (count + 15) / 16 * 16;
    float* mine = next ? next + used : nullptr;  // without memory it only counts
    used += whole;
    return mine;
  }
};

// Heads [.., heads) of one row of the state-space recurrence (see kernels/ssd/reference.py).
struct SsdTask {
  int steps, heads, head, size, chunk;  // T, heads of this task, P, N, Q
  Tokens x, dt, b, c, y;                  // rows are tokens
  const float* rate;                    // (heads)
  const float* h0;                      // (heads, P, N)
  float* h1;                            // the same, out
  float* states;                        // (chunks, N, heads * P) before each chunk, or null
  // Backward only. db and dc (T, N) are this task's share of a sum over heads.
  Tokens dy, dx, ddt;
  const float* dh1;  // may be null
  float* dh0;
  float *db, *dc, *drate;
};

// Tokens [0, steps) of a depthwise causal convolution on `channels` channels.
struct ConvTask {
  int steps, channels, taps;
  Tokens x, y, tail;      // tail: taps - 1 rows before x
  const float* weight;  // (taps, channels)
  const float* bias;    // or null
  Tokens dy, dx, dtail;
  float *dweight, *dbias;  // (taps, channels), (channels): overwritten
};

// All queries of one row that share a key and value head.
struct AttentionTask {
  int steps, heads, size;  // real tokens of this row, query heads of the group, D
  int window, refresh, slots, fading, lag;
  bool chunked_fading, keep_duplicates;
  int64_t time;          // tokens read before
  Tokens q;                // at(t, head * D)
  Tokens keys, ring, old;  // new tokens, carried tokens, carried slots; values `value` further
  Tokens faded, faded_ring;
  int64_t value;          // elements from a key to its value in the new tokens
  int64_t carried_value;  // and in what is carried
  const int64_t* names;   // (blocks + 1, slots) into [old | ring | new]
  const int64_t* times;   // (blocks + 1, slots), -1 on empty slots
  const float* rope;      // (places, D) cos then sin, first place -(window - 1); or null
  Tokens out;               // at(t, head * D)
  float* lse;             // (T, heads), lse_step apart
  int64_t lse_step;
  // Backward. Sums over queries, float32: (slots + ring + T, 2, D) and (fading ring + T, 2, D).
  Tokens dout, dq;
  float *dpool, *dfaded;
};

// A chunked form of the gated delta rule: one head of one row (see kernels/delta/reference.py).
struct DeltaTask {
  int steps, head, size, chunk;  // T, P, N, Q
  Tokens q, k, v, log_decay, beta, y;
  const float* s0;  // (N, P)
  float* s1;
  float* states;  // (chunks, N, P) before each chunk, or null
  Tokens dy, dq, dk, dv, dlog_decay, dbeta;
  const float* ds1;  // may be null
  float* ds0;
};

constexpr int kTileQueries = 64;  // rows of an attention tile

// The training kernels of one instruction set. `scratch` holds as many floats as the function after
// each pair says; without a task that needs one it may be null.
struct TrainKernels {
  void (*ssd_forward)(const SsdTask&, float* scratch);
  void (*ssd_backward)(const SsdTask&, float* scratch);
  int64_t (*ssd_scratch)(const SsdTask&, bool backward);
  void (*conv_forward)(const ConvTask&);
  void (*conv_backward)(const ConvTask&);
  void (*attention_forward)(const AttentionTask&, float* scratch);
  void (*attention_backward)(const AttentionTask&, float* scratch);
  int64_t (*attention_scratch)(const AttentionTask&, bool backward);
  void (*delta_forward)(const DeltaTask&, float* scratch);
  void (*delta_backward)(const DeltaTask&, float* scratch);
  int64_t (*delta_scratch)(const DeltaTask&, bool backward);
  // Rows of a transducer's cells: units = tanh(acoustic + label); slope * (1 - units^2) added to
  // both; log(sum(exp)); x = mass * exp(x - total) in place.
  void (*hidden_row)(const float* acoustic, const float* label, int n, float* units);
  void (*spread_row)(const float* units, const float* slope, int n, float* to_acoustic,
                     float* to_label);
  float (*log_sum)(const float* x, int n);
  void (*softmax_slope)(float* x, int n, float total, float mass);
  // b (k, n), rows ldb apart, into panels of 64 columns for product_f32; turned: b is (n, k).
  void (*pack_panels)(const float* b, int64_t ldb, int k, int n, bool turned, float* panels);
  // b (n, m) = a (m, n) turned.
  void (*transpose)(const float* a, int64_t lda, int m, int n, float* b, int64_t ldb);
  // to = sum of `count` arrays of n floats, `apart` floats apart.
  void (*sum_rows)(const float* from, int64_t apart, int count, int n, const Tokens& to, int row);
  // float32 (rows, n) to rows of any type, `ld` floats apart.
  void (*round_rows)(const float* from, int64_t ld, int rows, int n, const Tokens& to, int first);
};

}  // namespace slm
