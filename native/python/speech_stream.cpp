// Python door to whole recognition streams, and to their end-pointers for comparison with Python's.
// Arrays come as addresses, as in runtime.cpp; the callers check types and sizes.
#include <cstdint>
#include <vector>

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "module.h"
#include "runtime/error.h"
#include "speech/budget.h"
#include "speech/end_head.h"
#include "speech/endpoint.h"
#include "speech/events.h"
#include "speech/voice.h"

namespace {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// BadArgument becomes ValueError.
template <class Body>
auto checked(const Body& body) {
  try {
    return body();
  } catch (const slm::BadArgument& error) {
    throw nb::value_error(error.what());
  }
}

slm::VoiceConfig voice_config(const nb::dict& given) {
  slm::VoiceConfig c;
#define SLM_FIELD(name) \
  if (given.contains(#name)) c.name = nb::cast<decltype(c.name)>(given[#name])
  SLM_FIELD(bands);
  SLM_FIELD(highest);
  SLM_FIELD(smoothing);
  SLM_FIELD(floor_frames);
  SLM_FIELD(lowest_floor);
  SLM_FIELD(range);
  SLM_FIELD(fade);
  SLM_FIELD(margin);
  SLM_FIELD(slope);
  SLM_FIELD(cap);
  SLM_FIELD(hangover_frames);
  SLM_FIELD(opening_frames);
  SLM_FIELD(announced_frames);
  return c;
}

slm::EndpointConfig endpoint_config(const nb::dict& given) {
  slm::EndpointConfig c;
  SLM_FIELD(start_ms);
  SLM_FIELD(speech_threshold);
  SLM_FIELD(speculate);
  SLM_FIELD(speculative_ms);
  SLM_FIELD(speculative_threshold);
  if (given.contains("final_ms") && !given["final_ms"].is_none()) SLM_FIELD(final_ms);
  SLM_FIELD(final_threshold);
  SLM_FIELD(silence_ms);
  SLM_FIELD(nothing_ms);
  SLM_FIELD(label_silence_ms);
  SLM_FIELD(silence_limit_ms);
  SLM_FIELD(utterance_limit_ms);
  SLM_FIELD(speculations_limit);
#undef SLM_FIELD
  return c;
}

const char* name_of(slm::Decision decision) {
  static const char* const names[] = {"", "start", "speculative", "reset", "final"};
  return names[int(decision)];
}

// The memory of an end head and of its weights.
struct Head {
  std::vector<std::vector<float>> held;
  slm::EndHeadWeights weights;
  std::vector<float> memory, scratch;
};

// The protocol alone: what a stream would tell.
struct Protocol {
  slm::EventQueue events;
  slm::Utterances utterances{events};
};

typedef std::tuple<std::string, double, double, double> PlainWord;
typedef std::tuple<std::string, double, double> PlainAlternative;

void fill(slm::SaidWords& words, const std::vector<PlainWord>& given) {
  for (const auto& [text, start, end, confidence] : given)
    words.add(text.data(), text.size(), start, end, confidence);
}

slm::SpeechResult result_of(const std::string& text, const std::vector<PlainWord>& words,
                            const std::vector<PlainAlternative>& nbest, double start, double end,
                            const std::string& reason) {
  slm::SpeechResult result;
  result.text = text;
  fill(result.words, words);
  for (const auto& [other, acoustic, bias] : nbest) result.nbest.push_back({other, acoustic, bias});
  result.nbest_count = int(nbest.size());
  result.start = start;
  result.end = end;
  result.reason = reason;
  return result;
}

void bind_parts(nb::module_& module) {
  nb::class_<slm::Voice>(module, "Voice")
      .def("__init__",
           [](slm::Voice* self, const nb::dict& config, int bins) {
             checked([&] { return new (self) slm::Voice(voice_config(config), bins); });
           })
      .def("reset", &slm::Voice::reset)
      // frames (count, bins) float32 -> out (count)
      .def("run", [](slm::Voice& voice, uintptr_t frames, int count, int bins, uintptr_t out) {
        for (int t = 0; t < count; t++)
          at<float>(out)[t] = voice.step(at<const float>(frames) + int64_t(t) * bins);
      });
  nb::class_<slm::Endpointer>(module, "Endpointer")
      .def("__init__",
           [](slm::Endpointer* self, const nb::dict& config, double frame_seconds) {
             checked([&] {
               return new (self) slm::Endpointer(endpoint_config(config), frame_seconds);
             });
           })
      .def("step",
           [](slm::Endpointer& self, double time, std::optional<double> speech, double pause,
              int n_tokens, std::optional<double> end, std::optional<std::vector<int32_t>> tokens,
              bool speculate) {
             slm::Observation seen;
             seen.time = time;
             seen.speech_probability = speech.value_or(slm::kAbsent);
             seen.pause_frames = pause;
             seen.n_tokens = n_tokens;
             seen.end_probability = end.value_or(slm::kAbsent);
             static const int32_t none = 0;
             if (tokens) seen.tokens = tokens->empty() ? &none : tokens->data();
             return name_of(self.step(seen, speculate));
           },
           nb::arg("time"), nb::arg("speech").none(), nb::arg("pause"), nb::arg("n_tokens"),
           nb::arg("end").none(), nb::arg("tokens").none(), nb::arg("speculate") = true)
      .def("finish", [](slm::Endpointer& self) { return name_of(self.finish()); })
      .def_prop_ro("began", &slm::Endpointer::began)
      .def_prop_ro("reason", &slm::Endpointer::reason);
  nb::class_<Head>(module, "EndHead")
      .def("__init__",
           [](Head* self, int hidden_size, int label_size, int width, int memory,
              const std::vector<std::vector<float>>& p) {
             new (self) Head;
             self->held = p;
             slm::EndHeadWeights& w = self->weights;
             const float** const order[] = {&w.hidden, &w.hidden_bias, &w.label,      &w.label_bias,
                                            &w.pauses, &w.pauses_bias, &w.input,      &w.input_bias,
                                            &w.recur,  &w.recur_bias,  &w.out,        &w.out_bias};
             if (p.size() != 12) throw nb::value_error("an end head has 12 parameters.");
             for (size_t i = 0; i < 12; i++) *order[i] = self->held[i].data();
             w.hidden_size = hidden_size;
             w.label_size = label_size;
             w.width = width;
             w.memory = memory;
             self->memory.resize(size_t(memory));
             self->scratch.resize(size_t(slm::EndHead(w).scratch()));
           })
      .def("step", [](Head& self, uintptr_t hidden, uintptr_t label, uintptr_t pauses) {
        return slm::EndHead(self.weights)
            .step(at<const float>(hidden), at<const float>(label), at<const float>(pauses),
                  self.memory.data(), self.scratch.data());
      });
  module.def("pause_vector", [](double best, double expected, double blank, double silence,
                                int n_tokens, double frame_seconds) {
    std::vector<float> out(slm::kPauseFeatures);
    slm::pause_vector(best, expected, blank, silence, n_tokens, frame_seconds, out.data());
    return out;
  });
  module.def("rounded", &slm::rounded);
  nb::class_<Protocol>(module, "Utterances")
      .def(nb::init<>())
      .def("start",
           [](Protocol& p, double time, std::optional<double> began) {
             p.utterances.start(time, began ? &*began : nullptr);
           },
           nb::arg("time"), nb::arg("began").none())
      .def("partial",
           [](Protocol& p, double time, const std::string& text,
              const std::vector<PlainWord>& words, int stable) {
             slm::Event& event =
                 p.events.push(slm::EventKind::partial, time, p.utterances.utterance());
             event.text = text;
             fill(event.words, words);
             event.stable = stable;
           })
      .def("stable_words",
           [](Protocol& p, double time, const std::vector<PlainWord>& words) {
             fill(p.events.push(slm::EventKind::stable_words, time, p.utterances.utterance()).words,
                  words);
           })
      .def("speculative",
           [](Protocol& p, double time, const std::string& text,
              const std::vector<PlainWord>& words, const std::vector<PlainAlternative>& nbest,
              double start, double end, const std::string& reason) {
             p.utterances.speculative(time).result =
                 result_of(text, words, nbest, start, end, reason);
             p.utterances.speculated(text);
           })
      .def("reset", [](Protocol& p, double time) { p.utterances.reset(time); })
      .def("final",
           [](Protocol& p, double time, const std::string& text,
              const std::vector<PlainWord>& words, const std::vector<PlainAlternative>& nbest,
              double start, double end, const std::string& reason) {
             slm::SpeechResult result = result_of(text, words, nbest, start, end, reason);
             p.utterances.final(time, result);
           })
      // The JSON of the events so far, which are taken.
      .def("events", [](Protocol& p) {
        std::vector<std::string> lines;
        while (const slm::Event* event = p.events.pop()) {
          lines.emplace_back();
          slm::write_json(*event, lines.back());
        }
        return lines;
      });
  nb::class_<slm::Budget>(module, "Budget")
      .def("__init__",
           [](slm::Budget* self, double share, int beam, double block_seconds) {
             checked([&] { return new (self) slm::Budget(share, beam, block_seconds); });
           })
      .def("spent", &slm::Budget::spent)
      .def_prop_ro("beam", &slm::Budget::beam)
      .def_prop_ro("lowered", &slm::Budget::lowered)
      .def_prop_ro("raised", &slm::Budget::raised);
}

}  // namespace

void bind_recognizer(nb::module_& module);  // speech_recognizer.cpp

void bind_speech_stream(nb::module_& module) {
  nb::module_ speech = module.def_submodule("speech_stream");
  bind_parts(speech);
  bind_recognizer(speech);
}
