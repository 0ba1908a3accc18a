// B'MOJO attention: one softmax over eidetic, window and fading tokens (bmojo.md).
//
// One token reads the three sets where they lie. Many tokens go one refresh block at a time: the
// keys that a block can see are laid side by side once, and its queries meet them in one product.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "context.h"

namespace slm {

namespace {

constexpr int kTile = 64;
const float kNone = -INFINITY;

struct Reader {
  Workspace& scratch;
  const Config& c;
  int index;
  float scale;

  int per_group() const { return c.heads / c.groups; }
  LayerState& state(const Segment& s) const { return s.stream->layers[index]; }
  bool eidetic() const { return scratch.stack.layers[index].kind == 'B' && c.slots > 0; }
  int fading() const { return scratch.stack.layers[index].recurrent ? c.fading : 0; }
  float* query(int row, int group, int member) const {
    return scratch.query.row(row) + (group * per_group() + member) * c.head;
  }
  float* out(int row, int group, int member) const {
    return scratch.attended.row(row) + (group * per_group() + member) * c.head;
  }
  const float* key(const Rows& pairs, int row, int group) const {
    return pairs.row(row) + group * c.head;
  }
  const float* value(const Rows& pairs, int row, int group) const {
    return pairs.row(row) + (c.groups + group) * c.head;
  }
};

void push_pair(const Reader& r, Slide& keys, Slide& values, const Rows& pairs, int row) {
  keys.push();
  values.push();
  for (int g = 0; g < r.c.groups; g++) {
    std::memcpy(keys.entry(g, keys.size() - 1), r.key(pairs, row, g), size_t(r.c.head) * 4);
    std::memcpy(values.entry(g, values.size() - 1), r.value(pairs, row, g), size_t(r.c.head) * 4);
  }
}

// Put the token of `row` into what the stream carries.
void push_token(const Reader& r, const Segment& segment, int row) {
  LayerState& state = r.state(segment);
  push_pair(r, state.keys, state.values, r.scratch.pairs, row);
  if (r.c.theta) {
    state.rotated.push();
    for (int g = 0; g < r.c.groups; g++)
      rotate(r.key(r.scratch.pairs, row, g), r.scratch.turns[row], r.c.head,
             state.rotated.entry(g, state.rotated.size() - 1));
  }
  if (r.fading()) push_pair(r, state.faded_keys, state.faded_values, r.scratch.faded, row);
  if (r.eidetic()) {
    state.eps.push();
    *state.eps.entry(0, state.eps.size() - 1) = *r.scratch.eps.row(row);
  }
}

// Fading tokens that a query at `time` reads: times [first, first + count).
struct Span {
  int64_t first;
  int count;
};
Span fading_span(const Reader& r, int64_t time) {
  const int64_t last =
      r.c.chunked_fading ? time / r.c.refresh * r.c.refresh - 1 : time - r.c.lag;
  const int64_t first = std::max<int64_t>(0, last - r.fading() + 1);
  return {first, int(std::max<int64_t>(0, last - first + 1))};
}

// Token `index` of a segment, one group of heads, after it was pushed.
void single(const Reader& r, const Segment& segment, int index, int group, Local& local) {
  const Config& c = r.c;
  const Kernels& k = kernels();
  const LayerState& state = r.state(segment);
  const int64_t time = segment.stream->time + index;
  const int row = segment.row + index;
  const int slots = r.eidetic() ? c.slots : 0;
  const int window = int(std::min<int64_t>(c.window, time + 1));
  const Span span = r.fading() ? fading_span(r, time) : Span{0, 0};
  const int total = slots + window + span.count;
  float* scores = local.a.shape(1, total + 1);
  float* turned = local.b.shape(2, c.head);
  const int64_t plane = int64_t(group) * slots * c.head;
  const int faded = r.fading() ? state.faded_keys.size() - 1 - int(time - span.first) : 0;
  for (int member = 0; member < r.per_group(); member++) {
    const float* near = r.query(row, group, member);
    const float* far = near;
    if (c.theta) {
      rotate(near, r.scratch.far, c.head, turned + c.head);
      rotate(near, r.scratch.turns[row], c.head, turned);
      near = turned;
      far = turned + c.head;
    }
    float* out = r.out(row, group, member);
    std::memset(out, 0, size_t(c.head) * 4);
    if (slots) {
      k.scores(far, &state.slots.keys[plane], c.head, slots, c.head, r.scale, scores);
      for (int i = 0; i < slots; i++) {
        const int64_t when = state.slots.time[i];
        if (when < 0 || (!c.keep_duplicates && when > time - c.window)) scores[i] = kNone;
      }
    }
    if (window) {
      const Slide& keys = c.theta ? state.rotated : state.keys;
      k.scores(near, keys.entry(group, keys.size() - window), c.head, window, c.head, r.scale,
               scores + slots);
    }
    if (span.count)
      k.scores(far, state.faded_keys.entry(group, faded), c.head, span.count, c.head, r.scale,
               scores + slots + window);
    if (k.softmax(scores, total) == 0) continue;
    if (slots) k.mix(scores, &state.slots.values[plane], c.head, slots, c.head, out);
    if (window)
      k.mix(scores + slots, state.values.entry(group, state.values.size() - window), c.head,
            window, c.head, out);
    if (span.count)
      k.mix(scores + slots + window, state.faded_values.entry(group, faded), c.head, span.count,
            c.head, out);
  }
}

// The queries [from, to) of a segment, all in one refresh block, and the keys they can see.
struct Tile {
  int from, to;
  int slots;            // kept tokens, the first columns
  int64_t window_from;  // time of the first window column
  int window;           // window columns
  int faded;            // columns of chunked fading
  int64_t faded_from;
  const History::Kept* kept;
  int columns() const { return slots + window + faded; }
};

// Key or value of a token of the stream, carried or new. `carried` ends just before the segment.
const float* find(const Slide& carried, const Rows& pairs, int offset, const Segment& s, int group,
                  int64_t time) {
  const int64_t at = time - s.stream->time;
  if (at >= 0) return pairs.row(s.row + at) + offset;
  return carried.entry(group, carried.size() + int(at));
}

// Lay keys (turned, scaled) in the columns of `keys` and values in the rows of `values`.
void lay(const Reader& r, const Segment& s, int group, const Tile& tile, float* keys, int64_t ld,
         float* values) {
  const Config& c = r.c;
  const LayerState& state = r.state(s);
  const int key_at = group * c.head, value_at = (c.groups + group) * c.head;
  std::vector<float> turned(c.theta ? c.head : 0);
  const auto put = [&](int column, const float* key, const float* value) {
    for (int d = 0; d < c.head; d++) keys[d * ld + column] = key[d] * r.scale;
    std::memcpy(values + int64_t(column) * c.head, value, size_t(c.head) * 4);
  };
  for (int i = 0; i < tile.slots; i++) {
    const History::Kept& kept = tile.kept[i];
    const int64_t old = (int64_t(group) * c.slots + kept.slot) * c.head;
    if (kept.slot >= 0) put(i, &state.slots.keys[old], &state.slots.values[old]);
    else
      put(i, find(state.keys, r.scratch.pairs, key_at, s, group, kept.time),
          find(state.values, r.scratch.pairs, value_at, s, group, kept.time));
  }
  for (int i = 0; i < tile.window; i++) {
    const int64_t time = tile.window_from + i;
    const float* key = find(state.keys, r.scratch.pairs, key_at, s, group, time);
    if (c.theta) {
      if (time < s.stream->time) key = find(state.rotated, r.scratch.pairs, 0, s, group, time);
      else {
        rotate(key, r.scratch.turns[s.row + (time - s.stream->time)], c.head, turned.data());
        key = turned.data();
      }
    }
    put(tile.slots + i, key, find(state.values, r.scratch.pairs, value_at, s, group, time));
  }
  for (int i = 0; i < tile.faded; i++)
    put(tile.slots + tile.window + i,
        find(state.faded_keys, r.scratch.faded, key_at, s, group, tile.faded_from + i),
        find(state.faded_values, r.scratch.faded, value_at, s, group, tile.faded_from + i));
}

// Strike out what the query at `time` must not see.
void mask(const Config& c, const Tile& tile, int64_t time, float* scores) {
  if (!c.keep_duplicates)
    for (int i = 0; i < tile.slots; i++)
      if (tile.kept[i].time > time - c.window) scores[i] = kNone;
  float* window = scores + tile.slots;
  const int first = int(std::max<int64_t>(0, time - c.window + 1 - tile.window_from));
  for (int i = 0; i < std::min(first, tile.window); i++) window[i] = kNone;
  for (int i = std::max(0, int(time - tile.window_from) + 1); i < tile.window; i++)
    window[i] = kNone;
}

// Fading band of one query: scores of its own few tokens.
struct Band {
  const float *keys[2], *values[2];  // carried part, new part
  int count[2];
  int64_t ld[2];
};
Band band_of(const Reader& r, const Segment& s, int group, int64_t time) {
  const Config& c = r.c;
  const LayerState& state = r.state(s);
  const Span span = fading_span(r, time);
  const int64_t now = s.stream->time;
  const int old = int(std::min<int64_t>(span.count, std::max<int64_t>(0, now - span.first)));
  Band band = {};
  band.count[0] = old;
  band.count[1] = span.count - old;
  band.ld[0] = c.head;
  band.ld[1] = c.pairs();
  if (old) {
    const int entry = state.faded_keys.size() - int(now - span.first);
    band.keys[0] = state.faded_keys.entry(group, entry);
    band.values[0] = state.faded_values.entry(group, entry);
  }
  if (band.count[1]) {
    const int row = s.row + int(span.first + old - now);
    band.keys[1] = r.key(r.scratch.faded, row, group);
    band.values[1] = r.value(r.scratch.faded, row, group);
  }
  return band;
}

void read_tile(const Reader& r, const Segment& s, int group, const Tile& tile, Local& local) {
  const Config& c = r.c;
  const Kernels& k = kernels();
  const int columns = tile.columns(), rows = tile.to - tile.from;
  const bool band = r.fading() && !c.chunked_fading;
  const int64_t ld = columns + (band ? r.fading() : 0) + 1, stride = int64_t(c.heads) * c.head;
  float* keys = local.a.shape(c.head, columns + 1);
  float* values = local.b.shape(columns + 1, c.head);
  float* scores = local.c.shape(rows, ld);
  float* turned = local.d.shape(2 * rows, c.head);
  lay(r, s, group, tile, keys, columns, values);
  for (int member = 0; member < r.per_group(); member++) {
    const float *near = r.query(s.row + tile.from, group, member), *far = near;
    int64_t near_ld = stride;
    if (c.theta) {
      for (int i = 0; i < rows; i++) {
        const float* q = r.query(s.row + tile.from + i, group, member);
        rotate(q, r.scratch.turns[s.row + tile.from + i], c.head, turned + i * c.head);
        rotate(q, r.scratch.far, c.head, turned + (rows + i) * c.head);
      }
      near = turned;
      far = turned + int64_t(rows) * c.head;
      near_ld = c.head;
    }
    const int eidetic = tile.slots, seen = tile.slots + tile.window;
    if (!c.theta) {
      product(rows, columns, c.head, near, near_ld, 1, keys, columns, scores, ld, false);
    } else {
      product(rows, eidetic, c.head, far, near_ld, 1, keys, columns, scores, ld, false);
      product(rows, tile.window, c.head, near, near_ld, 1, keys + eidetic, columns,
              scores + eidetic, ld, false);
      product(rows, tile.faded, c.head, far, near_ld, 1, keys + seen, columns, scores + seen, ld,
              false);
    }
    for (int i = 0; i < rows; i++) {
      const int64_t time = s.stream->time + tile.from + i;
      float* mine = scores + i * ld;
      mask(c, tile, time, mine);
      int all = columns;
      if (band) {
        const Band b = band_of(r, s, group, time);
        for (int part = 0; part < 2; part++) {
          k.scores(far + i * near_ld, b.keys[part], b.ld[part], b.count[part], c.head, r.scale,
                   mine + all);
          all += b.count[part];
        }
      }
      k.softmax(mine, all);
    }
    product(rows, c.head, columns, scores, ld, 1, values, c.head,
            r.out(s.row + tile.from, group, member), stride, false);
    if (!band) continue;
    for (int i = 0; i < rows; i++) {
      const Band b = band_of(r, s, group, s.stream->time + tile.from + i);
      float* out = r.out(s.row + tile.from + i, group, member);
      k.mix(scores + i * ld + columns, b.values[0], b.ld[0], b.count[0], c.head, out);
      k.mix(scores + i * ld + columns + b.count[0], b.values[1], b.ld[1], b.count[1], c.head, out);
    }
  }
}

// All tokens of a segment for one group of heads.
void blocks(const Reader& r, const Segment& s, const History& history, int group, Local& local) {
  const Config& c = r.c;
  const int64_t now = s.stream->time;
  const bool aligned = r.eidetic() || (r.fading() && c.chunked_fading);
  for (int from = 0; from < s.count;) {
    Tile tile = {};
    tile.from = from;
    tile.to = std::min(s.count, from + kTile);
    const int64_t first = now + from, start = first / c.refresh * c.refresh;
    if (aligned) tile.to = std::min<int64_t>(tile.to, start + c.refresh - now);
    if (r.eidetic()) {
      tile.kept = &history.kept[size_t((start - history.start) / c.refresh) * c.slots];
      while (tile.slots < c.slots && tile.kept[tile.slots].time >= 0) tile.slots++;
    }
    if (c.window) {
      tile.window_from = std::max<int64_t>(0, first - c.window + 1);
      tile.window = int(now + tile.to - tile.window_from);
    }
    if (r.fading() && c.chunked_fading) {
      const Span span = fading_span(r, first);
      tile.faded_from = span.first;
      tile.faded = span.count;
    }
    read_tile(r, s, group, tile, local);
    from = tile.to;
  }
}

// After a segment of many tokens: what it leaves in the state. The slots come first, because they
// are taken from the carried tokens that the pushes then overwrite.
void settle(const Reader& r, const Segment& s, const History& history) {
  const Config& c = r.c;
  LayerState& state = r.state(s);
  if (r.eidetic()) {
    const History::Kept* last = &history.kept[size_t(history.blocks) * c.slots];
    install(r.scratch, state, last, [&](int g, int64_t time) {
      return std::make_pair(find(state.keys, r.scratch.pairs, g * c.head, s, g, time),
                            find(state.values, r.scratch.pairs, (c.groups + g) * c.head, s, g,
                                 time));
    });
  }
  const int reach = std::max(c.ring(), r.fading() ? c.fading_ring() : 0);
  for (int i = std::max(0, s.count - reach); i < s.count; i++) push_token(r, s, s.row + i);
}

}  // namespace

void attend_memories(Workspace& scratch, int index, const Segments& segments) {
  const Config& c = scratch.stack.config;
  const Reader r{scratch, c, index, 1 / std::sqrt(float(c.head))};
  int steps = 0, longest = 0;
  for (const Segment& s : segments) {
    longest = std::max(longest, s.count);
    if (few(s)) steps = std::max(steps, s.count);
  }
  for (int step = 0; step < steps; step++) {
    const auto now = [&](const Segment& s) { return few(s) && step < s.count; };
    for (const Segment& s : segments)
      if (now(s)) push_token(r, s, s.row + step);
    scratch.team->run(int(segments.size()) * c.groups, [&](int task, int thread) {
      const Segment& s = segments[task / c.groups];
      if (now(s)) single(r, s, step, task % c.groups, scratch.local[thread]);
    });
    if (r.eidetic())
      for (const Segment& s : segments)
        if (now(s) && completes(c, s.stream->time + step))
          commit(scratch, r.state(s), s.stream->time + step);
  }
  if (longest <= kFew) return;
  scratch.history.resize(segments.size());
  if (r.eidetic())
    scratch.team->run(int(segments.size()), [&](int i, int) {
      if (!few(segments[i])) choose(scratch, index, segments[i], scratch.history[i]);
    });
  scratch.team->run(int(segments.size()) * c.groups, [&](int task, int thread) {
    const int i = task / c.groups;
    if (!few(segments[i]))
      blocks(r, segments[i], scratch.history[i], task % c.groups, scratch.local[thread]);
  });
  for (size_t i = 0; i < segments.size(); i++)
    if (!few(segments[i])) settle(r, segments[i], scratch.history[i]);
}

}  // namespace slm
