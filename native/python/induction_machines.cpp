// Python door to machines: programs that sample themselves, the bracket, small Turing machines.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>

#include "induction/bracket.h"
#include "induction/machine.h"
#include "induction/turing.h"
#include "module.h"

namespace {

using namespace slm::induction;

void need(bool good, const char* message) {
  if (!good) throw nb::value_error(message);
}

void check_machine(int alphabet, int cells) {
  need(alphabet >= 2 && alphabet <= 256, "alphabet must be from 2 to 256.");
  need(cells >= 1 && cells <= 1 << 20, "cells must be from 1 to 1,048,576.");
}

std::vector<uint8_t> target_of(nb::bytes data, int alphabet) {
  std::vector<uint8_t> target(data.c_str(), data.c_str() + data.size());
  for (const uint8_t symbol : target)
    need(symbol < alphabet, "a symbol of the target is outside the alphabet.");
  return target;
}

// (outputs (programs, length) uint8, printed, steps, instructions drawn: int64 each).
nb::tuple sample(int alphabet, int cells, int64_t steps, int length, int64_t programs,
                 uint64_t seed) {
  check_machine(alphabet, cells);
  need(length >= 0 && programs >= 0 && steps >= 0, "sizes must not be negative.");
  auto* outputs = new uint8_t[size_t(programs * length) + 1]();
  nb::capsule owner(outputs, [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
  auto* facts = new int64_t[size_t(programs) * 3 + 1];
  nb::capsule facts_owner(facts, [](void* p) noexcept { delete[] static_cast<int64_t*>(p); });
  {
    nb::gil_scoped_release release;
    Machine machine(alphabet, cells);
    SplitMix random{seed};
    for (int64_t i = 0; i < programs; i++) {
      const Ran ran = machine.run(random, outputs + i * length, length, steps);
      facts[3 * i] = ran.printed;
      facts[3 * i + 1] = ran.steps;
      facts[3 * i + 2] = ran.instructions;
    }
  }
  return nb::make_tuple(
      nb::ndarray<nb::numpy, uint8_t>(outputs, {size_t(programs), size_t(length)}, owner),
      nb::ndarray<nb::numpy, int64_t>(facts, {size_t(programs), size_t(3)}, facts_owner));
}

}  // namespace

void bind_machines(nb::module_& module) {
  module.def("sample", sample);
  module.def("count_matches", [](int alphabet, int cells, int64_t steps, nb::bytes target,
                                 int64_t programs, uint64_t seed) {
    check_machine(alphabet, cells);
    const std::vector<uint8_t> wanted = target_of(target, alphabet);
    nb::gil_scoped_release release;
    return count_matches(alphabet, cells, steps, wanted, programs, seed);
  });
  nb::class_<Bracket>(module, "Bracket")
      .def("__init__",
           [](Bracket* self, int alphabet, int cells, nb::bytes target) {
             check_machine(alphabet, cells);
             int width = 1;
             while (1 << width < alphabet) width++;
             need(cells * width <= 64, "the tape must fit 64 bits.");
             need(target.size() <= 30000, "targets have at most 30,000 symbols.");
             new (self) Bracket(alphabet, cells, target_of(target, alphabet));
           })
      .def("work", &Bracket::work, nb::call_guard<nb::gil_scoped_release>())
      .def("low", &Bracket::low)
      .def("pending", &Bracket::pending)
      .def("states", &Bracket::states)
      .def("opened", &Bracket::opened);
  module.def("enumerate", [](int states, int limit) {
    need(states >= 1 && states <= 5, "states must be from 1 to 5.");
    need(limit >= 1 && limit <= 100000, "limit must be from 1 to 100,000.");
    Census census;
    {
      nb::gil_scoped_release release;
      census = enumerate(states, limit);
    }
    nb::dict outputs;
    for (const auto& [text, count] : census.outputs) outputs[nb::str(text.c_str())] = count;
    return nb::make_tuple(census.halting, outputs, census.runs, census.steps);
  });
}
