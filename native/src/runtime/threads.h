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

  // body(task, thread) for every task in [0, tasks). Threads take contiguous shares as they come to
  // them, so that nobody waits for a thread which the machine has given to another program. What a
  // task computes must not depend on its thread: results then never depend on timing.
  // When memory runs out in a task, std::bad_alloc is thrown here after all threads are done;
  // `body` must throw nothing else.
  template <class Body>
  void run(int tasks, const Body& body) {
    if (count_ == 1 || tasks <= 1) {
      for (int task = 0; task < tasks; task++) body(task, 0);
      return;
    }
    const int shares = tasks < 4 * count_ ? tasks : 4 * count_;
    const std::function<void(int, int)> share = [&](int part, int thread) {
      const int first = int(int64_t(tasks) * part / shares);
      const int last = int(int64_t(tasks) * (part + 1) / shares);
      for (int task = first; task < last; task++) body(task, thread);
    };
    dispatch(shares, share);
  }

 private:
  void dispatch(int shares, const std::function<void(int, int)>& share);
  void work(int thread);
  void take_shares(int thread) noexcept;
  void stop();

  const int count_;
  const std::function<void(int, int)>* share_ = nullptr;
  int shares_ = 0;
  uint64_t turns_ = 0;               // loops begun so far
  std::atomic<uint64_t> open_{0};    // the loop that may be joined, 0 when there is none
  std::atomic<int> next_{0};         // the first share nobody has taken
  std::atomic<int> inside_{0};       // workers that may be looking at the loop
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
