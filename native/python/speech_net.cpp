// Python door to the recogniser's networks, features and resampler. Arrays come as addresses;
// solomonic.speech.native owns the tensors behind them and checks their types and sizes.
#include "speech/net.h"

#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>

#include "device/file.h"
#include "module.h"
#include "runtime/error.h"

namespace {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

template <class Body>
void guarded(const Body& body) {
  check(slm::guarded(body));
}

slm::NetConfig config_of(nb::dict given) {
  slm::NetConfig c;
  slm_config& layers = c.layers;
#define SLM_FIELD(to, name) to = nb::cast<std::decay_t<decltype(to)>>(given[name])
  SLM_FIELD(c.vocab, "vocab_size");
  SLM_FIELD(c.stack, "stack");
  SLM_FIELD(c.reduction, "reduction");
  SLM_FIELD(c.front, "front");
  SLM_FIELD(c.pattern, "pattern");
  SLM_FIELD(c.lstm, "lstm");
  SLM_FIELD(c.predictor_size, "predictor_size");
  SLM_FIELD(c.predictor_layers, "predictor_layers");
  SLM_FIELD(c.predictor_context, "predictor_context");
  SLM_FIELD(c.joint, "joint_size");
  SLM_FIELD(c.features.bins, "bins");
  SLM_FIELD(c.features.shift_ms, "shift_ms");
  SLM_FIELD(c.short_conv_layers, "short_conv_layers");
  SLM_FIELD(layers.hidden_size, "hidden_size");
  SLM_FIELD(layers.heads, "heads");
  SLM_FIELD(layers.key_value_heads, "key_value_heads");
  SLM_FIELD(layers.head_dim, "head_dim");
  SLM_FIELD(layers.mlp_size, "mlp_size");
  SLM_FIELD(layers.window, "window");
  SLM_FIELD(layers.refresh, "refresh");
  SLM_FIELD(layers.slots, "slots");
  SLM_FIELD(layers.fading, "fading");
  SLM_FIELD(layers.lag, "lag");
  SLM_FIELD(layers.taps, "taps");
  SLM_FIELD(layers.ssm_state, "ssm_state");
  SLM_FIELD(layers.ssm_head_dim, "ssm_head_dim");
  SLM_FIELD(layers.ssm_expand, "ssm_expand");
  SLM_FIELD(layers.ssm_conv, "ssm_conv");
  SLM_FIELD(layers.chunk, "chunk");
  SLM_FIELD(layers.short_conv, "short_conv");
  SLM_FIELD(layers.chunked_fading, "chunked_fading");
  SLM_FIELD(layers.fading_skip, "fading_skip");
  SLM_FIELD(layers.keep_duplicates, "keep_duplicates");
  SLM_FIELD(layers.delta_transition, "delta_transition");
  SLM_FIELD(layers.rope_theta, "rope_theta");
  SLM_FIELD(layers.norm_eps, "norm_eps");
#undef SLM_FIELD
  layers.vocab_size = layers.tied = 1;
  return c;
}

class Net {
 public:
  explicit Net(const std::string& path) : file_(slm::PackFile::open(path)), net_(file_) { ready(); }
  Net(const slm::NetConfig& config, slm_weights weights) : net_(config, weights) {}

  void set(const char* name, uintptr_t values, int64_t count) {
    guarded([&] { net_.set(name, at<const float>(values), count); });
  }
  void finish() {
    guarded([&] {
      net_.finish();
      ready();
    });
  }
  const slm::SpeechNet& net() const { return net_; }
  int64_t bytes() const { return net_.bytes() + int64_t(file_.memory()); }
  size_t encoder_bytes() const { return states_.front().saved_bytes(); }

  void start_encoder(uintptr_t to) { slm::EncoderState(net_).save(at<void>(to)); }

  // One encoder frame of n streams: frames (n, frames_per_step, bins), states (n, encoder_bytes).
  void encode(int n, uintptr_t from, uintptr_t to, uintptr_t frames, uintptr_t hidden,
              uintptr_t acoustic) {
    nb::gil_scoped_release release;
    guarded([&] {
      const size_t bytes = encoder_bytes();
      std::vector<slm::EncoderState*> states;
      std::vector<const float*> inputs;
      std::vector<float*> hiddens, acoustics;
      states_.resize(std::max(states_.size(), size_t(n)), states_.front());
      for (int i = 0; i < n; i++) {
        states_[i].load(at<const char>(from) + i * bytes);
        states.push_back(&states_[i]);
        inputs.push_back(at<const float>(frames) + int64_t(i) * net_.frames_per_step() * net_.bins());
        hiddens.push_back(at<float>(hidden) + int64_t(i) * net_.hidden());
        acoustics.push_back(at<float>(acoustic) + int64_t(i) * net_.joint());
      }
      net_.encode(states.data(), inputs.data(), n, hiddens.data(), acoustics.data(), *scratch_,
                  alone_);
      for (int i = 0; i < n; i++) states_[i].save(at<char>(to) + i * bytes);
    });
  }
  // `times` frames of one stream that nobody keeps, for measurements.
  void encode_many(int times, uintptr_t frames) {
    nb::gil_scoped_release release;
    slm::EncoderState state(net_);
    std::vector<float> hidden(size_t(net_.hidden()), 0.0f), acoustic(size_t(net_.joint()), 0.0f);
    const int64_t step = int64_t(net_.frames_per_step()) * net_.bins();
    for (int i = 0; i < times; i++)
      net_.encode(state, at<const float>(frames) + i * step, hidden.data(), acoustic.data(),
                  *scratch_, alone_);
  }
  void project(uintptr_t hidden, int n, uintptr_t acoustic) {
    guarded([&] { net_.project(at<const float>(hidden), n, at<float>(acoustic)); });
  }

  void start_label(uintptr_t state, uintptr_t label) {
    guarded([&] { net_.start(at<void>(state), at<float>(label)); });
  }
  // states (n, label_bytes), tokens int32 (n), labels (n, joint).
  void step_labels(int n, uintptr_t from, uintptr_t tokens, uintptr_t to, uintptr_t labels) {
    guarded([&] {
      std::vector<const void*> before;
      std::vector<void*> after;
      std::vector<float*> out;
      for (int i = 0; i < n; i++) {
        before.push_back(at<const char>(from) + i * net_.state_bytes());
        after.push_back(at<char>(to) + i * net_.state_bytes());
        out.push_back(at<float>(labels) + int64_t(i) * net_.joint());
      }
      net_.steps(before.data(), at<const int>(tokens), n, after.data(), out.data());
    });
  }
  // labels (n, joint) -> out (n, vocab).
  void log_probs(uintptr_t acoustic, uintptr_t labels, int n, uintptr_t out) {
    guarded([&] {
      std::vector<const float*> each;
      for (int i = 0; i < n; i++)
        each.push_back(at<const float>(labels) + int64_t(i) * net_.joint());
      net_.log_probs(at<const float>(acoustic), each.data(), n, at<float>(out));
    });
  }

 private:
  void ready() {
    states_.assign(1, slm::EncoderState(net_));
    scratch_ = std::make_unique<slm::EncoderScratch>(net_);
  }

  slm::PackFile file_;
  slm::SpeechNet net_;
  slm::Threads alone_{1};
  std::vector<slm::EncoderState> states_;
  std::unique_ptr<slm::EncoderScratch> scratch_;
};

nb::bytes bytes_of(const std::vector<float>& values) {
  return nb::bytes(reinterpret_cast<const char*>(values.data()), values.size() * 4);
}

// accept and finish of features and resamplers: float32 as bytes.
template <class T, class Class>
void bind_samples(Class& bound) {
  bound
      .def("accept",
           [](T& self, uintptr_t samples, int64_t count) {
             std::vector<float> out;
             self.accept(at<const float>(samples), count, out);
             return bytes_of(out);
           })
      .def("finish", [](T& self) {
        std::vector<float> out;
        self.finish(out);
        return bytes_of(out);
      });
}

std::unique_ptr<Net> open_net(const std::string& path) {
  std::unique_ptr<Net> made;
  guarded([&] { made = std::make_unique<Net>(path); });
  return made;
}

std::unique_ptr<Net> make_net(nb::dict config, int weights) {
  std::unique_ptr<Net> made;
  const slm::NetConfig wanted = config_of(config);
  guarded([&] { made = std::make_unique<Net>(wanted, slm_weights(weights)); });
  return made;
}

std::unique_ptr<slm::Features> make_features(int rate, int bins, double frame_ms, double shift_ms,
                                             double low, double high) {
  std::unique_ptr<slm::Features> made;
  guarded([&] {
    slm::FeatureConfig config;
    config.sample_rate = rate;
    config.bins = bins;
    config.frame_ms = frame_ms;
    config.shift_ms = shift_ms;
    config.low = low;
    config.high = high;
    made = std::make_unique<slm::Features>(config);
  });
  return made;
}

std::unique_ptr<slm::Resampler> make_resampler(double source_rate, double rate) {
  std::unique_ptr<slm::Resampler> made;
  guarded([&] { made = std::make_unique<slm::Resampler>(source_rate, rate); });
  return made;
}

}  // namespace

void bind_speech_net(nb::module_& parent) {
  nb::module_ module = parent.def_submodule("speech_net", "Networks: see solomonic.speech.native.");
  nb::class_<Net>(module, "Net")
      .def("set", &Net::set)
      .def("finish", &Net::finish)
      .def("bytes", &Net::bytes)
      .def("encoder_bytes", &Net::encoder_bytes)
      .def("label_bytes", [](const Net& n) { return n.net().state_bytes(); })
      .def("macs",
           [](const Net& n) {
             return std::vector<int64_t>{n.net().macs_per_frame(), n.net().macs_per_label(),
                                         n.net().macs_per_row()};
           })
      .def("start_encoder", &Net::start_encoder)
      .def("encode", &Net::encode)
      .def("encode_many", &Net::encode_many)
      .def("project", &Net::project)
      .def("start_label", &Net::start_label)
      .def("step_labels", &Net::step_labels)
      .def("log_probs", &Net::log_probs);
  module.def("make", make_net, nb::arg("config"), nb::arg("weights"));
  module.def("open", open_net, nb::arg("path"));
  nb::class_<slm::Features> features(module, "Features");
  bind_samples<slm::Features>(features);
  module.def("features", make_features);
  nb::class_<slm::Resampler> resampler(module, "Resampler");
  bind_samples<slm::Resampler>(resampler);
  module.def("resampler", make_resampler);
}
