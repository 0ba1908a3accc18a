// Python door to the recogniser of a device file: solomonic.speech.native_recognizer wraps it.
#include <cstdint>
#include <memory>
#include <vector>

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "module.h"
#include "runtime/error.h"
#include "speech/stream.h"
#include "speech/wire.h"

namespace {

// BadArgument becomes ValueError.
template <class Body>
auto checked(const Body& body) {
  try {
    return body();
  } catch (const slm::BadArgument& error) {
    throw nb::value_error(error.what());
  }
}

typedef std::shared_ptr<slm::Recognizer> Handle;

struct DeviceRecognizer {
  Handle handle;
};

// A stream keeps its recogniser alive.
struct AudioStream {
  Handle recognizer;
  std::unique_ptr<slm::Stream> handle;
};

nb::list words_of(const slm::SaidWords& words) {
  nb::list out;
  for (int i = 0; i < words.size(); i++)
    out.append(nb::make_tuple(words.text(i), words[i].start, words[i].end, words[i].confidence));
  return out;
}

// The arrays of solomonic.speech.lattice.Lattice.
nb::object lattice_of(const slm::SpeechResult& result) {
  if (!result.has_lattice) return nb::none();
  const slm::Lattice& lattice = result.lattice;
  nb::list frames, sources, targets, labels, acoustic, bias, spans, symbols;
  for (int frame : lattice.frames) frames.append(frame);
  for (const slm::Lattice::Arc& arc : lattice.arcs) {
    sources.append(arc.source);
    targets.append(arc.target);
    labels.append(arc.label);
    acoustic.append(double(arc.acoustic));
    bias.append(double(arc.bias));
    spans.append(nb::make_tuple(arc.first, arc.last));
  }
  for (const std::string& symbol : lattice.symbols) symbols.append(symbol);
  nb::dict out;
  out["frames"] = frames;
  out["sources"] = sources;
  out["targets"] = targets;
  out["labels"] = labels;
  out["acoustic"] = acoustic;
  out["bias"] = bias;
  out["spans"] = lattice.spans ? nb::object(spans) : nb::none();
  out["symbols"] = symbols;
  out["frame_seconds"] = lattice.frame_seconds;
  return out;
}

nb::dict result_of(const slm::SpeechResult& result) {
  nb::list nbest;
  for (int i = 0; i < result.nbest_count; i++) {
    const slm::NBestEntry& other = result.nbest[size_t(i)];
    nbest.append(nb::make_tuple(other.text, other.acoustic, other.bias));
  }
  nb::dict out;
  out["text"] = result.text;
  out["words"] = words_of(result.words);
  out["nbest"] = nbest;
  out["lattice"] = lattice_of(result);
  out["start"] = result.start;
  out["end"] = result.end;
  out["reason"] = result.reason;
  return out;
}

nb::dict event_of(const slm::Event& event) {
  nb::dict out;
  out["kind"] = slm::event_name(event.kind);
  out["time"] = event.time;
  out["utterance"] = event.utterance;
  std::string json;
  slm::write_json(event, json);
  out["json"] = json;
  switch (event.kind) {
    case slm::EventKind::speech_start:
      out["start"] = event.has_start ? nb::object(nb::float_(event.start)) : nb::none();
      break;
    case slm::EventKind::partial:
      out["text"] = event.text;
      out["stable"] = event.stable;
      [[fallthrough]];
    case slm::EventKind::stable_words: out["words"] = words_of(event.words); break;
    default:
      out["revision"] = event.revision;
      out["commit"] = event.commit;
      if (event.kind != slm::EventKind::reset) out["result"] = result_of(event.result);
  }
  return out;
}

std::unique_ptr<slm::PersonalWords> compiled(const slm::Recognizer& recognizer,
                                             const std::vector<std::string>& phrases,
                                             const slm::PersonalWords::Classes& classes,
                                             const std::vector<std::string>& carriers) {
  if (phrases.empty() && classes.empty() && carriers.empty()) return nullptr;
  return std::make_unique<slm::PersonalWords>(recognizer.pieces(), phrases, classes, carriers);
}

}  // namespace

void bind_recognizer(nb::module_& module) {
  nb::class_<DeviceRecognizer>(module, "Recognizer")
      .def("__init__",
           [](DeviceRecognizer* self, const std::string& path, bool mapped) {
             checked([&] {
               new (self) DeviceRecognizer{std::make_shared<slm::Recognizer>(slm::PackFile::open(
                   path, mapped ? slm::PackMode::map : slm::PackMode::arena))};
             });
           })
      .def("set", [](DeviceRecognizer& r, const std::string& name,
                     double value) { checked([&] { r.handle->set(name, value); }); })
      .def("get", [](DeviceRecognizer& r, const std::string& name) {
        return checked([&] { return r.handle->get(name); });
      })
      .def("describe", [](DeviceRecognizer& r) { return r.handle->describe(); })
      .def("bytes", [](DeviceRecognizer& r) { return r.handle->bytes(); })
      .def("frame_seconds", [](DeviceRecognizer& r) { return r.handle->frame_seconds(); })
      .def("stream",
           [](DeviceRecognizer& r, const std::vector<std::string>& phrases,
              const slm::PersonalWords::Classes& classes, const std::vector<std::string>& carriers,
              bool endpointing, bool attention) {
             return checked([&] {
               nb::gil_scoped_release released;  // thousands of phrases take a third of a second
               return AudioStream{r.handle, std::make_unique<slm::Stream>(
                                           *r.handle,
                                           compiled(*r.handle, phrases, classes, carriers),
                                           endpointing, attention)};
             });
           });
  nb::class_<AudioStream>(module, "Stream")
      // (count) float32 samples at an address
      .def("accept", [](AudioStream& s, double rate, uintptr_t samples, int64_t count) {
        checked([&] { s.handle->accept(rate, reinterpret_cast<const float*>(samples), count); });
      })
      .def("finish", [](AudioStream& s) { checked([&] { s.handle->finish(); }); })
      .def("reset", [](AudioStream& s) { s.handle->reset(nullptr); })
      // The events that wait, as dicts.
      .def("events",
           [](AudioStream& s) {
             nb::list out;
             while (const slm::Event* event = s.handle->events().pop()) out.append(event_of(*event));
             return out;
           })
      .def("result", [](AudioStream& s) { return result_of(s.handle->result().result); })
      .def("time", [](AudioStream& s) { return s.handle->time(); })
      .def("bytes", [](AudioStream& s) { return s.handle->bytes(); })
      .def("counters", [](AudioStream& s) {
        const slm::Counters& c = s.handle->counters();
        nb::dict out;
        out["blocks"] = c.blocks;
        out["encoded"] = c.encoded;
        out["macs"] = c.macs;
        out["seconds"] = c.seconds;
        out["audio"] = c.audio + s.handle->time();
        out["lowered"] = s.handle->budget().lowered();
        out["raised"] = s.handle->budget().raised();
        out["beam"] = s.handle->budget().beam();
        return out;
      });
  module.def("decode", [](const nb::list& streams) {
    std::vector<slm::Stream*> all;
    for (nb::handle item : streams) all.push_back(nb::cast<AudioStream&>(item).handle.get());
    checked([&] {
      nb::gil_scoped_release released;
      slm::Stream::decode(all.data(), int(all.size()));
    });
  });
}
