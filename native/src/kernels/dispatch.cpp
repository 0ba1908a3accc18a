// Choice of the instruction set at run time: the best table this processor can run.
#include <cstdlib>
#include <cstring>

#include "table.h"

namespace slm {

#define SLM_DECLARE(isa)      \
  namespace isa {             \
  extern const Kernels table; \
  }
SLM_DECLARE(generic)
#if defined(__x86_64__)
SLM_DECLARE(avx2)
SLM_DECLARE(avx512)
SLM_DECLARE(avx512vnni)
SLM_DECLARE(avx512bf16)
#elif defined(__aarch64__)
SLM_DECLARE(neon)
SLM_DECLARE(neondot)
bool has_neon_dot();  // neon.cpp
#endif

namespace {

struct Choice {
  const Kernels* tables[8] = {};
  const char* names[8] = {};
  int count = 0;
  const Kernels* current = nullptr;

  void offer(const Kernels& table, bool runs) {
    if (!runs) return;
    tables[count] = &table;
    names[count++] = table.name;
  }

  Choice() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    const bool vnni = wide && __builtin_cpu_supports("avx512vnni");
    offer(avx512bf16::table, vnni && __builtin_cpu_supports("avx512bf16"));
    offer(avx512vnni::table, vnni);
    offer(avx512::table, wide);
    offer(avx2::table, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
#elif defined(__aarch64__)
    offer(neondot::table, has_neon_dot());
    offer(neon::table, true);
#endif
    offer(generic::table, true);
    current = tables[0];
  }
};

Choice& choice() {
  static Choice instance;
  return instance;
}

}  // namespace

const Kernels& kernels() { return *choice().current; }

const char* const* kernel_names() { return choice().names; }

bool use_kernels(const char* name) {
  Choice& all = choice();
  for (int i = 0; i < all.count; i++)
    if (!std::strcmp(all.names[i], name)) {
      all.current = all.tables[i];
      return true;
    }
  return false;
}

}  // namespace slm
