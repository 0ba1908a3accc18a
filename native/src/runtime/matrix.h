// A weight matrix as the products read it: packed in panels of 64 outputs, maybe quantised.
#pragma once

#include <cstdint>
#include <vector>

#include "memory.h"
#include "solomonic.h"
#include "threads.h"

namespace slm {

// Rows of activations in the type that a kind of weights is multiplied with. Filled once and used
// by every matrix that reads the same rows.
struct Input {
  slm_weights kind = SLM_F32;
  int rows = 0, inputs = 0;
  const void* data = nullptr;
  int64_t stride = 0;  // bytes
  const float* scale = nullptr;
  const int32_t* sums = nullptr;
};

// Scratch for one Input.
class InputBuffer {
 public:
  // x: (rows, inputs), rows `ldx` floats apart. float32 input is used where it lies.
  Input fill(slm_weights kind, const float* x, int64_t ldx, int rows, int inputs, Threads& team);

 private:
  Memory levels_, scale_, sums_;
};

class Matrix {
 public:
  Matrix() = default;
  // w: (outputs, inputs) row-major.
  Matrix(slm_weights kind, int outputs, int inputs, const float* w);

  int outputs() const { return outputs_; }
  int inputs() const { return inputs_; }
  slm_weights kind() const { return kind_; }
  size_t bytes() const;
  bool empty() const { return outputs_ == 0; }

  // y (rows, ldy) = or += x W^T.
  void multiply(const Input& x, float* y, int64_t ldy, bool add, Threads& team) const;
  // Row `output` as floats: an embedding.
  void row(int output, float* out) const;

 private:
  void quantise_int8(const float* w);
  void quantise_int4(const float* w);

  slm_weights kind_ = SLM_F32;
  int outputs_ = 0, inputs_ = 0;
  Memory data_;
  std::vector<float> scale_;         // int8, one an output
  std::vector<int32_t> sum_;         // int8
  std::vector<uint16_t> group_scale_;  // 4 bit: [panel][group][64]
};

}  // namespace slm
