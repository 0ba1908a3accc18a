// Plays a script of bytes to a recogniser: changes to its file, settings, personal words, audio of
// every kind in blocks of every size. Whatever they are, each call works or says why not.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "repair.h"
#include "solomonic_speech.h"

namespace slm {

// What was wrong with the recogniser, not with its input.
struct Misbehaved : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a script has come to; tests look whether scripts get anywhere.
struct Heard {
  bool opened = false;
  int settings = 0, phrases = 0, refused = 0, events = 0, results = 0;
};

class Script {
 public:
  Script(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool over() const { return at_ == end_; }
  int byte() { return over() ? 0 : *at_++; }
  int below(int bound) { return ((byte() << 8) | byte()) % bound; }
  double number() {
    static const double kInfinite = std::numeric_limits<double>::infinity();
    static const double kNumbers[] = {
        0,  -0.0, 1,   -1,  0.5,  2,   3,        8,        10,  63,   64,    65,        1e300, 0.9,
        0.1, 1e-30, 100, 256, 1000, 1e4, 16777216, 16777217, 1e9, 1e18, -1e300, kInfinite,
        -kInfinite, std::nan("")};
    return kNumbers[size_t(byte()) % (sizeof kNumbers / sizeof *kNumbers)];
  }
  // Without byte 0, otherwise anything: no UTF-8, control characters, the mark of words.
  std::string text() {
    static const char* const kTexts[] = {"\xE2\x96\x81", "@name", "\t", "\xFF",
                                         " ",            "a",     "ing", "@"};
    std::string made;
    for (int length = byte() % 24; length > 0; length--) {
      const int value = byte();
      if (value < 64)
        made += kTexts[value % 8];
      else
        made += char(value);
    }
    return made;
  }

 private:
  const uint8_t *at_, *end_;
};

class Hearing {
 public:
  Hearing(const std::string& model, const uint8_t* data, size_t size)
      : script_(data, size), file_(model) {}

  Heard run() {
    change_file();
    slm_recognizer* made = nullptr;
    if (!works(slm_recognizer_open_memory(file_.data(), file_.size(), &made))) return heard_;
    const std::unique_ptr<slm_recognizer, void (*)(slm_recognizer*)> model(made,
                                                                           slm_recognizer_free);
    heard_.opened = true;
    change_settings(made);
    check(*slm_recognizer_describe(made), "no description");
    slm_words* words = nullptr;
    works(slm_words_create(made, &words));
    const std::unique_ptr<slm_words, void (*)(slm_words*)> kept(words, slm_words_free);
    add_words(words);
    slm_speech* speech = nullptr;
    const bool endpointing = script_.byte() % 4;
    if (!works(slm_speech_create(made, words, endpointing, &speech)) &&
        !works(slm_speech_create(made, nullptr, endpointing, &speech)))
      return heard_;
    const std::unique_ptr<slm_speech, void (*)(slm_speech*)> owned(speech, slm_speech_free);
    works(slm_speech_clock(speech, &Hearing::now, this));
    for (int step = 0; step < kMostSteps && !script_.over(); step++) play(speech, words);
    works(slm_speech_finish(speech));
    works(slm_speech_decode(1, &speech));
    collect(speech);
    return heard_;
  }

 private:
  static constexpr int kMostSteps = 64, kMostSamples = 24000;

  static void check(bool holds, const std::string& what) {
    if (!holds) throw Misbehaved(what);
  }

  // True if a call worked; what it refuses it says in a sentence.
  bool works(slm_status status) {
    if (status == SLM_OK) return true;
    heard_.refused++;
    const std::string said = slm_error();
    check(status == SLM_BAD_ARGUMENT, "status " + std::to_string(status) + ": " + said);
    check(said.size() >= 10 && said.back() == '.', "'" + said + "' is no sentence");
    return false;
  }

  // Half of the scripts change the file, most of these its settings.
  void change_file() {
    const int changes = script_.byte();
    if (changes >= 128) return;
    uint64_t settings = 0, length = 0;
    std::memcpy(&settings, file_.data() + 24, 8);
    std::memcpy(&length, file_.data() + 32, 8);
    for (int i = changes % 6; i >= 0; i--) {
      const bool anywhere = script_.byte() % 4 == 0;
      const size_t first = anywhere ? 0 : size_t(settings);
      const size_t bytes = anywhere ? file_.size() : size_t(length);
      const size_t place = (size_t(script_.below(1 << 16)) << 8 | size_t(script_.byte())) % bytes;
      const int value = script_.byte();
      const bool digit = value < 200 && !anywhere;
      file_[first + place] = digit ? "0123456789.-einf=\nL"[value % 19] : char(value);
    }
    repair(file_);
  }

  void change_settings(slm_recognizer* model) {
    static const char* const kNames[] = {
        "decode.greedy", "decode.beam", "decode.max_symbols", "decode.expand_beam",
        "decode.label_bonus", "decode.state_beam", "decode.label_context", "decode.lattice",
        "decode.lattice_beam", "decode.alternatives", "decode.nbest", "decode.confidence_scale",
        "decode.stable_beam", "decode.stable_frames", "endpoint.start_ms",
        "endpoint.speech_threshold", "endpoint.speculate", "endpoint.speculative_ms",
        "endpoint.speculative_threshold", "endpoint.final_ms", "endpoint.final_threshold",
        "endpoint.silence_ms", "endpoint.nothing_ms", "endpoint.label_silence_ms",
        "endpoint.silence_limit_ms", "endpoint.utterance_limit_ms", "endpoint.speculations_limit",
        "voice.bands", "voice.highest", "voice.smoothing", "voice.floor_frames",
        "voice.lowest_floor", "voice.range", "voice.fade", "voice.margin", "voice.slope",
        "voice.cap", "voice.hangover_frames", "voice.opening_frames", "voice.announced_frames",
        "threads", "budget", "longest_s", "lattice_limit", "decode.bean"};
    for (int i = script_.byte() % 8; i > 0; i--) {
      const std::string name = kNames[size_t(script_.byte()) % (sizeof kNames / sizeof *kNames)];
      double value = script_.number();
      // These may be as large as memory is; that is not tried here.
      const double most = name == "decode.beam" ? 64
                          : name == "longest_s" ? 60
                          : name == "threads"   ? 2
                                                : 0;
      if (most > 0) value = std::min(value, most);
      heard_.settings += works(slm_recognizer_set(model, name.c_str(), value));
      works(slm_recognizer_get(model, name.c_str(), &value));
    }
  }

  void add_words(slm_words* words) {
    for (int i = script_.byte() % 6; i > 0; i--) {
      const int kind = script_.byte() % 4;
      const std::string text = script_.text(), name = kind == 1 ? script_.text() : "name";
      if (kind == 0)
        works(slm_words_carrier(words, text.c_str()));
      else
        heard_.phrases += works(slm_words_add(words, kind < 3 ? name.c_str() : nullptr,
                                              text.c_str(), script_.number()));
    }
  }

  void play(slm_speech* speech, const slm_words* words) {
    const int what = script_.byte();
    if (what < 160) {
      accept(speech, what);
    } else if (what < 220) {
      works(slm_speech_decode(1, &speech));
      collect(speech);
    } else if (what < 232) {
      slm_speech_event event;
      if (works(slm_speech_result(speech, &event))) look(speech, event);
    } else if (what < 240) {
      works(slm_speech_reset(speech, what % 2 ? words : nullptr));
      rate_ = 0;
    } else if (what < 244) {
      works(slm_speech_finish(speech));
    } else {
      pace_ = script_.number();
    }
  }

  void accept(slm_speech* speech, int what) {
    static const double kRates[] = {16000,  16000,     16000, 8000, 44100, 1000,
                                    768000, 12345.678, 0,     -1,   1e300};
    if (rate_ == 0 || what % 32 == 31)
      rate_ = what % 16 == 15 ? script_.number() : kRates[size_t(script_.byte()) % 11];
    const int kind = what % 10;
    int count = script_.byte();
    if (what >= 40) count *= 16;
    if (what >= 140) count = count ? 1 : 0;
    count = std::min(count, kMostSamples - taken_);
    taken_ += count;
    std::vector<float> samples(size_t(count), 0.0f);
    std::vector<int16_t> shorts(size_t(count), 0);
    for (size_t i = 0; i < samples.size(); i++) {
      noise_ = noise_ * 1664525 + 1013904223;
      const float noise = float(int32_t(noise_)) / 2147483648.0f;
      const double turn = 6.283185307179586 * 120 * double(at_++) / 16000;
      double voice = 0;  // a buzz is heard as speech
      for (int harmonic = 1; harmonic < 16; harmonic++) voice += std::sin(turn * harmonic);
      const float kinds[] = {float(voice * 0.03), float(voice * 0.03), float(voice * 0.05),
                             noise * 1e-3f,       0,                   noise,
                             noise * 3e38f,       noise * 1e-40f,      i % 2 ? 3.4e38f : -3.4e38f,
                             noise * 1e6f};
      samples[i] = kinds[kind];
      shorts[i] = int16_t(kind < 3 ? kinds[kind] * 32767 : kind == 4 ? -32768 : noise * 32767);
    }
    if (what % 20 == 9 && count) {
      const double odd = script_.number();
      samples[size_t(script_.byte()) % samples.size()] =
          std::fabs(odd) > 3e38 ? float(INFINITY) : float(odd);
    }
    if (what % 7 == 3) {
      works(slm_speech_accept_s16(speech, rate_, shorts.data(), count));
      return;
    }
    bool finite = true;
    for (const float sample : samples) finite = finite && std::isfinite(sample);
    const bool taken = works(slm_speech_accept(speech, rate_, samples.data(), count));
    check(finite || !taken, "audio that is not finite was taken");
  }

  void collect(slm_speech* speech) {
    slm_speech_event event;
    while (slm_speech_next(speech, &event)) {
      heard_.events++;
      look(speech, event);
    }
  }

  void look(slm_speech* speech, const slm_speech_event& event) {
    check(*slm_speech_json(speech), "an event without JSON");
    check(std::isfinite(event.time) && event.time >= 0, "an event out of time");
    check(event.stable >= 0 && event.stable <= event.word_count, "more stable words than words");
    for (int i = 0; i < event.word_count; i++) {
      const slm_word& word = event.words[i];
      check(*word.text, "an empty word");
      check(word.start <= word.end && word.end <= event.time + 1, "a word out of time");
      check(word.confidence >= 0 && word.confidence <= 1, "a confidence that is none");
    }
    const uint8_t* data = nullptr;
    size_t bytes = 0;
    if (!works(slm_speech_lattice(speech, &data, &bytes))) return;
    heard_.results += bytes > 0;
  }

  static double now(void* self) {
    Hearing& hearing = *static_cast<Hearing*>(self);
    return hearing.clock_ += hearing.pace_;
  }

  Script script_;
  std::string file_;
  Heard heard_;
  double rate_ = 0, clock_ = 0, pace_ = 1e-3;
  uint32_t noise_ = 1;
  int taken_ = 0;
  int64_t at_ = 0;
};

inline Heard hear(const std::string& model, const uint8_t* data, size_t size) {
  return Hearing(model, data, size).run();
}

}  // namespace slm
