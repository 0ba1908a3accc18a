// libFuzzer's target for the recogniser: whatever the file, the settings, the words and the audio.
//   native/fuzz/run.sh [seconds] fuzz_recognizer
#include <fstream>
#include <sstream>

#include "hear.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string model = [] {
    std::ifstream file(SLM_TEST_DATA "/attentive.solo", std::ios::binary);
    std::ostringstream all;
    all << file.rdbuf();
    return all.str();
  }();
  slm::hear(model, data, size);  // what misbehaves is an exception that nobody catches
  return 0;
}
