// Whole streams of audio through the C interface: a tiny untrained recogniser (make_speech.py) hears a
// buzz as speech. What it says is compared with Python's in tests/speech/test_native_recognizer.py.
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <sstream>

#include "alloc.h"
#include "check.h"
#include "solomonic_speech.h"

namespace {

typedef std::vector<float> Samples;
typedef std::unique_ptr<slm_recognizer, void (*)(slm_recognizer*)> Model;
typedef std::unique_ptr<slm_speech, void (*)(slm_speech*)> Speech;
typedef std::unique_ptr<slm_words, void (*)(slm_words*)> Words;

constexpr int kRate = 16000;
const std::string kModel = std::string(SLM_TEST_DATA) + "/speech.solo";
const std::string kAttentive = std::string(SLM_TEST_DATA) + "/attentive.solo";

void must(slm_status status) {
  if (status != SLM_OK) throw std::runtime_error(slm_error());
}

Model open_model(slm_open how = SLM_ARENA, const std::string& file = kModel) {
  slm_recognizer* made = nullptr;
  must(slm_recognizer_open(file.c_str(), how, &made));
  must(slm_recognizer_set(made, "decode.beam", 3));
  return Model(made, slm_recognizer_free);
}

Speech stream_of(const Model& model, const slm_words* words = nullptr, bool endpointing = true) {
  slm_speech* made = nullptr;
  must(slm_speech_create(model.get(), words, endpointing, &made));
  return Speech(made, slm_speech_free);
}

void add_noise(Samples& to, double seconds, int rate, unsigned seed) {
  std::mt19937 random(seed);
  for (int i = 0; i < int(seconds * rate); i++)
    to.push_back(1e-3f * (float(random() % 2001) / 1000 - 1));
}

// Syllables of a buzz.
void add_speech(Samples& to, double seconds, int rate, unsigned seed) {
  const double kTurn = 6.283185307179586;
  for (int i = 0; i < int(seconds * rate); i++) {
    const double time = double(i) / rate;
    double sound = 0;
    for (int harmonic = 1; harmonic < 20; harmonic++) {
      const double away = (120.0 * harmonic - 600 - 300 * std::sin(time * 8 + seed)) / 250;
      sound += std::exp(-away * away) * std::sin(kTurn * 120 * harmonic * time);
    }
    to.push_back(float(0.15 * sound * std::min(1.0, std::fabs(std::sin(11 * time)) * 2)));
  }
}

Samples command(unsigned seed, int rate = kRate) {
  Samples all;
  add_noise(all, 0.4, rate, seed);
  add_speech(all, 1.2, rate, seed);
  add_noise(all, 1.8, rate, seed + 1);
  return all;
}

// What a stream says: JSON of every event, lattice messages behind it in hexadecimal.
void collect(slm_speech* speech, std::string& said) {
  slm_speech_event event;
  while (slm_speech_next(speech, &event)) {
    said += slm_speech_json(speech);
    const uint8_t* data = nullptr;
    size_t bytes = 0;
    must(slm_speech_lattice(speech, &data, &bytes));
    const bool result = event.kind == SLM_FINAL || event.kind == SLM_SPECULATIVE_END;
    CHECK_EQUAL(bytes > 0, result);
    for (size_t i = 0; i < bytes; i++) {
      said += "0123456789abcdef"[data[i] >> 4];
      said += "0123456789abcdef"[data[i] & 15];
    }
    said += '\n';
  }
}

std::string finished(const Speech& speech) {
  std::string said;
  slm_speech* one = speech.get();
  must(slm_speech_finish(one));
  must(slm_speech_decode(1, &one));
  collect(one, said);
  return said;
}

// The audio handed over in pieces of the given sizes, again and again.
std::string heard(const Speech& speech, const Samples& samples, const std::vector<size_t>& cuts,
                  int rate = kRate, size_t decode_every = 1) {
  std::string said;
  slm_speech* one = speech.get();
  size_t at = 0;
  for (size_t piece = 0; at < samples.size(); piece++) {
    const size_t count = std::min(cuts[piece % cuts.size()], samples.size() - at);
    must(slm_speech_accept(one, rate, samples.data() + at, int64_t(count)));
    at += count;
    if (piece % decode_every) continue;
    must(slm_speech_decode(1, &one));
    collect(one, said);
  }
  return said + finished(speech);
}

int times(const std::string& text, const std::string& part) {
  int found = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) found++;
  return found;
}

std::string file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream all;
  all << file.rdbuf();
  return all.str();
}

void check_refused(slm_status status, const char* word, int line) {
  if (status != SLM_BAD_ARGUMENT)
    check::fail(__FILE__, line, "expected a refusal, got status " + std::to_string(status));
  const std::string said = slm_error();
  if (said.find(word) == std::string::npos || said.size() < 10 || said.back() != '.')
    check::fail(__FILE__, line, "'" + said + "' is no sentence with '" + word + "'");
}
#define CHECK_REFUSED(call, word) check_refused(call, word, __LINE__)

}  // namespace

TEST(speech_any_cut_says_the_same) {
  const Model model = open_model();
  for (int rate : {8000, 16000, 44100}) {
    NOTE(std::to_string(rate));
    Samples samples = command(1, rate);
    const Samples second = command(2, rate);
    samples.insert(samples.end(), second.begin(), second.end());
    const std::string expected = heard(stream_of(model), samples, {samples.size()}, rate);
    CHECK_EQUAL(times(expected, "\"final\""), 2);
    CHECK(times(expected, "\"partial\"") > 3);
    CHECK(times(expected, "\"speculative_end\"") > 0);
    std::mt19937 random{unsigned(rate)};
    for (int trial = 0; trial < 3; trial++) {
      std::vector<size_t> cuts;
      for (int i = 0; i < 40; i++) cuts.push_back(random() % (i % 3 ? 500 : 9000));
      CHECK_EQUAL(heard(stream_of(model), samples, cuts, rate, 1 + trial), expected);
    }
    if (rate == kRate) CHECK_EQUAL(heard(stream_of(model), samples, {1}, rate, 97), expected);
  }
}

TEST(speech_mapped_or_from_memory_is_the_same) {
  const std::string expected = heard(stream_of(open_model()), command(1), {4000});
  CHECK_EQUAL(heard(stream_of(open_model(SLM_MAPPED)), command(1), {4000}), expected);
  const std::string bytes = file_bytes(kModel);
  slm_recognizer* made = nullptr;
  must(slm_recognizer_open_memory(bytes.data(), bytes.size(), &made));
  const Model model(made, slm_recognizer_free);
  must(slm_recognizer_set(made, "decode.beam", 3));
  CHECK_EQUAL(heard(stream_of(model), command(1), {4000}), expected);
  must(slm_recognizer_set(made, "threads", 2));
  CHECK_EQUAL(heard(stream_of(model), command(1), {4000}), expected);
}

TEST(speech_streams_together_say_what_each_says_alone) {
  const Model model = open_model();
  constexpr int kStreams = 19;  // more than are read in step
  std::vector<Samples> sounds;
  std::vector<std::string> alone, together(kStreams);
  std::vector<Speech> streams;
  std::vector<slm_speech*> all;
  for (unsigned i = 0; i < kStreams; i++) {
    Samples sound;
    add_noise(sound, 0.1 * i, kRate, i);
    const Samples rest = command(i);
    sound.insert(sound.end(), rest.begin(), rest.end());
    alone.push_back(heard(stream_of(model), sound, {3000}));
    sounds.push_back(sound);
    streams.push_back(stream_of(model));
    all.push_back(streams.back().get());
  }
  for (size_t at = 0; at < 6 * kRate; at += 5000) {
    for (size_t i = 0; i < kStreams; i++)
      if (at < sounds[i].size())
        must(slm_speech_accept(all[i], kRate, sounds[i].data() + at,
                               int64_t(std::min<size_t>(5000, sounds[i].size() - at))));
    must(slm_speech_decode(kStreams, all.data()));
    for (size_t i = 0; i < kStreams; i++) collect(all[i], together[i]);
  }
  for (slm_speech* one : all) must(slm_speech_finish(one));
  must(slm_speech_decode(kStreams, all.data()));
  for (size_t i = 0; i < kStreams; i++) {
    collect(all[i], together[i]);
    CHECK_EQUAL(together[i], alone[i]);
  }
  all[3] = all[4];
  CHECK_REFUSED(slm_speech_decode(kStreams, all.data()), "twice");
}

TEST(speech_memory_is_taken_at_the_start) {
  const Model model = open_model(SLM_ARENA, kAttentive);
  slm_words* made = nullptr;
  must(slm_words_create(model.get(), &made));
  const Words words(made, slm_words_free);
  for (const char* phrase : {"kitchen lights", "brother", "play music"})
    must(slm_words_add(made, nullptr, phrase, 0));
  const Speech speech = stream_of(model, made);
  slm_speech* one = speech.get();
  std::vector<Samples> sounds;
  for (unsigned seed = 0; seed < 6; seed++) sounds.push_back(command(seed));
  const auto hear = [&](int commands) {
    int finals = 0;
    for (int i = 0; i < commands; i++) {
      const Samples& sound = sounds[size_t(i) % sounds.size()];
      for (size_t at = 0; at < sound.size(); at += 800) {
        must(slm_speech_accept(one, kRate, sound.data() + at,
                               int64_t(std::min<size_t>(800, sound.size() - at))));
        must(slm_speech_decode(1, &one));
        slm_speech_event event;
        while (slm_speech_next(one, &event)) finals += event.kind == SLM_FINAL;
      }
    }
    return finals;
  };
  hear(12);
  const alloc::Held before = alloc::held();
  const int64_t aligned = alloc::aligned(), bytes = slm_speech_bytes(one);
  CHECK(hear(36) > 30);
  // The last lattices are kept in the queue of events; they have different sizes.
  CHECK(std::llabs(alloc::held().blocks - before.blocks) < 50);
  CHECK(std::llabs(alloc::held().bytes - before.bytes) < 4096);
  CHECK_EQUAL(alloc::aligned(), aligned);
  CHECK_EQUAL(slm_speech_bytes(one), bytes);
}

TEST(speech_of_nobody_costs_nothing) {
  const Model model = open_model();
  const Speech speech = stream_of(model);
  Samples quiet;
  add_noise(quiet, 30, kRate, 1);
  CHECK_EQUAL(heard(speech, quiet, {16000}), "");
  slm_speech_counters c;
  must(slm_speech_count(speech.get(), &c));
  CHECK_EQUAL(c.encoded, 0);
  CHECK_EQUAL(c.blocks, 500 + 8);  // and the padding behind the end
  CHECK(std::fabs(c.audio - 30) < 0.1);
}

TEST(speech_reset_forgets) {
  const Model model = open_model();
  const std::string expected = heard(stream_of(model), command(1), {4000});
  const Speech speech = stream_of(model);
  heard(speech, command(2, 8000), {1000}, 8000);
  must(slm_speech_reset(speech.get(), nullptr));
  CHECK_EQUAL(heard(speech, command(1), {4000}), expected);
  slm_speech_counters c;
  must(slm_speech_count(speech.get(), &c));
  CHECK(std::fabs(c.audio - 6.8) < 0.2);
}

TEST(speech_result_disturbs_nothing) {
  const Model model = open_model();
  const Samples sound = command(1);
  const std::string expected = heard(stream_of(model), sound, {4000});
  const Speech speech = stream_of(model);
  slm_speech* one = speech.get();
  slm_speech_event event;
  must(slm_speech_result(one, &event));
  CHECK_EQUAL(std::string(event.text), "");
  std::string said;
  bool words = false;
  for (size_t at = 0; at < sound.size(); at += 4000) {
    must(slm_speech_accept(one, kRate, sound.data() + at,
                           int64_t(std::min<size_t>(4000, sound.size() - at))));
    must(slm_speech_decode(1, &one));
    must(slm_speech_result(one, &event));
    words = words || (event.word_count > 0 && !std::strcmp(event.reason, "not finished"));
    collect(one, said);
  }
  CHECK(words);
  CHECK_EQUAL(said + finished(speech), expected);
}

TEST(speech_personal_words) {
  const Model model = open_model();
  slm_words* made = nullptr;
  must(slm_words_create(model.get(), &made));
  const Words words(made, slm_words_free);
  must(slm_words_add(made, nullptr, "stop", 8));
  must(slm_words_add(made, "contact", "brother", 0));
  must(slm_words_carrier(made, "call my @contact"));
  const std::string plain = heard(stream_of(model), command(1), {4000});
  const std::string favoured = heard(stream_of(model, made), command(1), {4000});
  CHECK_EQUAL(times(plain, "\"word\": \"stop\""), 0);
  CHECK(times(favoured, "\"word\": \"stop\"") > 0);
  CHECK_EQUAL(heard(stream_of(model, made), command(1), {77}), favoured);
  CHECK_REFUSED(slm_words_add(made, nullptr, "stop", -1), "boost");
  CHECK_REFUSED(slm_words_add(made, nullptr, "stop", NAN), "boost");
  CHECK_REFUSED(slm_words_add(made, nullptr, nullptr, 0), "phrase");
  const Model other = open_model();
  slm_speech* speech = nullptr;
  CHECK_REFUSED(slm_speech_create(other.get(), made, 1, &speech), "another recogniser");
}

TEST(speech_attention_hears_listed_words) {
  const Model plain = open_model(), model = open_model(SLM_ARENA, kAttentive);
  const auto listed = [](const Model& of) {
    slm_words* made = nullptr;
    must(slm_words_create(of.get(), &made));
    Words words(made, slm_words_free);
    must(slm_words_add(made, nullptr, "play", 0));
    must(slm_words_add(made, "thing", "kitchen music", 0));
    must(slm_words_carrier(made, "play @thing"));
    return words;
  };
  const Words words = listed(model), others = listed(plain);
  const std::string nothing = heard(stream_of(plain), command(1), {4000});
  const std::string searched = heard(stream_of(plain, others.get()), command(1), {4000});
  const std::string attended = heard(stream_of(model, words.get()), command(1), {4000});
  CHECK(attended != searched && attended != nothing);
  CHECK_EQUAL(heard(stream_of(model), command(1), {4000}), nothing);
  CHECK_EQUAL(heard(stream_of(model, words.get()), command(1), {77}), attended);
  const Speech again = stream_of(model, words.get());
  heard(again, command(2), {4000});
  must(slm_speech_reset(again.get(), words.get()));
  CHECK_EQUAL(heard(again, command(1), {4000}), attended);
  must(slm_speech_reset(again.get(), nullptr));
  CHECK_EQUAL(heard(again, command(1), {4000}), nothing);
  must(slm_recognizer_set(model.get(), "attention", 0));
  CHECK_EQUAL(heard(stream_of(model, words.get()), command(1), {4000}), searched);
}

// The budget -----------------------------------------------------------------------------------

namespace {

// A processor whose search costs so much for each hypothesis of the beam.
struct Processor {
  slm_speech* speech = nullptr;
  double now = 0, cost = 0;  // s; of a hypothesis in a block
  int64_t encoded = 0;

  static double look(void* user) {
    Processor& self = *static_cast<Processor*>(user);
    slm_speech_counters c;
    must(slm_speech_count(self.speech, &c));
    self.now += self.cost * c.beam * double(c.encoded - self.encoded);
    self.encoded = c.encoded;
    return self.now;
  }
};

}  // namespace

TEST(speech_budget_narrows_before_it_falls_behind_and_widens_again) {
  const Model model = open_model();
  must(slm_recognizer_set(model.get(), "decode.beam", 8));
  must(slm_recognizer_set(model.get(), "endpoint.speculate", 0));
  const Samples sound = command(1);
  const std::string expected = heard(stream_of(model), sound, {960});
  must(slm_recognizer_set(model.get(), "budget", 0.5));
  const Speech speech = stream_of(model);
  slm_speech* one = speech.get();
  Processor processor;
  processor.speech = one;
  must(slm_speech_clock(one, Processor::look, &processor));
  slm_speech_counters c;
  double behind = 0, latest = 0;  // seconds of work beyond the share, now and at most
  const auto minute = [&](double cost, int commands) {
    processor.cost = cost;
    std::string said;
    must(slm_speech_count(one, &c));
    for (int i = 0; i < commands; i++)
      for (size_t at = 0; at < sound.size(); at += 960) {
        must(slm_speech_accept(one, kRate, sound.data() + at,
                               int64_t(std::min<size_t>(960, sound.size() - at))));
        must(slm_speech_decode(1, &one));
        collect(one, said);
        const slm_speech_counters last = c;
        must(slm_speech_count(one, &c));
        const double share = 0.5 * 0.06 * double(c.blocks - last.blocks);
        behind = std::max(0.0, behind + c.seconds - last.seconds - share);
        latest = std::max(latest, behind);
      }
    return said;
  };
  // A beam of 8 fits.
  minute(0.003, 2);
  CHECK_EQUAL(c.lowered, 0);
  CHECK_EQUAL(c.beam, 8);
  // Another program takes the processor: 8 hypotheses would take three times the share, and 2 fit.
  latest = 0;
  const std::string said = minute(0.012, 3);
  CHECK(c.lowered >= 2);
  CHECK_EQUAL(c.beam, 2);
  // It never was further behind than the work of the blocks in front of a start, read at once.
  CHECK(latest > 0 && latest < 0.4);
  CHECK_EQUAL(times(said, "\"final\""), 3);
  const int64_t lowered = c.lowered;
  // It is gone: three calm seconds of speech for each step up.
  minute(0.001, 12);
  CHECK_EQUAL(c.beam, 8);
  CHECK(c.raised >= 2);
  CHECK_EQUAL(c.lowered, lowered);
  // Without a limit nothing of this happens, whatever the clock says.
  must(slm_recognizer_set(model.get(), "budget", 0));
  const Speech free_stream = stream_of(model);
  Processor slow;
  slow.speech = free_stream.get();
  slow.cost = 1;
  must(slm_speech_clock(free_stream.get(), Processor::look, &slow));
  CHECK_EQUAL(heard(free_stream, sound, {960}), expected);
}

// Refusals -------------------------------------------------------------------------------------

TEST(speech_files_that_are_no_recogniser_are_refused) {
  slm_recognizer* made = nullptr;
  const std::string corpus = SLM_CORPUS;
  CHECK_REFUSED(slm_recognizer_open("/nowhere/it.solo", SLM_ARENA, &made), "/nowhere/it.solo");
  CHECK_REFUSED(slm_recognizer_open((corpus + "/all.solo").c_str(), SLM_ARENA, &made),
                "no recogniser");
  CHECK_REFUSED(slm_recognizer_open(kModel.c_str(), slm_open(7), &made), "unknown");
  CHECK_REFUSED(slm_recognizer_open(nullptr, SLM_ARENA, &made), "path");
  CHECK_REFUSED(slm_recognizer_open(kModel.c_str(), SLM_ARENA, nullptr), "out");
  CHECK_REFUSED(slm_recognizer_open_memory(nullptr, 3, &made), "data");
  const std::string bytes = file_bytes(kModel);
  for (size_t cut = 0; cut < bytes.size(); cut += cut < 256 ? 1 : 977)
    CHECK_EQUAL(slm_recognizer_open_memory(bytes.data(), cut, &made), SLM_BAD_ARGUMENT);
  CHECK(made == nullptr);
}

TEST(speech_interface_refuses_and_goes_on) {
  const Model model = open_model();
  const std::string expected = heard(stream_of(model), command(1), {4000});
  const Speech speech = stream_of(model);
  slm_speech* one = speech.get();
  double value = 0;
  CHECK_REFUSED(slm_recognizer_set(model.get(), "decode.bean", 3), "decode.bean");
  CHECK_REFUSED(slm_recognizer_set(model.get(), "decode.beam", 0), "beam");
  CHECK_REFUSED(slm_recognizer_set(model.get(), "decode.beam", 2.5), "whole");
  CHECK_REFUSED(slm_recognizer_set(model.get(), "decode.beam", NAN), "NaN");
  CHECK_REFUSED(slm_recognizer_set(model.get(), "budget", 1.5), "budget");
  CHECK_REFUSED(slm_recognizer_set(model.get(), "threads", 0), "threads");
  CHECK_REFUSED(slm_recognizer_set(model.get(), "longest_s", INFINITY), "longest");
  CHECK_REFUSED(slm_recognizer_set(model.get(), nullptr, 1), "name");
  CHECK_REFUSED(slm_recognizer_get(model.get(), "none", &value), "none");
  must(slm_recognizer_get(model.get(), "decode.beam", &value));
  CHECK_EQUAL(value, 3.0);
  CHECK(std::strstr(slm_recognizer_describe(model.get()), "\"decode.beam\": 3"));
  CHECK(slm_recognizer_bytes(model.get()) > 50000);
  CHECK_EQUAL(slm_recognizer_bytes(nullptr), 0);
  CHECK_EQUAL(std::string(slm_recognizer_describe(nullptr)), "");
  Samples sound = command(1);
  must(slm_speech_accept(one, kRate, sound.data(), 1000));
  Samples bad(sound.begin() + 1000, sound.begin() + 2000);
  bad[900] = NAN;
  CHECK_REFUSED(slm_speech_accept(one, kRate, bad.data(), 1000), "not finite");
  CHECK_REFUSED(slm_speech_accept(one, 8000, sound.data(), 1000), "samples a second");
  CHECK_REFUSED(slm_speech_accept(one, kRate, nullptr, 10), "NULL");
  CHECK_REFUSED(slm_speech_accept(one, kRate, sound.data(), -1), "fewer");
  CHECK_REFUSED(slm_speech_accept_s16(one, kRate, nullptr, 10), "NULL");
  CHECK_REFUSED(slm_speech_accept(nullptr, kRate, sound.data(), 10), "speech");
  CHECK_REFUSED(slm_speech_decode(1, nullptr), "NULL");
  must(slm_speech_decode(0, nullptr));
  for (double rate : {0.0, -1.0, 999.0, 1e6, double(NAN)}) {
    const Speech fresh = stream_of(model);
    CHECK_REFUSED(slm_speech_accept(fresh.get(), rate, sound.data(), 10), "second");
    CHECK_EQUAL(heard(fresh, sound, {4000}), expected);
  }
  must(slm_speech_accept(one, kRate, sound.data() + 1000, int64_t(sound.size()) - 1000));
  CHECK_EQUAL(finished(speech), expected);
  CHECK_REFUSED(slm_speech_accept(one, kRate, sound.data(), 10), "finished");
  slm_speech_event event;
  CHECK_EQUAL(slm_speech_next(one, &event), 0);
  CHECK_EQUAL(slm_speech_next(nullptr, &event), 0);
  slm_speech_free(nullptr);
  slm_words_free(nullptr);
  slm_recognizer_free(nullptr);
}

TEST(speech_of_16_bits_is_the_same) {
  const Model model = open_model();
  std::vector<int16_t> shorts;
  Samples floats;
  for (float x : command(1)) {
    shorts.push_back(int16_t(std::lrint(x * 32767)));
    floats.push_back(float(shorts.back()) / 32768.0f);
  }
  const Speech speech = stream_of(model);
  must(slm_speech_accept_s16(speech.get(), kRate, shorts.data(), int64_t(shorts.size())));
  CHECK_EQUAL(finished(speech), heard(stream_of(model), floats, {4000}));
}

TEST(speech_memory_may_run_out_anywhere) {
  const Samples sound = command(1);
  slm_recognizer* made = nullptr;
  slm_words* words = nullptr;
  int failed = 0;
  for (int64_t after = 0;; after += 1 + after / 8) {
    bool felt;
    slm_status status;
    slm_speech* speech = nullptr;
    {
      const alloc::Starved starved(after);
      status = slm_recognizer_open(kAttentive.c_str(), SLM_ARENA, &made);
      if (status == SLM_OK) status = slm_words_create(made, &words);
      if (status == SLM_OK) status = slm_words_add(words, nullptr, "kitchen lights", 0);
      if (status == SLM_OK) status = slm_speech_create(made, words, 1, &speech);
      if (status == SLM_OK)
        status = slm_speech_accept(speech, kRate, sound.data(), int64_t(sound.size()));
      if (status == SLM_OK) status = slm_speech_decode(1, &speech);
      slm_speech_event event;
      while (status == SLM_OK && slm_speech_next(speech, &event)) slm_speech_json(speech);
      felt = starved.felt();
    }
    CHECK(status == SLM_OK || (felt && status == SLM_OUT_OF_MEMORY));
    slm_speech_free(speech);
    slm_words_free(words);
    slm_recognizer_free(made);
    made = nullptr;
    words = nullptr;
    if (!felt) break;
    failed++;
  }
  CHECK(failed > 20);
}
