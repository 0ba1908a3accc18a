// Products with weights whose zeros are not stored: two of four inputs, and vectors of 16 outputs.
//
// Zeros are not multiplied: only stored weights meet an input. 2:4 picks the input of each weight by
// its place within four; of a vector matrix the inputs whose vectors are zero are taken out first,
// once for 16 outputs. Sums are integers, so the result is the same on every instruction set.
#pragma once

#include "matmul.h"

namespace slm {
namespace SLM_ISA {

constexpr int kVector = 16;  // outputs of a block

// Sixteen bytes repeated in every 128 bits.
SLM_INLINE vi splat_16(const void* p) {
#if defined(__AVX512F__)
  return (vi)_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)p));
#elif defined(__AVX2__)
  return (vi)_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)p));
#else
  return load_i(p);
#endif
}

// Within each 128 bits: byte i of the result is byte places[i] (0..15) of x.
SLM_INLINE vi pick(vi x, vi places) {
#if defined(__AVX512BW__)
  return (vi)_mm512_shuffle_epi8((__m512i)x, (__m512i)places);
#elif defined(__AVX2__)
  return (vi)_mm256_shuffle_epi8((__m256i)x, (__m256i)places);
#elif defined(__ARM_NEON)
  return (vi)vqtbl1q_u8((uint8x16_t)x, (uint8x16_t)places);
#else
  const vb from = (vb)x, at = (vb)places;
  vb out;
  for (int i = 0; i < 4 * kLanes; i++) out[i] = from[at[i]];
  return (vi)out;
#endif
}

// Places within 16 inputs of the four weights of a lane: bits [2 d, 2 d + 2) of each byte, and
// where the four inputs begin that a byte belongs to.
template <int D>
SLM_INLINE vi places_of(vi bits) {
  const vi mask = splat_i(0x03030303), base = splat_i(D % 2 ? 0x0c0c0808 : 0x04040000);
  const vi mine = (vi)((vu)bits >> (2 * D));
#if defined(__AVX512F__)
  return (vi)_mm512_ternarylogic_epi32((__m512i)mine, (__m512i)mask, (__m512i)base, 0xEA);
#else
  return (mine & mask) | base;
#endif
}

// A step of 32 inputs is `Words` words an output: places, then two words of nibbles or four of bytes.
template <int Words, int D, int R, int V>
SLM_INLINE void dot_s24(vi (&acc)[R][V], int v, const char* x, int64_t ldx, vi bits,
                        const char* values) {
  constexpr int part = Words == 3 ? D / 2 : D;
  vi w = load_i(values + part * 4 * kPanel);
  if (Words == 3) w = D % 2 ? high_nibbles(w) : low_nibbles(w);
  const vi places = places_of<D>(bits);
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
    acc[r][v] = dot_s8(acc[r][v], pick(splat_16(x + r * ldx + (D / 2) * 16), places), w);
}

template <int Words, int R, int V>
SLM_INLINE void tile_s24(const Product& p, int row, int column) {
  const int steps = (p.inputs + 31) / 32;
  const char* w = (const char*)p.w + (int64_t)(column / kPanel) * steps * Words * 4 * kPanel +
                  (column % kPanel) * 4;
  const char* x = (const char*)p.x + row * p.ldx;
  vi acc[R][V] = {};
  for (int s = 0; s < steps; s++) {
    if (R == 1)
#pragma GCC unroll 20
      for (int line = 0; line < Words * 4 * V * kLanes; line += 64) fetch(w + line);
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) {
      const vi bits = load_i(w + v * 4 * kLanes);
      const char* values = w + 4 * kPanel + v * 4 * kLanes;
      dot_s24<Words, 0>(acc, v, x, p.ldx, bits, values);
      dot_s24<Words, 1>(acc, v, x, p.ldx, bits, values);
      dot_s24<Words, 2>(acc, v, x, p.ldx, bits, values);
      dot_s24<Words, 3>(acc, v, x, p.ldx, bits, values);
    }
    w += Words * 4 * kPanel;
    x += 32;
  }
  if (p.macs) *p.macs += (int64_t)steps * 16 * R * V * kLanes;
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) finish<V, Words == 3 ? 4 : 0>(p, row + r, column, acc[r]);
}

template <int Words>
void product_s24(const Product& p) {
  if (p.rows == 1) {
    for (int column = p.first; column < p.last; column += kRowVectors * kLanes)
      tile_s24<Words, 1, kRowVectors>(p, 0, column);
    return;
  }
  constexpr int V = kTileVectors;
  for (int column = p.first; column < p.last; column += V * kLanes) {
    int row = 0;
    for (; row + 4 <= p.rows; row += 4) tile_s24<Words, 4, V>(p, row, column);
    for (; row + 2 <= p.rows; row += 2) tile_s24<Words, 2, V>(p, row, column);
    if (row < p.rows) tile_s24<Words, 1, V>(p, row, column);
  }
}

// For every byte of bits, the places of those that are set.
struct Places {
  uint8_t at[256][8];
};
constexpr Places make_places() {
  Places places = {};
  for (int bits = 0; bits < 256; bits++) {
    int count = 0;
    for (int i = 0; i < 8; i++)
      if (bits >> i & 1) places.at[bits][count++] = uint8_t(i);
  }
  return places;
}
alignas(64) constexpr Places kPlaces = make_places();

// The bytes of x (words * 64) whose bits are set, one after the other; up to 64 bytes behind the
// last are overwritten.
static void keep(const uint8_t* x, const uint8_t* map, int words, uint8_t* out) {
  for (int i = 0; i < words; i++, x += 64) {
    uint64_t bits;
    __builtin_memcpy(&bits, map + 8 * i, 8);
    // Set bits of each byte, and in each byte the sum of it and all before it.
    uint64_t count = bits - (bits >> 1 & 0x5555555555555555u);
    count = (count & 0x3333333333333333u) + (count >> 2 & 0x3333333333333333u);
    count = (count + (count >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    const uint64_t ends = count * 0x0101010101010101u, begins = ends << 8;
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      uint8_t* to = out + (begins >> (8 * j) & 255);
      const uint8_t* places = kPlaces.at[bits >> (8 * j) & 255];
#if defined(__AVX2__)
      _mm_storel_epi64((__m128i*)to, _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i*)(x + 8 * j)),
                                                      _mm_loadl_epi64((const __m128i*)places)));
#elif defined(__ARM_NEON)
      vst1_u8(to, vtbl1_u8(vld1_u8(x + 8 * j), vld1_u8(places)));
#else
      for (int k = 0; k < 8; k++) to[k] = x[8 * j + places[k]];
#endif
    }
    out += ends >> 56;
  }
  __builtin_memset(out, 0, 8);
}

#if defined(__AVX512F__)
// The same with the instruction made for it, which not every processor of this table has.
__attribute__((target("avx512vbmi2"))) static void keep_vbmi2(const uint8_t* x, const uint8_t* map,
                                                             int words, uint8_t* out) {
  for (int i = 0; i < words; i++) {
    uint64_t bits;
    __builtin_memcpy(&bits, map + 8 * i, 8);
    const __m512i kept = _mm512_maskz_compress_epi8(bits, _mm512_loadu_si512(x + 64 * i));
    _mm512_storeu_si512(out, kept);
    out += __builtin_popcountll(bits);
  }
  __builtin_memset(out, 0, 8);
}
#endif

// One step: `Inputs` (8 nibbles, 4 bytes) stored vectors of the block meet R rows.
template <int Inputs, int R, int V>
SLM_INLINE void step_v16(vi (&acc)[2][R][V], const uint8_t* x, int64_t ldx, const char* w) {
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) {
    const vi both = load_i(w + v * 4 * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      const uint8_t* mine = x + r * ldx;
      if constexpr (Inputs == 8) {
        acc[0][r][v] = dot_s8(acc[0][r][v], splat_bytes(mine), low_nibbles(both));
        acc[1][r][v] = dot_s8(acc[1][r][v], splat_bytes(mine + 4), high_nibbles(both));
      } else {
        acc[0][r][v] = dot_s8(acc[0][r][v], splat_bytes(mine), both);
      }
    }
  }
}

template <int Inputs, int R>
SLM_INLINE void block_v16(const Product& p, int row, int column, const uint8_t* x, int64_t ldx,
                          const char* w, int steps) {
  constexpr int V = kVector / kLanes;
  constexpr int sums = R == 1 && V < 4 ? 4 / V : 1;  // so that no sum waits for the one before
  vi acc[sums][2][R][V] = {};
  int s = 0;
  for (; s + sums <= steps; s += sums)
#pragma GCC unroll 4
    for (int u = 0; u < sums; u++) {
      fetch(w + (int64_t)(s + u) * 64);
      step_v16<Inputs, R, V>(acc[u], x + (int64_t)(s + u) * Inputs, ldx, w + (int64_t)(s + u) * 64);
    }
  for (; s < steps; s++)
    step_v16<Inputs, R, V>(acc[0], x + (int64_t)s * Inputs, ldx, w + (int64_t)s * 64);
  if (p.macs) *p.macs += (int64_t)steps * Inputs * kVector * R;
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) {
    vi total[V] = {};
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
#pragma GCC unroll 4
      for (int u = 0; u < sums; u++) total[v] += acc[u][0][r][v] + acc[u][1][r][v];
    finish<V, Inputs == 8 ? 4 : 0>(p, row + r, column, total);
  }
}

template <int Inputs>
void product_v16(const Product& p) {
  const char* data = (const char*)p.w;
  const int words = (p.inputs + 63) / 64;
  const int64_t blocks = (p.outputs + kVector - 1) / kVector;
  const int64_t maps = ((blocks + 1) * 4 + 63) / 64 * 64;
  const char* values = data + maps + (blocks * words * 8 + 63) / 64 * 64;
  const int64_t ldx = (int64_t)words * 64 + 64;
#if defined(__AVX512F__)
  const auto take = __builtin_cpu_supports("avx512vbmi2") ? keep_vbmi2 : keep;
#else
  const auto take = keep;
#endif
  for (int column = p.first; column < p.last; column += kVector) {
    const int64_t block = column / kVector;
    uint32_t begin[2];
    __builtin_memcpy(begin, data + block * 4, 8);
    const int steps = int(begin[1] - begin[0]);
    const char* w = values + (int64_t)begin[0] * 64;
    const uint8_t* map = (const uint8_t*)data + maps + block * words * 8;
    for (int row = 0; row < p.rows; row += kPackedRows) {
      const int rows = p.rows - row < kPackedRows ? p.rows - row : kPackedRows;
      for (int r = 0; r < rows; r++)
        take((const uint8_t*)p.x + (row + r) * p.ldx, map, words, p.scratch + r * ldx);
      switch (rows) {
        case 4: block_v16<Inputs, 4>(p, row, column, p.scratch, ldx, w, steps); break;
        case 3: block_v16<Inputs, 3>(p, row, column, p.scratch, ldx, w, steps); break;
        case 2: block_v16<Inputs, 2>(p, row, column, p.scratch, ldx, w, steps); break;
        default: block_v16<Inputs, 1>(p, row, column, p.scratch, ldx, w, steps); break;
      }
    }
  }
}

}  // namespace SLM_ISA
}  // namespace slm
