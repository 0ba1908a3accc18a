// Building the networks; the encoder's part of them.
#include "net.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "device/file.h"
#include "runtime/error.h"

namespace slm {

namespace {

constexpr int kLargest = 1 << 20;  // of any size of the networks around the layers

slm_config stack_config(const NetConfig& config, const std::string& letters) {
  slm_config c = config.layers;
  c.layers = letters.c_str();
  c.short_conv_layers = config.short_conv_layers.c_str();
  return c;
}

// Checked before anything is built with it.
const NetConfig& checked(const NetConfig& c) {
  const auto within = [](int64_t value, int64_t least, int64_t most, const char* name) {
    require(value >= least && value <= most,
            std::string(name) + " = " + std::to_string(value) + " must lie between " +
                std::to_string(least) + " and " + std::to_string(most) + ".");
  };
  within(c.vocab, 2, kLargest, "vocab_size");
  within(c.features.bins, 1, 1024, "bins");
  within(c.stack, 1, 64, "stack");
  within(c.reduction, 1, 64, "reduction");
  within(c.predictor_size, 1, 1 << 14, "predictor_size");
  within(c.predictor_layers, 1, 64, "predictor_layers");
  within(c.predictor_context, 1, 64, "predictor_context");
  within(c.joint, 1, kMostInputs, "joint_size");
  within(c.layers.hidden_size, 1, 1 << 14, "hidden_size");
  within(int64_t(c.reduction) * c.layers.hidden_size, 1, kMostInputs, "reduction * hidden_size");
  require((c.front + c.pattern).find('T') == std::string::npos,
          "full attention ('T') would make a stream's memory grow without end; use another letter.");
  return c;
}

// Parameters where they lie in a device file.
class PackParameters : public Parameters {
 public:
  explicit PackParameters(const PackFile& file) : file_(file) {}
  Floats floats(const std::string& name, int64_t count) override {
    return file_.values("transducer." + name, count);
  }
  Matrix matrix(const std::string& name, int outputs, int inputs) override {
    return file_.weights("transducer." + name, outputs, inputs);
  }

 private:
  const PackFile& file_;
};

NetConfig read_config(const PackFile& file) {
  const auto size = [&](const char* key, int least = 0) {
    return file.integer(key, least, kLargest);
  };
  const auto one_of = [&](const std::string& key, const char* first, const char* second) {
    const std::string value = file.text(key);
    require(value == first || value == second,
            file.name() + ": " + key + " = '" + value + "' is unknown; use '" + first + "' or '" +
                second + "'.");
    return value == second;
  };
  NetConfig c;
  c.vocab = size("transducer.vocab_size");
  c.stack = size("transducer.stack");
  c.reduction = size("transducer.reduction");
  c.front = file.text("transducer.front");
  c.pattern = file.text("transducer.pattern");
  c.lstm = !one_of("transducer.predictor", "lstm", "stateless");
  c.predictor_size = size("transducer.predictor_size");
  c.predictor_layers = size("transducer.predictor_layers");
  c.predictor_context = size("transducer.predictor_context");
  c.joint = size("transducer.joint_size");
  slm_config& layers = c.layers;
  layers.vocab_size = 1;
  layers.hidden_size = size("layers.hidden_size");
  layers.heads = size("layers.num_attention_heads");
  layers.key_value_heads = size("layers.num_key_value_heads");
  layers.head_dim = size("layers.head_dim");
  layers.mlp_size = size("layers.intermediate_size");
  layers.window = size("layers.window_size");
  layers.refresh = size("layers.refresh_period");
  layers.slots = size("layers.eidetic_slots");
  layers.fading = size("layers.fading_slots");
  layers.lag = size("layers.fading_lag");
  layers.taps = size("layers.predictor_taps");
  layers.ssm_state = size("layers.ssm_state_size");
  layers.ssm_head_dim = size("layers.ssm_head_dim");
  layers.ssm_expand = size("layers.ssm_expand");
  layers.ssm_conv = size("layers.ssm_conv_size");
  layers.chunk = size("layers.chunk_size");
  layers.short_conv = size("layers.short_conv_size");
  layers.chunked_fading = one_of("layers.fading_mode", "band", "chunk");
  layers.fading_skip = file.flag("layers.fading_skip");
  layers.keep_duplicates = file.flag("layers.keep_duplicates");
  layers.delta_transition = one_of("layers.transition", "ssd", "delta");
  layers.tied = 1;
  const bool turned = one_of("layers.position", "none", "rope");
  layers.rope_theta = turned ? float(file.real("layers.rope_theta")) : 0.0f;
  layers.norm_eps = float(file.real("layers.norm_eps"));
  c.short_conv_layers = file.text("layers.short_conv_layers");
  FeatureConfig& features = c.features;
  features.sample_rate = size("features.sample_rate");
  features.bins = size("features.bins");
  features.frame_ms = file.real("features.frame_ms");
  features.shift_ms = file.real("features.shift_ms");
  features.low = file.real("features.low");
  features.high = file.real("features.high");
  require(file.real("features.dither") == 0, file.name() + ": features.dither must be 0.");
  require(features.bins == size("transducer.bins") &&
              layers.hidden_size == size("transducer.hidden_size"),
          file.name() + ": its settings contradict each other; make the file again.");
  return c;
}

}  // namespace

SpeechNet::SpeechNet(const NetConfig& config, slm_weights weights)
    : config_(checked(config)), given_(GivenParameters(weights)),
      back_(stack_config(config_, config_.pattern)) {
  if (!config_.front.empty()) front_.emplace(stack_config(config_, config_.front));
  config_.features.check();
}

SpeechNet::SpeechNet(const PackFile& file) : SpeechNet(read_config(file), SLM_F32) {
  given_.reset();
  PackParameters parameters(file);
  build(parameters);
}

void SpeechNet::set(const std::string& name, const float* values, int64_t count) {
  require(given_.has_value(), "the networks are finished; their parameters no longer change.");
  given_->set(name, values, count);
}

void SpeechNet::finish() {
  require(given_.has_value(), "the networks are finished already.");
  given_->build_twice([&] { build(*given_); });
  given_.reset();
}

void SpeechNet::build(Parameters& from) {
  const int width = hidden(), size = config_.predictor_size;
  mean_ = from.floats("encoder.mean", bins());
  deviation_ = from.floats("encoder.deviation", bins());
  embed_ = from.matrix("encoder.embed.weight", width, bins() * config_.stack);
  if (front_) front_->build(from, "encoder.front.");
  join_ = from.matrix("encoder.join.weight", width, width * config_.reduction);
  back_.build(from, "encoder.back.");
  norm_ = from.floats("encoder.norm.weight", width);
  to_joint_ = from.matrix("to_joint.weight", joint(), width);
  to_joint_bias_ = from.floats("to_joint.bias", joint());
  labels_ = from.matrix("predictor.embed.weight", vocab(), size);
  lstms_.clear();
  if (config_.lstm)
    for (int i = 0; i < config_.predictor_layers; i++)
      lstms_.push_back(lstm_of(from, "predictor.layers." + std::to_string(i) + ".cell", size));
  else mix_ = from.floats("predictor.mix", int64_t(config_.predictor_context) * size);
  output_ = from.matrix("predictor.output.weight", joint(), size);
  output_bias_ = from.floats("predictor.output.bias", joint());
  symbols_ = from.matrix("joint.weight", vocab(), joint());
  symbols_bias_ = from.floats("joint.bias", vocab());
  whole_ = true;
  each_matrix([&](const Matrix& matrix, int) {
    const slm_weights kind = matrix.input_kind();
    if (kind != SLM_INT8 && kind != SLM_INT4) whole_ = false;
  });
}

// body(matrix, how often a frame reads it; 0: it is not the encoder's).
template <class Body>
void SpeechNet::each_matrix(const Body& body) const {
  const auto stack = [&](const Stack& layers, int times) {
    for (const Layer& layer : layers.layers)
      layer.each_matrix([&](const Matrix& matrix) { body(matrix, times); });
  };
  body(embed_, config_.reduction);
  if (front_) stack(*front_, config_.reduction);
  body(join_, 1);
  stack(back_, 1);
  body(to_joint_, 1);
  for (const Lstm& lstm : lstms_) {
    body(lstm.input, 0);
    body(lstm.recurrent, 0);
  }
  for (const Matrix* matrix : {&labels_, &output_, &symbols_}) body(*matrix, 0);
}

int64_t SpeechNet::bytes() const {
  size_t total = 0;
  for (const Matrix* matrix : {&embed_, &join_, &to_joint_, &labels_, &output_, &symbols_})
    total += matrix->bytes();
  for (const Lstm& lstm : lstms_)
    total += lstm.input.bytes() + lstm.recurrent.bytes() +
             (lstm.bias.size() + lstm.zero.size()) * 4;
  for (const Floats* values : {&mean_, &deviation_, &norm_, &to_joint_bias_, &mix_, &output_bias_,
                               &symbols_bias_})
    total += values->size() * 4;
  return int64_t(total) + back_.bytes() + (front_ ? front_->bytes() : 0);
}

int64_t SpeechNet::macs_per_frame() const {
  int64_t total = 0;
  each_matrix([&](const Matrix& matrix, int times) { total += times * matrix.stored(); });
  return total;
}

int64_t SpeechNet::macs_per_label() const {
  int64_t total = output_.stored();
  for (const Lstm& lstm : lstms_) total += lstm.input.stored() + lstm.recurrent.stored();
  return total;
}

int64_t SpeechNet::macs_per_row() const { return symbols_.stored(); }

// The encoder -------------------------------------------------------------------------------------

EncoderState::EncoderState(const SpeechNet& net) : back_(net.back_) {
  if (net.front_) front_.emplace(*net.front_);
}

void EncoderState::reset() {
  if (front_) front_->reset();
  back_.reset();
}

int64_t EncoderState::bytes() const { return back_.bytes() + (front_ ? front_->bytes() : 0); }

size_t EncoderState::saved_bytes() const {
  return back_.saved_bytes() + (front_ ? front_->saved_bytes() : 0);
}

void EncoderState::save(void* to) const {
  back_.save(to);
  if (front_) front_->save(static_cast<char*>(to) + back_.saved_bytes());
}

void EncoderState::load(const void* from) {
  back_.load(from);
  if (front_) front_->load(static_cast<const char*>(from) + back_.saved_bytes());
}

EncoderScratch::EncoderScratch(const SpeechNet& net, int streams) : back_(net.back_) {
  require(streams >= 1, "scratch must be for at least one stream.");
  if (net.front_) front_.emplace(*net.front_);
  front_segments_.reserve(size_t(streams));
  back_segments_.reserve(size_t(streams));
  // Everything grows to its size by being used once.
  const size_t count = size_t(streams);
  const Floats frame(size_t(net.frames_per_step()) * net.bins(), 0.0f);
  Floats hidden(size_t(net.hidden()), 0.0f), acoustic(size_t(net.joint()), 0.0f);
  std::vector<EncoderState> states(count, EncoderState{net});
  std::vector<EncoderState*> each;
  for (EncoderState& state : states) each.push_back(&state);
  const std::vector<const float*> frames(count, frame.data());
  const std::vector<float*> one(count, hidden.data()), two(count, acoustic.data());
  Threads alone(1);
  net.encode(each.data(), frames.data(), streams, one.data(), two.data(), *this, alone);
}

int64_t EncoderScratch::bytes() const {
  return back_.bytes() + (front_ ? front_->bytes() : 0) +
         int64_t(input_.bytes() + frames_.bytes() + embedded_.bytes() + hidden_.bytes() +
                 acoustic_.bytes());
}

void SpeechNet::encode(EncoderState* const* states, const float* const* frames, int n,
                       float* const* hidden, float* const* acoustic, EncoderScratch& scratch,
                       Threads& team) const {
  if (whole_) return encode_together(states, frames, n, hidden, acoustic, scratch, team);
  for (int i = 0; i < n; i++)
    encode_together(states + i, frames + i, 1, hidden + i, acoustic + i, scratch, team);
}

void SpeechNet::encode_together(EncoderState* const* states, const float* const* frames, int n,
                                float* const* hidden, float* const* acoustic,
                                EncoderScratch& scratch, Threads& team) const {
  if (n <= 0) return;
  const int width = this->hidden(), step = config_.reduction, rows = n * step;
  const int wide = config_.stack * bins();
  float* normal = scratch.frames_.shape(rows, wide);
  for (int i = 0; i < n; i++)
    for (int64_t at = 0; at < int64_t(step) * wide; at += bins())
      for (int bin = 0; bin < bins(); bin++)
        normal[(int64_t(i) * step) * wide + at + bin] =
            (frames[i][at + bin] - mean_[bin]) / deviation_[bin];
  Rows& embedded = front_ ? scratch.front_->x : scratch.embedded_;
  float* x = embedded.shape(rows, width);
  scratch.input_.set(normal, wide, rows, wide);
  scratch.input_.times(embed_, x, width, false, team);
  if (front_) {
    scratch.front_segments_.clear();
    for (int i = 0; i < n; i++)
      scratch.front_segments_.push_back({&*states[i]->front_, i * step, step});
    scratch.front_->use(team);
    read_stack(*scratch.front_, scratch.front_segments_);
  }
  scratch.input_.set(x, int64_t(step) * width, n, step * width);
  scratch.input_.times(join_, scratch.back_.x.shape(n, width), width, false, team);
  scratch.back_segments_.clear();
  for (int i = 0; i < n; i++) scratch.back_segments_.push_back({&states[i]->back_, i, 1});
  scratch.back_.use(team);
  read_stack(scratch.back_, scratch.back_segments_);
  float* out = scratch.hidden_.shape(n, width);
  float* joined = scratch.acoustic_.shape(n, joint());
  constexpr float kEps = 1e-5f;  // of the encoder's own norm, whatever the layers have
  for (int i = 0; i < n; i++) {
    kernels().rms_norm(scratch.back_.x.row(i), nullptr, norm_.data(), kEps, width,
                       out + int64_t(i) * width);
    std::copy_n(to_joint_bias_.data(), joint(), joined + int64_t(i) * joint());
  }
  scratch.input_.set(out, width, n, width);
  scratch.input_.times(to_joint_, joined, joint(), true, team);
  for (int i = 0; i < n; i++) {
    std::copy_n(out + int64_t(i) * width, width, hidden[i]);
    std::copy_n(joined + int64_t(i) * joint(), joint(), acoustic[i]);
  }
}

void SpeechNet::project(const float* hidden, int n, float* acoustic) const {
  Threads alone(1);
  Operand input;
  for (int i = 0; i < n; i++) {
    float* mine = acoustic + int64_t(i) * joint();
    std::copy_n(to_joint_bias_.data(), joint(), mine);
    input.set(hidden + int64_t(i) * this->hidden(), this->hidden(), 1, this->hidden());
    input.times(to_joint_, mine, joint(), true, alone);
  }
}

}  // namespace slm
