// Dot products of 8-bit integers and of bfloat16 pairs, summed into 32-bit lanes.
//
// Integer results are exact on every instruction set: without VNNI both factors stay within +-127,
// so that the 16-bit pair sums cannot saturate; with VNNI the left factor is unsigned, and what is
// quantised is shifted by kOffset8, which the caller takes out again through the weights' sums.
#pragma once

#include "vec.h"

namespace slm {
namespace SLM_ISA {

typedef int8_t vb __attribute__((vector_size(SLM_LANES * 4)));

#if defined(__AVX512VNNI__)
constexpr int kOffset8 = 128;
#else
constexpr int kOffset8 = 0;
#endif

// Four bytes (or one bfloat16 pair) repeated in every lane.
SLM_INLINE vi splat_bytes(const void* p) {
  int32_t bits;
  __builtin_memcpy(&bits, p, 4);
  return splat_i(bits);
}
SLM_INLINE vi load_i(const void* p) {
  vi v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

// acc + x.w over the bfloat16 pair of each lane.
SLM_INLINE vf dot_bf16(vf acc, vi x, vi w) {
#if defined(__AVX512BF16__)
  return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)x);
#else
  const vi upper = splat_i(int32_t(0xffff0000));
  acc += (vf)(x << 16) * (vf)(w << 16);
  return acc + (vf)(x & upper) * (vf)(w & upper);
#endif
}

// acc + x.w over the four bytes of each lane; x holds bytes + kOffset8, w signed bytes.
SLM_INLINE vi dot_s8(vi acc, vi x, vi w) {
#if defined(__AVX512VNNI__)
  return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)x, (__m512i)w);
#elif defined(__AVX512BW__)
  const __m512i zero = _mm512_setzero_si512();
  const __mmask64 negative = _mm512_movepi8_mask((__m512i)x);
  const __m512i turned = _mm512_mask_sub_epi8((__m512i)w, negative, zero, (__m512i)w);
  const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8((__m512i)x), turned);
  return acc + (vi)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
  const __m256i turned = _mm256_sign_epi8((__m256i)w, (__m256i)x);
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)x), turned);
  return acc + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__ARM_FEATURE_DOTPROD)
  return (vi)vdotq_s32((int32x4_t)acc, (int8x16_t)x, (int8x16_t)w);
#elif defined(__ARM_NEON)
  const int16x8_t low = vmull_s8(vget_low_s8((int8x16_t)x), vget_low_s8((int8x16_t)w));
  const int16x8_t high = vmull_high_s8((int8x16_t)x, (int8x16_t)w);
  return acc + (vi)vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high));
#else
  const vb a = (vb)x, b = (vb)w;
  for (int lane = 0; lane < kLanes; lane++) {
    int32_t s = 0;
    for (int i = 0; i < 4; i++) s += int32_t(a[4 * lane + i]) * b[4 * lane + i];
    acc[lane] += s;
  }
  return acc;
#endif
}

// acc + x.w over the four bytes of each lane; x signed bytes, w bytes from 0 to 15.
SLM_INLINE vi dot_u4(vi acc, vi x, vi w) {
#if defined(__AVX512VNNI__)
  return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, (__m512i)x);
#elif defined(__AVX512BW__)
  const __m512i pairs = _mm512_maddubs_epi16((__m512i)w, (__m512i)x);
  return acc + (vi)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
  const __m256i pairs = _mm256_maddubs_epi16((__m256i)w, (__m256i)x);
  return acc + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else
  return dot_s8(acc, x, w);
#endif
}

}  // namespace SLM_ISA
}  // namespace slm
