// Packing, quantising and multiplying weight matrices.
#include "matrix.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "error.h"
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

// Inputs a 32-bit lane of float32 and bfloat16 weights holds.
int per_lane(MatrixFormat format) { return format == MatrixFormat::bf16 ? 2 : 1; }

MatrixFormat format_of(slm_weights kind) {
  return kind == SLM_F32    ? MatrixFormat::f32
         : kind == SLM_BF16 ? MatrixFormat::bf16
         : kind == SLM_INT8 ? MatrixFormat::q8
                            : MatrixFormat::q4;
}

// Bytes a row of x takes in the type of a kind, filled up so that kernels read whole lines.
int64_t row_bytes(slm_weights kind, int inputs) {
  return up(kind == SLM_BF16 ? 2 * up(inputs, 2) : inputs, 64);
}

// Counting of multiplications; see count_macs.
std::atomic<bool> counting{false};
std::atomic<int64_t> macs_dense{0}, macs_stored{0}, macs_executed{0};

// x of a v16 block without the inputs whose vectors are zero: one for each thread.
thread_local Memory packed_x;

size_t scratch_bytes(int inputs) { return size_t(kPackedRows) * size_t(up(inputs, 64) + 64); }

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
  out.stride = row_bytes(kind, inputs);
  const int padded = up(inputs, kGroup), groups = padded / kGroup;
  levels_.reserve(size_t(rows) * size_t(out.stride));
  scale_.reserve(size_t(rows) * 4);
  sums_.reserve(size_t(rows) * size_t(groups) * 4);
  char* levels = levels_.as<char>();
  float* scale = scale_.as<float>();
  int32_t* sums = sums_.as<int32_t>();
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

void InputBuffer::reserve(int rows, int inputs) {
  levels_.reserve(size_t(rows) * size_t(row_bytes(SLM_BF16, inputs)));
  scale_.reserve(size_t(rows) * 4);
  sums_.reserve(size_t(rows) * size_t(up(inputs, kGroup) / kGroup) * 4);
}

Matrix::Matrix(slm_weights kind, int outputs, int inputs, const float* w) {
  view_.format = format_of(kind);
  view_.outputs = outputs;
  view_.inputs = inputs;
  view_.bytes = tile_bytes(view_.format, outputs, inputs);
  view_.scale_bytes = tile_scale_bytes(view_.format, outputs, inputs);
  data_ = Memory(view_.bytes);
  scale_ = Memory(view_.scale_bytes);
  view_.data = data_.as<void>();
  view_.scales = scale_.as<void>();
  if (kind == SLM_INT8) quantise_int8(w);
  if (kind == SLM_INT4) quantise_int4(w);
  stored_ = stored_weights(view_);
  if (kind == SLM_INT8 || kind == SLM_INT4) return;
  const int lane = per_lane(view_.format), steps = up(inputs, lane) / lane;
  for (int n = 0; n < outputs; n++)
    for (int k = 0; k < inputs; k++) {
      const float value = w[int64_t(n) * inputs + k];
      const int64_t place =
          ((int64_t(n / kPanel) * steps + k / lane) * kPanel + n % kPanel) * lane + k % lane;
      if (kind == SLM_F32) data_.as<float>()[place] = value;
      else data_.as<uint16_t>()[place] = to_bf16(value);
    }
}

Matrix Matrix::view(const MatrixView& weights) {
  check_tiles(weights);
  Matrix matrix;
  matrix.view_ = weights;
  matrix.stored_ = stored_weights(weights);
  if (has_row_scales(weights.format)) {
    matrix.sum_.resize(size_t(up(weights.outputs, kPanel)));
    tile_sums(weights, matrix.sum_.data());
  }
  return matrix;
}

slm_weights Matrix::input_kind() const {
  return view_.format == MatrixFormat::f32    ? SLM_F32
         : view_.format == MatrixFormat::bf16 ? SLM_BF16
         : view_.format == MatrixFormat::q4   ? SLM_INT4
                                              : SLM_INT8;
}

// One scale an output, levels -127..127.
void Matrix::quantise_int8(const float* w) {
  const int inputs = view_.inputs, steps = up(inputs, 4) / 4;
  float* scale = scale_.as<float>();
  sum_.assign(size_t(up(view_.outputs, kPanel)), 0);
  for (int n = 0; n < view_.outputs; n++) {
    const float* row = w + int64_t(n) * inputs;
    float top = 0;
    for (int k = 0; k < inputs; k++) top = std::max(top, std::fabs(row[k]));
    scale[n] = top / 127.0f;
    const float inverse = top > 0 ? 127.0f / top : 0.0f;
    int8_t* panel = data_.as<int8_t>() + (int64_t(n / kPanel) * steps * kPanel + n % kPanel) * 4;
    for (int k = 0; k < inputs; k++) {
      const int level = int(std::lrint(row[k] * inverse));
      panel[int64_t(k / 4) * kPanel * 4 + k % 4] = int8_t(level);
      sum_[n] += level;
    }
  }
}

// Levels -8..7 (stored + 8), one bfloat16 scale for 64 inputs of an output. The scale is the one of
// a few candidates with the least squared error.
void Matrix::quantise_int4(const float* w) {
  const int inputs = view_.inputs, steps = up(inputs, 8) / 8, groups = up(inputs, kGroup) / kGroup;
  uint16_t* group_scale = scale_.as<uint16_t>();
  uint8_t* bytes = data_.as<uint8_t>();
  if (data_.bytes()) std::memset(bytes, 0x88, data_.bytes());
  for (int n = 0; n < view_.outputs; n++)
    for (int g = 0; g < groups; g++) {
      const float* from = w + int64_t(n) * inputs + g * kGroup;
      const int count = std::min(kGroup, inputs - g * kGroup);
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
      group_scale[(size_t(n / kPanel) * groups + g) * kPanel + n % kPanel] = best;
      const float real = from_bf16(best), inverse = real != 0 ? 1.0f / real : 0.0f;
      for (int i = 0; i < count; i++) {
        const float level = std::min(7.0f, std::max(-8.0f, std::rint(from[i] * inverse)));
        const int k = g * kGroup + i, part = k % 8;
        uint8_t& byte = bytes[((int64_t(n / kPanel) * steps + k / 8) * kPanel +
                               n % kPanel) * 4 + part % 4];
        const uint8_t nibble = uint8_t(int(level) + 8);
        byte = part < 4 ? uint8_t((byte & 0xf0) | nibble) : uint8_t((byte & 0x0f) | nibble << 4);
      }
    }
}

size_t Matrix::bytes() const { return data_.bytes() + scale_.bytes() + sum_.size() * 4; }

void Matrix::multiply(const Input& x, float* y, int64_t ldy, bool add, Threads& team) const {
  const int outputs = view_.outputs, inputs = view_.inputs;
  const auto function = kernels().product[int(view_.format)];
  Product whole = {};
  whole.rows = x.rows;
  whole.inputs = inputs;
  whole.outputs = outputs;
  whole.last = outputs;
  whole.x = x.data;
  whole.ldx = x.stride;
  whole.x_scale = x.scale;
  whole.x_sum = x.sums;
  whole.w = view_.data;
  whole.w_sum = sum_.data();
  if (view_.format == MatrixFormat::q4) whole.w_group = static_cast<const uint16_t*>(view_.scales);
  else whole.w_scale = static_cast<const float*>(view_.scales);
  whole.y = y;
  whole.ldy = ldy;
  whole.add = add;
  const bool vectors = view_.format == MatrixFormat::v16_4 || view_.format == MatrixFormat::v16_8;
  const bool count = counting.load(std::memory_order_relaxed);
  const auto run = [&](Product part) {
    if (vectors) {
      reserve_scratch(inputs);
      part.scratch = packed_x.as<uint8_t>();
    }
    int64_t executed = 0;
    if (count) part.macs = &executed;
    function(part);
    if (count) macs_executed += executed;
  };
  if (count) {
    macs_dense += int64_t(x.rows) * outputs * inputs;
    macs_stored += x.rows * stored_;
  }
  const int panels = (outputs + kPanel - 1) / kPanel;
  if (team.count() == 1 || int64_t(x.rows) * outputs * inputs < kWorthSharing) return run(whole);
  const int shares = std::min(team.count(), panels);
  team.run(shares, [&](int share, int) {
    Product part = whole;
    part.first = int(int64_t(panels) * share / shares) * kPanel;
    part.last = std::min(outputs, int(int64_t(panels) * (share + 1) / shares) * kPanel);
    run(part);
  });
}

void Matrix::row(int n, float* out) const {
  const int inputs = view_.inputs, lane = per_lane(view_.format), steps = up(inputs, lane) / lane;
  if (view_.format == MatrixFormat::f32 || view_.format == MatrixFormat::bf16) {
    const int64_t panel = int64_t(n / kPanel) * steps * kPanel + n % kPanel;
    for (int k = 0; k < inputs; k++) {
      const int64_t place = panel + int64_t(k / lane) * kPanel;
      out[k] = lane == 1 ? static_cast<const float*>(view_.data)[place]
                         : from_bf16(static_cast<const uint16_t*>(view_.data)[place * 2 + k % 2]);
    }
    return;
  }
  // Levels are decoded into the end of `out`, and become floats from the front: a float that is
  // written never reaches a level that is still to be read.
  int8_t* levels = reinterpret_cast<int8_t*>(out) + int64_t(3) * inputs;
  tile_levels(view_, n, levels);
  const int groups = up(inputs, kGroup) / kGroup;
  for (int k = 0; k < inputs; k++) {
    const float scale =
        view_.format != MatrixFormat::q4
            ? static_cast<const float*>(view_.scales)[n]
            : from_bf16(static_cast<const uint16_t*>(
                  view_.scales)[(size_t(n / kPanel) * groups + k / kGroup) * kPanel + n % kPanel]);
    const float value = scale * float(levels[k]);
    std::memcpy(out + k, &value, 4);
  }
}

void reserve_scratch(int inputs) { packed_x.reserve(scratch_bytes(inputs)); }

void count_macs(bool on) {
  counting = on;
  if (on) macs_dense = macs_stored = macs_executed = 0;
}

MacCount mac_count() { return {macs_dense, macs_stored, macs_executed}; }

}  // namespace slm
