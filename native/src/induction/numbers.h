// Arithmetic that is the same on every machine: tables of the logistic map without libm, a seeded
// generator, tables of zeros that cost no memory until they are written, and states as bytes.
//
// The Python definitions (solomonic/induction) do the same operations in the same order on IEEE
// numbers, so that both give equal bits; files here are compiled without fused products.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace slm::induction {

// Natural logarithm of x > 0 by sums and products alone: 2 atanh((m - 1) / (m + 1)) + e ln 2.
inline double plain_log(double x) {
  int exponent;
  double m = std::frexp(x, &exponent);  // exact
  const double z = (m - 1) / (m + 1), square = z * z;
  double sum = 0, power = z;
  for (int k = 1; k < 80; k += 2) {
    sum += power / k;
    power *= square;
  }
  return 2 * sum + exponent * 0.6931471805599453;
}

// e^x: a series for x / 1024, squared ten times.
inline double plain_exp(double x) {
  const double y = x / 1024;
  double term = 1, sum = 1;
  for (int k = 1; k < 16; k++) {
    term = term * y / k;
    sum += term;
  }
  for (int k = 0; k < 10; k++) sum *= sum;
  return sum;
}

struct SplitMix {
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  // A number in 0 .. n - 1.
  uint32_t below(uint32_t n) { return uint32_t(((next() >> 32) * n) >> 32); }
};

inline uint64_t scramble(uint64_t x) {
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93ull;
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93ull;
  return x ^ (x >> 32);
}

// What a state is written to and read from; reading past the end throws.
class Writer {
 public:
  void bytes(const void* data, size_t size) { out.append(static_cast<const char*>(data), size); }
  template <class T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes(&value, sizeof value);
  }
  template <class T>
  void all(const std::vector<T>& values) {
    put(uint64_t(values.size()));
    bytes(values.data(), values.size() * sizeof(T));
  }
  std::string out;
};

class Reader {
 public:
  Reader(const char* data, size_t size) : at_(data), left_(size) {}
  void bytes(void* to, size_t size) {
    if (size > left_) throw std::invalid_argument("the state of a predictor is cut short.");
    if (size) std::memcpy(to, at_, size);
    at_ += size;
    left_ -= size;
  }
  template <class T>
  T get() {
    T value;
    bytes(&value, sizeof value);
    return value;
  }
  template <class T>
  void all(std::vector<T>& values) {  // of the size it has
    if (get<uint64_t>() != values.size())
      throw std::invalid_argument("the state is of a predictor with other settings.");
    bytes(values.data(), values.size() * sizeof(T));
  }
  template <class T>
  void grow(std::vector<T>& values) {  // of any size
    const uint64_t count = get<uint64_t>();
    if (count > left_ / sizeof(T))
      throw std::invalid_argument("the state of a predictor is cut short.");
    values.resize(size_t(count));
    bytes(values.data(), values.size() * sizeof(T));
  }
  void finish() const {
    if (left_) throw std::invalid_argument("the state of a predictor has bytes too many.");
  }

 private:
  const char* at_;
  size_t left_;
};

// `size` zeroed T, aligned to cache lines. Pages that were never written take no memory, neither
// here nor in copies and states.
template <class T>
class Table {
 public:
  explicit Table(size_t size) : size_(size) {
    room_ = std::calloc(size * sizeof(T) + 64, 1);
    if (!room_) throw std::bad_alloc();
    data_ = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(room_) + 63) / 64 * 64);
  }
  Table(const Table& other) : Table(other.size_) {
    other.pages([&](size_t at, size_t bytes) {
      std::memcpy(reinterpret_cast<char*>(data_) + at,
                  reinterpret_cast<const char*>(other.data_) + at, bytes);
    });
  }
  Table& operator=(const Table&) = delete;
  Table& operator=(Table&& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(room_, other.room_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Table() { std::free(room_); }

  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  size_t size() const { return size_; }

  void write(Writer& writer) const {
    writer.put(uint64_t(size_));
    pages([&](size_t at, size_t bytes) {
      writer.put(uint64_t(at));
      writer.bytes(reinterpret_cast<const char*>(data_) + at, bytes);
    });
    writer.put(~uint64_t(0));
  }
  void read(Reader& reader) {  // into a table of zeros
    if (reader.get<uint64_t>() != size_)
      throw std::invalid_argument("the state is of a predictor with other settings.");
    const size_t total = size_ * sizeof(T);
    for (uint64_t at; (at = reader.get<uint64_t>()) != ~uint64_t(0);) {
      if (at >= total || at % kPage)
        throw std::invalid_argument("the state of a predictor is damaged.");
      reader.bytes(reinterpret_cast<char*>(data_) + at, page_bytes(size_t(at)));
    }
  }

 private:
  static constexpr size_t kPage = 256;
  size_t page_bytes(size_t at) const { return std::min(kPage, size_ * sizeof(T) - at); }
  template <class F>
  void pages(F visit) const {  // those that are not all zeros
    static const char zeros[kPage] = {};
    const char* begin = reinterpret_cast<const char*>(data_);
    for (size_t at = 0; at < size_ * sizeof(T); at += kPage)
      if (std::memcmp(begin + at, zeros, page_bytes(at))) visit(at, page_bytes(at));
  }

  size_t size_;
  void* room_;
  T* data_;
};

}  // namespace slm::induction
