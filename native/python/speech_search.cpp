// Python door to the search, its lattice and personal words: for tests against the Python classes
// and for measurements. The model is a toy whose log-probabilities both sides ask for.
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>

#include "module.h"
#include "runtime/error.h"
#include "device/file.h"
#include "speech/bias_words.h"
#include "speech/pointer.h"
#include "speech/search.h"
#include "speech/wire.h"

namespace {

using Floats = nb::ndarray<nb::numpy, float>;
using Doubles = nb::ndarray<nb::numpy, double>;
using Frame = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
nb::ndarray<nb::numpy, T> array(const std::vector<T>& values, std::vector<size_t> shape) {
  T* data = new T[values.size() + 1];
  std::copy(values.begin(), values.end(), data);
  nb::capsule owner(data, [](void* pointer) noexcept { delete[] static_cast<T*>(pointer); });
  return nb::ndarray<nb::numpy, T>(data, shape.size(), shape.data(), owner);
}

uint64_t mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// A model of no meaning: the scores of the next symbol are drawn by the frame, and by the last
// `context` labels. With `steps` they are multiples of 1 / steps nats, so that many are equal.
class ToyModel final : public slm::LabelModel {
 public:
  ToyModel(int vocab, uint64_t seed, int context, double sharp, double blank, int steps)
      : vocab_(vocab), seed_(seed), context_(context), sharp_(sharp), blank_(blank),
        steps_(steps) {}

  int vocab() const override { return vocab_; }
  int joint() const override { return 2; }
  size_t state_bytes() const override { return sizeof(uint32_t) * 8; }
  void start(void* state, float* label) const override {
    std::memset(state, 0, state_bytes());
    put(state, label);
  }
  void step(const void* from, int token, void* to, float* label) const override {
    uint32_t last[8];
    std::memcpy(last, from, sizeof last);
    std::memmove(last + 1, last, sizeof last - sizeof *last);
    last[0] = uint32_t(token);
    std::memcpy(to, last, sizeof last);
    put(to, label);
  }
  void log_probs(const float* acoustic, const float* const* labels, int n,
                 float* out) const override {
    for (int i = 0; i < n; i++) row(acoustic, labels[i], out + size_t(i) * size_t(vocab_));
  }

 private:
  // 22 bits of the hash in each of two floats that are whole numbers.
  void put(const void* state, float* label) const {
    uint32_t last[8];
    std::memcpy(last, state, sizeof last);
    uint64_t hash = seed_;
    for (int i = 0; i < context_ && i < 8; i++) hash = mixed(hash ^ last[i]);
    label[0] = float(hash & 0x3FFFFF);
    label[1] = float(hash >> 42);
  }
  void row(const float* acoustic, const float* label, float* out) const {
    uint64_t hash = mixed(uint64_t(acoustic[0]) * 0x10001 + seed_);
    const uint64_t common = hash;
    hash = mixed(hash ^ uint64_t(label[0]) ^ uint64_t(label[1]) << 32);
    double sum = 0;
    for (int v = 0; v < vocab_; v++) {
      // What the frame says about a symbol counts more than what came before.
      const double heard = double(mixed(common + uint64_t(v)) >> 11) * 0x1p-53;
      const double guessed = double(mixed(hash + uint64_t(v)) >> 11) * 0x1p-53;
      double score = sharp_ * (4 * heard * heard + guessed) + (v ? 0.0 : blank_ * acoustic[1]);
      if (steps_) score = std::floor(score * steps_) / steps_ - 6 * sharp_;
      out[v] = float(score);
      sum += std::exp(double(out[v]));
    }
    if (steps_) return;  // no probabilities, but scores that are often equal
    const double log_sum = std::log(sum);
    for (int v = 0; v < vocab_; v++) out[v] = float(double(out[v]) - log_sum);
  }

  int vocab_;
  uint64_t seed_;
  int context_;
  double sharp_, blank_;
  int steps_;
};

slm::DecodeConfig config_of(nb::dict given) {
  slm::DecodeConfig c;
  for (auto item : given) {
    const std::string name = nb::cast<std::string>(item.first);
    const nb::handle value = item.second;
#define SLM_FIELD(field) \
  if (name == #field) c.field = nb::cast<decltype(c.field)>(value), (void)0; else
    SLM_FIELD(beam) SLM_FIELD(max_symbols) SLM_FIELD(expand_beam) SLM_FIELD(state_beam)
    SLM_FIELD(label_bonus) SLM_FIELD(label_context) SLM_FIELD(lattice) SLM_FIELD(lattice_beam)
    SLM_FIELD(alternatives) SLM_FIELD(nbest) SLM_FIELD(confidence_scale) SLM_FIELD(stable_beam)
    SLM_FIELD(stable_frames) SLM_FIELD(longest_seconds) SLM_FIELD(labels_per_frame)
#undef SLM_FIELD
    if (name == "method")
      c.greedy = nb::cast<std::string>(value) == "greedy";
    else
      throw nb::value_error(("unknown setting " + name).c_str());
  }
  return c;
}

nb::list words_of(const std::string& text, const std::vector<slm::Word>& words) {
  nb::list out;
  for (const slm::Word& w : words)
    out.append(nb::make_tuple(text.substr(w.at, w.size), w.start, w.end, w.confidence));
  return out;
}

nb::dict lattice_of(const slm::Lattice& lattice) {
  std::vector<int> frames = lattice.frames, arcs;
  std::vector<float> scores;
  for (const slm::Lattice::Arc& arc : lattice.arcs) {
    for (const int value : {arc.source, arc.target, arc.label, arc.first, arc.last})
      arcs.push_back(value);
    scores.push_back(arc.acoustic);
    scores.push_back(arc.bias);
  }
  const size_t count = lattice.arcs.size();
  nb::dict out;
  out["frames"] = array(frames, {frames.size()});
  out["arcs"] = array(arcs, {count, 5});
  out["scores"] = array(scores, {count, 2});
  out["spans"] = lattice.spans;
  nb::list symbols;
  for (const std::string& symbol : lattice.symbols) symbols.append(symbol);
  out["symbols"] = symbols;
  out["frame_seconds"] = lattice.frame_seconds;
  return out;
}

// The words of a lattice of pieces that is given as lattice_of gives one.
nb::dict words_within(std::vector<int> frames, std::vector<std::vector<int>> arcs,
                      std::vector<std::vector<float>> scores, std::vector<std::string> symbols,
                      bool spans, int64_t limit) {
  slm::Lattice pieces;
  pieces.frames = std::move(frames);
  for (size_t i = 0; i < arcs.size(); i++) {
    const std::vector<int>& a = arcs.at(i);
    pieces.arcs.push_back({a.at(0), a.at(1), a.at(2), scores.at(i).at(0), scores.at(i).at(1),
                           a.at(3), a.at(4)});
  }
  pieces.symbols = std::move(symbols);
  pieces.frame_seconds = 0.06;
  pieces.spans = spans;
  return lattice_of(slm::word_lattice(pieces, limit));
}

// A vocabulary, a toy and a search in one; kept apart from the system while frames are decoded.
class ToySearch {
 public:
  ToySearch(const ToyModel& model, const slm::WordPieces& pieces, nb::dict config,
            double frame_seconds)
      : decoder_(model, pieces, config_of(config), frame_seconds), search_(decoder_) {}

  void start(slm::PersonalWords* words, int first_frame) {
    search_.start(words ? words->bias() : nullptr, first_frame);
  }
  void advance(Frame acoustic) {
    if (int(acoustic.shape(0)) != decoder_.model.joint())
      throw nb::value_error("an acoustic vector of another size");
    search_.advance(acoustic.data());
  }
  nb::dict partial() {
    const slm::Partial& p = search_.partial();
    nb::dict out;
    out["text"] = p.text;
    out["tokens"] = array(p.tokens, {p.tokens.size()});
    out["frames"] = array(p.frames, {p.frames.size()});
    out["words"] = words_of(p.text, p.words);
    out["stable_words"] = p.stable_words;
    out["log_prob"] = p.log_prob;
    out["pause_frames"] = p.pause_frames;
    out["blank_frames"] = p.blank_frames;
    out["blank_probability"] = p.blank_probability;
    return out;
  }
  nb::dict finish(int64_t limit) {
    const slm::DecodeResult result = search_.finish();
    nb::list nbest;
    for (const slm::Hypothesis& h : result.nbest) {
      nb::dict one;
      one["text"] = h.text;
      one["tokens"] = array(h.tokens, {h.tokens.size()});
      one["frames"] = array(h.frames, {h.frames.size()});
      one["log_probs"] = array(h.log_probs, {h.log_probs.size()});
      one["words"] = words_of(h.text, h.words);
      one["acoustic"] = h.acoustic;
      one["bias"] = h.bias;
      one["log_prob"] = h.log_prob;
      nbest.append(one);
    }
    nb::dict out;
    out["nbest"] = nbest;
    out["end_frame"] = result.end_frame;
    out["forgotten_before"] = result.forgotten_before;
    out["narrowed"] = result.narrowed;
    if (!result.has_lattice) return out;
    const slm::Lattice words = slm::word_lattice(result.lattice);
    out["lattice"] = lattice_of(result.lattice);
    out["words"] = lattice_of(words);
    slm::Message message;
    message.lattice = &words;
    message.utterance = 3;
    message.revision = 300;
    message.reason = "silence";
    message.duration = 2.3456;
    message.has_language = true;
    message.language = "en";
    out["message"] = bytes(slm::encode_message(message, limit));
    message.lattice = &result.lattice;
    message.has_speaker = message.has_whisper = true;
    message.speaker = "ann";
    message.speaker_score = -1.25;
    message.whisper = 0.25;
    out["piece_message"] = bytes(slm::encode_message(message, 0));
    return out;
  }
  // Microseconds a frame, the best of `rounds`, over `frames` (n, J).
  double time(nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu> frames,
              slm::PersonalWords* words, int rounds) {
    double best = INFINITY;
    for (int r = 0; r < rounds; r++) {
      start(words, 0);
      const auto before = std::chrono::steady_clock::now();
      for (size_t i = 0; i < frames.shape(0); i++) {
        search_.advance(frames.data() + i * frames.shape(1));
        search_.partial();
      }
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
      best = std::min(best, took.count() * 1e6 / double(frames.shape(0)));
    }
    return best;
  }
  slm::Search& search() { return search_; }

 private:
  static nb::bytes bytes(const std::vector<uint8_t>& data) {
    return nb::bytes(reinterpret_cast<const char*>(data.data()), data.size());
  }

  slm::Decoder decoder_;
  slm::Search search_;
};

// The attention of a device file's model to a list of phrases, in piece ids.
class FileListed {
 public:
  FileListed(const std::string& path, int vocab, int joint, std::vector<slm::Spelling> phrases)
      : vocab_(vocab), joint_(joint),
        weights_(slm::PointerWeights::read(slm::PackFile::open(path, slm::PackMode::arena), vocab,
                                           joint)) {
    if (!weights_) throw nb::value_error("the file's model has no attention to phrases");
    listed_ = std::make_unique<slm::Listed>(*weights_, phrases);
  }
  int64_t step(int64_t state, int token) { return listed_->step(state, token); }
  Floats add(Frame acoustic, Frame label, int64_t state, Frame log_probs) {
    if (int(acoustic.shape(0)) != joint_ || int(label.shape(0)) != joint_ ||
        int(log_probs.shape(0)) != vocab_)
      throw nb::value_error("a vector of another size");
    std::vector<float> row(log_probs.data(), log_probs.data() + vocab_);
    listed_->hear(acoustic.data());
    listed_->add(label.data(), state, nullptr, row.data());
    return array(row, {row.size()});
  }

 private:
  int vocab_, joint_;
  std::unique_ptr<const slm::PointerWeights> weights_;
  std::unique_ptr<slm::Listed> listed_;
};

std::vector<int> next_tokens(slm::PersonalWords& words, int64_t state, int width) {
  std::vector<char> open(size_t(width), 0);
  words.bias()->next(state, open.data());
  std::vector<int> out;
  for (int v = 0; v < width; v++)
    if (open[size_t(v)]) out.push_back(v);
  return out;
}

Doubles bias_row(slm::PersonalWords& words, int64_t state, int width) {
  std::vector<double> row(size_t(width), 0.0);
  words.bias()->scores(state, row.data());
  return array(row, {size_t(width)});
}

nb::list dropped_of(const slm::PersonalWords& words) {
  nb::list out;
  for (const slm::DroppedPhrase& d : words.dropped()) out.append(nb::make_tuple(d.text, d.reason));
  return out;
}

nb::list phrases_of(const slm::PersonalWords& words) {
  nb::list out;
  for (const slm::SpelledPhrase& p : words.phrases())
    out.append(nb::make_tuple(p.text, p.worth, p.segmentations));
  return out;
}

// Milliseconds that compiling takes.
double time_compiling(const slm::WordPieces& pieces, std::vector<std::string> phrases,
                      int segmentations) {
  slm::PersonalConfig config;
  config.segmentations = segmentations;
  const auto before = std::chrono::steady_clock::now();
  const slm::PersonalWords words(pieces, phrases, {}, {}, config);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
  return took.count() * 1e3;
}

void bind_words(nb::module_& module) {
  nb::class_<slm::WordPieces>(module, "WordPieces")
      .def(nb::init<std::vector<std::string>, std::vector<float>, std::vector<int>>(),
           nb::arg("texts"), nb::arg("scores"), nb::arg("types") = std::vector<int>());
  nb::class_<slm::Segmenter>(module, "Segmenter")
      .def(nb::init<const slm::WordPieces&>(), nb::keep_alive<1, 2>())
      .def("encode", &slm::Segmenter::encode)
      .def("encode_nbest", &slm::Segmenter::encode_nbest);
  module.def("spoken_text", &slm::spoken_text);
  nb::class_<slm::PersonalWords>(module, "PersonalWords")
      .def("__init__",
           [](slm::PersonalWords* self, const slm::WordPieces& pieces,
              std::vector<std::string> phrases, slm::PersonalWords::Classes classes,
              std::vector<std::string> carriers, double boost, int segmentations, bool possessives,
              bool strict) {
             slm::PersonalConfig config;
             config.boost = boost;
             config.segmentations = segmentations;
             config.possessives = possessives;
             config.strict = strict;
             new (self) slm::PersonalWords(pieces, phrases, classes, carriers, config);
           },
           nb::arg("pieces"), nb::arg("phrases"),
           nb::arg("classes") = slm::PersonalWords::Classes(),
           nb::arg("carriers") = std::vector<std::string>(), nb::arg("boost") = 1.5,
           nb::arg("segmentations") = 4, nb::arg("possessives") = false, nb::arg("strict") = true)
      .def_prop_ro("empty", [](slm::PersonalWords& w) { return w.bias() == nullptr; })
      .def_prop_ro("dropped", dropped_of)
      .def_prop_ro("phrases", phrases_of)
      .def("step", [](slm::PersonalWords& w, int64_t s, int token) { return w.bias()->step(s, token); })
      .def("final", [](slm::PersonalWords& w, int64_t s) { return w.bias()->final(s); })
      .def("scores", bias_row)
      .def("next_tokens", next_tokens);
  module.def("time_compiling", time_compiling);
}

}  // namespace

void bind_speech_search(nb::module_& parent) {
  nb::module_ module = parent.def_submodule("speech_search", "The search: see tests/speech.");
  nb::exception<slm::BadArgument>(module, "BadArgument", PyExc_ValueError);
  bind_words(module);
  nb::class_<FileListed>(module, "Listed")
      .def(nb::init<const std::string&, int, int, std::vector<slm::Spelling>>())
      .def("step", &FileListed::step)
      .def("add", &FileListed::add);
  module.def("words_within", words_within);
  nb::class_<ToyModel>(module, "ToyModel")
      .def(nb::init<int, uint64_t, int, double, double, int>(), nb::arg("vocab"), nb::arg("seed"),
           nb::arg("context"), nb::arg("sharp"), nb::arg("blank"), nb::arg("steps") = 0)
      .def("log_probs", [](const ToyModel& model, Frame acoustic,
                           const std::vector<std::vector<int>>& prefixes) {
        std::vector<float> out(prefixes.size() * size_t(model.vocab()));
        for (size_t i = 0; i < prefixes.size(); i++) {
          alignas(64) char state[2][64];
          float label[2];
          const float* labels[1] = {label};
          model.start(state[0], label);
          int at = 0;
          for (const int token : prefixes[i]) {
            model.step(state[at], token, state[1 - at], label);
            at = 1 - at;
          }
          model.log_probs(acoustic.data(), labels, 1, &out[i * size_t(model.vocab())]);
        }
        return array(out, {prefixes.size(), size_t(model.vocab())});
      });
  nb::class_<ToySearch>(module, "ToySearch")
      .def(nb::init<const ToyModel&, const slm::WordPieces&, nb::dict, double>(),
           nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>())
      .def("start", &ToySearch::start, nb::arg("words").none() = nb::none(),
           nb::arg("first_frame") = 0, nb::keep_alive<1, 2>())
      .def("advance", &ToySearch::advance)
      .def("partial", &ToySearch::partial)
      .def("finish", &ToySearch::finish, nb::arg("limit") = 0)
      .def("set_beam", [](ToySearch& s, int beam) { s.search().set_beam(beam); })
      .def_prop_ro("room", [](ToySearch& s) { return s.search().room(); })
      .def_prop_ro("bytes", [](ToySearch& s) { return s.search().bytes(); })
      .def("time", &ToySearch::time, nb::arg("frames"), nb::arg("words").none() = nb::none(),
           nb::arg("rounds") = 3);
}
