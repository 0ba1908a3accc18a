// Matrices in tiles: exact on every instruction set, zeros skipped, broken bytes refused.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "check.h"
#include "kernels/table.h"
#include "runtime/error.h"
#include "runtime/matrix.h"
#include "toy.h"

using namespace toy;
using slm::MatrixFormat;

namespace {

constexpr MatrixFormat kFormats[] = {MatrixFormat::q8,    MatrixFormat::q4,    MatrixFormat::q4r,
                                     MatrixFormat::s24_4, MatrixFormat::s24_8, MatrixFormat::v16_4,
                                     MatrixFormat::v16_8};
constexpr int kSizes[][2] = {{1, 1},   {1, 200}, {200, 1},  {64, 64},   {63, 31},
                             {65, 33}, {130, 100}, {17, 5}, {16, 640}, {100, 1025}};

enum class Zeros { none, half, all };

bool is_vectors(MatrixFormat f) { return f == MatrixFormat::v16_4 || f == MatrixFormat::v16_8; }
bool is_two_of_four(MatrixFormat f) { return f == MatrixFormat::s24_4 || f == MatrixFormat::s24_8; }

// A matrix with its levels, its tiles and the memory they lie in.
struct Packed {
  int outputs, inputs;
  std::vector<int8_t> levels;
  Floats scales;  // one an output, or one for 64 inputs of it
  std::vector<char> data, scale_data;
  slm::MatrixView view;

  Packed(MatrixFormat format, int n, int k, Zeros zeros = Zeros::half, uint64_t seed = 1)
      : outputs(n), inputs(k), levels(size_t(n) * size_t(k)) {
    Random random(seed * 1000003 + uint64_t(n * 1000 + k));
    const int top = slm::is_nibble(format) ? 7 : 127;
    const Floats draws = floats(random, int64_t(n) * k, 1), order = floats(random, int64_t(n) * k, 1);
    const Floats keep = floats(random, int64_t(n / 16 + 1) * k, 1);
    for (int o = 0; o < n; o++)
      for (int i = 0; i < k; i++) {
        const size_t at = size_t(o) * size_t(k) + size_t(i);
        int level = int(std::lrint(std::fmod(double(draws[at]) * 1000, double(top + 1))));
        level = std::max(-top, std::min(top, level));
        if (zeros == Zeros::none && level == 0) level = 1;
        if (is_two_of_four(format)) {  // the two of four that are drawn first stay
          int before = 0;
          for (int j = i / 4 * 4; j < std::min(k, i / 4 * 4 + 4); j++)
            before += order[at - size_t(i) + size_t(j)] < order[at];
          if (before >= 2) level = 0;
        }
        if (is_vectors(format) && zeros == Zeros::half &&
            keep[size_t(o / 16) * size_t(k) + size_t(i)] < 0)
          level = 0;
        levels[at] = int8_t(zeros == Zeros::all ? 0 : level);
      }
    const int groups = format == MatrixFormat::q4 ? (k + 63) / 64 : 1;
    scales = floats(random, int64_t(n) * groups, 1);
    for (float& s : scales) {
      uint32_t bits;
      s = std::fabs(s) + 0.01f;
      std::memcpy(&bits, &s, 4);
      bits &= 0xffff0000u;
      std::memcpy(&s, &bits, 4);
    }
    data.resize(slm::pack_bytes(format, levels.data(), n, k));
    slm::pack_tiles(format, levels.data(), n, k, data.data());
    scale_data.resize(slm::tile_scale_bytes(format, n, k));
    slm::pack_scales(format, scales.data(), n, k, scale_data.data());
    view = {format, n, k, data.data(), data.size(), scale_data.data(), scale_data.size()};
  }
};

template <class Body>
void each(const Body& body) {
  const std::string before = slm_isa();
  std::istringstream all(slm_isa_list());
  for (std::string name; all >> name;) {
    NOTE(name);
    must(slm_isa_use(name.c_str()));
    body();
  }
  must(slm_isa_use(before.c_str()));
}

// The product in integers, with the same few roundings as the kernels: bit for bit.
Floats reference(const Packed& m, const Floats& x, int rows) {
  Floats y(size_t(rows) * size_t(m.outputs), 0);
  const bool grouped = m.view.format == MatrixFormat::q4;
  const int group = grouped ? 64 : std::max(m.inputs, 1), groups = (m.inputs + group - 1) / group;
  for (int row = 0; row < rows; row++) {
    const float* from = x.data() + int64_t(row) * m.inputs;
    volatile float top = 0;
    for (int k = 0; k < m.inputs; k++) top = std::max(float(top), std::fabs(from[k]));
    const volatile float inverse = top > 0 ? 127.0f / top : 0.0f, size = top / 127.0f;
    for (int n = 0; n < m.outputs; n++) {
      volatile float total = 0;
      for (int g = 0; g < groups; g++) {
        int64_t sum = 0;
        for (int k = g * group; k < std::min(m.inputs, (g + 1) * group); k++) {
          const volatile float scaled = from[k] * inverse;
          sum += int64_t(std::nearbyint(scaled)) * m.levels[size_t(n) * size_t(m.inputs) + size_t(k)];
        }
        if (grouped) {
          const volatile float part = float(sum) * m.scales[size_t(n) * size_t(groups) + size_t(g)];
          total = total + part;
        } else {
          const volatile float scale = size * m.scales[size_t(n)];
          total = float(sum) * scale;
        }
      }
      y[size_t(row) * size_t(m.outputs) + size_t(n)] = grouped ? total * size : float(total);
    }
  }
  return y;
}

std::string text_of(const Packed& m) {
  return std::string(slm::name_of(m.view.format)) + " " + std::to_string(m.outputs) + " x " +
         std::to_string(m.inputs);
}

// What Matrix::view says about broken tiles; empty when it takes them.
std::string refusal(const slm::MatrixView& view) {
  try {
    slm::Matrix::view(view);
  } catch (const slm::BadArgument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST(packed_products_are_exact_on_every_instruction_set) {
  slm::Threads team(1);
  for (MatrixFormat format : kFormats)
    for (const auto& size : kSizes)
      for (Zeros zeros : {Zeros::none, Zeros::half, Zeros::all}) {
        const Packed m(format, size[0], size[1], zeros);
        NOTE(text_of(m) + ", zeros " + std::to_string(int(zeros)));
        const slm::Matrix matrix = slm::Matrix::view(m.view);
        for (int rows : {1, 2, 3, 4, 5, 7, 8, 13}) {
          if (rows > 2 && (zeros != Zeros::half || size[1] > 1000)) continue;
          NOTE(std::to_string(rows) + " rows");
          Random random(uint64_t(rows * 31 + size[1]));
          const Floats x = floats(random, int64_t(rows) * m.inputs, 2);
          const Floats exact = reference(m, x, rows);
          Floats more = exact;
          for (float& value : more) value += 1;
          each([&] {
            slm::InputBuffer buffer;
            const slm::Input input =
                buffer.fill(matrix.input_kind(), x.data(), m.inputs, rows, m.inputs, team);
            Floats y(exact.size(), NAN), added(exact.size(), 1);
            matrix.multiply(input, y.data(), m.outputs, false, team);
            matrix.multiply(input, added.data(), m.outputs, true, team);
            CHECK_SAME(exact, y);
            CHECK_SAME(more, added);
          });
        }
      }
}

TEST(packed_products_on_two_threads) {
  slm::Threads one(1), two(2);
  for (MatrixFormat format : kFormats) {
    const Packed m(format, 300, 400);
    NOTE(text_of(m));
    const slm::Matrix matrix = slm::Matrix::view(m.view);
    Random random(5);
    const Floats x = floats(random, 3 * m.inputs, 2);
    slm::InputBuffer buffer;
    const slm::Input input = buffer.fill(matrix.input_kind(), x.data(), m.inputs, 3, m.inputs, one);
    Floats a(900, NAN), b(900, NAN);
    matrix.multiply(input, a.data(), m.outputs, false, one);
    matrix.multiply(input, b.data(), m.outputs, false, two);
    CHECK_SAME(a, b);
  }
}

TEST(packed_rows_come_back) {
  for (MatrixFormat format : kFormats)
    for (const auto& size : kSizes) {
      const Packed m(format, size[0], size[1]);
      NOTE(text_of(m));
      const slm::Matrix matrix = slm::Matrix::view(m.view);
      const int groups = format == MatrixFormat::q4 ? (m.inputs + 63) / 64 : 1;
      for (int n = 0; n < m.outputs; n += 13) {
        Floats row(size_t(m.inputs), NAN), want;
        matrix.row(n, row.data());
        for (int k = 0; k < m.inputs; k++)
          want.push_back(m.scales[size_t(n * groups + (groups > 1 ? k / 64 : 0))] *
                         float(m.levels[size_t(n) * size_t(m.inputs) + size_t(k)]));
        CHECK_SAME(want, row);
      }
    }
}

TEST(empty_packed_matrices) {
  slm::Threads team(1);
  for (MatrixFormat format : kFormats)
    for (const auto& size : {std::pair<int, int>{0, 5}, {5, 0}, {0, 0}}) {
      const Packed m(format, size.first, size.second);
      NOTE(text_of(m));
      const slm::Matrix matrix = slm::Matrix::view(m.view);
      CHECK_EQUAL(matrix.empty(), size.first == 0);
      const Floats x(10, 1);
      each([&] {
        slm::InputBuffer buffer;
        Floats y(6, 7);
        matrix.multiply(buffer.fill(matrix.input_kind(), x.data(), m.inputs, 1, m.inputs, team),
                        y.data(), m.outputs, false, team);
        for (int n = 0; n < 6; n++) CHECK_EQUAL(y[size_t(n)], n < m.outputs ? 0.0f : 7.0f);
      });
    }
}

TEST(extreme_levels_do_not_overflow) {
  slm::Threads team(1);
  for (MatrixFormat format : {MatrixFormat::q8, MatrixFormat::q4r, MatrixFormat::v16_4,
                              MatrixFormat::v16_8})
    for (float sign : {1.0f, -1.0f}) {
      Packed m(format, 16, slm::kMostInputs, Zeros::none);
      NOTE(text_of(m));
      std::fill(m.levels.begin(), m.levels.end(), int8_t(slm::is_nibble(format) ? 7 : 127));
      m.data.assign(slm::pack_bytes(format, m.levels.data(), 16, m.inputs), 0);
      slm::pack_tiles(format, m.levels.data(), 16, m.inputs, m.data.data());
      m.view.data = m.data.data();
      const slm::Matrix matrix = slm::Matrix::view(m.view);
      const Floats x(size_t(m.inputs), sign);
      const Floats exact = reference(m, x, 1);
      each([&] {
        slm::InputBuffer buffer;
        Floats y(16, NAN);
        matrix.multiply(buffer.fill(matrix.input_kind(), x.data(), m.inputs, 1, m.inputs, team),
                        y.data(), 16, false, team);
        CHECK_SAME(exact, y);
      });
    }
}

TEST(zeros_are_not_multiplied) {
  slm::Threads team(1);
  const Floats x(3 * 256, 1);
  for (MatrixFormat format : kFormats) {
    Packed m(format, 128, 256, Zeros::none);
    if (is_vectors(format)) {  // every fourth vector stays
      for (int n = 0; n < 128; n++)
        for (int k = 0; k < 256; k++)
          if (k % 4) m.levels[size_t(n * 256 + k)] = 0;
      m.data.resize(slm::pack_bytes(format, m.levels.data(), 128, 256));
      slm::pack_tiles(format, m.levels.data(), 128, 256, m.data.data());
      m.view.data = m.data.data();
      m.view.bytes = m.data.size();
    }
    NOTE(text_of(m));
    const int64_t share = is_vectors(format) ? 4 : is_two_of_four(format) ? 2 : 1;
    const slm::Matrix matrix = slm::Matrix::view(m.view);
    CHECK_EQUAL(matrix.stored(), 128 * 256 / share);
    each([&] {
      slm::InputBuffer buffer;
      Floats y(3 * 128, 0);
      const slm::Input input = buffer.fill(matrix.input_kind(), x.data(), 256, 3, 256, team);
      slm::count_macs(true);
      matrix.multiply(input, y.data(), 128, false, team);
      const slm::MacCount count = slm::mac_count();
      slm::count_macs(false);
      matrix.multiply(input, y.data(), 128, false, team);
      CHECK_EQUAL(count.dense, int64_t(3) * 128 * 256);
      CHECK_EQUAL(count.stored, count.dense / share);
      CHECK_EQUAL(count.executed, count.stored);  // these sizes have whole tiles only
      CHECK_EQUAL(slm::mac_count().executed, count.executed);
    });
  }
}

TEST(broken_tiles_are_refused) {
  for (MatrixFormat format : kFormats) {
    NOTE(slm::name_of(format));
    const Packed m(format, 40, 100);
    CHECK_EQUAL(refusal(m.view), std::string());
    for (int wrong = 0; wrong < 6; wrong++) {
      NOTE(std::to_string(wrong));
      slm::MatrixView view = m.view;
      if (wrong == 0) view.bytes -= 1;
      if (wrong == 1) view.bytes = 3;
      if (wrong == 2) view.scale_bytes += 4;
      if (wrong == 3) view.inputs = -1;
      if (wrong == 4) view.inputs = slm::kMostInputs + 1;
      if (wrong == 5) view.outputs = 400;
      CHECK(refusal(view).find(slm::name_of(format)) != std::string::npos);
    }
    slm::MatrixView view = m.view;
    view.format = MatrixFormat(77);
    CHECK(refusal(view).find("77") != std::string::npos);
    if (format != MatrixFormat::q4) {  // the level whose negative does not fit
      Packed broken(format, 40, 100);
      const size_t at = is_vectors(format) ? 128 : broken.data.size() - 1;
      broken.data[at] = slm::is_nibble(format) ? char(0x88) : char(0x80);
      CHECK(refusal(broken.view).find("level") != std::string::npos);
    }
  }
  Packed vectors(MatrixFormat::v16_4, 40, 100);
  vectors.data[64 + 15] = char(0x80);  // a bit behind the last input
  CHECK(refusal(vectors.view).find("behind") != std::string::npos);
  Packed moved(MatrixFormat::v16_4, 40, 100);
  moved.data[4] = char(moved.data[4] + 1);
  CHECK(refusal(moved.view).find("block 1") != std::string::npos);
  const std::vector<int8_t> three = {1, 2, 3, 0};
  std::vector<char> out(slm::pack_bytes(MatrixFormat::s24_4, three.data(), 1, 4));
  bool refused = false;
  try {
    slm::pack_tiles(MatrixFormat::s24_4, three.data(), 1, 4, out.data());
  } catch (const slm::BadArgument&) {
    refused = true;
  }
  CHECK(refused);
}
