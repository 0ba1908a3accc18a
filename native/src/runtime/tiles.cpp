// Tile layouts: sizes, checks, packing and reading. Products are in kernels/packed.h.
#include "tiles.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "error.h"
#include "kernels/table.h"

namespace slm {

namespace {

constexpr int kVector = 16;  // outputs of a v16 block
constexpr size_t kAlign = 64;
constexpr const char* kNames[] = {"f32",   "q8",    "q4",    "q4r", "s24_4",
                                  "s24_8", "v16_4", "v16_8", "bf16"};

int64_t over(int64_t value, int64_t step) { return (value + step - 1) / step; }
size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
int64_t panels_of(int outputs) { return over(outputs, kPanel); }
int64_t groups_of(int inputs) { return over(inputs, kGroup); }
int signed_nibble(int nibble) { return ((nibble & 15) ^ 8) - 8; }

bool is_vectors(MatrixFormat f) { return f == MatrixFormat::v16_4 || f == MatrixFormat::v16_8; }
bool is_two_of_four(MatrixFormat f) { return f == MatrixFormat::s24_4 || f == MatrixFormat::s24_8; }
int vectors_a_step(MatrixFormat f) { return f == MatrixFormat::v16_4 ? 8 : 4; }
// 32-bit words an output has in 32 inputs of 2:4: places, then values.
int words_of(MatrixFormat f) { return f == MatrixFormat::s24_4 ? 3 : 5; }

// Where the parts of a v16 matrix lie.
struct Vectors {
  int64_t blocks, words;  // blocks of 16 outputs, 64-bit words of bits a block
  size_t maps, values;    // offsets in bytes
  Vectors(int outputs, int inputs)
      : blocks(over(outputs, kVector)),
        words(over(inputs, 64)),
        maps(aligned(size_t(blocks + 1) * 4)),
        values(maps + aligned(size_t(blocks) * size_t(words) * 8)) {}
};

template <class T>
T read_at(const void* data, size_t offset) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + offset, sizeof value);
  return value;
}

// see(output, input, level) for every stored level in the order of memory, also of those that fill
// up the last tile; only the stored ones of v16.
template <class See>
void visit(const MatrixView& v, const See& see) {
  const auto* bytes = static_cast<const uint8_t*>(v.data);
  const int panels = int(panels_of(v.outputs));
  switch (v.format) {
    case MatrixFormat::q8: {
      const int steps = int(over(v.inputs, 4));
      for (int p = 0; p < panels; p++)
        for (int s = 0; s < steps; s++)
          for (int o = 0; o < kPanel; o++)
            for (int j = 0; j < 4; j++) see(p * kPanel + o, 4 * s + j, int(int8_t(*bytes++)));
      return;
    }
    case MatrixFormat::q4:
    case MatrixFormat::q4r: {
      const int steps = int(over(v.inputs, 8)), flip = v.format == MatrixFormat::q4 ? 8 : 0;
      for (int p = 0; p < panels; p++)
        for (int s = 0; s < steps; s++)
          for (int o = 0; o < kPanel; o++)
            for (int j = 0; j < 4; j++) {
              const int both = *bytes++;
              see(p * kPanel + o, 8 * s + j, signed_nibble(both ^ flip));
              see(p * kPanel + o, 8 * s + 4 + j, signed_nibble((both >> 4) ^ flip));
            }
      return;
    }
    case MatrixFormat::s24_4:
    case MatrixFormat::s24_8: {
      const int steps = int(over(v.inputs, 32)), words = words_of(v.format);
      for (int p = 0; p < panels; p++)
        for (int s = 0; s < steps; s++) {
          const uint8_t* tile = bytes + (int64_t(p) * steps + s) * words * 4 * kPanel;
          for (int o = 0; o < kPanel; o++)
            for (int d = 0; d < 4; d++)
              for (int j = 0; j < 4; j++) {
                const int place = (tile[4 * o + j] >> (2 * d)) & 3;
                const int k = 32 * s + 8 * d + (j / 2) * 4 + place;
                const int part = words == 3 ? d / 2 : d;
                const int byte = tile[(1 + part) * 4 * kPanel + 4 * o + j];
                const int level = words == 5 ? int(int8_t(byte))
                                             : signed_nibble(d % 2 ? byte >> 4 : byte);
                see(p * kPanel + o, k, level);
              }
        }
      return;
    }
    case MatrixFormat::v16_4:
    case MatrixFormat::v16_8: {
      const Vectors at(v.outputs, v.inputs);
      const int in_step = vectors_a_step(v.format);
      for (int64_t b = 0; b < at.blocks; b++) {
        const uint8_t* step = bytes + at.values + size_t(read_at<uint32_t>(bytes, b * 4)) * 64;
        int slot = 0;
        for (int64_t w = 0; w < at.words; w++) {
          uint64_t map = read_at<uint64_t>(bytes, at.maps + size_t(b * at.words + w) * 8);
          for (; map; map &= map - 1, slot++) {
            const int k = int(w * 64) + __builtin_ctzll(map), part = slot % in_step;
            const uint8_t* word = step + int64_t(slot / in_step) * 64;
            for (int o = 0; o < kVector; o++) {
              const int byte = word[4 * o + part % 4];
              const int level = in_step == 4 ? int(int8_t(byte))
                                             : signed_nibble(part < 4 ? byte : byte >> 4);
              see(int(b) * kVector + o, k, level);
            }
          }
        }
      }
      return;
    }
    default: return;
  }
}

[[noreturn]] void wrong(const MatrixView& v, const std::string& what) {
  refuse(std::string("a matrix '") + name_of(v.format) + "' of " + std::to_string(v.outputs) +
         " outputs and " + std::to_string(v.inputs) + " inputs " + what);
}

// The places, bits and sizes of a v16 matrix; bytes.size >= the smallest.
void check_vectors(const MatrixView& v) {
  const Vectors at(v.outputs, v.inputs);
  if (v.bytes < at.values)
    wrong(v, "needs " + std::to_string(at.values) + " bytes before its values, there are " +
                 std::to_string(v.bytes) + ".");
  uint64_t steps = 0;
  for (int64_t b = 0; b < at.blocks; b++) {
    if (read_at<uint32_t>(v.data, size_t(b) * 4) != steps)
      wrong(v, "has values of block " + std::to_string(b) + " at another place than its bits say.");
    int64_t count = 0;
    for (int64_t w = 0; w < at.words; w++) {
      const uint64_t map = read_at<uint64_t>(v.data, at.maps + size_t(b * at.words + w) * 8);
      count += __builtin_popcountll(map);
      const int left = v.inputs - int(w) * 64;
      if (left < 64 && map >> left) wrong(v, "has bits behind its last input.");
    }
    steps += uint64_t(over(count, vectors_a_step(v.format)));
  }
  if (read_at<uint32_t>(v.data, size_t(at.blocks) * 4) != steps)
    wrong(v, "has another number of values than its bits say.");
  if (v.bytes != at.values + size_t(steps) * 64)
    wrong(v, "needs " + std::to_string(at.values + size_t(steps) * 64) + " bytes, there are " +
                 std::to_string(v.bytes) + ".");
}

}  // namespace

const char* name_of(MatrixFormat format) { return kNames[int(format)]; }
bool is_format(int32_t number) { return number >= 0 && number <= int(MatrixFormat::bf16); }
bool format_of(const char* name, MatrixFormat& format) {
  for (int i = 0; i < int(sizeof kNames / sizeof *kNames); i++)
    if (!std::strcmp(name, kNames[i])) {
      format = MatrixFormat(i);
      return true;
    }
  return false;
}
bool is_nibble(MatrixFormat f) {
  return f == MatrixFormat::q4 || f == MatrixFormat::q4r || f == MatrixFormat::s24_4 ||
         f == MatrixFormat::v16_4;
}
bool has_row_scales(MatrixFormat f) {
  return f != MatrixFormat::f32 && f != MatrixFormat::bf16 && f != MatrixFormat::q4;
}

size_t tile_bytes(MatrixFormat format, int outputs, int inputs, size_t steps) {
  const size_t panels = size_t(panels_of(outputs)), word = size_t(kPanel) * 4;
  switch (format) {
    case MatrixFormat::f32: return panels * size_t(inputs) * word;
    case MatrixFormat::bf16: return panels * size_t(over(inputs, 2)) * word;
    case MatrixFormat::q8: return panels * size_t(over(inputs, 4)) * word;
    case MatrixFormat::q4:
    case MatrixFormat::q4r: return panels * size_t(over(inputs, 8)) * word;
    case MatrixFormat::s24_4:
    case MatrixFormat::s24_8:
      return panels * size_t(over(inputs, 32)) * size_t(words_of(format)) * word;
    default: return Vectors(outputs, inputs).values + steps * 64;
  }
}

size_t tile_scale_bytes(MatrixFormat format, int outputs, int inputs) {
  const size_t filled = size_t(panels_of(outputs)) * kPanel;
  if (has_row_scales(format)) return filled * 4;
  return format == MatrixFormat::q4 ? filled * size_t(groups_of(inputs)) * 2 : 0;
}

void check_tiles(const MatrixView& v) {
  require(is_format(int32_t(v.format)),
          "a matrix of format " + std::to_string(int32_t(v.format)) +
              " is unknown here; the file may be of a newer version.");
  if (v.outputs < 0 || v.inputs < 0) wrong(v, "has a negative size.");
  const bool real = v.format == MatrixFormat::f32 || v.format == MatrixFormat::bf16;
  if (!real && v.inputs > kMostInputs)
    wrong(v, "has more than " + std::to_string(kMostInputs) + " inputs.");
  if (is_vectors(v.format)) {
    check_vectors(v);
  } else if (v.bytes != tile_bytes(v.format, v.outputs, v.inputs)) {
    wrong(v, "needs " + std::to_string(tile_bytes(v.format, v.outputs, v.inputs)) +
                 " bytes, there are " + std::to_string(v.bytes) + ".");
  }
  const size_t scales = tile_scale_bytes(v.format, v.outputs, v.inputs);
  if (v.scale_bytes != scales)
    wrong(v, "needs " + std::to_string(scales) + " bytes of scales, there are " +
                 std::to_string(v.scale_bytes) + ".");
  if (real || v.format == MatrixFormat::q4) return;
  const int least = is_nibble(v.format) ? -8 : -128;  // whose negative does not fit
  bool fits = true;
  visit(v, [&](int, int, int level) { fits &= level != least; });
  if (!fits) wrong(v, "has a level " + std::to_string(least) + ".");
}

int64_t stored_weights(const MatrixView& v) {
  if (is_two_of_four(v.format)) return int64_t(v.outputs) * over(v.inputs, 4) * 2;
  if (!is_vectors(v.format)) return int64_t(v.outputs) * v.inputs;
  const Vectors at(v.outputs, v.inputs);
  int64_t stored = 0;
  for (int64_t b = 0; b < at.blocks; b++) {
    int64_t count = 0;
    for (int64_t w = 0; w < at.words; w++)
      count += __builtin_popcountll(
          read_at<uint64_t>(v.data, at.maps + size_t(b * at.words + w) * 8));
    stored += count * std::min<int64_t>(kVector, v.outputs - b * kVector);
  }
  return stored;
}

void tile_levels(const MatrixView& v, int n, int8_t* levels) {
  std::fill(levels, levels + v.inputs, int8_t(0));
  const auto* bytes = static_cast<const uint8_t*>(v.data);
  const int64_t panel = n / kPanel;
  const int64_t word = int64_t(n % kPanel) * 4;
  if (v.format == MatrixFormat::q8) {
    const uint8_t* from = bytes + panel * over(v.inputs, 4) * 4 * kPanel + word;
    for (int k = 0; k < v.inputs; k++) levels[k] = int8_t(from[int64_t(k / 4) * 4 * kPanel + k % 4]);
  } else if (v.format == MatrixFormat::q4 || v.format == MatrixFormat::q4r) {
    const int flip = v.format == MatrixFormat::q4 ? 8 : 0;
    const uint8_t* from = bytes + panel * over(v.inputs, 8) * 4 * kPanel + word;
    for (int k = 0; k < v.inputs; k++) {
      const int both = from[int64_t(k / 8) * 4 * kPanel + k % 4];
      levels[k] = int8_t(signed_nibble((k % 8 < 4 ? both : both >> 4) ^ flip));
    }
  } else if (is_two_of_four(v.format)) {
    const int words = words_of(v.format);
    const uint8_t* tile = bytes + panel * over(v.inputs, 32) * words * 4 * kPanel + word;
    for (int s = 0; s * 32 < v.inputs; s++, tile += words * 4 * kPanel)
      for (int d = 0; d < 4; d++)
        for (int j = 0; j < 4; j++) {
          const int k = 32 * s + 8 * d + (j / 2) * 4 + ((tile[j] >> (2 * d)) & 3);
          const int byte = tile[(1 + (words == 3 ? d / 2 : d)) * 4 * kPanel + j];
          const int level =
              words == 5 ? int(int8_t(byte)) : signed_nibble(d % 2 ? byte >> 4 : byte);
          if (k < v.inputs && level) levels[k] = int8_t(level);
        }
  } else if (is_vectors(v.format)) {
    const Vectors at(v.outputs, v.inputs);
    const int64_t b = n / kVector;
    const int in_step = vectors_a_step(v.format);
    const uint8_t* from =
        bytes + at.values + size_t(read_at<uint32_t>(bytes, size_t(b) * 4)) * 64 + n % kVector * 4;
    int slot = 0;
    for (int64_t w = 0; w < at.words; w++) {
      uint64_t map = read_at<uint64_t>(bytes, at.maps + size_t(b * at.words + w) * 8);
      for (; map; map &= map - 1, slot++) {
        const int part = slot % in_step, byte = from[int64_t(slot / in_step) * 64 + part % 4];
        levels[w * 64 + __builtin_ctzll(map)] = int8_t(
            in_step == 4 ? int(int8_t(byte)) : signed_nibble(part < 4 ? byte : byte >> 4));
      }
    }
  }
}

void tile_sums(const MatrixView& v, int32_t* sums) {
  std::fill(sums, sums + panels_of(v.outputs) * kPanel, 0);
  visit(v, [&](int output, int, int level) { sums[output] += level; });
}

namespace {

// Kept inputs of each block of 16 outputs, as bits.
std::vector<uint64_t> maps_of(const int8_t* levels, int outputs, int inputs) {
  const Vectors at(outputs, inputs);
  std::vector<uint64_t> maps(size_t(at.blocks * at.words), 0);
  for (int n = 0; n < outputs; n++)
    for (int k = 0; k < inputs; k++)
      if (levels[int64_t(n) * inputs + k])
        maps[size_t(n / kVector * at.words + k / 64)] |= uint64_t(1) << (k % 64);
  return maps;
}

int64_t steps_of(const std::vector<uint64_t>& maps, int64_t block, int64_t words, int in_step) {
  int64_t count = 0;
  for (int64_t w = 0; w < words; w++) count += __builtin_popcountll(maps[size_t(block * words + w)]);
  return over(count, in_step);
}

void put_nibble(uint8_t& byte, bool high, int level) {
  byte = high ? uint8_t((byte & 0x0f) | (level & 15) << 4) : uint8_t((byte & 0xf0) | (level & 15));
}

}  // namespace

size_t pack_bytes(MatrixFormat format, const int8_t* levels, int outputs, int inputs) {
  if (!is_vectors(format)) return tile_bytes(format, outputs, inputs);
  const Vectors at(outputs, inputs);
  const std::vector<uint64_t> maps = maps_of(levels, outputs, inputs);
  int64_t steps = 0;
  for (int64_t b = 0; b < at.blocks; b++) steps += steps_of(maps, b, at.words, vectors_a_step(format));
  return tile_bytes(format, outputs, inputs, size_t(steps));
}

void pack_tiles(MatrixFormat format, const int8_t* levels, int outputs, int inputs, void* out) {
  auto* bytes = static_cast<uint8_t*>(out);
  const size_t total = pack_bytes(format, levels, outputs, inputs);
  if (total == 0) return;  // a matrix without rows or columns may come with a null `out`
  std::memset(bytes, format == MatrixFormat::q4 ? 0x88 : 0, total);
  const int least = !is_nibble(format) ? -127 : format == MatrixFormat::q4 ? -8 : -7;
  const int most = is_nibble(format) ? 7 : 127;
  for (int64_t i = 0; i < int64_t(outputs) * inputs; i++)
    require(levels[i] >= least && levels[i] <= most,
            std::string("a level of ") + std::to_string(levels[i]) + " does not fit the format '" +
                name_of(format) + "'.");
  if (is_vectors(format)) {
    const Vectors at(outputs, inputs);
    const int in_step = vectors_a_step(format);
    const std::vector<uint64_t> maps = maps_of(levels, outputs, inputs);
    if (!maps.empty()) std::memcpy(bytes + at.maps, maps.data(), maps.size() * 8);
    uint32_t begin = 0;
    for (int64_t b = 0; b <= at.blocks; b++) {
      std::memcpy(bytes + b * 4, &begin, 4);
      if (b == at.blocks) return;
      int slot = 0;
      uint8_t* to = bytes + at.values + size_t(begin) * 64;
      for (int64_t w = 0; w < at.words; w++)
        for (uint64_t map = maps[size_t(b * at.words + w)]; map; map &= map - 1, slot++) {
          const int64_t k = w * 64 + __builtin_ctzll(map);
          const int part = slot % in_step;
          for (int o = 0; o < kVector && b * kVector + o < outputs; o++) {
            const int level = levels[(b * kVector + o) * inputs + k];
            uint8_t& byte = to[int64_t(slot / in_step) * 64 + 4 * o + part % 4];
            if (in_step == 4) byte = uint8_t(level);
            else put_nibble(byte, part >= 4, level);
          }
        }
      begin += uint32_t(over(slot, in_step));
    }
  }
  for (int n = 0; n < outputs; n++) {
    const int8_t* row = levels + int64_t(n) * inputs;
    const int64_t panel = n / kPanel, word = int64_t(n % kPanel) * 4;
    if (format == MatrixFormat::q8) {
      uint8_t* to = bytes + panel * over(inputs, 4) * 4 * kPanel + word;
      for (int k = 0; k < inputs; k++) to[int64_t(k / 4) * 4 * kPanel + k % 4] = uint8_t(row[k]);
    } else if (is_nibble(format) && !is_two_of_four(format)) {
      uint8_t* to = bytes + panel * over(inputs, 8) * 4 * kPanel + word;
      const int flip = format == MatrixFormat::q4 ? 8 : 0;
      for (int k = 0; k < inputs; k++)
        put_nibble(to[int64_t(k / 8) * 4 * kPanel + k % 4], k % 8 >= 4, row[k] ^ flip);
    } else {
      const int words = words_of(format);
      uint8_t* to = bytes + panel * over(inputs, 32) * words * 4 * kPanel + word;
      for (int quad = 0; quad * 4 < inputs; quad++) {
        uint8_t* tile = to + int64_t(quad / 8) * words * 4 * kPanel;
        const int d = quad % 8 / 2;
        int slot = 0;
        for (int i = 0; i < 4 && quad * 4 + i < inputs; i++) {
          const int level = row[quad * 4 + i];
          if (!level) continue;
          require(slot < 2, "more than two of four inputs are not zero: no 2:4 matrix.");
          const int j = quad % 2 * 2 + slot++;
          tile[j] = uint8_t(tile[j] | i << (2 * d));
          uint8_t& byte = tile[(1 + (words == 3 ? d / 2 : d)) * 4 * kPanel + j];
          if (words == 5) byte = uint8_t(level);
          else put_nibble(byte, d % 2 == 1, level);
        }
      }
    }
  }
}

void pack_scales(MatrixFormat format, const float* scales, int outputs, int inputs, void* out) {
  const size_t total = tile_scale_bytes(format, outputs, inputs);
  if (total == 0) return;
  std::memset(out, 0, total);
  if (has_row_scales(format)) {
    if (outputs) std::memcpy(out, scales, size_t(outputs) * 4);
    return;
  }
  const int64_t groups = groups_of(inputs);
  auto* to = static_cast<uint16_t*>(out);
  for (int n = 0; n < outputs; n++)
    for (int64_t g = 0; g < groups; g++) {
      uint32_t bits;
      std::memcpy(&bits, scales + n * groups + g, 4);
      to[(n / kPanel * groups + g) * kPanel + n % kPanel] =
          uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
}

}  // namespace slm
