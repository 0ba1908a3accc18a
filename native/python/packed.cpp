// Python door to packed matrices: one product at a time, for tests and measurements.
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <tuple>
#include <vector>

#include "module.h"
#include "runtime/context.h"
#include "runtime/error.h"
#include "runtime/matrix.h"

namespace {

using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<nb::numpy, float>;

// A matrix in tiles. Its bytes are copied into an arena of its own, or one that others share: small
// matrices lie on huge pages only together.
class PackedMatrix {
 public:
  PackedMatrix(const std::string& format, int outputs, int inputs, nb::bytes data, nb::bytes scales)
      : PackedMatrix(std::make_shared<slm::Memory>(room(data) + room(scales)), 0, format, outputs,
                     inputs, data, scales) {}

  PackedMatrix(std::shared_ptr<slm::Memory> arena, size_t at, const std::string& format,
               int outputs, int inputs, nb::bytes data, nb::bytes scales)
      : arena_(std::move(arena)) {
    slm::MatrixView view;
    if (!slm::format_of(format.c_str(), view.format))
      slm::refuse("there is no format '" + format + "' of matrices.");
    char* begin = arena_->as<char>() + at;
    if (data.size()) std::memcpy(begin, data.c_str(), data.size());
    if (scales.size()) std::memcpy(begin + room(data), scales.c_str(), scales.size());
    view.outputs = outputs;
    view.inputs = inputs;
    view.data = begin;
    view.bytes = data.size();
    view.scales = begin + room(data);
    view.scale_bytes = scales.size();
    matrix_ = slm::Matrix::view(view);
  }

  static size_t room(nb::bytes part) { return (part.size() + 63) / 64 * 64; }

  Floats multiply(Rows x, int threads, bool add) {
    if (int64_t(x.shape(1)) != matrix_.inputs())
      slm::refuse("x has " + std::to_string(x.shape(1)) + " columns, the matrix has " +
                  std::to_string(matrix_.inputs()) + " inputs.");
    if (threads < 1 || threads > 64) slm::refuse("threads must be from 1 to 64.");
    const size_t rows = x.shape(0), outputs = size_t(matrix_.outputs());
    std::unique_ptr<float[]> y(new float[rows * outputs + 1]);
    for (size_t i = 0; i < rows * outputs; i++) y[i] = add ? 1.0f : NAN;
    slm::Threads team(threads);
    run(x.data(), int(rows), y.get(), add, team);
    float* begin = y.release();
    nb::capsule owner(begin, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    return Floats(begin, {rows, outputs}, owner);
  }

  Floats row(int output) const {
    if (output < 0 || output >= matrix_.outputs()) slm::refuse("there is no such output.");
    const size_t inputs = size_t(matrix_.inputs());
    auto* begin = new float[inputs + 1];
    nb::capsule owner(begin, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    matrix_.row(output, begin);
    return Floats(begin, {inputs}, owner);
  }

  void run(const float* x, int rows, float* y, bool add, slm::Threads& team) {
    const slm::Input input =
        buffer_.fill(matrix_.input_kind(), x, matrix_.inputs(), rows, matrix_.inputs(), team);
    matrix_.multiply(input, y, matrix_.outputs(), add, team);
  }

  const slm::Matrix& matrix() const { return matrix_; }

 private:
  std::shared_ptr<slm::Memory> arena_;
  slm::Matrix matrix_;
  slm::InputBuffer buffer_;
};

// `times` copies of each matrix (format, outputs, inputs, data, scales), in turn, in one arena.
std::vector<std::unique_ptr<PackedMatrix>> in_arena(
    const std::vector<std::tuple<std::string, int, int, nb::bytes, nb::bytes>>& parts, int times) {
  size_t bytes = 0;
  for (const auto& [format, outputs, inputs, data, scales] : parts)
    bytes += PackedMatrix::room(data) + PackedMatrix::room(scales);
  const auto arena = std::make_shared<slm::Memory>(bytes * size_t(std::max(times, 0)));
  std::vector<std::unique_ptr<PackedMatrix>> out;
  size_t at = 0;
  for (int i = 0; i < times; i++)
    for (const auto& [format, outputs, inputs, data, scales] : parts) {
      out.push_back(std::make_unique<PackedMatrix>(arena, at, format, outputs, inputs, data, scales));
      at += PackedMatrix::room(data) + PackedMatrix::room(scales);
    }
  return out;
}

// Seconds that x takes through the chain of `matrices`, `times` times, on one thread. Each quantises
// what it reads, as a layer would have to: the outputs before it if they fit, else x.
double time_chain(const std::vector<PackedMatrix*>& matrices, Rows x, int times) {
  slm::Threads team(1);
  const int rows = int(x.shape(0));
  std::vector<float> y, other;
  for (const PackedMatrix* one : matrices) {
    if (int64_t(x.shape(1)) != one->matrix().inputs()) slm::refuse("x does not fit a matrix.");
    y.resize(std::max(y.size(), x.shape(0) * size_t(one->matrix().outputs())));
  }
  other.resize(y.size());
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < times; i++) {
    const float* from = x.data();
    for (PackedMatrix* one : matrices) {
      one->run(from, rows, y.data(), false, team);
      y.swap(other);
      from = one->matrix().outputs() == one->matrix().inputs() ? other.data() : x.data();
    }
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Layers of LSTM over packed matrices, one frame a call, on one thread: for measurements.
class PackedLstm {
 public:
  // matrices: the input and the recurrent one of each layer, (4 width, width). They must outlive this.
  explicit PackedLstm(std::vector<PackedMatrix*> matrices) : matrices_(std::move(matrices)) {
    if (matrices_.empty() || matrices_.size() % 2) slm::refuse("an LSTM has two matrices a layer.");
    width_ = matrices_[0]->matrix().inputs();
    for (const PackedMatrix* one : matrices_)
      if (one->matrix().inputs() != width_ || one->matrix().outputs() != 4 * width_)
        slm::refuse("the matrices of an LSTM have four times as many outputs as inputs.");
    lstm_.zero.assign(size_t(4 * width_), 0);
    gates_.assign(size_t(4 * width_), 0);
    state_.assign(matrices_.size() * size_t(width_), 0);
  }

  // x (1, width): the last layer's output (1, width).
  Floats step(Rows x) {
    if (x.shape(0) != 1 || int64_t(x.shape(1)) != width_) slm::refuse("x does not fit the LSTM.");
    const float* from = x.data();
    for (size_t i = 0; i < matrices_.size(); i += 2) {
      float* output = state_.data() + i * size_t(width_);
      matrices_[i]->run(from, 1, gates_.data(), false, team_);
      matrices_[i + 1]->run(output, 1, gates_.data(), true, team_);
      slm::lstm_step(lstm_, width_, gates_.data(), output + width_, output);
      from = output;
    }
    auto* y = new float[size_t(width_)];
    std::memcpy(y, from, size_t(width_) * 4);
    nb::capsule owner(y, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    return Floats(y, {1, size_t(width_)}, owner);
  }

 private:
  std::vector<PackedMatrix*> matrices_;
  int width_ = 0;
  slm::Threads team_{1};
  slm::Lstm lstm_;
  std::vector<float> gates_, state_;  // state: output and cell of each layer
};

// The tiles that the C++ side makes of levels (outputs, inputs).
nb::bytes pack_levels(const std::string& format,
                      nb::ndarray<const int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu> levels) {
  slm::MatrixFormat number;
  if (!slm::format_of(format.c_str(), number) || number == slm::MatrixFormat::f32 ||
      number == slm::MatrixFormat::bf16)
    slm::refuse("there is no format '" + format + "' of quantised matrices.");
  const int outputs = int(levels.shape(0)), inputs = int(levels.shape(1));
  const size_t bytes = slm::pack_bytes(number, levels.data(), outputs, inputs);
  std::vector<char> out(bytes + 1);
  slm::pack_tiles(number, levels.data(), outputs, inputs, out.data());
  return nb::bytes(out.data(), bytes);
}

}  // namespace

void bind_packed(nb::module_& module) {
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const slm::BadArgument& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    }
  });
  nb::class_<PackedMatrix>(module, "PackedMatrix", "A matrix in tiles: FORMAT.md, 'Tile layouts'.")
      .def(nb::init<const std::string&, int, int, nb::bytes, nb::bytes>(), nb::arg("format"),
           nb::arg("outputs"), nb::arg("inputs"), nb::arg("data"), nb::arg("scales"))
      .def("multiply", &PackedMatrix::multiply, nb::arg("x"), nb::arg("threads") = 1,
           nb::arg("add") = false,
           "x (M, K) float32 times the matrix: (M, N). With add, 1 is added to each.")
      .def("row", &PackedMatrix::row, nb::arg("output"), "Weights (K) of an output.")
      .def_prop_ro("stored", [](const PackedMatrix& m) { return m.matrix().stored(); },
                   "Weights that are multiplied for one row of x.");
  nb::class_<PackedLstm>(module, "PackedLstm", "Layers of LSTM over packed matrices.")
      .def(nb::init<std::vector<PackedMatrix*>>(), nb::arg("matrices"), nb::keep_alive<1, 2>(),
           "matrices: the input's and the recurrent one of each layer, (4 width, width).")
      .def("step", &PackedLstm::step, nb::arg("x"),
           "x (1, width) is one frame; returns the last layer's output (1, width).");
  module.def("packed_levels", pack_levels, nb::arg("format"), nb::arg("levels"));
  module.def("packed_arena", in_arena, nb::arg("parts"), nb::arg("times") = 1,
             "PackedMatrix of (format, outputs, inputs, data, scales), `times` copies, in one arena.");
  module.def("packed_chain", time_chain, nb::arg("matrices"), nb::arg("x"), nb::arg("times") = 1,
             "Seconds of x (M, K) through a chain of matrices, `times` times, on one thread.");
  module.def("count_macs", slm::count_macs, nb::arg("on"),
             "Switch counting of multiplications on, from zero, or off.");
  module.def(
      "mac_count",
      [] {
        const slm::MacCount count = slm::mac_count();
        nb::dict out;
        out["dense"] = count.dense;
        out["stored"] = count.stored;
        out["executed"] = count.executed;
        return out;
      },
      "dense: without zeros; stored: weights that are stored; executed: with what fills up tiles.");
}
