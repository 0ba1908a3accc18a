// The C interface of the recogniser: solomonic_speech.h.
#include "solomonic_speech.h"

#include <charconv>
#include <string>
#include <utility>
#include <vector>

#include "runtime/error.h"
#include "stream.h"
#include "wire.h"

using slm::guarded;
using slm::require;

struct slm_recognizer {
  explicit slm_recognizer(slm::PackFile file) : body(std::move(file)) {}
  slm::Recognizer body;
  std::string described;
};

struct slm_words {
  const slm_recognizer* recognizer = nullptr;
  std::vector<std::string> phrases, carriers;
  slm::PersonalWords::Classes classes;
};

struct slm_speech {
  slm_speech(const slm_recognizer& owner, std::unique_ptr<slm::PersonalWords> words, bool endpointing)
      : recognizer(owner), body(owner.body, std::move(words), endpointing) {}

  const slm_recognizer& recognizer;
  slm::Stream body;
  const slm::Event* event = nullptr;  // given last
  std::vector<slm_word> words;        // of it
  std::vector<float> floats;          // of 16-bit samples
  std::string json;
  std::vector<uint8_t> message;
};

namespace {

template <class T>
T* needed(T* pointer, const char* what) {
  require(pointer != nullptr, std::string(what) + " is NULL.");
  return pointer;
}

std::unique_ptr<slm::PersonalWords> compiled(const slm_recognizer& recognizer,
                                             const slm_words* words) {
  if (!words) return nullptr;
  require(words->recognizer == &recognizer,
          "these personal words were made for another recogniser; make them again.");
  return std::make_unique<slm::PersonalWords>(recognizer.body.pieces(), words->phrases,
                                              words->classes, words->carriers);
}

void fill(slm_speech& speech, const slm::Event& event, slm_speech_event* out) {
  speech.event = &event;
  const bool result = event.kind == slm::EventKind::final ||
                      event.kind == slm::EventKind::speculative_end;
  const slm::SaidWords& words = result ? event.result.words : event.words;
  speech.words.clear();
  for (int i = 0; i < words.size(); i++)
    speech.words.push_back({words.text(i), words[i].start, words[i].end, words[i].confidence});
  out->kind = slm_event_kind(event.kind);
  out->time = event.time;
  out->utterance = event.utterance;
  out->start = event.has_start ? event.start : -1;
  out->text = result ? event.result.text.c_str() : event.text.c_str();
  out->words = speech.words.data();
  out->word_count = words.size();
  out->stable = event.stable;
  out->revision = event.revision;
  out->commit = event.commit;
  out->confidence = words.confidence();
  out->reason = result ? event.result.reason.c_str() : "";
}

slm_status opened(slm::PackFile file, slm_recognizer** out) {
  *out = new slm_recognizer(std::move(file));
  return SLM_OK;
}

}  // namespace

slm_status slm_recognizer_open(const char* path, slm_open how, slm_recognizer** out) {
  return guarded([&] {
    needed(path, "path");
    needed(out, "out");
    require(how == SLM_ARENA || how == SLM_MAPPED, "the way to open a file is unknown.");
    opened(slm::PackFile::open(path, how == SLM_ARENA ? slm::PackMode::arena : slm::PackMode::map),
           out);
  });
}

slm_status slm_recognizer_open_memory(const void* data, size_t bytes, slm_recognizer** out) {
  return guarded([&] {
    needed(data, "data");
    needed(out, "out");
    opened(slm::PackFile::parse(data, bytes), out);
  });
}

void slm_recognizer_free(slm_recognizer* recognizer) { delete recognizer; }

slm_status slm_recognizer_set(slm_recognizer* recognizer, const char* name, double value) {
  return guarded([&] {
    needed(recognizer, "recognizer")->body.set(needed(name, "name"), value);
  });
}

slm_status slm_recognizer_get(const slm_recognizer* recognizer, const char* name, double* value) {
  return guarded([&] {
    needed(value, "value");
    *value = needed(recognizer, "recognizer")->body.get(needed(name, "name"));
  });
}

const char* slm_recognizer_describe(slm_recognizer* recognizer) {
  const slm_status status = guarded([&] {
    needed(recognizer, "recognizer");
    recognizer->described = recognizer->body.describe();
  });
  return status == SLM_OK ? recognizer->described.c_str() : "";
}

int64_t slm_recognizer_bytes(const slm_recognizer* recognizer) {
  return recognizer ? int64_t(recognizer->body.bytes()) : 0;
}

slm_status slm_words_create(const slm_recognizer* recognizer, slm_words** out) {
  return guarded([&] {
    needed(recognizer, "recognizer");
    needed(out, "out");
    slm_words* words = new slm_words;
    words->recognizer = recognizer;
    *out = words;
  });
}

void slm_words_free(slm_words* words) { delete words; }

slm_status slm_words_add(slm_words* words, const char* name, const char* phrase, double boost) {
  return guarded([&] {
    needed(words, "words");
    std::string text = needed(phrase, "phrase");
    require(boost >= 0 && boost <= 20, "a boost must be above 0 and at most 20, or 0 for the default.");
    if (boost > 0) {
      char number[40];
      const auto end = std::to_chars(number, number + sizeof number, boost);
      text += '\t';
      text.append(number, end.ptr);
    }
    if (!name) {
      words->phrases.push_back(std::move(text));
      return;
    }
    for (auto& [known, entries] : words->classes)
      if (known == name) {
        entries.push_back(std::move(text));
        return;
      }
    words->classes.push_back({name, {std::move(text)}});
  });
}

slm_status slm_words_carrier(slm_words* words, const char* text) {
  return guarded([&] {
    needed(words, "words");
    words->carriers.emplace_back(needed(text, "text"));
  });
}

slm_status slm_speech_create(const slm_recognizer* recognizer, const slm_words* words,
                             int32_t endpointing, slm_speech** out) {
  return guarded([&] {
    needed(recognizer, "recognizer");
    needed(out, "out");
    *out = new slm_speech(*recognizer, compiled(*recognizer, words), endpointing != 0);
  });
}

void slm_speech_free(slm_speech* speech) { delete speech; }

slm_status slm_speech_reset(slm_speech* speech, const slm_words* words) {
  return guarded([&] {
    needed(speech, "speech");
    speech->body.reset(compiled(speech->recognizer, words));
    speech->event = nullptr;
  });
}

slm_status slm_speech_accept(slm_speech* speech, double rate, const float* samples, int64_t count) {
  return guarded([&] { needed(speech, "speech")->body.accept(rate, samples, count); });
}

slm_status slm_speech_accept_s16(slm_speech* speech, double rate, const int16_t* samples,
                                 int64_t count) {
  return guarded([&] {
    needed(speech, "speech");
    require(count >= 0 && (samples || !count), "samples are NULL, or fewer than none.");
    constexpr int64_t kPiece = 4096;
    speech->floats.reserve(kPiece);
    int64_t first = 0;
    do {
      const int64_t part = count - first < kPiece ? count - first : kPiece;
      speech->floats.clear();
      for (int64_t i = 0; i < part; i++)
        speech->floats.push_back(float(samples[first + i]) / 32768.0f);
      speech->body.accept(rate, speech->floats.data(), part);
      first += part;
    } while (first < count);
  });
}

slm_status slm_speech_finish(slm_speech* speech) {
  return guarded([&] { needed(speech, "speech")->body.finish(); });
}

slm_status slm_speech_decode(int32_t n, slm_speech* const* speeches) {
  return guarded([&] {
    require(n >= 0 && (speeches || !n), "speeches are NULL, or fewer than none.");
    if (n == 1) {
      slm::Stream* one = &needed(speeches[0], "speech")->body;
      slm::Stream::decode(&one, 1);
      return;
    }
    std::vector<slm::Stream*> streams;
    for (int32_t i = 0; i < n; i++) streams.push_back(&needed(speeches[i], "speech")->body);
    slm::Stream::decode(streams.data(), n);
  });
}

int32_t slm_speech_next(slm_speech* speech, slm_speech_event* out) {
  if (!speech || !out) return 0;
  int32_t found = 0;
  guarded([&] {
    const slm::Event* event = speech->body.events().pop();
    if (!event) return;
    fill(*speech, *event, out);
    found = 1;
  });
  return found;
}

const char* slm_speech_json(slm_speech* speech) {
  if (!speech || !speech->event) return "";
  const slm_status status = guarded([&] {
    speech->json.clear();
    slm::write_json(*speech->event, speech->json);
  });
  return status == SLM_OK ? speech->json.c_str() : "";
}

slm_status slm_speech_lattice(slm_speech* speech, const uint8_t** data, size_t* bytes) {
  return guarded([&] {
    needed(speech, "speech");
    needed(data, "data");
    needed(bytes, "bytes");
    speech->message.clear();
    if (speech->event && speech->event->result.has_lattice) {
      const slm::Event& event = *speech->event;
      const slm::SpeechResult& result = event.result;
      slm::Message message;
      message.lattice = &result.lattice;
      message.utterance = event.utterance;
      message.revision = event.revision;
      message.kind = event.kind == slm::EventKind::speculative_end
                         ? slm::MessageKind::speculative_end
                     : event.commit ? slm::MessageKind::commit
                                    : slm::MessageKind::final;
      message.reason = result.reason;
      message.duration = result.end > result.start ? result.end - result.start : 0;
      const int64_t limit = int64_t(speech->body.recognizer().settings().lattice_limit);
      speech->message =
          slm::encode_message(message, limit ? limit : slm::message_limit(message.duration));
    }
    *data = speech->message.data();
    *bytes = speech->message.size();
  });
}

slm_status slm_speech_result(slm_speech* speech, slm_speech_event* out) {
  return guarded([&] {
    needed(speech, "speech");
    needed(out, "out");
    fill(*speech, speech->body.result(), out);
  });
}

slm_status slm_speech_count(const slm_speech* speech, slm_speech_counters* out) {
  return guarded([&] {
    needed(speech, "speech");
    needed(out, "out");
    const slm::Counters& counters = speech->body.counters();
    const slm::Budget& budget = speech->body.budget();
    out->blocks = counters.blocks;
    out->encoded = counters.encoded;
    out->macs = counters.macs;
    out->lowered = budget.lowered();
    out->raised = budget.raised();
    out->beam = budget.beam();
    out->seconds = counters.seconds;
    out->audio = counters.audio + speech->body.time();
  });
}

void slm_speech_count_macs(int32_t on) { slm::count_macs(on != 0); }

int64_t slm_speech_bytes(const slm_speech* speech) {
  return speech ? int64_t(speech->body.bytes()) : 0;
}

slm_status slm_speech_clock(slm_speech* speech, double (*now)(void* user), void* user) {
  return guarded([&] { needed(speech, "speech")->body.use_clock({now, user}); });
}
