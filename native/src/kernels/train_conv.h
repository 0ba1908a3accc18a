// The short depthwise convolution, forward and backward, one pass over the tokens.
#pragma once

#include "tiles.h"

namespace slm {
namespace SLM_ISA {

constexpr int kRun = 64;       // tokens done before the next channels

// Token t of [tail | x], t >= -(taps - 1).
SLM_INLINE vf token(const ConvTask& k, int t, int i, int m) {
  return t < 0 ? fetch(k.tail.at(t + k.taps - 1), k.tail.half, i, m)
               : fetch(k.x.at(t), k.x.half, i, m);
}

template <int Taps>
SLM_INLINE void conv_lanes(const ConvTask& k, int first, int last, int i, int m) {
  vf weight[Taps], window[Taps];
  const vf bias = k.bias ? get(k.bias + i, m) : vf{};
#pragma GCC unroll 8
  for (int j = 0; j < Taps; j++) {
    weight[j] = get(k.weight + (int64_t)j * k.channels + i, m);
    if (j) window[j] = token(k, first - Taps + j, i, m);
  }
  for (int t = first; t < last; t++) {
    vf y = bias;
#pragma GCC unroll 8
    for (int j = 0; j + 1 < Taps; j++) window[j] = window[j + 1];
    window[Taps - 1] = fetch(k.x.at(t), k.x.half, i, m);
#pragma GCC unroll 8
    for (int j = 0; j < Taps; j++) y += weight[j] * window[j];
    put_back(k.y.at(t), k.y.half, i, y, m);
  }
}

static void conv_any(const ConvTask& k, int first, int last, int i, int m) {
  for (int t = first; t < last; t++) {
    vf y = k.bias ? get(k.bias + i, m) : vf{};
    for (int j = 0; j < k.taps; j++)
      y += get(k.weight + (int64_t)j * k.channels + i, m) * token(k, t - k.taps + 1 + j, i, m);
    put_back(k.y.at(t), k.y.half, i, y, m);
  }
}

static void conv_forward(const ConvTask& k) {
  for (int first = 0; first < k.steps; first += kRun) {
    const int last = first + kRun < k.steps ? first + kRun : k.steps;
    over(k.channels, [&](int i, int m) {
      switch (k.taps) {
        case 2: return conv_lanes<2>(k, first, last, i, m);
        case 3: return conv_lanes<3>(k, first, last, i, m);
        case 4: return conv_lanes<4>(k, first, last, i, m);
        default: return conv_any(k, first, last, i, m);
      }
    });
  }
}

// dx_t = sum_j weight_j dy_{t + taps - 1 - j}; what falls before the segment goes to the tail.
template <int Taps>
SLM_INLINE void conv_back_lanes(const ConvTask& k, int first, int last, int i, int m) {
  vf weight[Taps], dweight[Taps] = {}, coming[Taps];
  vf dbias = {};
#pragma GCC unroll 8
  for (int j = 0; j < Taps; j++) {
    weight[j] = get(k.weight + (int64_t)j * k.channels + i, m);
    if (j + 1 < Taps)
      coming[j + 1] =
          first + j < k.steps ? fetch(k.dy.at(first + j), k.dy.half, i, m) : vf{};
  }
  for (int t = first; t < last; t++) {  // coming[j] = dy_{t + j}
    const int newest = t + Taps - 1;
#pragma GCC unroll 8
    for (int j = 0; j + 1 < Taps; j++) coming[j] = coming[j + 1];
    coming[Taps - 1] = newest < k.steps ? fetch(k.dy.at(newest), k.dy.half, i, m) : vf{};
    const vf x = fetch(k.x.at(t), k.x.half, i, m);
    vf dx = {};
#pragma GCC unroll 8
    for (int j = 0; j < Taps; j++) {
      dx += weight[Taps - 1 - j] * coming[j];
      dweight[Taps - 1 - j] += x * coming[j];
    }
    dbias += coming[0];
    put_back(k.dx.at(t), k.dx.half, i, dx, m);
  }
  for (int j = 0; j < Taps; j++) {
    float* to = k.dweight + (int64_t)j * k.channels + i;
    set(to, get(to, m) + dweight[j], m);
  }
  set(k.dbias + i, get(k.dbias + i, m) + dbias, m);
}

static void conv_back_any(const ConvTask& k, int first, int last, int i, int m) {
  for (int t = first; t < last; t++) {
    const vf x = fetch(k.x.at(t), k.x.half, i, m);
    vf dx = {};
    for (int j = 0; j < k.taps && t + j < k.steps; j++) {
      const int64_t at = (int64_t)(k.taps - 1 - j) * k.channels + i;
      const vf dy = fetch(k.dy.at(t + j), k.dy.half, i, m);
      dx += get(k.weight + at, m) * dy;
      set(k.dweight + at, get(k.dweight + at, m) + x * dy, m);
      if (j == 0) set(k.dbias + i, get(k.dbias + i, m) + dy, m);
    }
    put_back(k.dx.at(t), k.dx.half, i, dx, m);
  }
}

// Tokens before the segment: what they gave to its first outputs.
static void conv_back_tail(const ConvTask& k) {
  for (int t = 1 - k.taps; t < 0; t++)
    over(k.channels, [&](int i, int m) {
      const vf x = token(k, t, i, m);
      vf dx = {};
      for (int j = -t; j < k.taps && t + j < k.steps; j++) {
        const int64_t at = (int64_t)(k.taps - 1 - j) * k.channels + i;
        const vf dy = fetch(k.dy.at(t + j), k.dy.half, i, m);
        dx += get(k.weight + at, m) * dy;
        set(k.dweight + at, get(k.dweight + at, m) + x * dy, m);
      }
      put_back(k.dtail.at(t + k.taps - 1), k.dtail.half, i, dx, m);
    });
}

static void conv_backward(const ConvTask& k) {
  zero(k.dweight, (int64_t)k.taps * k.channels);
  zero(k.dbias, k.channels);
  for (int first = 0; first < k.steps; first += kRun) {
    const int last = first + kRun < k.steps ? first + kRun : k.steps;
    over(k.channels, [&](int i, int m) {
      switch (k.taps) {
        case 2: return conv_back_lanes<2>(k, first, last, i, m);
        case 3: return conv_back_lanes<3>(k, first, last, i, m);
        case 4: return conv_back_lanes<4>(k, first, last, i, m);
        default: return conv_back_any(k, first, last, i, m);
      }
    });
  }
  conv_back_tail(k);
}

}  // namespace SLM_ISA
}  // namespace slm
