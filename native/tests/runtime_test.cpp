// What a model computes does not depend on how its tokens are handed over.
#include <algorithm>
#include <cstring>

#include "check.h"
#include "toy.h"

using namespace toy;

namespace {

constexpr int kLength = 150;  // over two chunks of a scan, many refreshes

// Chunks and tiles sum in another order than single tokens. With rounded activations the smallest
// difference can move a level; through six layers that may change which tokens are kept, and then
// nothing near can be asked for.
void check_near(const Case& one, slm_weights weights, const Floats& a, const Floats& b) {
  if (weights == SLM_F32) CHECK_NEAR(a, b, 2e-4);
  else CHECK_NEAR(a, b, std::strlen(one.config.layers) < 3 ? 3e-2 : 10);
}

std::string labelled(const Case& one, slm_weights weights) {
  return one.name + ", " + name_of(weights);
}

// One row is multiplied by a kernel of its own, which adds real numbers in another order than that
// for many rows. Sums of integers have no order: with 8 and 4 bits nothing may differ at all.
void check_alone(const Case& one, slm_weights weights, const Floats& alone,
                 const Floats& together) {
  if (weights == SLM_INT8 || weights == SLM_INT4) CHECK_SAME(alone, together);
  else check_near(one, weights, alone, together);
}

// Read `all` in pieces of 1 to `longest` tokens.
Floats in_pieces(const Context& context, const Stream& stream, const Tokens& all, int longest,
                 int vocab, Random& random) {
  Floats logits;
  for (size_t from = 0; from < all.size();) {
    const size_t to = std::min(all.size(), from + 1 + size_t(random.below(longest)));
    const Floats piece =
        read(context, stream, Tokens(all.begin() + from, all.begin() + to), vocab);
    logits.insert(logits.end(), piece.begin(), piece.end());
    from = to;
  }
  return logits;
}

}  // namespace

TEST(whole_is_token_by_token_is_any_cut) {
  for (const Case& one : cases())
    for (slm_weights weights : kWeights) {
      NOTE(labelled(one, weights));
      const int vocab = one.config.vocab_size;
      const Model model = make(one.config, weights);
      const Context reader = context(model);
      Random random(7);
      const Tokens text = tokens(random, kLength, one.config);
      const Stream whole = stream(model);
      const Floats expected = read(reader, whole, text, vocab);
      for (int longest : {1, 5, 90}) {
        NOTE("pieces up to " + std::to_string(longest));
        const Stream mine = stream(model);
        check_near(one, weights, expected,
                   in_pieces(reader, mine, text, longest, vocab, random));
        check_near(one, weights, memory(whole, one.config), memory(mine, one.config));
      }
    }
}

TEST(a_long_text_is_read_in_rounds) {
  for (const Case& one : few()) {
    NOTE(one.name);
    const int vocab = one.config.vocab_size;
    const Model model = make(one.config);
    const Context reader = context(model);
    Random random(8);
    const Tokens text = tokens(random, 700, one.config);
    const Stream whole = stream(model), cut = stream(model);
    CHECK_NEAR(read(reader, whole, text, vocab),
               in_pieces(reader, cut, text, 300, vocab, random), 2e-4);
  }
}

TEST(only_the_last_logits_are_those_of_the_last_token) {
  for (slm_weights weights : kWeights) {
    const Case one = few().back();
    NOTE(labelled(one, weights));
    const int vocab = one.config.vocab_size;
    const Model model = make(one.config, weights);
    const Context reader = context(model);
    Random random(9);
    const Tokens text = tokens(random, 70, one.config);
    const Stream a = stream(model), b = stream(model), c = stream(model);
    const Floats every = read(reader, a, text, vocab);
    Floats last(size_t(vocab), NAN);
    slm_stream* raw = b.get();
    const int32_t count = 70;
    must(slm_read(reader.get(), 1, &raw, &count, text.data(), 0, last.data()));
    check_near(one, weights, Floats(every.end() - vocab, every.end()), last);
    raw = c.get();  // no logits at all: the memory is the same
    must(slm_read(reader.get(), 1, &raw, &count, text.data(), 0, nullptr));
    CHECK_SAME(memory(b, one.config), memory(c, one.config));
  }
}

TEST(streams_together_are_each_alone) {
  constexpr int kStreams = 13, kSteps = 30;
  for (const Case& one : cases())
    for (slm_weights weights : kWeights) {
      NOTE(labelled(one, weights));
      const int vocab = one.config.vocab_size;
      const Model model = make(one.config, weights);
      const Context reader = context(model);
      std::vector<Stream> together, alone;
      std::vector<slm_stream*> handles;
      Random random(10);
      for (int i = 0; i < kStreams; i++) {  // streams stand at different times
        const Stream begun = stream(model);
        read(reader, begun, tokens(random, 1 + random.below(12), one.config), vocab);
        together.push_back(copy(begun));
        alone.push_back(copy(begun));
        handles.push_back(together.back().get());
      }
      for (int t = 0; t < kSteps; t++) {
        const Tokens next = tokens(random, kStreams, one.config);
        Floats expected;
        for (int i = 0; i < kStreams; i++) {
          const Floats row = step(reader, {alone[size_t(i)].get()}, {next[size_t(i)]}, vocab);
          expected.insert(expected.end(), row.begin(), row.end());
        }
        check_alone(one, weights, expected, step(reader, handles, next, vocab));
      }
      for (size_t i = 0; i < together.size(); i++)
        check_alone(one, weights, memory(alone[i], one.config), memory(together[i], one.config));
    }
}

TEST(prompts_and_single_tokens_mix_in_one_call) {
  for (const Case& one : cases())
    for (slm_weights weights : {SLM_F32, SLM_INT8}) {
      NOTE(labelled(one, weights));
      const int vocab = one.config.vocab_size;
      const Model model = make(one.config, weights);
      const Context reader = context(model, 2);
      const Tokens counts = {1, 40, 0, 7, 1, 90, 3};
      std::vector<Stream> together, alone;
      std::vector<slm_stream*> handles;
      Random random(11);
      Tokens all;
      Floats expected;
      for (int32_t count : counts) {
        together.push_back(stream(model));
        alone.push_back(stream(model));
        const Tokens before = tokens(random, 5, one.config);
        const Tokens mine = tokens(random, count, one.config);
        read(reader, together.back(), before, vocab);
        read(reader, alone.back(), before, vocab);
        handles.push_back(together.back().get());
        all.insert(all.end(), mine.begin(), mine.end());
        const Floats logits = count ? read(reader, alone.back(), mine, vocab) : Floats();
        expected.insert(expected.end(), logits.begin(), logits.end());
      }
      Floats logits(all.size() * size_t(vocab), NAN);
      must(slm_read(reader.get(), int32_t(handles.size()), handles.data(), counts.data(),
                    all.data(), 1, logits.data()));
      check_alone(one, weights, expected, logits);
      for (size_t i = 0; i < counts.size(); i++) {
        check_alone(one, weights, memory(alone[i], one.config), memory(together[i], one.config));
        CHECK_EQUAL(slm_stream_time(together[i].get()), 5 + counts[i]);
      }
    }
}

TEST(threads_change_nothing) {
  for (const Case& one : cases())
    for (slm_weights weights : kWeights) {
      NOTE(labelled(one, weights));
      const int vocab = one.config.vocab_size;
      const Model model = make(one.config, weights);
      Random random(12);
      const Tokens text = tokens(random, kLength, one.config);
      const Tokens more = tokens(random, 20, one.config);
      std::vector<Floats> found;
      for (int threads : {1, 2, 3}) {
        const Context reader = context(model, threads);
        const Stream mine = stream(model);
        Floats logits = read(reader, mine, text, vocab);
        for (int32_t token : more) {
          const Floats row = step(reader, {mine.get()}, {token}, vocab);
          logits.insert(logits.end(), row.begin(), row.end());
        }
        found.push_back(logits);
      }
      CHECK_SAME(found[0], found[1]);
      CHECK_SAME(found[0], found[2]);
    }
}

TEST(a_copy_goes_its_own_way_and_a_reset_forgets) {
  for (const Case& one : cases()) {
    NOTE(one.name);
    const int vocab = one.config.vocab_size;
    const Model model = make(one.config);
    const Context reader = context(model);
    Random random(13);
    const Tokens first = tokens(random, 45, one.config), second = tokens(random, 30, one.config);
    const Stream a = stream(model), fresh = stream(model);
    read(reader, a, first, vocab);
    const Floats then = memory(a, one.config);
    const Stream b = copy(a);
    const Floats expected = read(reader, a, second, vocab);
    CHECK_SAME(then, memory(b, one.config));
    CHECK_SAME(expected, read(reader, b, second, vocab));
    must(slm_stream_reset(a.get()));
    CHECK_EQUAL(slm_stream_time(a.get()), 0);
    CHECK_SAME(memory(fresh, one.config), memory(a, one.config));
    CHECK_SAME(read(reader, fresh, first, vocab), read(reader, a, first, vocab));
  }
}

TEST(parts_taken_out_and_put_back_go_on_the_same) {
  for (const Case& one : cases()) {
    NOTE(one.name);
    const int vocab = one.config.vocab_size;
    const Model model = make(one.config);
    const Context reader = context(model);
    Random random(14);
    const Stream from = stream(model), to = stream(model);
    read(reader, from, tokens(random, 45, one.config), vocab);
    read(reader, to, tokens(random, 9, one.config), vocab);  // what is put in replaces all of it
    must(slm_stream_set_time(to.get(), slm_stream_time(from.get())));
    for (int layer = 0; one.config.layers[layer]; layer++) {
      for (const char* part : {"raw", "raw_eps", "faded", "slots", "slot_eps", "past", "conv",
                               "ssm.h", "ssm.conv", "kv", "lstm.h", "lstm.c"}) {
        const int64_t count = slm_stream_count(from.get(), layer, part);
        if (count == 0) continue;
        Floats values(static_cast<size_t>(count));
        must(slm_stream_get(from.get(), layer, part, values.data(), count));
        must(slm_stream_set(to.get(), layer, part, values.data(), count));
      }
      const int64_t slots = slm_stream_count(from.get(), layer, "slot_eps");
      std::vector<int64_t> times(static_cast<size_t>(slots) + 1);
      must(slm_stream_get_slot_times(from.get(), layer, times.data(), slots));
      must(slm_stream_set_slot_times(to.get(), layer, times.data(), slots));
    }
    CHECK_NEAR(memory(from, one.config), memory(to, one.config), 1e-5);  // turned back and forth
    const Tokens more = tokens(random, 60, one.config);
    CHECK_NEAR(read(reader, from, more, vocab), read(reader, to, more, vocab), 1e-4);
  }
}

TEST(weights_of_fewer_bits_stay_near) {
  for (const Case& one : few()) {
    if (std::strlen(one.config.layers) > 1) continue;
    NOTE(one.name);
    const int vocab = one.config.vocab_size;
    Random random(15);
    const Tokens text = tokens(random, 40, one.config);
    std::vector<Floats> found;
    for (slm_weights weights : kWeights) {
      const Model model = make(one.config, weights);
      found.push_back(read(context(model), stream(model), text, vocab));
    }
    const double bounds[] = {0, 0.03, 0.06, 0.5};
    for (int type = 1; type < 4; type++) {
      NOTE(name_of(kWeights[type]));
      const double apart = check::mean_distance(found[0], found[size_t(type)]);
      CHECK(apart < bounds[type]);
      CHECK(apart > bounds[type] / 50);  // or the type made no difference
    }
  }
}
