// Python door to packed matrices: one product at a time, for tests and measurements.
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "module.h"
#include "runtime/error.h"
#include "runtime/matrix.h"

namespace {

using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<nb::numpy, float>;

// A matrix in an arena of its own, which lies on huge pages if it is large.
class PackedMatrix {
 public:
  PackedMatrix(const std::string& format, int outputs, int inputs, nb::bytes data, nb::bytes scales)
      : data_(data.size()), scales_(scales.size()) {
    if (data.size()) std::memcpy(data_.as<void>(), data.c_str(), data.size());
    if (scales.size()) std::memcpy(scales_.as<void>(), scales.c_str(), scales.size());
    slm::MatrixView view;
    if (!slm::format_of(format.c_str(), view.format))
      slm::refuse("there is no format '" + format + "' of matrices.");
    view.outputs = outputs;
    view.inputs = inputs;
    view.data = data_.as<void>();
    view.bytes = data.size();
    view.scales = scales_.as<void>();
    view.scale_bytes = scales.size();
    matrix_ = slm::Matrix::view(view);
  }

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
  slm::Memory data_, scales_;
  slm::Matrix matrix_;
  slm::InputBuffer buffer_;
};

// Seconds that x takes through each of `matrices` in turn, `times` times, on one thread; x is
// quantised anew for each of them, as a layer would have to.
double time_chain(const std::vector<PackedMatrix*>& matrices, Rows x, int times) {
  slm::Threads team(1);
  std::vector<float> y;
  for (const PackedMatrix* one : matrices) {
    if (int64_t(x.shape(1)) != one->matrix().inputs()) slm::refuse("x does not fit a matrix.");
    y.resize(std::max(y.size(), x.shape(0) * size_t(one->matrix().outputs())));
  }
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < times; i++)
    for (PackedMatrix* one : matrices) one->run(x.data(), int(x.shape(0)), y.data(), false, team);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

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
  module.def("packed_levels", pack_levels, nb::arg("format"), nb::arg("levels"));
  module.def("packed_chain", time_chain, nb::arg("matrices"), nb::arg("x"), nb::arg("times") = 1);
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
