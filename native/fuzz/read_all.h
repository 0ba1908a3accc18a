// Reads a device file and everything in it, as a program would that believes it.
#pragma once

#include <string>
#include <vector>

#include "device/file.h"
#include "runtime/error.h"
#include "runtime/threads.h"

namespace slm {

// Products of hostile files stay below this many weights.
constexpr int64_t kMostTried = 1 << 22;

// False if the file was refused. Any other exception is an error of the reader.
inline bool read_all(const std::string& bytes, Threads& team) {
  try {
    const PackFile pack = PackFile::parse(bytes.data(), bytes.size());
    for (const PackTensor& tensor : pack.tensors()) {
      if (tensor.count() > kMostTried) continue;
      pack.values(tensor.name, tensor.count());
      if (tensor.dims != 2) continue;
      const int outputs = tensor.shape[0], inputs = tensor.shape[1];
      const Matrix matrix = pack.weights(tensor.name, outputs, inputs);
      const std::vector<float> x(size_t(inputs), 1.0f);
      std::vector<float> y(static_cast<size_t>(outputs));
      InputBuffer buffer;
      matrix.multiply(buffer.fill(matrix.input_kind(), x.data(), inputs, 1, inputs, team), y.data(),
                      outputs, false, team);
    }
    for (const char* key : {"model.size", "model.rate", "model.on", "model.type", "a"}) {
      try {
        pack.text(key);
        pack.real(key);
        pack.integer(key, -10, 1000);
        pack.flag(key);
      } catch (const BadArgument&) {
      }
    }
    return true;
  } catch (const BadArgument&) {
    return false;
  }
}

}  // namespace slm
