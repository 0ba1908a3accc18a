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
    turn_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Threads::dispatch(const std::function<void(int)>& share) {
  share_ = &share;
  left_.store(count_ - 1, std::memory_order_relaxed);
  turn_.fetch_add(1);  // sequentially consistent with the count of sleepers read next
  if (asleep_.load() > 0) {
    std::lock_guard<std::mutex> guard(mutex_);
    wake_.notify_all();
  }
  take_share(0);
  // On a machine with fewer free cores than threads, spinning would keep the worker from running.
  for (int spins = 0; left_.load(std::memory_order_acquire) > 0; spins++)
    if (spins < kSpins) relax();
    else std::this_thread::yield();
  if (starved_.exchange(false)) throw std::bad_alloc();
}

void Threads::take_share(int thread) noexcept {
  try {
    (*share_)(thread);
  } catch (const std::bad_alloc&) {
    starved_.store(true);
  }
}

void Threads::work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    int spins = 0;
    while (turn_.load(std::memory_order_acquire) == seen && spins++ < kSpins) relax();
    if (turn_.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      asleep_.fetch_add(1);
      wake_.wait(lock, [&] { return turn_.load() != seen; });
      asleep_.fetch_sub(1);
    }
    if (stop_.load()) return;
    seen++;
    take_share(thread);
    left_.fetch_sub(1, std::memory_order_release);
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
