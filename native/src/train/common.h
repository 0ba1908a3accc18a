// What the training ops share: arrays of the C interface as rows, scratch memory, checks.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"
#include "runtime/error.h"
#include "runtime/memory.h"
#include "runtime/threads.h"

namespace slm {
namespace train {

// One row of a batch.
inline Tokens row_of(const slm_array& array, int64_t row) {
  if (!array.data) return {nullptr, 0, false};
  const Tokens whole{static_cast<char*>(array.data), array.step, array.half != 0};
  return whole.moved(row * array.row);
}

inline void need(bool fits, const char* op, const char* what) {
  if (!fits) refuse(std::string(op) + ": " + what + ".");
}
inline void need(const slm_array& array, const char* op, const char* name) {
  if (!array.data) refuse(std::string(op) + ": the array '" + name + "' is missing.");
}
inline void need(const void* data, const char* op, const char* name) {
  if (!data) refuse(std::string(op) + ": the array '" + name + "' is missing.");
}

// The threads of the process that train, and scratch memory for each, held while this lives.
class Crew {
 public:
  explicit Crew(int threads) : shared_(threads) {
    // Guarded by the lock that `shared_` holds.
    static std::vector<Memory> pool;
    static Memory common;
    pool_ = &pool, common_ = &common;
    if (pool.size() < size_t(shared_.get().count())) pool.resize(shared_.get().count());
  }
  ~Crew() {
    for (Memory& memory : *pool_)
      if (memory.bytes() > kKeep) memory = Memory();
    if (common_->bytes() > kKeep) *common_ = Memory();
  }

  // Memory that all tasks see, contents undefined; a later call takes it back.
  float* common(int64_t floats) {
    common_->reserve(size_t(floats) * sizeof(float));
    return common_->as<float>();
  }

  // body(task, scratch) for all tasks; each has `floats` of scratch, contents undefined.
  template <class Body>
  void run(int tasks, int64_t floats, const Body& body) {
    for (int i = 0; i < shared_.get().count() && i < tasks; i++)
      (*pool_)[i].reserve(size_t(floats) * sizeof(float));
    shared_.get().run(tasks, [&](int task, int thread) {
      body(task, (*pool_)[thread].template as<float>());
    });
  }

 private:
  static constexpr size_t kKeep = size_t(64) << 20;
  SharedThreads shared_;
  std::vector<Memory>* pool_;
  Memory* common_;
};

}  // namespace train
}  // namespace slm
