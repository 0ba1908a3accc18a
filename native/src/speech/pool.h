// Memory of fixed size for one search: taken once, handed out and given back without the system.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

namespace slm {

// `count` zeroed T from the system; pages that are never written take no memory.
template <class T>
class Zeroed {
 public:
  Zeroed() = default;
  explicit Zeroed(size_t count)
      : data_(static_cast<T*>(std::calloc(count ? count : 1, sizeof(T)))), count_(count) {
    if (!data_) throw std::bad_alloc();
  }
  Zeroed(Zeroed&& other) noexcept : data_(other.data_), count_(other.count_) {
    other.data_ = nullptr;
    other.count_ = 0;
  }
  Zeroed& operator=(Zeroed&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  Zeroed(const Zeroed&) = delete;
  Zeroed& operator=(const Zeroed&) = delete;
  ~Zeroed() { std::free(data_); }

  T& operator[](size_t index) { return data_[index]; }
  const T& operator[](size_t index) const { return data_[index]; }
  T* get() { return data_; }
  const T* get() const { return data_; }
  size_t size() const { return count_; }
  size_t bytes() const { return count_ * sizeof(T); }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

// Items of `unit` T each, by number. The one given back last is handed out first, so that a search
// stays within few pages. The first four bytes of a free item are the number of the next free one.
template <class T>
class Pool {
 public:
  Pool() = default;
  explicit Pool(int capacity, size_t unit = 1)
      : data_(size_t(capacity) * unit), unit_(unit), capacity_(capacity) {
    static_assert(sizeof(T) >= sizeof(int), "a free item holds a number");
  }

  // A number; the caller has checked `left()`. Its contents are whatever was there.
  int take() {
    taken_++;
    if (free_ < 0) return top_++;
    const int item = free_;
    std::memcpy(&free_, at(item), sizeof(int));
    return item;
  }
  void give(int item) {
    std::memcpy(static_cast<void*>(at(item)), &free_, sizeof(int));
    free_ = item;
    taken_--;
  }
  void clear() {
    free_ = -1;
    top_ = taken_ = 0;
  }

  T* at(int item) { return data_.get() + size_t(item) * unit_; }
  const T* at(int item) const { return data_.get() + size_t(item) * unit_; }
  T& operator[](int item) { return *at(item); }
  const T& operator[](int item) const { return *at(item); }
  int left() const { return capacity_ - taken_; }
  int taken() const { return taken_; }
  int top() const { return top_; }  // numbers below this have been handed out at some time
  int capacity() const { return capacity_; }
  size_t bytes() const { return data_.bytes(); }

 private:
  Zeroed<T> data_;
  size_t unit_ = 1;
  int capacity_ = 0, top_ = 0, taken_ = 0, free_ = -1;
};

}  // namespace slm
