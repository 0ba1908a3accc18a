// The scripts of native/fuzz/hear.h, drawn at random from fixed seeds: what libFuzzer does with a
// compiler that has it, a fixed number of times with any.
#include <fstream>
#include <random>
#include <sstream>

#include "../fuzz/hear.h"
#include "check.h"

namespace {

std::string model_of(const char* name) {
  std::ifstream file(SLM_TEST_DATA + std::string(name), std::ios::binary);
  std::ostringstream all;
  all << file.rdbuf();
  return all.str();
}

// Scripts per seed; SLM_FUZZ_SCRIPTS asks for more.
int scripts() {
  const char* asked = std::getenv("SLM_FUZZ_SCRIPTS");
  return asked ? std::atoi(asked) : 100;
}

}  // namespace

TEST(speech_whatever_is_played_is_heard_or_refused) {
  const std::string models[] = {model_of("/speech.solo"), model_of("/attentive.solo")};
  int opened = 0, closed = 0, settings = 0, phrases = 0, refused = 0, events = 0, results = 0;
  for (unsigned seed = 0; seed < 4; seed++) {
    std::mt19937 random(seed);
    for (int i = 0; i < scripts(); i++) {
      NOTE("seed " + std::to_string(seed) + ", script " + std::to_string(i));
      std::vector<uint8_t> script(random() % 400);
      for (uint8_t& byte : script) byte = uint8_t(random());
      try {
        const slm::Heard heard = slm::hear(models[i % 2], script.data(), script.size());
        (heard.opened ? opened : closed)++;
        settings += heard.settings;
        phrases += heard.phrases;
        refused += heard.refused;
        events += heard.events;
        results += heard.results;
      } catch (const slm::Misbehaved& error) {
        check::fail(__FILE__, __LINE__, error.what());
      }
    }
  }
  // Scripts that get nowhere would find nothing.
  for (const int count : {opened, closed, settings, phrases, refused, events, results})
    CHECK(count > 20);
}
