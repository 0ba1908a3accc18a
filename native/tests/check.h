// The test harness: TEST(name) { ... } registers itself, CHECK reports and goes on.
//
// A failed CHECK prints the file, the line, what was claimed and what is so; a test fails when one
// of its checks does. NOTE(text) says in what case the checks of this scope are (a seed, a type of
// weights): it is printed with a failure only.
#pragma once

#include <cmath>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  void (*body)();
};

std::vector<Test>& tests();
std::vector<std::string>& notes();
void fail(const char* file, int line, const std::string& text);

struct Register {
  Register(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

struct Note {
  explicit Note(const std::string& text) { notes().push_back(text); }
  ~Note() { notes().pop_back(); }
};

template <class T>
std::string show(const T& value) {
  std::ostringstream out;
  out.precision(9);
  out << value;
  return out.str();
}

template <class A, class B>
void equal(const char* file, int line, const char* text, const A& a, const B& b) {
  if (!(a == b)) fail(file, line, std::string(text) + ": " + show(a) + " is not " + show(b));
}

// How far `b` lies from `a`, as a part of the largest number of `a`; infinite when one is not
// finite.
double distance(const std::vector<float>& a, const std::vector<float>& b);
// The same in the mean: root of the sum of squares of the difference over that of `a`.
double mean_distance(const std::vector<float>& a, const std::vector<float>& b);

void near(const char* file, int line, const char* text, const std::vector<float>& a,
          const std::vector<float>& b, double tolerance);
void same(const char* file, int line, const char* text, const std::vector<float>& a,
          const std::vector<float>& b);

}  // namespace check

#define CHECK_JOIN2(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN2(a, b)

#define TEST(name)                                                \
  static void test_##name();                                      \
  static const check::Register register_##name(#name, test_##name); \
  static void test_##name()

#define NOTE(text) const check::Note CHECK_JOIN(note_, __LINE__)(text)
#define CHECK(condition) \
  do {                   \
    if (!(condition)) check::fail(__FILE__, __LINE__, #condition " does not hold"); \
  } while (0)
#define CHECK_EQUAL(a, b) check::equal(__FILE__, __LINE__, #a " == " #b, a, b)
// Vectors of floats: bit for bit, or within a part of the largest.
#define CHECK_SAME(a, b) check::same(__FILE__, __LINE__, #a " same as " #b, a, b)
#define CHECK_NEAR(a, b, tolerance) \
  check::near(__FILE__, __LINE__, #a " near " #b, a, b, tolerance)
