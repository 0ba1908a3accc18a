// The edges of the C interface: every refusal is a status with a sentence and changes nothing,
// memory may run out at any point, and reading on and on keeps no memory.
#include <cstring>

#include "alloc.h"
#include "check.h"
#include "toy.h"

using namespace toy;

namespace {

// The call was refused with a sentence in which `word` occurs.
void check_refused(slm_status status, const char* word, int line) {
  if (status != SLM_BAD_ARGUMENT)
    check::fail(__FILE__, line, "expected a refusal, got status " + std::to_string(status));
  const std::string said = slm_error();
  if (said.find(word) == std::string::npos)
    check::fail(__FILE__, line, "'" + said + "' does not mention '" + word + "'");
  if (said.size() < 10 || said.back() != '.')
    check::fail(__FILE__, line, "'" + said + "' is not a sentence");
}
#define CHECK_REFUSED(call, word) check_refused(call, word, __LINE__)

slm_model* const kNoModel = nullptr;
slm_stream* const kNoStream = nullptr;

// A model of which every parameter was given, not yet finished.
Model given(const slm_config& config, const char* without = "") {
  slm_model* raw = nullptr;
  must(slm_model_create(&config, SLM_F32, &raw));
  Model model(raw, slm_model_free);
  Random random(1);
  for (const auto& parameter : parameters(config))
    if (parameter.first != without) {
      const Floats mine = values(parameter.first, parameter.second, config, random);
      must(slm_model_set(raw, parameter.first.c_str(), mine.data(), parameter.second));
    }
  return model;
}

}  // namespace

TEST(freeing_nothing_is_allowed) {
  slm_model_free(nullptr);
  slm_context_free(nullptr);
  slm_stream_free(nullptr);
  CHECK_EQUAL(slm_model_bytes(nullptr), 0);
  CHECK_EQUAL(slm_stream_bytes(nullptr), 0);
  CHECK_EQUAL(slm_stream_time(nullptr), 0);
  CHECK(std::strlen(slm_version()) > 0);
}

TEST(configurations_that_do_not_fit_are_refused) {
  struct Wrong {
    const char* word;
    void (*change)(slm_config&);
  };
  const Wrong wrong[] = {
      {"no layers", [](slm_config& c) { c.layers = ""; }},
      {"no layers", [](slm_config& c) { c.layers = nullptr; }},
      {"'X'", [](slm_config& c) { c.layers = "MX"; }},
      {"vocab_size", [](slm_config& c) { c.vocab_size = 0; }},
      {"hidden_size", [](slm_config& c) { c.hidden_size = -1; }},
      {"hidden_size", [](slm_config& c) { c.hidden_size = INT32_MAX; }},
      {"ssm_expand", [](slm_config& c) { c.ssm_expand = INT32_MAX; }},
      {"ssm_expand", [](slm_config& c) { c.ssm_expand = 1 << 22; }},
      {"heads", [](slm_config& c) { c.heads = 0; }},
      {"divide heads", [](slm_config& c) { c.key_value_heads = 3; }},
      {"heads * head_dim", [](slm_config& c) { c.head_dim = 1 << 23; }},
      {"ssm_state", [](slm_config& c) { c.ssm_state = 1 << 22; }},
      {"head_dim", [](slm_config& c) { c.head_dim = 0; }},
      {"mlp_size", [](slm_config& c) { c.mlp_size = -1; }},
      {"window", [](slm_config& c) { c.window = -1; }},
      {"refresh", [](slm_config& c) { c.refresh = 0; }},
      {"refresh", [](slm_config& c) { c.refresh = c.window + 1; }},
      {"slots", [](slm_config& c) { c.slots = -1; }},
      {"fading", [](slm_config& c) { c.fading = -1; }},
      {"lag", [](slm_config& c) { c.lag = -1; }},
      {"taps", [](slm_config& c) { c.taps = 0; }},
      {"ssm_head_dim", [](slm_config& c) { c.ssm_head_dim = 7; }},
      {"64 taps", [](slm_config& c) { c.ssm_conv = 65; }},
      {"even head_dim", [](slm_config& c) { c.rope_theta = 10, c.head_dim = 7; }},
      {"rope_theta", [](slm_config& c) { c.rope_theta = NAN; }},
      {"norm_eps", [](slm_config& c) { c.norm_eps = -1; }},
  };
  for (const Wrong& one : wrong) {
    NOTE(one.word);
    slm_config config = base("MB");
    one.change(config);
    slm_model* model = nullptr;
    CHECK_REFUSED(slm_model_create(&config, SLM_F32, &model), one.word);
    CHECK(model == nullptr);
  }
  slm_config config = base("MB");
  slm_model* model = nullptr;
  CHECK_REFUSED(slm_model_create(nullptr, SLM_F32, &model), "config");
  CHECK_REFUSED(slm_model_create(&config, SLM_F32, nullptr), "out");
  CHECK_REFUSED(slm_model_create(&config, slm_weights(9), &model), "weights");
  CHECK(model == nullptr);
  config = base("T");  // what a layer does not use does not matter
  config.ssm_head_dim = 7;
  CHECK_EQUAL(slm_model_create(&config, SLM_F32, &model), SLM_OK);
  slm_model_free(model);
}

TEST(parameters_are_checked_and_a_refusal_can_be_mended) {
  const slm_config config = base("MB");
  const Model whole = make(config);
  for (const auto& parameter : parameters(config)) {
    const std::string& name = parameter.first;
    const int64_t count = parameter.second;
    NOTE(name);
    const Model model = given(config, name.c_str());
    slm_context* context = nullptr;
    CHECK_REFUSED(slm_model_finish(model.get()), name.c_str());
    CHECK_REFUSED(slm_context_create(model.get(), 1, &context), "not finished");
    Floats mine(size_t(count) + 1, 0.5f);
    CHECK_REFUSED(slm_model_set(model.get(), name.c_str(), nullptr, count), name.c_str());
    CHECK_REFUSED(slm_model_set(model.get(), name.c_str(), mine.data(), 0), name.c_str());
    must(slm_model_set(model.get(), name.c_str(), mine.data(), count + 1));
    CHECK_REFUSED(slm_model_finish(model.get()), std::to_string(count + 1).c_str());
    must(slm_model_set(model.get(), name.c_str(), mine.data(), count));
    CHECK_EQUAL(slm_model_finish(model.get()), SLM_OK);
    CHECK_EQUAL(slm_model_bytes(model.get()), slm_model_bytes(whole.get()));
    CHECK_REFUSED(slm_model_finish(model.get()), "already");
    CHECK_REFUSED(slm_model_set(model.get(), name.c_str(), mine.data(), count), "finished");
  }
  const Model model = given(config);
  const float one = 1;
  CHECK_REFUSED(slm_model_set(model.get(), nullptr, &one, 1), "name");
  CHECK_REFUSED(slm_model_set(nullptr, "norm.weight", &one, 1), "model");
  must(slm_model_set(model.get(), "blocks.7.norm.weight", &one, 1));
  CHECK_REFUSED(slm_model_finish(model.get()), "blocks.7.norm.weight");
  CHECK_REFUSED(slm_model_finish(nullptr), "model");
}

TEST(contexts_and_streams_are_checked) {
  const Model model = make(base("T"));
  slm_context* context = nullptr;
  for (int threads : {0, -1, 257}) CHECK_REFUSED(slm_context_create(model.get(), threads, &context),
                                                 "threads");
  CHECK_REFUSED(slm_context_create(kNoModel, 1, &context), "model");
  CHECK_REFUSED(slm_context_create(model.get(), 1, nullptr), "out");
  slm_stream* stream = nullptr;
  CHECK_REFUSED(slm_stream_create(kNoModel, &stream), "model");
  CHECK_REFUSED(slm_stream_create(model.get(), nullptr), "out");
  CHECK_REFUSED(slm_stream_copy(kNoStream, &stream), "stream");
  const Stream mine = toy::stream(model);
  CHECK_REFUSED(slm_stream_copy(mine.get(), nullptr), "out");
  CHECK_REFUSED(slm_stream_reset(nullptr), "stream");
  CHECK_REFUSED(slm_stream_set_time(nullptr, 0), "stream");
  CHECK_REFUSED(slm_stream_set_time(mine.get(), -1), "negative");
  CHECK(context == nullptr && stream == nullptr);
  const Model unfinished = given(base("T"));
  CHECK_REFUSED(slm_stream_create(unfinished.get(), &stream), "not finished");
}

TEST(parts_of_streams_are_checked) {
  const slm_config config = base("TB");
  const Model model = make(config);
  const Stream mine = stream(model);
  Random random(2);
  read(context(model), mine, tokens(random, 20, config), config.vocab_size);
  const Floats before = memory(mine, config);
  Floats many(4096, 0.25f);
  int64_t times[64] = {};
  slm_stream* s = mine.get();
  const int64_t slots = slm_stream_count(s, 1, "slots"), kv = slm_stream_count(s, 0, "kv");
  CHECK(slots > 0 && kv > 0 && slm_stream_count(s, 0, "slots") == 0);
  CHECK_EQUAL(slm_stream_count(s, 0, "soul"), -1);
  CHECK_EQUAL(slm_stream_count(s, 2, "kv"), -1);
  CHECK_EQUAL(slm_stream_count(s, -1, "kv"), -1);
  CHECK_EQUAL(slm_stream_count(s, 0, nullptr), -1);
  CHECK_EQUAL(slm_stream_count(nullptr, 0, "kv"), -1);
  for (int layer : {-1, 2, INT32_MAX}) {
    CHECK_REFUSED(slm_stream_get(s, layer, "kv", many.data(), kv), "layer");
    CHECK_REFUSED(slm_stream_set(s, layer, "kv", many.data(), kv), "layer");
    CHECK_REFUSED(slm_stream_get_slot_times(s, layer, times, 6), "layer");
    CHECK_REFUSED(slm_stream_set_slot_times(s, layer, times, 6), "layer");
  }
  CHECK_REFUSED(slm_stream_get(s, 1, "soul", many.data(), 1), "soul");
  CHECK_REFUSED(slm_stream_set(s, 1, "soul", many.data(), 1), "soul");
  CHECK_REFUSED(slm_stream_get(s, 1, nullptr, many.data(), 1), "part");
  CHECK_REFUSED(slm_stream_set(s, 1, nullptr, many.data(), 1), "part");
  CHECK_REFUSED(slm_stream_get(s, 1, "slots", many.data(), slots - 1), "slots");
  CHECK_REFUSED(slm_stream_set(s, 1, "slots", many.data(), slots + 1), "slots");
  CHECK_REFUSED(slm_stream_get(s, 1, "slots", nullptr, slots), "NULL");
  CHECK_REFUSED(slm_stream_set(s, 1, "slots", nullptr, slots), "NULL");
  CHECK_REFUSED(slm_stream_set(s, 0, "kv", nullptr, kv), "NULL");
  CHECK_REFUSED(slm_stream_set(s, 0, "kv", many.data(), kv - 1), "whole tokens");
  CHECK_REFUSED(slm_stream_set(s, 0, "kv", many.data(), -kv), "whole tokens");
  CHECK_REFUSED(slm_stream_set(s, 1, "kv", many.data(), kv), "T layer");
  CHECK_REFUSED(slm_stream_get_slot_times(s, 1, times, 5), "slots");
  CHECK_REFUSED(slm_stream_set_slot_times(s, 1, times, 7), "slots");
  CHECK_REFUSED(slm_stream_get_slot_times(s, 1, nullptr, 6), "NULL");
  CHECK_REFUSED(slm_stream_set_slot_times(s, 1, nullptr, 6), "NULL");
  CHECK_REFUSED(slm_stream_get(nullptr, 0, "kv", many.data(), kv), "stream");
  CHECK_REFUSED(slm_stream_set(nullptr, 0, "kv", many.data(), kv), "stream");
  CHECK_SAME(before, memory(mine, config));
}

TEST(a_refused_read_moves_no_stream) {
  const slm_config config = base("TWMDFB");
  const Model model = make(config), other = make(config);
  const Context reader = context(model);
  const Stream a = stream(model), b = stream(model), foreign = stream(other);
  Random random(3);
  read(reader, a, tokens(random, 21, config), config.vocab_size);
  const Floats before_a = memory(a, config), before_b = memory(b, config);
  const int32_t good[] = {1, 2, 3, 4}, low[] = {1, 2, 3, -1}, high[] = {1, 2, 3, 97};
  const int32_t two[] = {2, 2}, negative[] = {2, -1};
  slm_stream* const pair[] = {a.get(), b.get()};
  slm_stream* const twice[] = {a.get(), a.get()};
  slm_stream* const missing[] = {a.get(), nullptr};
  slm_stream* const strange[] = {a.get(), foreign.get()};
  const Floats untouched(400, 7);
  Floats out = untouched;
  slm_context* c = reader.get();
  CHECK_REFUSED(slm_read(c, 2, pair, two, low, 0, out.data()), "-1");
  CHECK_REFUSED(slm_read(c, 2, pair, two, high, 0, out.data()), "97");
  CHECK_REFUSED(slm_read(c, 2, pair, negative, good, 0, out.data()), "negative");
  CHECK_REFUSED(slm_read(c, 2, twice, two, good, 0, out.data()), "twice");
  CHECK_REFUSED(slm_read(c, 2, missing, two, good, 0, out.data()), "NULL");
  CHECK_REFUSED(slm_read(c, 2, strange, two, good, 0, out.data()), "another model");
  CHECK_REFUSED(slm_read(c, -1, pair, two, good, 0, out.data()), "negative");
  CHECK_REFUSED(slm_read(c, 2, nullptr, two, good, 0, out.data()), "streams");
  CHECK_REFUSED(slm_read(c, 2, pair, nullptr, good, 0, out.data()), "counts");
  CHECK_REFUSED(slm_read(c, 2, pair, two, nullptr, 0, out.data()), "tokens");
  CHECK_REFUSED(slm_read(nullptr, 2, pair, two, good, 0, out.data()), "context");
  const int32_t none[] = {0, 0};
  CHECK_EQUAL(slm_read(c, 0, nullptr, nullptr, nullptr, 0, nullptr), SLM_OK);
  CHECK_EQUAL(slm_read(c, 2, pair, none, nullptr, 0, out.data()), SLM_OK);
  CHECK_SAME(untouched, out);
  CHECK_SAME(before_a, memory(a, config));
  CHECK_SAME(before_b, memory(b, config));
  CHECK_EQUAL(slm_read(c, 2, pair, two, good, 0, out.data()), SLM_OK);
  CHECK_EQUAL(slm_stream_time(a.get()), 23);
}

// Let one allocation after the other be the first that fails, until the call needs no more.
template <class Call>
int fail_everywhere(const Call& call) {
  for (int after = 0;; after++) {
    slm_status status;
    bool felt;
    {
      const alloc::Starved starved(after);
      status = call();
      felt = starved.felt();
    }
    if (!felt) {
      CHECK_EQUAL(status, SLM_OK);
      return after;
    }
    CHECK(status == SLM_OUT_OF_MEMORY || status == SLM_OK);
    if (status != SLM_OK) CHECK(std::strstr(slm_error(), "memory"));
  }
}

TEST(memory_may_run_out_anywhere) {
  for (const char* layers : {"T", "MB", "DF"})
    for (int threads : {1, 2}) {
      NOTE(std::string(layers) + ", " + std::to_string(threads) + " threads");
      slm_config config = base(layers);
      config.rope_theta = 10000;
      slm_model* made = nullptr;
      CHECK(fail_everywhere([&] { return slm_model_create(&config, SLM_INT8, &made); }) > 0);
      slm_model_free(made);
      for (int after = 0; after < 400; after += 7) {  // a model that failed to finish is only freed
        const Model model = given(config);
        const alloc::Starved starved(after);
        const slm_status status = slm_model_finish(model.get());
        CHECK(status == SLM_OK || status == SLM_OUT_OF_MEMORY);
      }
      const Model model = make(config, SLM_INT8);
      slm_context* reader = nullptr;
      CHECK(fail_everywhere([&] { return slm_context_create(model.get(), threads, &reader); }) > 0);
      const Context kept(reader, slm_context_free);
      slm_stream* first = nullptr;
      CHECK(fail_everywhere([&] { return slm_stream_create(model.get(), &first); }) > 0);
      const Stream mine(first, slm_stream_free);
      slm_stream* second = nullptr;
      CHECK(fail_everywhere([&] { return slm_stream_copy(first, &second); }) > 0);
      slm_stream_free(second);
      Random random(4);
      const Tokens text = tokens(random, 80, config);
      const int32_t count = 80;
      Floats out(97), expected(97);
      // Scratch grows at the first read, so a new context each time; the stream is reset.
      const int calls = fail_everywhere([&] {
        slm_context* fresh = nullptr;
        const slm_status built = slm_context_create(model.get(), threads, &fresh);
        const Context held(fresh, slm_context_free);
        if (built != SLM_OK) return built;
        const slm_status reset = slm_stream_reset(first);
        if (reset != SLM_OK) return reset;
        return slm_read(fresh, 1, &first, &count, text.data(), 0, out.data());
      });
      CHECK(calls > 20);
      const Stream calm = stream(model);
      slm_stream* raw = calm.get();
      must(slm_read(reader, 1, &raw, &count, text.data(), 0, expected.data()));
      CHECK_SAME(expected, out);
      CHECK_SAME(memory(calm, config), memory(mine, config));
    }
}

TEST(reading_on_keeps_no_memory) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr int kTokens = 5000;
#else
  constexpr int kTokens = 200000;
#endif
  for (slm_weights weights : {SLM_F32, SLM_INT8})
    for (const char* layers : {"W", "M", "D", "F", "B"}) {
      NOTE(std::string(layers) + ", " + name_of(weights));
      slm_config config = base(layers);
      config.hidden_size = config.mlp_size = 16, config.vocab_size = 32, config.heads = 2;
      config.rope_theta = layers[0] == 'W' ? 10000.0f : 0.0f;
      const Model model = make(config, weights);
      const Context reader = context(model);
      const Stream mine = stream(model);
      slm_stream* raw = mine.get();
      Floats out(32);
      const int32_t one = 1;
      const auto decode = [&](int count) {
        for (int i = 0; i < count; i++) {
          const int32_t token = i * 7 % 32;
          must(slm_read(reader.get(), 1, &raw, &one, &token, 0, out.data()));
        }
      };
      decode(100);  // scratch is there from now on
      const alloc::Held before = alloc::held();
      const int64_t bytes = slm_stream_bytes(raw), aligned = alloc::aligned();
      decode(kTokens);
      CHECK_EQUAL(alloc::held().blocks, before.blocks);
      CHECK_EQUAL(alloc::held().bytes, before.bytes);
      CHECK_EQUAL(alloc::aligned(), aligned);
      CHECK_EQUAL(slm_stream_bytes(raw), bytes);
      CHECK_EQUAL(slm_stream_time(raw), kTokens + 100);
      for (float value : out) CHECK(std::isfinite(value));
    }
}

TEST(a_full_attention_layer_grows_by_its_keys_and_values_only) {
  const slm_config config = base("T");
  const Model model = make(config);
  const Context reader = context(model);
  const Stream mine = stream(model);
  Random random(5);
  for (int i = 0; i < 50; i++) read(reader, mine, tokens(random, 20, config), config.vocab_size);
  CHECK_EQUAL(slm_stream_count(mine.get(), 0, "kv"), 1000 * 2 * 2 * 8);
  const int64_t bytes = slm_stream_bytes(mine.get());
  CHECK(bytes >= 1000 * 2 * 2 * 8 * 4 && bytes <= 1500 * 2 * 2 * 8 * 4);
}
