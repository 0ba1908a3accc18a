// The tile layouts of weight matrices (FORMAT.md, "Tile layouts"): sizes, checks, packing, reading.
//
// Every instruction set reads the same bytes. The Python twin is compress/tiles.py.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slm {

// The numbers stand in files: never change one.
enum class MatrixFormat : int32_t {
  f32 = 0,    // floats
  q8 = 1,     // dense, 8 bits, one scale an output
  q4 = 2,     // dense, 4 bits, one bfloat16 scale for 64 inputs of an output
  q4r = 3,    // dense, 4 bits, one scale an output
  s24_4 = 4,  // two of every four inputs, 4 bits, one scale an output
  s24_8 = 5,  // two of every four inputs, 8 bits
  v16_4 = 6,  // vectors of 16 outputs by one input, 4 bits, one scale an output
  v16_8 = 7,  // the same, 8 bits
  bf16 = 8,   // bfloat16; in memory only
};

// Weights that lie in somebody else's memory, which must outlive what is made of it. Best aligned
// to 64 bytes, and readable only within `bytes`.
struct MatrixView {
  MatrixFormat format = MatrixFormat::f32;
  int outputs = 0, inputs = 0;
  const void* data = nullptr;
  size_t bytes = 0;
  const void* scales = nullptr;
  size_t scale_bytes = 0;
};

// More inputs could overflow a sum of 32 bits.
constexpr int kMostInputs = 65536;

const char* name_of(MatrixFormat format);
// False when there is no format of this number, or none of this name.
bool is_format(int32_t number);
bool format_of(const char* name, MatrixFormat& format);
// Whether levels are nibbles; whether there is one scale an output (all but f32, bf16 and q4).
bool is_nibble(MatrixFormat format);
bool has_row_scales(MatrixFormat format);

// Bytes of the data; `vectors` is only read for v16: the number of 64-byte steps that are stored.
size_t tile_bytes(MatrixFormat format, int outputs, int inputs, size_t steps = 0);
size_t tile_scale_bytes(MatrixFormat format, int outputs, int inputs);

// Throws BadArgument with what is wrong, so that no kernel can read outside or overflow.
void check_tiles(const MatrixView& view);

// Weights that are stored and so multiplied for one row of inputs, without those that fill up the
// last tile: N K for dense, N K / 2 for 2:4, 16 (or what is left of the outputs) a vector for v16.
int64_t stored_weights(const MatrixView& view);

// The levels (inputs) of one output; for quantised formats.
void tile_levels(const MatrixView& view, int output, int8_t* levels);
// Sums of the levels of every output, (outputs) filled up to a multiple of 64.
void tile_sums(const MatrixView& view, int32_t* sums);

// Levels (outputs, inputs) into tiles. `pack_bytes` says how much `out` must hold; out is zeroed.
// Throws BadArgument for levels that the format cannot hold (2:4 with three of four, nibbles
// beyond -7..7; q4 takes -8 too).
size_t pack_bytes(MatrixFormat format, const int8_t* levels, int outputs, int inputs);
void pack_tiles(MatrixFormat format, const int8_t* levels, int outputs, int inputs, void* out);
// Row scales (outputs), or for q4 group scales (outputs, ceil(inputs / 64)) that are bfloat16
// exactly or get rounded, as the tiles have them.
void pack_scales(MatrixFormat format, const float* scales, int outputs, int inputs, void* out);

}  // namespace slm
