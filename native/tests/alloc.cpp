// operator new and, where the linker can redirect it, aligned_alloc: counted, and made to fail when
// a test asks. A size is kept in front of each block of operator new.
#include "alloc.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int64_t> blocks{0}, bytes{0}, calls{0}, left{INT64_MAX};
std::atomic<bool> failed{false};

bool refused() {
  if (left.load(std::memory_order_relaxed) == INT64_MAX) return false;
  if (left.fetch_sub(1) > 0) return false;
  failed.store(true);
  return true;
}

constexpr size_t kFront = 16;  // keeps the alignment that malloc gives

void* take(size_t size) noexcept {
  if (refused()) return nullptr;
  char* block = static_cast<char*>(std::malloc(size + kFront));
  if (!block) return nullptr;
  *reinterpret_cast<size_t*>(block) = size;
  blocks.fetch_add(1);
  bytes.fetch_add(int64_t(size));
  return block + kFront;
}

void give(void* pointer) noexcept {
  if (!pointer) return;
  char* block = static_cast<char*>(pointer) - kFront;
  blocks.fetch_sub(1);
  bytes.fetch_sub(int64_t(*reinterpret_cast<size_t*>(block)));
  std::free(block);
}

}  // namespace

namespace alloc {

Held held() { return {blocks.load(), bytes.load()}; }
#if defined(SLM_WRAP_ALIGNED)
int64_t aligned() { return calls.load(); }
#else
int64_t aligned() { return -1; }
#endif
Starved::Starved(int64_t after) {
  failed.store(false);
  left.store(after);
}
Starved::~Starved() { left.store(INT64_MAX); }
bool Starved::felt() const { return failed.load(); }

}  // namespace alloc

void* operator new(size_t size) {
  void* pointer = take(size);
  if (!pointer) throw std::bad_alloc();
  return pointer;
}
void* operator new[](size_t size) { return operator new(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return take(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return take(size); }
void operator delete(void* pointer) noexcept { give(pointer); }
void operator delete[](void* pointer) noexcept { give(pointer); }
void operator delete(void* pointer, size_t) noexcept { give(pointer); }
void operator delete[](void* pointer, size_t) noexcept { give(pointer); }

#if defined(SLM_WRAP_ALIGNED)  // the linker sends the core's calls here: -Wl,--wrap=aligned_alloc
extern "C" {
void* __real_aligned_alloc(size_t align, size_t size);
void* __wrap_aligned_alloc(size_t align, size_t size) {
  if (refused()) return nullptr;
  calls.fetch_add(1);
  return __real_aligned_alloc(align, size);
}
}
#endif
