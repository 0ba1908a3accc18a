// What a device file says of a recogniser, and the settings by name; see recognizer.h.
#include "recognizer.h"

#include <cmath>
#include <cstring>

#include "events.h"
#include "runtime/error.h"
#include "solomonic.h"

namespace slm {

namespace {

constexpr double kMost = 1e9;  // bytes

// A setting by its name: a pointer to where it stands in `SpeechSettings`.
struct Field {
  const char* name;
  double* real;
  int* whole;
  bool* flag;
};

template <class Visit>
void each_field(SpeechSettings& s, const Visit& visit) {
  const auto real = [&](const char* name, double& at) {
    visit(Field{name, &at, nullptr, nullptr});
  };
  const auto whole = [&](const char* name, int& at) {
    visit(Field{name, nullptr, &at, nullptr});
  };
  const auto flag = [&](const char* name, bool& at) {
    visit(Field{name, nullptr, nullptr, &at});
  };
  flag("decode.greedy", s.decode.greedy);
  whole("decode.beam", s.decode.beam);
  whole("decode.max_symbols", s.decode.max_symbols);
  real("decode.expand_beam", s.decode.expand_beam);
  real("decode.label_bonus", s.decode.label_bonus);
  real("decode.state_beam", s.decode.state_beam);
  whole("decode.label_context", s.decode.label_context);
  flag("decode.lattice", s.decode.lattice);
  real("decode.lattice_beam", s.decode.lattice_beam);
  whole("decode.alternatives", s.decode.alternatives);
  whole("decode.nbest", s.decode.nbest);
  real("decode.confidence_scale", s.decode.confidence_scale);
  real("decode.stable_beam", s.decode.stable_beam);
  whole("decode.stable_frames", s.decode.stable_frames);
  real("endpoint.start_ms", s.endpoint.start_ms);
  real("endpoint.speech_threshold", s.endpoint.speech_threshold);
  flag("endpoint.speculate", s.endpoint.speculate);
  real("endpoint.speculative_ms", s.endpoint.speculative_ms);
  real("endpoint.speculative_threshold", s.endpoint.speculative_threshold);
  real("endpoint.final_ms", s.endpoint.final_ms);
  real("endpoint.final_threshold", s.endpoint.final_threshold);
  real("endpoint.silence_ms", s.endpoint.silence_ms);
  real("endpoint.nothing_ms", s.endpoint.nothing_ms);
  real("endpoint.label_silence_ms", s.endpoint.label_silence_ms);
  real("endpoint.silence_limit_ms", s.endpoint.silence_limit_ms);
  real("endpoint.utterance_limit_ms", s.endpoint.utterance_limit_ms);
  whole("endpoint.speculations_limit", s.endpoint.speculations_limit);
  whole("voice.bands", s.voice.bands);
  whole("voice.highest", s.voice.highest);
  real("voice.smoothing", s.voice.smoothing);
  whole("voice.floor_frames", s.voice.floor_frames);
  real("voice.lowest_floor", s.voice.lowest_floor);
  real("voice.range", s.voice.range);
  real("voice.fade", s.voice.fade);
  real("voice.margin", s.voice.margin);
  real("voice.slope", s.voice.slope);
  real("voice.cap", s.voice.cap);
  whole("voice.hangover_frames", s.voice.hangover_frames);
  whole("voice.opening_frames", s.voice.opening_frames);
  whole("voice.announced_frames", s.voice.announced_frames);
  real("threads", s.threads);
  real("budget", s.budget);
  real("longest_s", s.decode.longest_seconds);
  real("lattice_limit", s.lattice_limit);
  flag("attention", s.attention);
}

double value_of(const Field& field) {
  return field.real ? *field.real : field.whole ? double(*field.whole) : double(*field.flag);
}

void check(const SpeechSettings& s) {
  s.decode.check();
  s.endpoint.check();
  s.voice.check();
  require(s.threads >= 1 && s.threads <= 256 && s.threads == std::floor(s.threads),
          "threads must be a whole number between 1 and 256.");
  require(s.budget >= 0 && s.budget <= 1,
          "budget must be a share of one core, above 0 and at most 1, or 0 for no limit.");
  require(s.lattice_limit >= 0 && s.lattice_limit <= kMost,
          "lattice_limit must be a number of bytes, or 0 for 200 a second.");
}

}  // namespace

Recognizer::Recognizer(PackFile file) : file_(std::move(file)) {
  const std::string type = file_.text("model.type");
  require(type == "solomonic-transducer",
          file_.name() + " holds a model of type '" + type + "', no recogniser.");
  const int64_t version = file_.integer("model.version");
  require(version == 1, file_.name() + " holds a recogniser of version " + std::to_string(version) +
                            ", this program reads 1; update solomonic.");
  require(file_.vocabulary() == PackVocabulary::pieces,
          file_.name() + " holds no word pieces; make it again.");
  net_ = std::make_unique<SpeechNet>(file_);
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<int> types;
  for (const PackPiece& piece : file_.pieces()) {
    texts.emplace_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(piece.type);
  }
  pieces_ = std::make_unique<WordPieces>(std::move(texts), std::move(scores), std::move(types));
  frame_seconds_ = double(net_->frames_per_step()) * file_.real("transducer.shift_ms") / 1000;
  settings_.decode.longest_seconds = 30;
  read_settings();
  read_end();
  pointer_ = PointerWeights::read(file_, net_->vocab(), net_->joint());
  // What does not fit together is said now, not at the first stream.
  Decoder(*net_, *pieces_, settings_.decode, frame_seconds_);
  Voice(settings_.voice, net_->bins());
}

void Recognizer::read_settings() {
  lead_blocks_ = file_.integer("stream.lead_blocks", 1, 1000);
  tail_blocks_ = file_.integer("stream.tail_blocks", 0, 1000);
  each_field(settings_, [&](const Field& field) {
    if (!std::strchr(field.name, '.') || !file_.has(field.name)) return;
    if (field.real)
      *field.real = file_.real(field.name);
    else if (field.whole)
      *field.whole = file_.integer(field.name, 0, 1 << 24);
    else
      *field.flag = file_.flag(field.name);
  });
  if (file_.has("decode.method")) settings_.decode.greedy = file_.text("decode.method") == "greedy";
  check(settings_);
}

void Recognizer::read_end() {
  if (!file_.has("end.hidden_size")) return;
  EndHeadWeights w;
  w.hidden_size = file_.integer("end.hidden_size", 1, 1 << 16);
  w.label_size = file_.integer("end.label_size", 1, 1 << 16);
  w.width = file_.integer("end.width", 1, 1 << 12);
  w.memory = file_.integer("end.memory", 1, 1 << 12);
  require(w.hidden_size == net_->hidden() && w.label_size == net_->joint(),
          file_.name() + " has an end head of other sizes than its model; make it again.");
  const int joined = 2 * w.width + w.width / 2;
  // A few ten thousand numbers in all, and each is read once a block: kept as floats.
  end_parameters_.reserve(12);
  const auto take = [&](const char* name, int64_t count) {
    end_parameters_.push_back(file_.values(std::string("end.") + name, count));
    return end_parameters_.back().data();
  };
  w.hidden = take("hidden.weight", int64_t(w.width) * w.hidden_size);
  w.hidden_bias = take("hidden.bias", w.width);
  w.label = take("label.weight", int64_t(w.width) * w.label_size);
  w.label_bias = take("label.bias", w.width);
  w.pauses = take("pauses.weight", int64_t(w.width / 2) * kPauseFeatures);
  w.pauses_bias = take("pauses.bias", w.width / 2);
  w.input = take("recurrence.weight_ih_l0", int64_t(3) * w.memory * joined);
  w.input_bias = take("recurrence.bias_ih_l0", 3 * w.memory);
  w.recur = take("recurrence.weight_hh_l0", int64_t(3) * w.memory * w.memory);
  w.recur_bias = take("recurrence.bias_hh_l0", 3 * w.memory);
  w.out = take("out.weight", w.memory);
  w.out_bias = take("out.bias", 1);
  end_ = std::make_unique<EndHead>(w);
}

void Recognizer::set(const std::string& name, double value) {
  SpeechSettings changed = settings_;
  bool found = false;
  each_field(changed, [&](const Field& field) {
    if (name != field.name) return;
    found = true;
    require(!std::isnan(value), name + " cannot be NaN.");
    if (field.real) {
      *field.real = value;
    } else if (field.whole) {
      require(value == std::floor(value) && std::fabs(value) <= 1 << 24,
              name + " must be a whole number.");
      *field.whole = int(value);
    } else {
      require(value == 0 || value == 1, name + " must be 0 or 1.");
      *field.flag = value == 1;
    }
  });
  require(found, "there is no setting '" + name + "'; names are those of Python's settings, such as "
                 "decode.beam, endpoint.silence_ms or budget.");
  check(changed);
  if (changed.voice.bands != settings_.voice.bands) Voice(changed.voice, net_->bins());
  settings_ = changed;
}

double Recognizer::get(const std::string& name) const {
  double value = 0;
  bool found = false;
  each_field(const_cast<SpeechSettings&>(settings_), [&](const Field& field) {
    if (name == field.name) {
      value = value_of(field);
      found = true;
    }
  });
  require(found, "there is no setting '" + name + "'.");
  return value;
}

std::string Recognizer::describe() const {
  std::string out = "{\"model\": ";
  write_json(file_.name().c_str(), out);
  const auto member = [&](const char* name, double value) {
    out += std::string(", \"") + name + "\": ";
    if (value == std::floor(value) && std::fabs(value) < 1e15)
      out += std::to_string(int64_t(value));
    else
      write_json(value, out);
  };
  int64_t numbers = 0, bytes = 0;
  for (const PackTensor& tensor : file_.tensors()) {
    numbers += tensor.count();
    bytes += int64_t(tensor.bytes + tensor.scale_bytes + tensor.table_bytes);
  }
  out += ", \"kernels\": ";
  write_json(slm_isa(), out);
  member("parameters", double(numbers));
  member("weight_bytes", double(bytes));
  member("file_bytes", double(file_.bytes()));
  member("memory_bytes", double(this->bytes()));
  member("pieces", pieces_->size());
  member("frame_seconds", frame_seconds_);
  out += ", \"end_pointer\": ";
  out += end_ ? "\"model and rules\"" : "\"rules\"";
  out += ", \"attention\": ";
  out += pointer_ ? "true" : "false";
  out += ", \"layers\": ";
  write_json((file_.text("transducer.front") + " " + file_.text("transducer.pattern")).c_str(), out);
  out += ", \"settings\": {";
  bool first = true;
  each_field(const_cast<SpeechSettings&>(settings_), [&](const Field& field) {
    out += first ? "" : ", ";
    first = false;
    write_json(field.name, out);
    out += ": ";
    const double value = value_of(field);
    if (field.flag)
      out += *field.flag ? "true" : "false";
    else if (field.whole)
      out += std::to_string(*field.whole);
    else
      write_json(value, out);
  });
  return out + "}}";
}

size_t Recognizer::bytes() const {
  size_t bytes = file_.memory() + size_t(net_->bytes());
  for (const auto& parameters : end_parameters_) bytes += parameters.size() * sizeof(float);
  if (pointer_) bytes += pointer_->bytes();
  return bytes;
}

}  // namespace slm
