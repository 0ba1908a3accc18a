// libFuzzer's target for the device file: whatever the bytes, they are read or refused.
//   native/fuzz/run.sh [seconds]
#include "read_all.h"
#include "repair.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static slm::Threads team(1);
  std::string bytes(reinterpret_cast<const char*>(data), size);
  slm::read_all(bytes, team);
  slm::repair(bytes);  // the checksums would keep nearly every change away from the reader
  slm::read_all(bytes, team);
  return 0;
}
