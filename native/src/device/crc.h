// The checksum of the device file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace slm {

// CRC-32 as in zlib and PNG; `crc` continues an earlier one.
uint32_t crc32(const void* data, size_t bytes, uint32_t crc = 0);

}  // namespace slm
