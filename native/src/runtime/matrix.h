// A weight matrix as the products read it: packed in panels of 64 outputs, maybe quantised.
#pragma once

#include <cstdint>
#include <vector>

#include "memory.h"
#include "solomonic.h"
#include "threads.h"
#include "tiles.h"

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
  // kind: Matrix::input_kind().
  Input fill(slm_weights kind, const float* x, int64_t ldx, int rows, int inputs, Threads& team);
  // Memory for that many rows and inputs of any kind, so that no later fill allocates.
  void reserve(int rows, int inputs);
  size_t bytes() const { return levels_.bytes() + scale_.bytes() + sums_.bytes(); }

 private:
  Memory levels_, scale_, sums_;
};

class Matrix {
 public:
  Matrix() = default;
  // w: (outputs, inputs) row-major, quantised here.
  Matrix(slm_weights kind, int outputs, int inputs, const float* w);
  // Weights where they lie, for as long as the matrix is used. Throws BadArgument for bytes that
  // are no such matrix. Only sums of the outputs' levels are kept beside them.
  static Matrix view(const MatrixView& weights);

  int outputs() const { return view_.outputs; }
  int inputs() const { return view_.inputs; }
  MatrixFormat format() const { return view_.format; }
  // The kind of Input that multiply reads: SLM_INT4 for q4, SLM_INT8 for every other quantised
  // format.
  slm_weights input_kind() const;
  slm_weights kind() const { return input_kind(); }
  // Bytes held here; those of a view are its owner's, except for the sums.
  size_t bytes() const;
  bool empty() const { return view_.outputs == 0; }
  // Weights that are multiplied for one row of inputs: zeros that are not stored do not count.
  int64_t stored() const { return stored_; }

  // y (rows, ldy) = or += x W^T. Nothing is allocated, but for v16 once per thread (see
  // reserve_scratch).
  void multiply(const Input& x, float* y, int64_t ldy, bool add, Threads& team) const;
  // Row `output` as floats: an embedding.
  void row(int output, float* out) const;

 private:
  void quantise_int8(const float* w);
  void quantise_int4(const float* w);

  MatrixView view_;
  int64_t stored_ = 0;
  Memory data_, scale_;       // what view_ points to, if it is ours
  std::vector<int32_t> sum_;  // formats with row scales: sums of an output's levels
};

// Makes this thread's scratch large enough for products with that many inputs.
void reserve_scratch(int inputs);

// What the products of the whole process have multiplied since counting was switched on. Counted
// by the kernels as they go, so that it shows what was really done.
struct MacCount {
  int64_t dense = 0;     // rows x outputs x inputs: what a product without zeros would need
  int64_t stored = 0;    // rows x weights that are stored
  int64_t executed = 0;  // 8-bit products (or float32, bfloat16) that the kernels ran, with what fills up
                         // the last tile
};
// Switches counting on (from zero) or off; not to be called while products run.
void count_macs(bool on);
MacCount mac_count();

}  // namespace slm
