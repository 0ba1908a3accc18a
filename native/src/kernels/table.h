// The kernels of one instruction set as a table of functions, and the choice among the tables.
#pragma once

#include <stdint.h>

#include "train_types.h"

namespace slm {

// Weights lie in panels of 64 outputs: [N / 64][K / g][64][g] with g = 4 / bytes of an element, so
// that one 32-bit lane holds what one output needs next, on every instruction set.
constexpr int kPanel = 64;
constexpr int kGroup = 64;  // inputs that share a scale in 4-bit weights

constexpr int kPackedRows = 4;  // rows of x that products with sparse vectors take at a time

// x (rows, K) times the outputs [first, last) of packed weights, into y (rows, ldy). Panels are
// whole: `first` is a multiple of 64 and `last` is one or the number of outputs.
struct Product {
  int rows, inputs, outputs, first, last;
  const void* x;          // rows of ldx bytes in the type the kernel reads
  int64_t ldx;            // bytes from one row of x to the next; integers are filled up to 64
  const float* x_scale;   // (rows) int8 and 4 bit: real = level * scale
  const int32_t* x_sum;   // (rows, groups) 4 bit: sum of the levels of each group
  const void* w;          // the packed weights, beginning with panel 0
  const float* w_scale;   // (outputs) int8
  const int32_t* w_sum;   // (outputs) int8: sums of each output's levels
  const uint16_t* w_group;  // [panel][group][64] 4 bit: bfloat16 scales
  float* y;
  int64_t ldy;
  bool add;          // add to y instead of overwriting it
  uint8_t* scratch;  // v16: kPackedRows rows of x, each of its inputs filled up to 64, and 64 more
  int64_t* macs;     // if not null, the products of two numbers that were done are added to it
};

// c (m, n) = or += a (m, k) b (k, n); a has any strides (in floats), b and c rows of ldb and ldc.
struct SmallProduct {
  int m, n, k;
  const float* a;
  int64_t a_row, a_column;
  const float* b;
  int64_t ldb;
  float* c;
  int64_t ldc;
  bool add;
};

struct Kernels {
  const char* name;
  void (*product[9])(const Product&);  // by MatrixFormat
  void (*product_small)(const SmallProduct&);
  // Rows of x (rows, n) into the types the products read; n_padded bytes or pairs are filled up
  // with zeros. s8 writes level + offset; u4 writes plain levels and the sums of their groups.
  void (*round_bf16)(const float* x, int n, uint16_t* out);
  void (*quantise_s8)(const float* x, int n, int padded, uint8_t* out, float* scale);
  void (*quantise_u4)(const float* x, int n, int padded, int8_t* out, float* scale, int32_t* sums);
  // out = x / rms(x) * weight over n; with a gate first x * silu(gate).
  void (*rms_norm)(const float* x, const float* gate, const float* weight, float eps, int n,
                   float* out);
  // out = silu(a) * b
  void (*silu_product)(const float* a, const float* b, int n, float* out);
  // One token of a depthwise convolution: window (taps, n) oldest first, weight (taps, n).
  // out = [silu](bias + sum_j weight_j window_j) [+ skip]
  void (*convolve)(const float* const* window, const float* weight, const float* bias, int taps,
                   int n, bool activate, const float* skip, float* out);
  void (*exp_n)(const float* x, int n, float* out);
  // Softmax over the scores s (n) that are not -inf, in place; returns the sum of exponentials
  // before division, 0 when there is nothing to read (the row is then zero).
  float (*softmax)(float* s, int n);
  // Recurrent steps of one head; the states are (N, P) row-major. See the ops' references.
  void (*ssd_step)(float* state, const float* x, const float* b, const float* c, float decay,
                   float dt, float skip, int size, int width, float* y);
  void (*delta_step)(float* state, const float* q, const float* k, const float* v, float decay,
                     float beta, int size, int width, float* y, float* scratch);
  // s[j] = scale * q.k_j for n keys of d floats, ld floats apart; out += sum_j p[j] v_j.
  void (*scores)(const float* q, const float* k, int64_t ld, int n, int d, float scale, float* s);
  void (*mix)(const float* p, const float* v, int64_t ld, int n, int d, float* out);
  float (*squared_distance)(const float* a, const float* b, int n);
  float (*squared_norm)(const float* a, int n);
  void (*axpy)(float a, const float* x, int n, float* y);
  void (*scale_copy)(float a, const float* x, int n, float* y);
  // out[k] = g[k] * exp(at - total[k]) * dt[k]; dt may be null (1).
  void (*decay_row)(const float* g, const float* total, const float* dt, float at, int n,
                    float* out);
  void (*multiply)(const float* a, const float* b, int n, float* out);
  // s = exp(s - top) in place; the sum.
  float (*softmax_at)(float* s, int n, float top);
  float (*maximum)(const float* s, int n);
  const TrainKernels* train;  // see train_types.h
};

// The table in use: the best the processor has, or what slm_isa_use asked for.
const Kernels& kernels();
// Names of the tables that this processor can run, best first; null-terminated.
const char* const* kernel_names();
// Switch by name; false when there is no such table here.
bool use_kernels(const char* name);

}  // namespace slm
