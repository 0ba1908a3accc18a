// Puts right checksums into bytes that were changed, so that a reader looks behind them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "device/crc.h"

namespace slm {

// Wherever the bytes still name a section, a tensor or a signature within them.
inline void repair(std::string& file) {
  uint8_t* data = reinterpret_cast<uint8_t*>(&file[0]);
  const uint64_t size = file.size();
  const auto u32 = [&](uint64_t at) {
    uint32_t value;
    std::memcpy(&value, data + at, 4);
    return value;
  };
  const auto u64 = [&](uint64_t at) {
    uint64_t value;
    std::memcpy(&value, data + at, 8);
    return value;
  };
  const auto put = [&](uint64_t at, uint32_t value) { std::memcpy(data + at, &value, 4); };
  const auto within = [&](uint64_t at, uint64_t bytes) { return at <= size && bytes <= size - at; };
  if (size < 128) return;
  std::memcpy(data, "\x93SOLO\r\n\x1a\1\0\0\0", 12);
  const uint64_t directory = u64(72), directory_size = u64(80);
  if (within(directory, directory_size)) {
    uint64_t at = directory;
    const uint64_t stop = directory + directory_size;
    while (stop - at >= 80) {
      const uint64_t length = std::min<uint64_t>(data[at] | data[at + 1] << 8, stop - at - 80);
      uint32_t crc = 0;
      for (int part = 0; part < 3; part++) {
        const uint64_t offset = u64(at + 24 + 16 * part), bytes = u64(at + 32 + 16 * part);
        if (within(offset, bytes)) crc = crc32(data + offset, bytes, crc);
      }
      put(at + 72, crc);
      at += 80 + length;
    }
  }
  for (int section = 0; section < 3; section++) {
    const uint64_t offset = u64(24 + 24 * section), bytes = u64(32 + 24 * section);
    if (within(offset, bytes)) put(44 + 24 * section, crc32(data + offset, bytes));
  }
  put(124, crc32(data, 124));
  const uint64_t end = u64(16);
  if (within(end, 16)) {
    const uint64_t bytes = std::min<uint64_t>(u32(end + 8), size - end - 16);
    put(end + 12, crc32(data + end + 16, bytes, crc32(data + end, 12)));
  }
}

}  // namespace slm
