// A small team of threads for loops whose turns are microseconds long.
//
// Workers spin for a short while between loops, because waking a sleeping thread costs more than a
// decoded token can afford, and then go to sleep, because a server idles most of its life.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace slm {

class Threads {
 public:
  // A team of `count` threads, the caller included.
  explicit Threads(int count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const { return count_; }

  // body(task, thread) for every task in [0, tasks); each thread takes one contiguous range, so
  // that which thread computes what, and with it every rounding, never depends on timing.
  // When memory runs out in a task, std::bad_alloc is thrown here after all threads are done;
  // `body` must throw nothing else.
  template <class Body>
  void run(int tasks, const Body& body) {
    if (count_ == 1 || tasks <= 1) {
      for (int task = 0; task < tasks; task++) body(task, 0);
      return;
    }
    const std::function<void(int)> share = [&](int thread) {
      const int first = int(int64_t(tasks) * thread / count_);
      const int last = int(int64_t(tasks) * (thread + 1) / count_);
      for (int task = first; task < last; task++) body(task, thread);
    };
    dispatch(share);
  }

 private:
  void dispatch(const std::function<void(int)>& share);
  void work(int thread);
  void take_share(int thread) noexcept;
  void stop();

  const int count_;
  const std::function<void(int)>* share_ = nullptr;
  std::atomic<uint64_t> turn_{0};
  std::atomic<int> left_{0};
  std::atomic<int> asleep_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> starved_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

// The team for calls that bring none of their own (training); rebuilt when `count` changes.
// Only one caller may use it at a time; the lock is held until the returned object is gone.
class SharedThreads {
 public:
  explicit SharedThreads(int count);
  Threads& get() { return *team_; }

 private:
  std::unique_lock<std::mutex> lock_;
  Threads* team_;
};

}  // namespace slm
