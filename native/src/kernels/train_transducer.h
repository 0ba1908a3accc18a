// A transducer's joiner and softmax, one cell of the lattice at a time.
#pragma once

#include "rows.h"
#include "train_types.h"

namespace slm {
namespace SLM_ISA {

// About 1 unit in the last place; not a number stays that. Coefficients: Cephes, tanhf.
SLM_INLINE vf tanh(vf x) {
  const vf z = x * x;
  vf p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  p = p * z * x + x;
  const vf far = 1.0f - 2.0f / (exp(x + x) + 1.0f);
  const vf r = z < 0.390625f ? p : far;
  return x == x ? r : x;
}

static void hidden_row(const float* acoustic, const float* label, int n, float* units) {
  over(n, [&](int i, int m) { set(units + i, tanh(get(acoustic + i, m) + get(label + i, m)), m); });
}

static void spread_row(const float* units, const float* slope, int n, float* to_acoustic,
                       float* to_label) {
  over(n, [&](int i, int m) {
    const vf h = get(units + i, m), inner = get(slope + i, m) * (1.0f - h * h);
    set(to_acoustic + i, get(to_acoustic + i, m) + inner, m);
    set(to_label + i, get(to_label + i, m) + inner, m);
  });
}

// log(sum(exp(x))) over n; not a number when one of them is.
static float log_sum(const float* x, int n) {
  const float top = maximum_of(x, n);
  vf total = {};
  vi wrong = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const vf v = load(x + i);
    wrong |= v != v;
    total += exp(v - top);
  }
  float rest = 0.0f;
  if (i < n) {
    const vf v = load_n(x + i, n - i), e = exp(v - top);
    wrong |= v != v;
    for (int j = 0; j < n - i; j++) rest += e[j];
  }
  int32_t any = 0;
  for (int j = 0; j < kLanes; j++) any |= wrong[j];
  return any ? __builtin_nanf("") : top + __builtin_logf(sum(total) + rest);
}

// x = mass * exp(x - total)
static void softmax_slope(float* x, int n, float total, float mass) {
  over(n, [&](int i, int m) { set(x + i, exp(get(x + i, m) - total) * mass, m); });
}

}  // namespace SLM_ISA
}  // namespace slm
