// Packing, quantising and multiplying weight matrices.
#include "matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/table.h"

namespace slm {

namespace {

int up(int value, int step) { return (value + step - 1) / step * step; }

uint16_t to_bf16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t((bits >> 16) | 0x40);
  return uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float from_bf16(uint16_t half) {
  const uint32_t bits = uint32_t(half) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// Inputs a 32-bit lane holds (4 bit: eight), and the multiple to which inputs are filled up.
int per_lane(slm_weights kind) {
  return kind == SLM_F32 ? 1 : kind == SLM_BF16 ? 2 : kind == SLM_INT8 ? 4 : 8;
}
int padded_inputs(slm_weights kind, int inputs) {
  return up(inputs, kind == SLM_INT4 ? kGroup : per_lane(kind));
}

// Rows below this are not worth waking a second thread for: the work is under a microsecond.
constexpr int64_t kWorthSharing = 1 << 15;

}  // namespace

Input InputBuffer::fill(slm_weights kind, const float* x, int64_t ldx, int rows, int inputs,
                        Threads& team) {
  Input out;
  out.kind = kind;
  out.rows = rows;
  out.inputs = inputs;
  if (kind == SLM_F32) {
    out.data = x;
    out.stride = ldx * 4;
    return out;
  }
  const int padded = padded_inputs(kind, inputs);
  out.stride = up(padded * (kind == SLM_BF16 ? 2 : 1), 64);
  levels_.reserve(size_t(rows) * out.stride);
  scale_.reserve(size_t(rows) * 4);
  sums_.reserve(size_t(rows) * (padded / kGroup + 1) * 4);
  char* levels = levels_.as<char>();
  float* scale = scale_.as<float>();
  int32_t* sums = sums_.as<int32_t>();
  const int groups = padded / kGroup;
  const Kernels& k = kernels();
  const auto one = [&](int row, int) {
    const float* from = x + row * ldx;
    char* to = levels + row * out.stride;
    if (kind == SLM_BF16) k.round_bf16(from, inputs, (uint16_t*)to);
    else if (kind == SLM_INT8) k.quantise_s8(from, inputs, padded, (uint8_t*)to, scale + row);
    else k.quantise_u4(from, inputs, padded, (int8_t*)to, scale + row, sums + row * groups);
  };
  if (int64_t(rows) * inputs < kWorthSharing)
    for (int row = 0; row < rows; row++) one(row, 0);
  else team.run(rows, one);
  out.data = levels;
  out.scale = scale;
  out.sums = sums;
  return out;
}

Matrix::Matrix(slm_weights kind, int outputs, int inputs, const float* w)
    : kind_(kind), outputs_(outputs), inputs_(inputs) {
  const int panels = (outputs + kPanel - 1) / kPanel, lane = per_lane(kind);
  const int steps = padded_inputs(kind, inputs) / lane;
  data_ = Memory(size_t(panels) * steps * kPanel * 4);
  if (kind == SLM_INT8) quantise_int8(w);
  if (kind == SLM_INT4) quantise_int4(w);
  if (kind == SLM_INT8 || kind == SLM_INT4) return;
  for (int n = 0; n < outputs; n++)
    for (int k = 0; k < inputs; k++) {
      const float value = w[int64_t(n) * inputs + k];
      const int64_t place =
          ((int64_t(n / kPanel) * steps + k / lane) * kPanel + n % kPanel) * lane + k % lane;
      if (kind == SLM_F32) data_.as<float>()[place] = value;
      else data_.as<uint16_t>()[place] = to_bf16(value);
    }
}

// One scale an output, levels -127..127.
void Matrix::quantise_int8(const float* w) {
  const int panels = (outputs_ + kPanel - 1) / kPanel, steps = padded_inputs(kind_, inputs_) / 4;
  scale_.assign(size_t(panels) * kPanel, 0.0f);
  sum_.assign(size_t(panels) * kPanel, 0);
  for (int n = 0; n < outputs_; n++) {
    const float* row = w + int64_t(n) * inputs_;
    float top = 0;
    for (int k = 0; k < inputs_; k++) top = std::max(top, std::fabs(row[k]));
    scale_[n] = top / 127.0f;
    const float inverse = top > 0 ? 127.0f / top : 0.0f;
    int8_t* panel = data_.as<int8_t>() + (int64_t(n / kPanel) * steps * kPanel + n % kPanel) * 4;
    for (int k = 0; k < inputs_; k++) {
      const int level = int(std::lrint(row[k] * inverse));
      panel[int64_t(k / 4) * kPanel * 4 + k % 4] = int8_t(level);
      sum_[n] += level;
    }
  }
}

// Levels -8..7 (stored + 8), one bfloat16 scale for 64 inputs of an output. The scale is the one of
// a few candidates with the least squared error.
void Matrix::quantise_int4(const float* w) {
  const int panels = (outputs_ + kPanel - 1) / kPanel;
  const int padded = padded_inputs(kind_, inputs_), groups = padded / kGroup;
  group_scale_.assign(size_t(panels) * groups * kPanel, 0);
  uint8_t* bytes = data_.as<uint8_t>();
  std::memset(bytes, 0x88, data_.bytes());
  for (int n = 0; n < outputs_; n++)
    for (int g = 0; g < groups; g++) {
      const float* from = w + int64_t(n) * inputs_ + g * kGroup;
      const int count = std::min(kGroup, inputs_ - g * kGroup);
      float top = 0;
      for (int i = 0; i < count; i++)
        if (std::fabs(from[i]) > std::fabs(top)) top = from[i];
      uint16_t best = 0;
      double least = INFINITY;
      for (int candidate = 0; candidate < 12; candidate++) {
        const uint16_t scale = to_bf16(top / (-8.0f + 0.25f * candidate));
        const float real = from_bf16(scale), inverse = real != 0 ? 1.0f / real : 0.0f;
        double error = 0;
        for (int i = 0; i < count; i++) {
          const float level = std::min(7.0f, std::max(-8.0f, std::rint(from[i] * inverse)));
          error += std::pow(double(level * real - from[i]), 2);
        }
        if (error < least) {
          least = error;
          best = scale;
        }
      }
      group_scale_[(size_t(n / kPanel) * groups + g) * kPanel + n % kPanel] = best;
      const float real = from_bf16(best), inverse = real != 0 ? 1.0f / real : 0.0f;
      for (int i = 0; i < count; i++) {
        const float level = std::min(7.0f, std::max(-8.0f, std::rint(from[i] * inverse)));
        const int k = g * kGroup + i, part = k % 8;
        uint8_t& byte = bytes[((int64_t(n / kPanel) * (padded / 8) + k / 8) * kPanel +
                               n % kPanel) * 4 + part % 4];
        const uint8_t nibble = uint8_t(int(level) + 8);
        byte = part < 4 ? uint8_t((byte & 0xf0) | nibble) : uint8_t((byte & 0x0f) | nibble << 4);
      }
    }
}

size_t Matrix::bytes() const {
  return data_.bytes() + scale_.size() * 4 + sum_.size() * 4 + group_scale_.size() * 2;
}

void Matrix::multiply(const Input& x, float* y, int64_t ldy, bool add, Threads& team) const {
  const Kernels& k = kernels();
  const auto function = kind_ == SLM_F32    ? k.product_f32
                        : kind_ == SLM_BF16 ? k.product_bf16
                        : kind_ == SLM_INT8 ? k.product_s8
                                            : k.product_u4;
  Product whole = {};
  whole.rows = x.rows;
  whole.inputs = inputs_;
  whole.last = outputs_;
  whole.x = x.data;
  whole.ldx = x.stride;
  whole.x_scale = x.scale;
  whole.x_sum = x.sums;
  whole.w = data_.as<void>();
  whole.w_scale = scale_.data();
  whole.w_sum = sum_.data();
  whole.w_group = group_scale_.data();
  whole.y = y;
  whole.ldy = ldy;
  whole.add = add;
  const int panels = (outputs_ + kPanel - 1) / kPanel;
  if (team.count() == 1 || int64_t(x.rows) * outputs_ * inputs_ < kWorthSharing)
    return function(whole);
  const int shares = std::min(team.count(), panels);
  team.run(shares, [&](int share, int) {
    Product part = whole;
    part.first = int(int64_t(panels) * share / shares) * kPanel;
    part.last = std::min(outputs_, int(int64_t(panels) * (share + 1) / shares) * kPanel);
    function(part);
  });
}

void Matrix::row(int n, float* out) const {
  const int lane = per_lane(kind_), steps = padded_inputs(kind_, inputs_) / lane;
  const int64_t panel = int64_t(n / kPanel) * steps * kPanel + n % kPanel;
  for (int k = 0; k < inputs_; k++) {
    const int64_t place = (panel + int64_t(k / lane) * kPanel);
    if (kind_ == SLM_F32) out[k] = data_.as<float>()[place];
    else if (kind_ == SLM_BF16) out[k] = from_bf16(data_.as<uint16_t>()[place * 2 + k % 2]);
    else if (kind_ == SLM_INT8)
      out[k] = scale_[n] * float(data_.as<int8_t>()[place * 4 + k % 4]);
    else {
      const int part = k % 8;
      const uint8_t byte = data_.as<uint8_t>()[place * 4 + part % 4];
      const int level = (part < 4 ? byte & 0x0f : byte >> 4) - 8;
      const size_t group = (size_t(n / kPanel) * (steps * 8 / kGroup) + k / kGroup) * kPanel;
      out[k] = from_bf16(group_scale_[group + n % kPanel]) * float(level);
    }
  }
}

}  // namespace slm
