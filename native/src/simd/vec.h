// One vector of floats of the width of the instruction set this file is compiled for.
//
// Kernels are written once against these few names and compiled once per instruction set (see
// kernels/isa.cpp). GCC and Clang vector extensions give the arithmetic; only what they cannot say
// (8-bit and bfloat16 dot products) is written with intrinsics. No standard header with inline code
// may be included here: the linker could keep the copy made for a machine that has more
// instructions than the one we run on.
#pragma once

#include <stdint.h>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#ifndef SLM_ISA
#error "compile with -DSLM_ISA=<namespace of the instruction set>"
#endif

#if defined(__AVX512F__)
#define SLM_LANES 16
#elif defined(__AVX2__)
#define SLM_LANES 8
#else
#define SLM_LANES 4
#endif

#define SLM_INLINE static inline __attribute__((always_inline))

namespace slm {
namespace SLM_ISA {

constexpr int kLanes = SLM_LANES;
// Accumulators a matrix kernel may hold: rows of x times vectors of outputs.
// A single row takes as many outputs at once as there are registers: weights then stream past in
// whole lines, which is what one token from memory waits for.
#if defined(__AVX512F__)
constexpr int kTileRows = 6, kTileVectors = 4, kRowVectors = 4;
#elif defined(__ARM_NEON)
constexpr int kTileRows = 4, kTileVectors = 4, kRowVectors = 16;
#else
constexpr int kTileRows = 4, kTileVectors = 2, kRowVectors = 8;
#endif

typedef float vf __attribute__((vector_size(SLM_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(SLM_LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(SLM_LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(SLM_LANES * 2)));

SLM_INLINE vf load(const float* p) {
  vf v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
SLM_INLINE void store(float* p, vf v) { __builtin_memcpy(p, &v, sizeof v); }
SLM_INLINE vf splat(float x) { return x - vf{}; }
SLM_INLINE vi splat_i(int32_t x) { return x - vi{}; }

// The first n floats at p, zeros in the other lanes; never reads behind p + n.
SLM_INLINE vf load_n(const float* p, int n) {
  vf v = {};
  __builtin_memcpy(&v, p, 4 * (n < kLanes ? n : kLanes));
  return v;
}
SLM_INLINE void store_n(float* p, vf v, int n) {
  __builtin_memcpy(p, &v, 4 * (n < kLanes ? n : kLanes));
}

SLM_INLINE float sum(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float s = 0;
  for (int i = 0; i < kLanes; i++) s += v[i];
  return s;
#endif
}
SLM_INLINE float largest(vf v) {
  float s = v[0];
  for (int i = 1; i < kLanes; i++) s = v[i] > s ? v[i] : s;
  return s;
}
SLM_INLINE vf maximum(vf a, vf b) { return a > b ? a : b; }

// x as it is, but never multiplied and added in one rounding with what follows: for results that
// must be the same with and without fused instructions.
SLM_INLINE vf rounded(vf x) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(x));
#elif defined(__x86_64__)
  __asm__("" : "+x"(x));
#elif defined(__ARM_NEON)
  __asm__("" : "+w"(x));
#else
  __asm__("" : "+m"(x));
#endif
  return x;
}

SLM_INLINE vf bits_to_float(vu bits) { return (vf)bits; }

// bfloat16 is the upper half of a float32. Rounds to nearest even; NaN stays NaN.
SLM_INLINE uint16_t to_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t((bits >> 16) | 0x40);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
SLM_INLINE float from_bf16(uint16_t h) {
  uint32_t bits = uint32_t(h) << 16;
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
SLM_INLINE vf load_bf16(const uint16_t* p) {
  vh h;
  __builtin_memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vu) << 16);
}

// e^x to about 1 unit in the last place; 0 below -87.3, large but finite above 88.7.
SLM_INLINE vf exp(vf x) {
  const vf low = splat(-87.33654f), high = splat(88.72283f);
  vf r = x < high ? x : high;
  r = r > low ? r : low;
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
  const vf magic = splat(12582912.0f);
  vf shifted = r * 1.44269504f + magic;
  vf n = shifted - magic;
  r = r - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  vi power = (vi)shifted - 0x4B400000;  // the integer that rounding left behind
  // 2^n in two factors: at n = 128 one alone would overflow.
  vi half = power >> 1;
  vf first = (vf)((half + 127) << 23), second = (vf)((power - half + 127) << 23);
  p = p * first * second;
  return x < low ? vf{} : p;
}
SLM_INLINE vf sigmoid(vf x) { return 1.0f / (1.0f + exp(-x)); }
SLM_INLINE vf silu(vf x) { return x / (1.0f + exp(-x)); }

}  // namespace SLM_ISA
}  // namespace slm
