// Python door to models, contexts and streams. Arrays come as addresses, which costs a call next to
// nothing; solomonic.lm.native owns the tensors behind them and checks their types and sizes.
#include <cstdint>
#include <memory>
#include <vector>

#include <nanobind/stl/vector.h>

#include "module.h"

namespace {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// Handles with their free functions; a context and a stream keep their model alive.
typedef std::shared_ptr<slm_model> ModelHandle;

struct Model {
  ModelHandle handle;
};
struct Context {
  ModelHandle model;
  std::shared_ptr<slm_context> handle;
};
struct Stream {
  ModelHandle model;
  std::shared_ptr<slm_stream> handle;
};

Stream stream_of(const ModelHandle& model, slm_stream* raw) {
  return Stream{model, std::shared_ptr<slm_stream>(raw, slm_stream_free)};
}

Model create(nb::dict given, int weights) {
  slm_config c = {};
  const std::string layers = nb::cast<std::string>(given["layers"]);
  const std::string short_conv_layers = nb::cast<std::string>(given["short_conv_layers"]);
  c.layers = layers.c_str();
  c.short_conv_layers = short_conv_layers.c_str();
#define SLM_FIELD(name) c.name = nb::cast<decltype(c.name)>(given[#name])
  SLM_FIELD(vocab_size);
  SLM_FIELD(hidden_size);
  SLM_FIELD(heads);
  SLM_FIELD(key_value_heads);
  SLM_FIELD(head_dim);
  SLM_FIELD(mlp_size);
  SLM_FIELD(window);
  SLM_FIELD(refresh);
  SLM_FIELD(slots);
  SLM_FIELD(fading);
  SLM_FIELD(lag);
  SLM_FIELD(taps);
  SLM_FIELD(ssm_state);
  SLM_FIELD(ssm_head_dim);
  SLM_FIELD(ssm_expand);
  SLM_FIELD(ssm_conv);
  SLM_FIELD(chunk);
  SLM_FIELD(short_conv);
  SLM_FIELD(chunked_fading);
  SLM_FIELD(fading_skip);
  SLM_FIELD(keep_duplicates);
  SLM_FIELD(delta_transition);
  SLM_FIELD(tied);
  SLM_FIELD(rope_theta);
  SLM_FIELD(norm_eps);
#undef SLM_FIELD
  slm_model* raw = nullptr;
  check(slm_model_create(&c, slm_weights(weights), &raw));
  return Model{ModelHandle(raw, slm_model_free)};
}

void bind_model(nb::module_& module) {
  nb::class_<Model>(module, "Model")
      .def("set",
           [](Model& m, const char* name, uintptr_t values, int64_t count) {
             check(slm_model_set(m.handle.get(), name, at<const float>(values), count));
           })
      .def("finish", [](Model& m) { check(slm_model_finish(m.handle.get())); })
      .def("bytes", [](const Model& m) { return slm_model_bytes(m.handle.get()); })
      .def("context",
           [](const Model& m, int threads) {
             slm_context* raw = nullptr;
             check(slm_context_create(m.handle.get(), threads, &raw));
             return Context{m.handle, std::shared_ptr<slm_context>(raw, slm_context_free)};
           })
      .def("stream", [](const Model& m) {
        slm_stream* raw = nullptr;
        check(slm_stream_create(m.handle.get(), &raw));
        return stream_of(m.handle, raw);
      });
  module.def("model", create, nb::arg("config"), nb::arg("weights"));
}

void bind_stream(nb::module_& module) {
  nb::class_<Stream>(module, "Stream")
      .def("copy",
           [](const Stream& s) {
             slm_stream* raw = nullptr;
             check(slm_stream_copy(s.handle.get(), &raw));
             return stream_of(s.model, raw);
           })
      .def("reset", [](Stream& s) { check(slm_stream_reset(s.handle.get())); })
      .def("bytes", [](const Stream& s) { return slm_stream_bytes(s.handle.get()); })
      .def("time", [](const Stream& s) { return slm_stream_time(s.handle.get()); })
      .def("set_time",
           [](Stream& s, int64_t time) { check(slm_stream_set_time(s.handle.get(), time)); })
      .def("count", [](const Stream& s, int layer, const char* part) {
        return slm_stream_count(s.handle.get(), layer, part);
      })
      .def("get",
           [](const Stream& s, int layer, const char* part, uintptr_t values, int64_t count) {
             check(slm_stream_get(s.handle.get(), layer, part, at<float>(values), count));
           })
      .def("set",
           [](Stream& s, int layer, const char* part, uintptr_t values, int64_t count) {
             check(slm_stream_set(s.handle.get(), layer, part, at<const float>(values), count));
           })
      .def("get_slot_times",
           [](const Stream& s, int layer, uintptr_t times, int64_t count) {
             check(slm_stream_get_slot_times(s.handle.get(), layer, at<int64_t>(times), count));
           })
      .def("set_slot_times", [](Stream& s, int layer, uintptr_t times, int64_t count) {
        check(slm_stream_set_slot_times(s.handle.get(), layer, at<const int64_t>(times), count));
      });
}

// counts: int32 (n); tokens: int32, those of the first stream first; logits, hidden: float32 or 0.
void read_hidden(Context& context, const std::vector<Stream*>& streams, uintptr_t counts,
                 uintptr_t tokens, bool all, uintptr_t logits, uintptr_t hidden) {
  std::vector<slm_stream*> handles;
  for (Stream* stream : streams) handles.push_back(stream->handle.get());
  slm_status status;
  {
    nb::gil_scoped_release release;
    status = slm_read_hidden(context.handle.get(), int32_t(handles.size()), handles.data(),
                             at<const int32_t>(counts), at<const int32_t>(tokens), all,
                             at<float>(logits), at<float>(hidden));
  }
  check(status);
}

void read_streams(Context& context, const std::vector<Stream*>& streams, uintptr_t counts,
                  uintptr_t tokens, bool all, uintptr_t logits) {
  read_hidden(context, streams, counts, tokens, all, logits, 0);
}

}  // namespace

void bind_runtime(nb::module_& module) {
  bind_model(module);
  nb::class_<Context>(module, "Context")
      .def("read", read_streams)
      .def("read_hidden", read_hidden);
  bind_stream(module);
}
