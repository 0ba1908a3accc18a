// What the parts of the Python module share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <new>
#include <stdexcept>

#include "solomonic.h"

namespace nb = nanobind;

// A failed call becomes ValueError (bad argument), MemoryError or RuntimeError.
inline void check(slm_status status) {
  switch (status) {
    case SLM_OK: return;
    case SLM_BAD_ARGUMENT: throw nb::value_error(slm_error());
    case SLM_OUT_OF_MEMORY: throw std::bad_alloc();
    default: throw std::runtime_error(slm_error());
  }
}

void bind_runtime(nb::module_& module);
void bind_train(nb::module_& module);
void bind_packed(nb::module_& module);
void bind_speech_net(nb::module_& module);
void bind_speech_search(nb::module_& module);
void bind_speech_stream(nb::module_& module);
void bind_induction(nb::module_& module);
void bind_machines(nb::module_& module);  // into the submodule of bind_induction
