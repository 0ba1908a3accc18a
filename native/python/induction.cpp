// Python door to exact and universal predictors: solomonic._native.induction.
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "induction/coder.h"
#include "induction/ctw.h"
#include "induction/mixer.h"
#include "module.h"

namespace {

using namespace slm::induction;
using Doubles = nb::ndarray<nb::numpy, double, nb::ndim<1>>;
using GivenDoubles = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

Doubles array_of(const std::vector<double>& values) {
  auto* data = new double[values.size() + 1];
  std::copy(values.begin(), values.end(), data);
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<double*>(p); });
  return Doubles(data, {values.size()}, owner);
}

template <class P>
nb::bytes state_of(const P& predictor) {
  Writer writer;
  predictor.write(writer);
  return nb::bytes(writer.out.data(), writer.out.size());
}

template <class P>
void load_state(P& predictor, nb::bytes data) {  // into a new one
  Reader reader(data.c_str(), data.size());
  predictor.read(reader);
}

int chance_of(const ContextMixer& predictor) { return predictor.bit(); }
int chance_of(const ByteTree& predictor) { return quantise(predictor.bit()); }

// The next `data` in the range coder's bytes, as one block; the predictor moves on.
template <class P>
nb::bytes encode(P& predictor, nb::bytes data) {
  std::string out;
  {
    const std::string bytes(data.c_str(), data.size());
    nb::gil_scoped_release release;
    Encoder encoder;
    for (const char byte : bytes)
      for (int k = 7; k >= 0; k--) {
        const int bit = (byte >> k) & 1;
        encoder.encode(bit, chance_of(predictor));
        predictor.learn(bit);
      }
    out = encoder.finish();
  }
  return nb::bytes(out.data(), out.size());
}

template <class P>
nb::bytes decode(P& predictor, nb::bytes coded, size_t count) {
  std::string out(count, '\0');
  {
    const std::string bytes(coded.c_str(), coded.size());
    nb::gil_scoped_release release;
    Decoder decoder(bytes.data(), bytes.size());
    for (char& to : out) {
      int byte = 0;
      for (int k = 0; k < 8; k++) {
        const int bit = decoder.decode(chance_of(predictor));
        predictor.learn(bit);
        byte = byte * 2 + bit;
      }
      to = char(byte);
    }
  }
  return nb::bytes(out.data(), out.size());
}

// Bits that each byte of `data` costs; the predictor moves on.
template <class P>
Doubles costs(P& predictor, nb::bytes data) {
  std::vector<double> found;
  {
    const std::string bytes(data.c_str(), data.size());
    nb::gil_scoped_release release;
    for (const char byte : bytes) {
      double chance = 1;
      for (int k = 7; k >= 0; k--) {
        const int bit = (byte >> k) & 1;
        const double one = chance_of(predictor) * (1.0 / kOne);
        chance *= bit ? one : 1 - one;
        predictor.learn(bit);
      }
      found.push_back(-std::log2(chance));
    }
  }
  return array_of(found);
}

template <class P>
Doubles distribution(const P& predictor) {
  std::vector<double> out(256);
  if (!predictor.whole()) throw nb::value_error("a byte has begun; read the rest of its bits.");
  predictor.distribution(out.data());
  return array_of(out);
}

template <class P>
void learn_bit(P& predictor, int bit) {
  if (bit != 0 && bit != 1) throw nb::value_error("a bit is 0 or 1.");
  predictor.learn(bit);
}

void need(bool good, const char* message) {
  if (!good) throw nb::value_error(message);
}

void bind_predictors(nb::module_& module) {
  nb::class_<ContextMixer>(module, "Mixer")
      .def("__init__",
           [](ContextMixer* self, int bits) {
             need(bits >= 10 && bits <= 26, "bits must be from 10 to 26.");
             new (self) ContextMixer(bits);
           })
      .def("copy", &ContextMixer::copy)
      .def("bit", [](const ContextMixer& self) { return self.bit() * (1.0 / kOne); })
      .def("learn", learn_bit<ContextMixer>)
      .def("distribution", distribution<ContextMixer>)
      .def("hint",
           [](ContextMixer& self, GivenDoubles p) {
             need(p.shape(0) == 256, "an opinion on a byte has 256 probabilities.");
             self.hint(p.data());
           })
      .def("encode", encode<ContextMixer>)
      .def("decode", decode<ContextMixer>)
      .def("costs", costs<ContextMixer>)
      .def("state", state_of<ContextMixer>)
      .def("load", load_state<ContextMixer>);
  nb::class_<ByteTree>(module, "ByteTree")
      .def("__init__",
           [](ByteTree* self, int depth, int bits) {
             need(depth >= 0 && depth <= ByteTree::kDeepest, "depth must be from 0 to 16.");
             need(bits >= 8 && bits <= 28, "bits must be from 8 to 28.");
             new (self) ByteTree(depth, bits);
           })
      .def("copy", [](const ByteTree& self) { return std::make_unique<ByteTree>(self); })
      .def("bit", &ByteTree::bit)
      .def("learn", learn_bit<ByteTree>)
      .def("distribution", distribution<ByteTree>)
      .def("encode", encode<ByteTree>)
      .def("decode", decode<ByteTree>)
      .def("costs", costs<ByteTree>)
      .def("state", state_of<ByteTree>)
      .def("load", load_state<ByteTree>);
  nb::class_<ContextTree>(module, "ContextTree")
      .def("__init__",
           [](ContextTree* self, int alphabet, int depth, double alpha) {
             need(alphabet >= 2 && alphabet <= 256, "alphabet must be from 2 to 256.");
             need(depth >= 0 && depth <= 64, "depth must be from 0 to 64.");
             need(alpha > 0, "alpha must be above 0.");
             new (self) ContextTree(alphabet, depth, alpha);
           })
      .def("copy", [](const ContextTree& self) { return std::make_unique<ContextTree>(self); })
      .def("predict",
           [](const ContextTree& self) {
             std::vector<double> out(size_t(self.alphabet()));
             self.predict(out.data());
             return array_of(out);
           })
      .def("learn",
           [](ContextTree& self, int symbol) {
             need(symbol >= 0 && symbol < self.alphabet(), "the symbol is outside the alphabet.");
             self.learn(symbol);
           })
      .def("state", state_of<ContextTree>)
      .def("load", load_state<ContextTree>);
}

}  // namespace

void bind_induction(nb::module_& parent) {
  nb::module_ module = parent.def_submodule("induction", "Exact and universal predictors.");
  bind_predictors(module);
  bind_machines(module);
}
