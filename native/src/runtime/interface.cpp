// The C interface of models, contexts and streams.
#include <algorithm>
#include <string>
#include <vector>

#include "context.h"
#include "error.h"
#include "solomonic.h"

using slm::guarded;
using slm::require;

namespace {

// Rows of one round: enough to be bound by arithmetic, few enough that they stay in cache.
constexpr int kRound = 256;

void* needed(const void* pointer, const char* what) {
  require(pointer != nullptr, std::string(what) + " is NULL.");
  return const_cast<void*>(pointer);
}

void check_tokens(const slm_model& model, const int32_t* tokens, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    require(tokens[i] >= 0 && tokens[i] < model.stack.config.vocab,
            "token " + std::to_string(tokens[i]) + " lies outside the vocabulary of " +
                std::to_string(model.stack.config.vocab) +
                " tokens; use the tokenizer this model was trained with.");
}

// Where in a call each stream stands.
struct Reading {
  slm_stream* stream;
  int64_t first;  // index of its first token in the call
  int count, done;
};

void read_all(slm_context& context, std::vector<Reading>& readings, const int32_t* tokens, bool all,
              float* logits, float* hidden) {
  const int64_t vocab = context.model.stack.config.vocab, width = context.model.stack.config.width;
  std::vector<int32_t> round;
  for (;;) {
    slm::Segments segments;
    std::vector<int> rows;
    std::vector<int64_t> targets;  // rows of the outputs
    round.clear();
    for (size_t i = 0; i < readings.size() && int(round.size()) < kRound; i++) {
      Reading& reading = readings[i];
      const int left = reading.count - reading.done;
      const int take = std::min(left, kRound - int(round.size()));
      if (take == 0) continue;
      segments.push_back({reading.stream, int(round.size()), take});
      for (int j = 0; j < take; j++) {
        if ((logits || hidden) && (all || reading.done + j + 1 == reading.count)) {
          rows.push_back(int(round.size()));
          targets.push_back(all ? reading.first + reading.done + j : int64_t(i));
        }
        round.push_back(tokens[reading.first + reading.done + j]);
      }
      reading.done += take;
    }
    if (segments.empty()) return;
    slm::read_round(context, segments, round.data());
    // Targets that follow one another are one product; they nearly always do.
    for (size_t from = 0; from < rows.size();) {
      size_t to = from + 1;
      while (to < rows.size() && targets[to] == targets[to - 1] + 1) to++;
      slm::read_logits(context, std::vector<int>(rows.begin() + from, rows.begin() + to),
                       logits ? logits + targets[from] * vocab : nullptr,
                       hidden ? hidden + targets[from] * width : nullptr);
      from = to;
    }
  }
}

}  // namespace

slm_status slm_model_create(const slm_config* config, slm_weights weights, slm_model** out) {
  return guarded([&] {
    needed(config, "config");
    needed(out, "out");
    require(weights >= SLM_F32 && weights <= SLM_INT4, "the type of weights is unknown.");
    *out = new slm_model(*config, weights);
  });
}

slm_status slm_model_set(slm_model* model, const char* name, const float* values, int64_t count) {
  return guarded([&] {
    needed(model, "model");
    model->set(static_cast<const char*>(needed(name, "name")), values, count);
  });
}

slm_status slm_model_finish(slm_model* model) {
  return guarded([&] { static_cast<slm_model*>(needed(model, "model"))->finish(); });
}

int64_t slm_model_bytes(const slm_model* model) { return model ? model->bytes() : 0; }

void slm_model_free(slm_model* model) { delete model; }

slm_status slm_context_create(const slm_model* model, int32_t threads, slm_context** out) {
  return guarded([&] {
    needed(model, "model");
    needed(out, "out");
    require(model->finished, "the model is not finished; call slm_model_finish first.");
    require(threads >= 1 && threads <= 256,
            "threads = " + std::to_string(threads) + " must lie between 1 and 256.");
    *out = new slm_context(*model, threads);
  });
}

void slm_context_free(slm_context* context) { delete context; }

slm_status slm_stream_create(const slm_model* model, slm_stream** out) {
  return guarded([&] {
    needed(model, "model");
    needed(out, "out");
    require(model->finished, "the model is not finished; call slm_model_finish first.");
    *out = new slm_stream(*model);
  });
}

slm_status slm_stream_copy(const slm_stream* stream, slm_stream** out) {
  return guarded([&] {
    needed(stream, "stream");
    needed(out, "out");
    *out = new slm_stream(*stream);
  });
}

slm_status slm_stream_reset(slm_stream* stream) {
  return guarded([&] { static_cast<slm_stream*>(needed(stream, "stream"))->reset(); });
}

void slm_stream_free(slm_stream* stream) { delete stream; }

int64_t slm_stream_bytes(const slm_stream* stream) { return stream ? stream->bytes() : 0; }

int64_t slm_stream_time(const slm_stream* stream) { return stream ? stream->time : 0; }

slm_status slm_stream_set_time(slm_stream* stream, int64_t time) {
  return guarded([&] {
    needed(stream, "stream");
    require(time >= 0, "the time of a stream must not be negative.");
    stream->time = time;
  });
}

int64_t slm_stream_count(const slm_stream* stream, int32_t layer, const char* part) {
  int64_t count = 0;
  const slm_status status = guarded([&] {
    needed(stream, "stream");
    count = stream->count(layer, static_cast<const char*>(needed(part, "part")));
  });
  return status == SLM_OK ? count : -1;
}

slm_status slm_stream_get(const slm_stream* stream, int32_t layer, const char* part, float* values,
                          int64_t count) {
  return guarded([&] {
    needed(stream, "stream");
    stream->get(layer, static_cast<const char*>(needed(part, "part")), values, count);
  });
}

slm_status slm_stream_set(slm_stream* stream, int32_t layer, const char* part, const float* values,
                          int64_t count) {
  return guarded([&] {
    needed(stream, "stream");
    stream->set(layer, static_cast<const char*>(needed(part, "part")), values, count);
  });
}

slm_status slm_stream_get_slot_times(const slm_stream* stream, int32_t layer, int64_t* times,
                                     int64_t count) {
  return guarded([&] {
    needed(stream, "stream");
    const auto& mine = const_cast<slm_stream*>(stream)->state(layer).slots.time;
    require(count == int64_t(mine.size()), "the layer has " + std::to_string(mine.size()) +
                                               " slots, not " + std::to_string(count) + ".");
    if (count) needed(times, "times");
    std::copy(mine.begin(), mine.end(), times);
  });
}

slm_status slm_stream_set_slot_times(slm_stream* stream, int32_t layer, const int64_t* times,
                                     int64_t count) {
  return guarded([&] {
    needed(stream, "stream");
    auto& mine = stream->state(layer).slots.time;
    require(count == int64_t(mine.size()), "the layer has " + std::to_string(mine.size()) +
                                               " slots, not " + std::to_string(count) + ".");
    if (count) needed(times, "times");
    std::copy(times, times + count, mine.begin());
  });
}

slm_status slm_read(slm_context* context, int32_t n, slm_stream* const* streams,
                    const int32_t* counts, const int32_t* tokens, int32_t all, float* logits) {
  return slm_read_hidden(context, n, streams, counts, tokens, all, logits, nullptr);
}

slm_status slm_read_hidden(slm_context* context, int32_t n, slm_stream* const* streams,
                           const int32_t* counts, const int32_t* tokens, int32_t all,
                           float* logits, float* hidden) {
  return guarded([&] {
    needed(context, "context");
    require(n >= 0, "the number of streams must not be negative.");
    if (n > 0) {
      needed(streams, "streams");
      needed(counts, "counts");
    }
    std::vector<Reading> readings;
    int64_t total = 0;
    for (int i = 0; i < n; i++) {
      needed(streams[i], "a stream");
      require(streams[i]->model == &context->model, "a stream belongs to another model.");
      require(counts[i] >= 0, "a count of tokens must not be negative.");
      require(std::find(streams, streams + i, streams[i]) == streams + i,
              "a stream is given twice in one call.");
      readings.push_back({streams[i], total, counts[i], 0});
      total += counts[i];
    }
    if (total > 0) needed(tokens, "tokens");
    check_tokens(context->model, tokens, total);
    read_all(*context, readings, tokens, all != 0, logits, hidden);
  });
}
