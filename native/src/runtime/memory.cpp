// Aligned memory, on huge pages from 2 MB on.
#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace slm {

namespace {
constexpr size_t kLine = 64, kHuge = size_t(2) << 20;
}

Memory::Memory(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const size_t align = bytes >= kHuge ? kHuge : kLine;
  const size_t rounded = (bytes + align - 1) / align * align;
  data_ = std::aligned_alloc(align, rounded);
  if (!data_) throw std::bad_alloc();
#if defined(__linux__)
  if (align == kHuge) madvise(data_, rounded, MADV_HUGEPAGE);  // only advice: it may be refused
#endif
  std::memset(data_, 0, rounded);
}

Memory::~Memory() { std::free(data_); }

}  // namespace slm
