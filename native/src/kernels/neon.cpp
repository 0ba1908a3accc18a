// Does this ARM processor have the 8-bit dot product? Asked once, when the tables are chosen.
#if defined(__aarch64__)

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace slm {

bool has_neon_dot() {
#if defined(__APPLE__)
  return true;  // every Apple silicon has it
#elif defined(__linux__) && defined(HWCAP_ASIMDDP)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return false;
#endif
}

}  // namespace slm

#endif
