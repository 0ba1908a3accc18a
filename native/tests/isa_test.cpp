// Every instruction set this machine has computes the same: whole models, and each kernel alone.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "check.h"
#include "kernels/table.h"
#include "runtime/matrix.h"
#include "toy.h"

using namespace toy;

namespace {

std::vector<std::string> names() {
  std::istringstream all(slm_isa_list());
  std::vector<std::string> out;
  for (std::string name; all >> name;) out.push_back(name);
  return out;
}

// Runs body once for each instruction set, and then goes back to the one in use before.
template <class Body>
void each(const Body& body) {
  const std::string before = slm_isa();
  for (const std::string& name : names()) {
    NOTE(name);
    must(slm_isa_use(name.c_str()));
    CHECK_EQUAL(std::string(slm_isa()), name);
    body();
  }
  must(slm_isa_use(before.c_str()));
}

// How many numbers: shorter, as long and longer than every vector there is.
constexpr int kCounts[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 67, 130};

Floats doubled(const std::vector<double>& x) { return Floats(x.begin(), x.end()); }
double silu(double x) { return x / (1 + std::exp(-x)); }

// Levels of the dynamic quantisation of one row, and the size of one level.
std::vector<double> rounded(const Floats& x, slm_weights weights) {
  float top = 0;
  for (float value : x) top = std::max(top, std::fabs(value));
  std::vector<double> out;
  for (float value : x) {
    if (weights == SLM_F32) {
      out.push_back(value);
    } else if (weights == SLM_BF16) {
      uint32_t bits;
      std::memcpy(&bits, &value, 4);
      bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
      std::memcpy(&value, &bits, 4);
      out.push_back(value);
    } else {
      out.push_back(std::nearbyint(value * (127.0f / top)) * double(top) / 127);
    }
  }
  return out;
}

}  // namespace

TEST(the_list_begins_with_the_one_in_use_by_default_and_ends_with_generic) {
  CHECK(!names().empty());
  CHECK_EQUAL(names().back(), std::string("generic"));
  CHECK(slm_isa_use("sse9") == SLM_BAD_ARGUMENT);
  CHECK(std::strstr(slm_error(), "sse9") && std::strstr(slm_error(), slm_isa_list()));
  CHECK(slm_isa_use(nullptr) == SLM_BAD_ARGUMENT);
}

TEST(models_agree_on_every_instruction_set) {
  for (const Case& one : cases())
    for (slm_weights weights : kWeights) {
      // In more layers a rounded activation may fall the other way and change what is kept.
      if (weights != SLM_F32 && std::strlen(one.config.layers) > 2) continue;
      NOTE(one.name + ", " + name_of(weights));
      const Model model = make(one.config, weights);
      Random random(21);
      const Tokens text = tokens(random, 90, one.config), more = tokens(random, 10, one.config);
      std::vector<Floats> found;
      each([&] {
        const Context reader = context(model);
        const Stream mine = stream(model);
        Floats logits = read(reader, mine, text, one.config.vocab_size);
        for (int32_t token : more) {
          const Floats row = step(reader, {mine.get()}, {token}, one.config.vocab_size);
          logits.insert(logits.end(), row.begin(), row.end());
        }
        found.push_back(logits);
      });
      for (const Floats& logits : found)
        CHECK_NEAR(found.back(), logits, weights == SLM_F32 ? 2e-4 : 3e-2);
    }
}

TEST(a_stream_begun_on_one_instruction_set_goes_on_on_another) {
  for (slm_weights weights : {SLM_F32, SLM_INT8}) {
    const Case one = cases()[5];
    const Model model = make(one.config, weights);
    const Context reader = context(model);
    const Stream whole = stream(model), mixed = stream(model);
    Random random(22);
    each([&] {
      const Tokens text = tokens(random, 11, one.config);
      const Floats a = read(reader, mixed, text, one.config.vocab_size);
      const std::string mine = slm_isa();
      must(slm_isa_use("generic"));
      const Floats b = read(reader, whole, text, one.config.vocab_size);
      must(slm_isa_use(mine.c_str()));
      CHECK_NEAR(b, a, weights == SLM_F32 ? 2e-4 : 3e-2);
    });
  }
}

TEST(matrix_products) {
  slm::Threads team(1);
  const int sizes[][2] = {{1, 1},  {3, 5},   {64, 4},  {63, 7},    {65, 8},    {130, 63},
                          {5, 64}, {70, 65}, {64, 130}, {100, 600}, {33, 1100}};
  for (slm_weights weights : kWeights)
    for (const auto& size : sizes)
      for (int rows : {1, 2, 3, 4, 5, 6, 7, 13}) {
        const int outputs = size[0], inputs = size[1];
        NOTE(std::string(name_of(weights)) + ", " + std::to_string(rows) + " x " +
             std::to_string(inputs) + " x " + std::to_string(outputs));
        Random random(uint64_t(rows * 7919 + inputs * 131 + outputs));
        const slm::Matrix matrix(weights, outputs, inputs,
                                 floats(random, int64_t(outputs) * inputs).data());
        const Floats x = floats(random, int64_t(rows) * inputs, 2);
        std::vector<double> exact;
        Floats unpacked(static_cast<size_t>(inputs));
        std::vector<std::vector<double>> left;
        for (int row = 0; row < rows; row++)
          left.push_back(
              rounded(Floats(x.begin() + row * inputs, x.begin() + (row + 1) * inputs), weights));
        for (int row = 0; row < rows; row++)
          for (int n = 0; n < outputs; n++) {
            matrix.row(n, unpacked.data());
            double sum = 0;
            for (int k = 0; k < inputs; k++)
              sum += left[size_t(row)][size_t(k)] * unpacked[size_t(k)];
            exact.push_back(sum);
          }
        std::vector<Floats> found;
        each([&] {
          slm::InputBuffer buffer;
          const slm::Input input = buffer.fill(weights, x.data(), inputs, rows, inputs, team);
          Floats y(exact.size(), NAN), added(exact.size(), 1);
          matrix.multiply(input, y.data(), outputs, false, team);
          matrix.multiply(input, added.data(), outputs, true, team);
          CHECK_NEAR(doubled(exact), y, 1e-5);
          for (size_t i = 0; i < y.size(); i++) added[i] -= 1;
          CHECK_NEAR(y, added, 1e-5);
          found.push_back(y);
        });
        // Sums of integers have no order; with one group 4 bit has only one of them.
        if (weights == SLM_INT8 || (weights == SLM_INT4 && inputs <= slm::kGroup))
          for (const Floats& y : found) CHECK_SAME(found.back(), y);
      }
}

TEST(one_row_is_multiplied_like_many) {
  slm::Threads team(1);
  for (slm_weights weights : kWeights)
    for (int inputs : {1, 3, 64, 65, 513, 1100}) {
      NOTE(std::string(name_of(weights)) + ", " + std::to_string(inputs) + " inputs");
      constexpr int rows = 13, outputs = 70;
      Random random{uint64_t(inputs)};
      const slm::Matrix matrix(weights, outputs, inputs,
                               floats(random, int64_t(outputs) * inputs).data());
      const Floats x = floats(random, int64_t(rows) * inputs, 2);
      each([&] {
        slm::InputBuffer buffer;
        Floats together(rows * outputs, NAN), alone(rows * outputs, NAN);
        matrix.multiply(buffer.fill(weights, x.data(), inputs, rows, inputs, team),
                        together.data(), outputs, false, team);
        for (int row = 0; row < rows; row++)
          matrix.multiply(buffer.fill(weights, &x[size_t(row * inputs)], inputs, 1, inputs, team),
                          &alone[size_t(row * outputs)], outputs, false, team);
        if (weights == SLM_INT8 || weights == SLM_INT4) CHECK_SAME(together, alone);
        else CHECK_NEAR(together, alone, 2e-6);
      });
    }
}

TEST(small_products) {
  for (int m : {1, 2, 3, 6, 7, 13})
    for (int n : {1, 3, 8, 17, 64, 70})
      for (int turned : {0, 1}) {
        const int k = 19;
        NOTE(std::to_string(m) + " x " + std::to_string(n));
        Random random(uint64_t(m * 100 + n));
        const Floats a = floats(random, m * k), b = floats(random, int64_t(k) * n);
        std::vector<double> exact(size_t(m * n), 0);
        for (int i = 0; i < m; i++)
          for (int j = 0; j < n; j++)
            for (int p = 0; p < k; p++)
              exact[size_t(i * n + j)] += double(a[size_t(turned ? p * m + i : i * k + p)]) *
                                          b[size_t(p * n + j)];
        each([&] {
          Floats c(size_t(m * n), NAN);
          slm::SmallProduct product = {m, n, k, a.data(), turned ? 1 : k, turned ? m : 1,
                                       b.data(), n, c.data(), n, false};
          slm::kernels().product_small(product);
          CHECK_NEAR(doubled(exact), c, 1e-5);
          product.add = true;
          slm::kernels().product_small(product);
          for (float& value : c) value /= 2;
          CHECK_NEAR(doubled(exact), c, 1e-5);
        });
      }
}

TEST(rows) {
  for (int n : kCounts) {
    NOTE(std::to_string(n) + " numbers");
    Random random{uint64_t(n)};
    const Floats a = floats(random, n, 3), b = floats(random, n, 2);
    std::vector<double> normed, gated, product, exps, sum;
    double squares = 0, gated_squares = 0, apart = 0;
    for (size_t i = 0; i < a.size(); i++) {
      squares += double(a[i]) * a[i];
      gated_squares += std::pow(a[i] * silu(b[i]), 2);
      apart += std::pow(double(a[i]) - b[i], 2);
    }
    for (size_t i = 0; i < a.size(); i++) {
      normed.push_back(a[i] / std::sqrt(squares / n + 1e-5) * b[i]);
      gated.push_back(a[i] * silu(b[i]) / std::sqrt(gated_squares / n + 1e-5) * b[i]);
      product.push_back(silu(a[i]) * b[i]);
      exps.push_back(std::exp(double(a[i])));
      sum.push_back(b[i] + 0.5 * a[i]);
    }
    each([&] {
      const slm::Kernels& k = slm::kernels();
      Floats out(size_t(n), NAN);
      k.rms_norm(a.data(), nullptr, b.data(), 1e-5f, n, out.data());
      CHECK_NEAR(doubled(normed), out, 1e-6);
      k.rms_norm(a.data(), b.data(), b.data(), 1e-5f, n, out.data());
      CHECK_NEAR(doubled(gated), out, 2e-6);
      k.silu_product(a.data(), b.data(), n, out.data());
      CHECK_NEAR(doubled(product), out, 1e-6);
      k.exp_n(a.data(), n, out.data());
      CHECK_NEAR(doubled(exps), out, 1e-6);
      out = b;
      k.axpy(0.5f, a.data(), n, out.data());
      CHECK_NEAR(doubled(sum), out, 1e-6);
      CHECK_NEAR(Floats{float(squares)}, Floats{k.squared_norm(a.data(), n)}, 1e-6);
      CHECK_NEAR(Floats{float(apart)}, Floats{k.squared_distance(a.data(), b.data(), n)}, 1e-6);
      CHECK_EQUAL(k.maximum(a.data(), n), *std::max_element(a.begin(), a.end()));
    });
  }
}

TEST(attention_rows) {
  for (int n : kCounts) {
    NOTE(std::to_string(n) + " keys");
    constexpr int d = 10, ld = 13;
    Random random{uint64_t(n) + 500};
    const Floats q = floats(random, d), keys = floats(random, n * ld);
    std::vector<double> scores, weights, mixed(d, 0);
    double total = 0;
    for (int j = 0; j < n; j++) {
      double s = 0;
      for (int i = 0; i < d; i++) s += double(q[size_t(i)]) * keys[size_t(j * ld + i)];
      scores.push_back(3 * s);
      if (j % 3 != 1) total += std::exp(3 * s);  // every third key is struck out
    }
    for (int j = 0; j < n; j++)
      weights.push_back(j % 3 == 1 ? 0 : std::exp(scores[size_t(j)]) / total);
    for (int j = 0; j < n; j++)
      for (int i = 0; i < d; i++) mixed[size_t(i)] += weights[size_t(j)] * keys[size_t(j * ld + i)];
    each([&] {
      const slm::Kernels& k = slm::kernels();
      Floats found(size_t(n), NAN), out(d, 0);
      k.scores(q.data(), keys.data(), ld, n, d, 3, found.data());
      CHECK_NEAR(doubled(scores), found, 1e-5);
      for (int j = 1; j < n; j += 3) found[size_t(j)] = -INFINITY;
      k.softmax(found.data(), n);
      CHECK_NEAR(doubled(weights), found, 1e-5);
      k.mix(found.data(), keys.data(), ld, n, d, out.data());
      CHECK_NEAR(doubled(mixed), out, 1e-5);
      Floats nothing(size_t(n), -INFINITY);
      CHECK_EQUAL(k.softmax(nothing.data(), n), 0.0f);
      CHECK_SAME(Floats(size_t(n), 0), nothing);
    });
  }
}

TEST(exponentials_at_the_ends) {
  const Floats x = {0, 1, -1, 88, -87, 89, 1000, -88, -1000, -INFINITY};
  each([&] {
    Floats out(x.size(), NAN);
    slm::kernels().exp_n(x.data(), int(x.size()), out.data());
    for (size_t i = 0; i < 5; i++)
      CHECK(std::fabs(out[i] / std::exp(double(x[i])) - 1) < 3e-7);
    for (size_t i = 5; i < 7; i++) CHECK(std::isfinite(out[i]) && out[i] > 1e38f);
    for (size_t i = 7; i < x.size(); i++) CHECK_EQUAL(out[i], 0.0f);
  });
}

TEST(bfloat16_rounds_to_nearest_even) {
  const Floats x = {1, -1, 1.00390625f, 1.01171875f, 3.4e38f, INFINITY, NAN, 1e-40f, 0.1f};
  each([&] {
    std::vector<uint16_t> out(x.size() + 1, 1);
    slm::kernels().round_bf16(x.data(), int(x.size()), out.data());
    CHECK_EQUAL(out[0], 0x3f80);
    CHECK_EQUAL(out[1], 0xbf80);
    CHECK_EQUAL(out[2], 0x3f80);  // half way, to the even one below
    CHECK_EQUAL(out[3], 0x3f82);  // half way, to the even one above
    CHECK_EQUAL(out[4], 0x7f80);  // beyond the largest
    CHECK_EQUAL(out[5], 0x7f80);
    CHECK((out[6] & 0x7f80) == 0x7f80 && (out[6] & 0x7f));
    CHECK_EQUAL(out[8], 0x3dcd);
    CHECK_EQUAL(out[9], 0);  // an odd count is filled up
  });
}
