// The parts of the C interface that belong to no model: errors, version, instruction sets.
#include <cstdio>
#include <string>

#include "kernels/table.h"
#include "runtime/error.h"
#include "solomonic.h"

namespace slm {

namespace {
thread_local char last_error[512] = "";
}

void remember(const char* begin, const char* text) noexcept {
  std::snprintf(last_error, sizeof last_error, "%s%s", begin, text);
}

}  // namespace slm

const char* slm_error(void) { return slm::last_error; }

const char* slm_version(void) { return "1"; }

const char* slm_isa(void) { return slm::kernels().name; }

const char* slm_isa_list(void) {
  static const std::string list = [] {
    std::string names;
    for (const char* const* name = slm::kernel_names(); *name; name++)
      names += (names.empty() ? "" : " ") + std::string(*name);
    return names;
  }();
  return list.c_str();
}

slm_status slm_isa_use(const char* name) {
  return slm::guarded([&] {
    slm::require(name && slm::use_kernels(name),
                 std::string("instruction set '") + (name ? name : "") +
                     "' cannot run here; use one of: " + slm_isa_list() + ".");
  });
}
