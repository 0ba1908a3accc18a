// The team of threads declared in threads.h.
#include "threads.h"

#include <memory>
#include <new>

namespace slm {

namespace {

constexpr int kSpins = 20000;  // some 100 microseconds: longer than the serial part of a token

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Threads::Threads(int count) : count_(count < 1 ? 1 : count) {
  try {
    for (int thread = 1; thread < count_; thread++)
      workers_.emplace_back([this, thread] { work(thread); });
  } catch (...) {  // no memory or no more threads: those that run must end before we do
    stop();
    throw;
  }
}

Threads::~Threads() { stop(); }

void Threads::stop() {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    stop_.store(true);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Threads::dispatch(int shares, const std::function<void(int, int)>& share) {
  share_ = &share;
  shares_ = shares;
  next_.store(0);
  open_.store(++turns_);  // sequentially consistent with the count of sleepers read next
  if (asleep_.load() > 0) {
    std::lock_guard<std::mutex> guard(mutex_);
    wake_.notify_all();
  }
  take_shares(0);
  // Closed before the workers inside are counted: one that comes later finds nothing open.
  open_.store(0);
  for (int spins = 0; inside_.load() > 0; spins++)
    if (spins < kSpins) relax();
    else std::this_thread::yield();
  if (starved_.exchange(false)) throw std::bad_alloc();
}

void Threads::take_shares(int thread) noexcept {
  for (int part; (part = next_.fetch_add(1)) < shares_;) {
    try {
      (*share_)(part, thread);
    } catch (const std::bad_alloc&) {
      starved_.store(true);
    }
  }
}

void Threads::work(int thread) {
  uint64_t seen = 0;
  const auto called = [&] {
    const uint64_t open = open_.load();
    return stop_.load() || (open != 0 && open != seen);
  };
  for (;;) {
    for (int spins = 0; !called() && spins < kSpins; spins++) relax();
    if (!called()) {
      std::unique_lock<std::mutex> lock(mutex_);
      asleep_.fetch_add(1);
      wake_.wait(lock, called);
      asleep_.fetch_sub(1);
    }
    if (stop_.load()) return;
    inside_.fetch_add(1);
    const uint64_t open = open_.load();
    if (open != 0 && open != seen) {
      seen = open;
      take_shares(thread);
    }
    inside_.fetch_sub(1);
  }
}

SharedThreads::SharedThreads(int count) {
  static std::mutex mutex;
  static std::unique_ptr<Threads> team;
  lock_ = std::unique_lock<std::mutex>(mutex);
  if (!team || team->count() != (count < 1 ? 1 : count)) team = std::make_unique<Threads>(count);
  team_ = team.get();
}

}  // namespace slm
