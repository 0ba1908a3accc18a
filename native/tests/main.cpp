// Runs the tests of the native core: all of them, or those whose name contains an argument.
//   native_tests [--isa NAME] [part of a name ...]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "check.h"
#include "solomonic.h"

namespace check {

namespace {
constexpr int kShown = 10;  // failures of one test that are printed
int failures = 0;           // of the running test
}  // namespace

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

std::vector<std::string>& notes() {
  static std::vector<std::string> all;
  return all;
}

void fail(const char* file, int line, const std::string& text) {
  if (++failures > kShown) return;
  const char* base = std::strrchr(file, '/');
  std::string where;
  for (const std::string& note : notes()) where += " [" + note + "]";
  std::printf("%s:%d:%s %s\n", base ? base + 1 : file, line, where.c_str(), text.c_str());
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double top = 1e-30, apart = 0;
  for (size_t i = 0; i < a.size(); i++) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    top = std::max(top, std::fabs(double(a[i])));
    apart = std::max(apart, std::fabs(double(a[i]) - double(b[i])));
  }
  return apart / top;
}

double mean_distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (!std::isfinite(distance(a, b))) return INFINITY;
  double apart = 0, all = 1e-30;
  for (size_t i = 0; i < a.size(); i++) {
    apart += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    all += double(a[i]) * a[i];
  }
  return std::sqrt(apart / all);
}

void near(const char* file, int line, const char* text, const std::vector<float>& a,
          const std::vector<float>& b, double tolerance) {
  const double apart = distance(a, b);
  if (apart > tolerance) fail(file, line, std::string(text) + ": " + show(apart) + " apart");
}

void same(const char* file, int line, const char* text, const std::vector<float>& a,
          const std::vector<float>& b) {
  if (a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin())) return;
  fail(file, line, std::string(text) + ": " + show(distance(a, b)) + " apart");
}

}  // namespace check

namespace {

bool run(const check::Test& test) {
  check::failures = 0;
  try {
    test.body();
  } catch (const std::exception& error) {
    check::fail(test.name, 0, std::string("threw ") + error.what());
  }
  std::printf("%s %s\n", check::failures ? "FAILED" : "ok    ", test.name);
  if (check::failures > check::kShown)
    std::printf("  and %d more failures\n", check::failures - check::kShown);
  std::fflush(stdout);
  return check::failures == 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<const char*> wanted;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--isa") || i + 1 == argc) {
      wanted.push_back(argv[i]);
    } else if (slm_isa_use(argv[++i]) != SLM_OK) {
      std::printf("%s\n", slm_error());
      return 2;
    }
  }
  std::printf("instruction sets: %s; using %s\n", slm_isa_list(), slm_isa());
  std::vector<check::Test> tests = check::tests();
  std::sort(tests.begin(), tests.end(), [](const check::Test& a, const check::Test& b) {
    return std::strcmp(a.name, b.name) < 0;
  });
  int passed = 0, failed = 0;
  for (const check::Test& test : tests) {
    const bool named = std::any_of(wanted.begin(), wanted.end(), [&](const char* part) {
      return std::strstr(test.name, part) != nullptr;
    });
    if (!wanted.empty() && !named) continue;
    (run(test) ? passed : failed)++;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed || !passed ? 1 : 0;
}
